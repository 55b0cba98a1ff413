"""Ctrl-C, SIGTERM and SIGHUP end a command quietly, with its workers and its half-written files."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from command_line import run_cli
from paths import ROOT

from cnnscope import cli
from cnnscope.cli import signals

pytestmark = pytest.mark.broad

SAID = {"SIGINT": "interrupted", "SIGTERM": "ended by SIGTERM", "SIGHUP": "ended by SIGHUP"}


def start(code, path=None, ignored=()):
    """Python in a process group of its own, its signals as a terminal leaves them."""

    def begin():
        for name in SAID:
            ignore = name in ignored
            signal.signal(getattr(signal, name), signal.SIG_IGN if ignore else signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=begin,  # noqa: PLW1509
        env={**os.environ, "PYTHONPATH": str(path or "")},
    )


def alive(pid):
    """Return True if a process runs; one that has ended, and is not reaped yet, does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def gone(pids, seconds=120):
    """Return True if all of these processes end before long."""
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


WAITING = """
import time
from cnnscope import cli
from cnnscope.models import run

def waits(*_, **__):
    print("running", flush=True)
    time.sleep(60)

run.trace_spec = waits
cli.main()
"""


def waiting(how=""):
    arguments = "import sys; sys.argv = ['cnnscope', 'summary', 'resnet18', '--no-cache']"
    return f"{arguments}\n{WAITING}".replace("time.sleep(60)", how or "time.sleep(60)")


@pytest.mark.parametrize("name", SAID)
def test_a_signal_is_said_in_one_line_and_is_the_exit_code(name):
    number = getattr(signal, name)
    with start(waiting()) as process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (128 + number, "", f"cnnscope: {SAID[name]}\n")


def test_a_signal_that_was_ignored_before_stays_so():
    """As under `nohup`."""
    with start(waiting("time.sleep(0.5); raise SystemExit(7)"), ignored=["SIGHUP"]) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=300)
    assert process.returncode == 7


def test_who_hears_no_sigterm_dies_of_the_second():
    attempt = "print('deaf', flush=True); time.sleep(60)"  # only inside the `try` is it deaf
    deaf = f"exec({f'try: {attempt}{chr(10)}except BaseException: print(1, flush=True)'!r})"
    with start(waiting(f"{deaf}; time.sleep(60)")) as process:
        said = process.stdout.readline(), process.stdout.readline()
        assert said == ("running\n", "deaf\n")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
    assert process.returncode == -signal.SIGTERM


IMPORTS = {
    "typer": "",  # by the command line itself
    "guest_library": "run.trace_spec = lambda *_, **__: __import__('guest_library')\n",
}


@pytest.mark.parametrize("library", IMPORTS)
def test_ctrl_c_in_the_middle_of_an_import_is_not_left_to_the_library(library, tmp_path):
    """torch's C++ aborts the process, others catch whatever there is."""
    (tmp_path / f"{library}.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n"
        "    print('caught', flush=True)\n"
    )
    code = waiting().replace("cli.main()", f"{IMPORTS[library]}cli.main()")
    with start(code, tmp_path) as process:
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (130, "", "cnnscope: interrupted\n")


def test_ctrl_c_before_anybody_hears_it_is_no_traceback(tmp_path):
    (tmp_path / "typing.py").write_text("raise KeyboardInterrupt")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from cnnscope import cli; cli.main()"
    command = [sys.executable, "-S", "-c", code, str(tmp_path)]
    root = str(ROOT)
    result = subprocess.run(
        command, capture_output=True, env={**os.environ, "PYTHONPATH": root}, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")


def test_what_a_library_makes_of_ctrl_c_is_an_interruption(monkeypatch):
    from cnnscope.models import run

    def turned(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("module failed to initialise") from None

    monkeypatch.setattr(run, "trace_spec", turned)
    with signals.heard(to_the_end=False):
        result = run_cli("summary", "resnet18", "--no-cache")
    assert (result.code, result.err) == (130, "cnnscope: interrupted\n")


def test_ctrl_c_that_a_finaliser_swallows_comes_again(monkeypatch):
    from cnnscope.models import run

    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def waits(*_, **__):
        Swallows()
        time.sleep(60)

    monkeypatch.setattr(run, "trace_spec", waits)
    with signals.heard(to_the_end=False):
        result = run_cli("summary", "resnet18", "--no-cache")
    assert (result.code, result.err) == (130, "cnnscope: interrupted\n")


def test_handlers_are_put_back():
    before = [signal.getsignal(getattr(signal, name)) for name in SAID]
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert [signal.getsignal(getattr(signal, name)) for name in SAID] == before


# ------------------------------------------------------------------------------------ workers

WORKERS = """
    import sys, time
    from multiprocessing import active_children
    from cnnscope import cli, parallel
    from cnnscope.models import run

    def works(*_, **__):
        for done in parallel.each({work}, {items}, 2):
            print(*(child.pid for child in active_children()), flush=True)

    run.trace_spec = works
    sys.argv = ["cnnscope", "summary", "resnet18", "--no-cache"]
    cli.main()
"""
SLEEPING = WORKERS.format(work="time.sleep", items="[(0,), (0,), (600,), (600,)]")


@pytest.mark.parametrize("name", [*SAID, "SIGKILL"])
@pytest.mark.parametrize("group", [False, True], ids=["parent", "all"])
def test_workers_end_with_their_parent(name, group):
    """As Ctrl-C on a terminal does, a signal may go to all of them at once."""
    number = getattr(signal, name)
    with start(SLEEPING) as process:
        children = [int(pid) for pid in process.stdout.readline().split()]
        (os.killpg if group else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=300)  # which workers hold open
    assert len(children) == 2
    assert gone(children)
    if name != "SIGKILL":
        assert (process.returncode, err) == (128 + number, f"cnnscope: {SAID[name]}\n")


def test_ctrl_c_while_workers_start_is_quiet():
    with start(SLEEPING.replace("parallel.each", "print(flush=True) or parallel.each")) as process:
        process.stdout.readline()
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (130, "cnnscope: interrupted\n")


def test_a_worker_that_is_ended_removes_what_it_was_writing(tmp_path):
    (tmp_path / "writing.py").write_text(
        textwrap.dedent("""
        import os, time
        from pathlib import Path

        def write(folder):
            import tempfile
            handle, name = tempfile.mkstemp(suffix=".part", dir=folder)
            try:
                Path(folder, "begun").touch()
                time.sleep(60)
            finally:
                os.unlink(name)
        """)
    )
    folder = tmp_path / "store"
    folder.mkdir()
    code = WORKERS.format(work="__import__('writing').write", items=f"[({str(folder)!r},)]")
    with start(code, tmp_path) as process:
        until = time.monotonic() + 120
        while not (folder / "begun").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (143, "cnnscope: ended by SIGTERM\n")
    assert [path.name for path in folder.iterdir()] == ["begun"]


def test_a_script_that_asks_for_no_name_is_not_run_by_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import math\nfrom cnnscope import parallel\nprint('begun')\n"
        "print(sorted(parallel.each(math.sqrt, [(4,), (9,)], 2)))\n"
    )
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=300
    )
    assert (result.returncode, result.stdout) == (0, "begun\n[2.0, 3.0]\n"), result.stderr


def test_a_worker_that_is_killed_is_one_message(monkeypatch):
    """By the kernel where memory is short, say."""
    from cnnscope.reports import catalogue

    each = catalogue.parallel.each
    monkeypatch.setattr(catalogue.parallel, "each", lambda *_: each(os._exit, [(9,)], 1))
    monkeypatch.setattr(catalogue, "_WORTH_PROCESSES", 1)
    result = run_cli("list", "alexnet", "--no-cache")
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(r"cnnscope: list: a process was killed.*\n", result.err)

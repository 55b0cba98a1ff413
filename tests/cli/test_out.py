"""`--output`, `--save`: a file is written whole or not at all, and stays what it was."""

import io
import os
import resource
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import run_cli

from cnnscope.cli import out
from cnnscope.errors import RequestError

COMMAND = ("summary", "classic:lenet5", "-f", "json")


def listed(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def full_disk():
    """Files of more than 100 bytes are refused by the kernel, those of the test runner as well."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_loses_nothing(folder):
    Path("report.json").write_text("what was there")
    with full_disk():
        result = run_cli(*COMMAND, "--no-cache", "--output", "report.json")
    assert (result.code, result.out) == (2, "")
    assert "--output report.json: cannot be written (File too large)" in result.err
    assert Path("report.json").read_text() == "what was there"
    assert listed() == ["report.json"]


@pytest.mark.parametrize("moment", ["fdopen", "replace"])
def test_an_interruption_loses_nothing(folder, monkeypatch, moment):
    def interrupted(*_):
        raise KeyboardInterrupt

    Path("report.json").write_text("what was there")
    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fdopen") if moment == "fdopen" else (Path, "replace")), interrupted)
        with pytest.raises(KeyboardInterrupt):
            out.write("x" * 1000, Path("report.json"))
    assert Path("report.json").read_text() == "what was there"
    assert listed() == ["report.json"]


def test_permissions_and_links_stay(folder):
    (folder / "below").mkdir()
    Path("below/real").write_text("old")
    Path("below/real").chmod(0o640)
    Path("link").symlink_to("below/real")
    out.write("new", Path("link"))
    assert Path("link").is_symlink()
    assert Path("below/real").read_text() == "new"
    assert stat.S_IMODE(Path("below/real").stat().st_mode) == 0o640
    assert listed("below") == ["real"]


def test_a_link_to_nothing_makes_what_it_points_to(folder):
    Path("link").symlink_to("new")
    out.write("new", Path("link"))
    assert (Path("link").is_symlink(), Path("new").read_text()) == (True, "new")


def test_a_new_file_has_the_permissions_of_any_other(folder):
    before = os.umask(0o027)
    try:
        out.write("new", Path("new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("new").stat().st_mode) == 0o640


def test_both_names_of_a_file_have_the_new_content(folder):
    Path("one").write_text("old and longer")
    Path("other").hardlink_to("one")
    out.write("new", Path("one"))
    assert Path("other").read_text() == "new"


def test_devices_and_pipes_are_written_to(folder):
    os.mkfifo("pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_text()))
    reader.start()
    assert run_cli(*COMMAND, "--output", "pipe").code == 0
    reader.join(60)
    assert read[0] == run_cli(*COMMAND).out
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)
    assert run_cli(*COMMAND, "--output", "/dev/null").code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert listed() == ["pipe"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_stdout_by_name_goes_on_where_it_is(folder, name):
    Path("link").symlink_to("/dev/stdout")
    code = (
        "from pathlib import Path; from cnnscope.cli import out; print('a', flush=True);"
        f"out.write('b\\n', Path({name!r})); print('c')"
    )
    with Path("file").open("w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert Path("file").read_text() == "a\nb\nc\n"


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "loop/file", "loop"])
def test_names_that_no_file_can_have_are_one_message(folder, name):
    Path("loop").symlink_to("loop")
    for write in (out.check_writable, lambda path: out.write("x", path)):
        try:
            write(Path(name))
        except RequestError as error:
            assert "--output" in str(error)  # noqa: PT017
    with pytest.raises(RequestError):
        out.write("x", Path(name))


def test_a_file_of_a_model_is_not_written_over(folder):
    Path("net.py").write_text("source")
    Path("kept.txt").symlink_to("net.py")
    for name in ("net.py", "kept.txt"):
        with pytest.raises(RequestError, match=f"{name}: is a file of a model"):
            out.check_writable(Path(name))
    out.check_writable(Path("other.py"))  # which is not there


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may all")
def test_a_file_that_may_not_be_written_is_refused_before_the_work(folder):
    Path("kept").write_text("old")
    Path("kept").chmod(0o444)
    with pytest.raises(RequestError, match="Permission denied"):
        out.check_writable(Path("kept"))


def test_a_longest_name_has_room_for_its_neighbour(folder):
    name = "a" * 255
    out.write("x", Path(name))
    assert listed() == [name]


class Narrow(io.StringIO):
    """A terminal of 40 columns."""

    def isatty(self):
        return True

    def fileno(self):
        return 99


def test_messages_break_between_words_on_a_terminal_and_nowhere_else(monkeypatch):
    text = "a message of several words about layer " + "path." * 10 + "conv, which is long"
    monkeypatch.setattr(out.os, "get_terminal_size", lambda _: os.terminal_size((40, 24)))
    for stream, whole in ((Narrow(), False), (io.StringIO(), True)):
        monkeypatch.setattr(out.sys, "stderr", stream)
        out.note(text)
        lines = stream.getvalue().splitlines()
        assert " ".join(" ".join(lines).split()) == f"cnnscope: {text}"
        assert (len(lines) == 1) == whole
        if not whole:
            assert all(len(line) <= 40 or "path.path" in line for line in lines)
            assert all(line.startswith("  ") for line in lines[1:])


def test_what_a_model_prints_while_the_process_ends_is_no_part_of_the_report():
    code = (
        "import atexit; from cnnscope.cli import start; atexit.register(print, 'late');"
        "start._run = lambda *_: print('report') or 0; start.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("report\n", "late\n")

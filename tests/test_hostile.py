"""Hostile and unlucky input: one message, the right exit code.

Held elsewhere:

- sizes that are negative, zero, huge or no numbers, no literals: test_spec, test_commands
- files that raise, exit, print or are not found, prints on stdout: test_source
- checkpoints and programs that are truncated, swell or carry code: test_checkpoint, test_exported
- stores that are damaged, full or not writable: test_store
- output to a folder or a full disk, a closed pipe, Ctrl-C while waiting: test_commands
- what forwards change of the model, torch or the process, threads: test_side_effects
"""

import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from command_line import Result, hears_ctrl_c, run_cli
from torch import nn

import cnnscope
from cnnscope import cli
from cnnscope.tracing import storages

pytestmark = pytest.mark.broad

ESCAPES = "\x1b]0;title\x07\x1b[31mred\x1b[0m\x9b1m\u202ebidi\x7f\r"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f]")
MEGABYTE = 2**20


def nothing_is_obeyed(result):
    """No control character but the ends of lines, in what a command has printed."""
    return not OBEYED.search(result.out) and not OBEYED.search(result.err)


def refused(*arguments, code=2):
    """The one line that is said of a request that cannot be carried out."""
    result = run_cli(*arguments)
    assert result.code == code, result
    assert code == 3 or not result.out  # with 3 it has what ran before
    assert nothing_is_obeyed(result)
    assert result.err.startswith("cnnscope: ")
    assert result.err.count("\n") == 1
    assert "internal error" not in result.err
    assert len(result.err) < 1100
    return result.err


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file of one's own into the working folder."""
    monkeypatch.chdir(tmp_path)

    def written(code, name="net.py"):
        content = textwrap.dedent(code) if isinstance(code, str) else code
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return written


def forward(body, constructor="pass"):
    """A file with one network, with a convolution, and a forward of this body."""
    lines = textwrap.indent(textwrap.dedent(body), " " * 8)
    return (
        "import os, random, sys, threading\nimport torch\nfrom torch import nn\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, scale=1.0):\n"
        "        super().__init__()\n"
        f"        self.scale, self.conv = scale, nn.Conv2d(3, 4, 3)\n        {constructor}\n\n"
        f"    def forward(self, x):\n{lines}\n"
    )


# ------------------------------------------------------------------------------------- names

HOSTILE_NAMES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    "",
    " ",
    ":",
    "::",
    "/",
    "~nobody/net.py",
    "/dev/null",
    "/proc/self/mem",
    "net.py\n:Net",
    "resnet18" + ESCAPES,
    ESCAPES + ".py:Net",
    "torchvision:" + ESCAPES,
    ESCAPES + ":resnet18",
    "\ud800\udfff",
    "os:system",
    "x" * MEGABYTE,
    "x" * 300,
    "x" * 300 + ".conv:Net",
    "nets." + "x" * 300,
    "torch.nn:" + "x" * 300,
    f"/{'x' * 300}/nets:Net",
    "hf:nets/config.json/\x00",
    "x/" * 5000 + "net.py",
    "a." * 100 + "b:c",
    "[red]%s{0}$(touch here)`touch here`;touch here",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_names_that_are_no_model(name, write, tmp_path):
    write("", "other.txt")
    refused("summary", name)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_every_command_refuses_them_alike():
    for command in ("rf", "explain", "stages", "check", "bench"):
        refused(command, ESCAPES + ":resnet18")
    refused("diff", ESCAPES, "resnet18")
    refused("diff", "lenet5", ESCAPES)
    assert "sys.exit" in refused("summary", "builtins:exit", code=3)


@pytest.mark.parametrize("value", [ESCAPES, "x" * MEGABYTE, "nan", "\ud800"])
def test_options_that_make_no_sense(value, write):
    net = write(forward("return self.conv(x)"))
    own = f"{net}:Net", "-i", "3x8x8"
    refused("summary", "lenet5", "--input", value)
    refused("summary", "lenet5", "--batch-size", value)
    refused("summary", "lenet5", "--dtype", value)
    refused("summary", "lenet5", "--columns", value)
    refused("summary", "lenet5", "--filter", value)
    refused("summary", "lenet5", "--max-params", value)
    refused("summary", *own, "--arg", f"{value}=1")
    refused("summary", *own, "--arg", f"scale={value}")
    refused("explain", *own, value)
    refused("rf", *own, value)
    refused("rf", *own, "conv", "--unit", value)
    refused("stack", "--kernel", value)
    refused("stack", "--kernel", "7", "--channels", value)
    refused("list", "lenet5", "--sort", value)


def test_numbers_that_are_none_reach_a_constructor_or_are_refused(write):
    """An expression may be one that is none: it is asked for, and reported as it was typed."""
    net = write(forward("return self.conv(x) * self.scale"))
    for value in ("1e999", "-1e999", "10**9", "9" * 300, "float('nan')"):
        result = run_cli(
            "summary", net, "-i", "3x8x8", "--arg", f"scale={value}", "--format", "json"
        )
        if result.code == 0:
            report = json.loads(result.out, parse_constant=pytest.fail)
            assert report["totals"]["params"] == 4 * (3 * 9 + 1)
        else:
            assert result.err.count("\n") == 1
            assert result.code in (2, 3)
    assert "nothing is called nan" in refused("summary", net, "--arg", "scale=nan")
    assert "literal" in refused("summary", net, "--arg", "scale=1e")


NAMED = """
    import torch
    from torch import nn
    ESCAPES = {escapes!r}

    def forward(self, x):
        for part in self.children():
            x = part(x)
        return x

    Kind = type("Kind" + ESCAPES, (nn.Conv2d,), {{}})

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("a" + ESCAPES.replace(".", ""), Kind(3, 4, 3))
            self.add_module("b\\n| c", nn.Conv2d(4, 4, 3, padding_mode="zeros"))
            self.register_buffer("buffer" + ESCAPES, torch.ones(1))
            self.register_parameter("unused" + ESCAPES, nn.Parameter(torch.ones(1)))
        forward = forward

    Net.__name__ += ESCAPES
"""


def test_names_of_layers_classes_and_weights_are_written_out(write):
    net = write(NAMED.format(escapes=ESCAPES))
    own = f"{net}:Net", "-i", "3x9x9"
    commands = [
        ("summary", *own, "--all", "--depth", "all"),
        ("summary", *own, "--max-params", "1"),
        ("rf", *own),
        ("rf", *own, "--verify"),
        ("rf", *own, "--effective", "--samples", "1"),
        ("explain", *own),
        ("stages", *own),
        ("diff", *own[:1], "lenet5"),
        ("check", *own),
    ]
    for format_ in ("json", "csv", "markdown"):
        commands += [(c, *own, "--format", format_) for c in ("summary", "rf", "stages")]
    for command in commands:
        result = run_cli(*command)
        assert result.code in (0, 1), (command, result.err)
        assert nothing_is_obeyed(result), command
    said = run_cli("explain", *own, "no" + ESCAPES)
    assert said.code == 2
    assert nothing_is_obeyed(said)


def test_a_name_of_a_megabyte_is_one_message_or_one_row():
    model = nn.Sequential()
    model.add_module("x" * MEGABYTE, nn.Conv2d(3, 4, 3))
    table = cnnscope.summary(model, "3x8x8").table(width=80)
    assert all(len(line) <= 80 for line in table.splitlines() if "Conv2d" in line)


def test_exceptions_and_prints_with_escape_sequences_are_written_out(write):
    raising = write(forward(f"raise ValueError({ESCAPES!r} + 'x' * {MEGABYTE})"), "raising.py")
    assert "\\x1b[31mred" in refused("summary", raising, "-i", "3x8x8", code=3)
    building = write(forward("pass", f"raise KeyError({ESCAPES!r})"), "building.py")
    assert "\\x1b[31mred" in refused("summary", building, "-i", "3x8x8", code=3)
    printing = write(forward(f"print({ESCAPES!r}, 'größe')\nreturn self.conv(x)"), "printing.py")
    result = run_cli("summary", printing, "-i", "3x8x8", "--format", "json")
    assert json.loads(result.out)["totals"]["params"] == 112
    assert "\\x1b[31mred" in result.err
    assert "größe" in result.err
    assert "\x1b" not in result.err


def test_what_other_programs_print_stays_off_stdout(write, capfd):
    net = write(
        forward("os.write(1, b'by descriptor\\n'); return self.conv(x)", "os.system('echo a')")
    )
    with (
        open(1, "w", closefd=False) as out,
        open(2, "w", closefd=False) as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = cli.run(["summary", net, "-i", "3x8x8", "--format", "json"])
    printed = capfd.readouterr()
    assert code == 0
    assert json.loads(printed.out)["totals"]["params"] == 112
    assert {"by descriptor", "a"} <= set(printed.err.splitlines())


# ------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n\x00\x00", b"\xff\xfe\x00", b"# coding: nonsense\n", b"def (:", b"\x00" * 9,
     b"(" * 10_000, b"x = " + b"-" * 100_000 + b"1", b"", b"\xef\xbb\xbfimport torch"],
)  # fmt: skip
def test_a_file_that_is_no_python(write, content):
    net = write(content)
    message = refused("summary", net, code=2 if not content or b"torch" in content else 3)
    assert "net.py" in message


def test_a_file_that_loops_can_be_interrupted(write):
    """Once while it is loaded, and not with a traceback of its own."""
    net = write("import sys\nprint('looping', flush=True)\nwhile True:\n    pass\n")
    with hears_ctrl_c("-m", "cnnscope", "summary", net) as process:
        assert process.stderr.readline() == b"looping\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, b"")
    # the line is there again if the signal came while it was being written
    assert err.removeprefix(b"looping\n") == b"cnnscope: interrupted\n"


@pytest.mark.parametrize("place", ["os.chdir('/')", "pass"])
def test_a_file_that_changes_the_folder_does_not_move_the_output(write, tmp_path, place):
    net = write(forward("os.chdir('/'); return self.conv(x)", place))
    for command in (("summary",), ("rf", "--verify")):
        result = run_cli(*command, net, "-i", "3x8x8", "--output", "out.txt")
        assert result.code == 0, result.err
        assert (tmp_path / "out.txt").read_text()
        (tmp_path / "out.txt").unlink()
    assert Path.cwd() == tmp_path


def test_a_file_that_patches_torch_changes_no_other_answer(write):
    honest = write(forward("return torch.relu(self.conv(x))"), "honest.py")
    before = run_cli("summary", honest, "-i", "3x8x8")
    patching = write(
        "import torch\nfrom torch import nn\n"
        "nn.Conv2d.forward = lambda self, x: x\ntorch.relu = None\n"
        "nn.Module.__call__ = lambda self, *args: 7\n"
        "torch.empty = lambda *args, **kwargs: 1 / 0\n"
        "torch.Tensor.shape = property(lambda self: (1,))\n"
        + forward("nn.ReLU.forward = None; torch.nn.functional.relu = None\nreturn self.conv(x)"),
        "patching.py",
    )
    assert run_cli("summary", patching, "-i", "3x8x8").code in (0, 2, 3)
    assert run_cli("summary", honest, "-i", "3x8x8") == before
    assert before.code == 0


# ---------------------------------------------------------------------------------- forwards

# body, exit code, and what is said on stderr or, where it is no failure, in the report
FORWARDS = {
    "calls itself": ("return self(x)", 3, "RecursionError"),
    "calls a part that calls it": ("self.conv.up = [self.forward]\nreturn self(x)", 3, "Recursion"),
    "returns nothing": ("self.conv(x)", 0, "conv"),
    "returns itself": ("return self", 0, "MACs"),
    "returns what holds itself": ("a = [self.conv(x)]; a.append(a); return a", 0, "conv"),
    "writes to its input": ("x.mul_(2); x[:] = 0; return self.conv(x)", 0, "mul"),
    "draws": ("return self.conv(x + torch.rand_like(x)) * random.random()", 0, "conv"),
    "needs training": (
        "if not self.training:\n    raise RuntimeError('train me')\nreturn self.conv(x)",
        3,
        "train me",
    ),
    "yields": ("yield self.conv(x)", 0, "returned a generator: nothing ran"),
    "is a coroutine": (
        "async def later(): return x\nreturn later()",
        0,
        "a coroutine: nothing ran",
    ),
    "cannot say what is wrong": (
        "class Silent(Exception):\n    def __str__(self): raise self\nraise Silent",
        3,
        "Silent",
    ),
    "closes the streams": (
        "sys.stdout.close(); sys.stderr.close(); return self.conv(x)",
        0,
        "conv",
    ),
    "takes the streams": ("sys.stdout = sys.stderr = None; return self.conv(x)", 0, "conv"),
    "runs a thread": (
        "t = threading.Thread(target=torch.ones, args=(3,)); t.start(); return self.conv(x)",
        0,
        "conv",
    ),
    "gives an empty tensor": ("return self.conv(x[:0])", 0, "conv"),
    "raises what is no exception": ("raise BaseException('so')", 3, "BaseException: so"),
    "strides by zero": (
        "return nn.Conv2d(3, 4, 3, stride=0, device=x.device)(x)",
        None,
        "in Conv2d",
    ),
    "asks for too much": ("return torch.zeros(2**62, device=x.device)", None, ""),
}


@pytest.mark.parametrize("case", FORWARDS)
def test_a_hostile_forward_ends_in_one_message(write, case):
    body, code, said = FORWARDS[case]
    net = write(forward(body))
    result = run_cli("summary", net, "-i", "3x8x8")
    assert result.code == code or (code is None and result.code in (2, 3)), result.err
    assert said in result.out + result.err
    assert "Traceback" not in result.err
    if result.code:
        assert result.code == 3 or not result.out
        assert result.err.count("cnnscope: ") == 1
    else:
        assert result.err == ""


@pytest.mark.parametrize("case", ["gives an empty tensor", "closes the streams", "draws"])
@pytest.mark.parametrize("command", [("rf", "--verify"), ("rf", "--effective"), ("check",)])
def test_forwards_that_run_more_than_once(write, case, command):
    result = run_cli(*command, write(forward(FORWARDS[case][0])), "-i", "3x8x8")
    assert result.code in (0, 1, 2, 3)
    assert "Traceback" not in result.err
    assert result.err.count("cnnscope: ") == int(result.code > 1)


# ------------------------------------------------------------------------------------- large


class Chain(nn.Module):
    """As many additions as one likes, each of which stays alive."""

    def __init__(self, length):
        super().__init__()
        self.length = length

    def forward(self, x):
        kept = [x]
        for _ in range(self.length):
            kept.append(kept[-1] + 1)
        return kept


def test_time_is_linear_in_the_operations(monkeypatch):
    """Of all that lives, little is asked whether it does: quadratic would be 2 million here."""
    asked = []
    expired = storages._expired
    monkeypatch.setattr(storages, "_expired", lambda a: asked.append(None) or expired(a))
    trace = cnnscope.trace(Chain(2000), "3x1x1")
    assert len(trace.ops) == 2000
    assert len(asked) < 50 * 2000
    assert {s.died for s in trace.storages if s.born >= 0} == {2000}


@pytest.mark.parametrize("length", [50, 200])
def test_a_storage_dies_where_its_last_tensor_does(length):
    """However many are alive, and whether it is the tensor or a view of it that is the last."""

    def run(self, x):
        kept = [x + i for i in range(length)]  # operations 0 to length - 1
        kept[3] = kept[3][0]  # a view keeps it
        kept[7] = None
        x = x * 2  # length + 1: 7 is dead
        kept[3] = None
        return x * 2, kept  # length + 2: 3 is dead

    model = type("Dying", (nn.Module,), {"forward": run})()
    storages = cnnscope.trace(model, torch.ones(2, 1)).storages[1:]
    died = {s.born: s.died for s in storages if s.born >= 0 and s.died < length + 3}
    assert died == {7: length + 1, 3: length + 2}


LARGE = """
    import torch
    from torch import nn

    class Ops(nn.Module):
        def forward(self, x):
            for _ in range({count}):
                x = x + 1
            return x

    class Layers(nn.Sequential):
        def __init__(self):
            super().__init__(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range({count} // 10)))
"""


def run_large(net, count):
    result = run_cli("summary", f"{net}:Ops", "-i", "3x8x8", "--format", "json")
    assert json.loads(result.out)["totals"]["element_ops"] == count * 3 * 8 * 8
    for command in ("summary", "rf", "explain", "stages"):
        result = run_cli(command, f"{net}:Layers", "-i", "3x8x8")
        assert result.code == 0, result.err
        assert len(result.out.splitlines()) < 200  # folded


def test_a_thousand_operations_and_a_hundred_layers(write):
    run_large(write(LARGE.format(count=1000)), 1000)


@pytest.mark.slow
def test_a_hundred_thousand_operations_and_ten_thousand_layers(write):
    run_large(write(LARGE.format(count=100_000)), 100_000)


# ------------------------------------------------------------------------- where it is written


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


def run_on(stream, *arguments):
    """Run a command whose stdout is this stream."""
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(stream), redirect_stderr(err):
        code = cli.run(list(arguments))
    stream.seek(0)
    err.seek(0)
    return Result(code, stream.read(), err.read())


COMMANDS = (
    ("summary", "lenet5"),
    ("rf", "lenet5"),
    ("explain", "lenet5"),
    ("explain", "lenet5", "c1"),
    ("stages", "lenet5", "alexnet"),
    ("diff", "lenet5", "alexnet"),
    ("stack", "--kernel", "7", "--channels", "64"),
    ("check", "lenet5"),
    ("list", "vgg1*"),
)


@pytest.mark.parametrize("columns", ["1", "20"])
@pytest.mark.parametrize("terminal", ["dumb", "xterm", ""])
def test_narrow_and_dumb_terminals(monkeypatch, columns, terminal):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", terminal)
    for arguments in COMMANDS[:-2]:
        result = run_on(Terminal(io.BytesIO(), encoding="utf-8"), *arguments)
        assert result.code == 0, (arguments, result.err)
        assert result.out
        assert terminal != "dumb" or "\x1b" not in result.out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "cp037"])
def test_terminals_without_unicode(encoding):
    for arguments in COMMANDS[:-2]:
        result = run_on(io.TextIOWrapper(io.BytesIO(), encoding=encoding), *arguments)
        assert result.code == 0, (arguments, result.err)
        assert result.out.strip()
        assert result.err == ""


UNLUCKY = {
    "no home": {"HOME": "", "XDG_CACHE_HOME": "", "CNNSCOPE_CACHE_DIR": ""},
    "home is a file": {
        "HOME": "/dev/null",
        "XDG_CACHE_HOME": "/dev/null/x",
        "CNNSCOPE_CACHE_DIR": "",
    },
    "a store that cannot be": {"CNNSCOPE_CACHE_DIR": "/proc/nowhere"},
    "another locale": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    "a dumb terminal": {"TERM": "dumb", "COLUMNS": "20", "LINES": "1"},
    "a terminal of no size": {"COLUMNS": "0", "LINES": "nonsense", "TERM": ESCAPES.strip("\r")},
}


@pytest.mark.parametrize("case", UNLUCKY)
def test_an_unlucky_environment_ends_in_one_message(case):
    """In processes of their own, which need no torch."""
    environment = {**os.environ, **UNLUCKY[case]}
    environment = {
        k: v for k, v in environment.items() if v or k not in ("HOME", "CNNSCOPE_CACHE_DIR")
    }
    command = [sys.executable, "-m", "cnnscope", "stack", "--kernel", "7", "--channels", "64"]
    result = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b""), case
    assert b"3x3" in result.stdout
    assert b"\x1b" not in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_stdout_that_is_full_or_closed_is_one_message():
    program = f"{sys.executable} -m cnnscope stack --kernel 7 --channels 64"
    full = subprocess.run(f"{program} > /dev/full", shell=True, capture_output=True, check=False)
    assert full.returncode == 2
    assert full.stderr == b"cnnscope: stdout cannot be written (No space left on device)\n"
    closed = subprocess.run(f"{program} >&- 2>&-", shell=True, capture_output=True, check=False)
    assert closed.returncode in (0, 2)


@pytest.mark.parametrize(
    "place", ["/proc/out", "/dev/null/out", "net.py/out", "x" * 300, "\ud800", ""]
)
def test_places_that_cannot_be_written(write, place):
    net = write(forward("return self.conv(x)"))
    for command in (("summary", net, "-i", "3x8x8"), ("rf", net, "-i", "3x8x8"), ("list", "vgg11"),
                    ("stack", "--kernel", "7")):  # fmt: skip
        message = refused(*command, "--output", place)
        assert "--output" in message


WARNS = """
import warnings
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        for number in (1, 1, 2):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn(f"number {number}")
        return self.conv(x) * float(x.sum() >= 0)  # looks at its data: it runs more than once
"""


def test_a_warning_is_shown_once(write):
    write(WARNS)
    before = warnings.showwarning
    code = "from cnnscope.cli import main; main(['summary', 'net.py:Net', '-i', '3x8x8'])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("UserWarning: number 1\n") == 1
    assert result.stderr.count("UserWarning: number 2\n") == 1
    assert run_cli("--version").code == 0
    assert warnings.showwarning is before

"""Torch takes seconds to import: what does not need it must not. Each test is a new process."""

import re
import subprocess
import sys

import pytest
from command_line import run_cli
from imports import HEAVY, imported_by

pytestmark = pytest.mark.broad


def import_log(*arguments):
    """Output of `python -m cnnscope`, and the modules that it imported by python's own account."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done.stdout, {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--help",), "summary"),
        (("--version",), "cnnscope "),
        (("summary", "--help"), "--input"),
        (("bench", "--help"), "--seconds"),
    ],
)
def test_help_and_version_do_not_import_torch(arguments, shown):
    output, modules = import_log("-m", "cnnscope", *arguments)
    assert shown in output
    assert "cnnscope.cli" in modules
    assert not HEAVY & modules


@pytest.mark.parametrize(
    "program",
    [
        "import cnnscope",
        "import cnnscope.reports.summary, cnnscope.render.summary, cnnscope.render.drawing",
        "import cnnscope.reports.diff, cnnscope.render.diff",
        "import cnnscope.reports.stages, cnnscope.render.stages",
        "import cnnscope.models.request, cnnscope.ops.table, cnnscope.records",
        "import cnnscope.analysis.layers",
        "from cnnscope.cli import run; assert run(['summary', '--help']) == 0",
        "from cnnscope.cli import run; assert run(['stack']) == 0",
        "import cnnscope.cli as c; c.run(['stack'])\n"
        "        assert 'cnnscope.timing.runner' not in sys.modules",
        "from cnnscope.cli import run; assert run(['stack', '--time', '--seconds', '0']) == 2",
        "import cnnscope.reports.explain, cnnscope.render.explain",
        "from cnnscope.cli import run; assert run(['summary', '--no-such-option']) == 2",
        "from cnnscope.cli import run; assert run(['summary', 'resnet18', '--input', '3x']) == 2",
        "from cnnscope.cli import run; assert run(['bench', 'resnet18', '--mode', 'x']) == 2",
    ],
)
def test_what_needs_no_torch_does_not_import_it(program):
    assert imported_by(program) == []


@pytest.mark.slow
def test_a_program_that_imports_torch_is_detected_by_both_checks():
    program = "import cnnscope.tracing.tracer, torch.fx.experimental.symbolic_shapes"
    _, modules = import_log("-c", program)
    assert modules >= {"torch", "torch.fx.experimental.symbolic_shapes", "sympy"}
    assert "torch" in imported_by("import cnnscope.tracing.tracer")


def test_reporting_a_stored_trace_does_not_import_torch():
    program = """
        import msgspec
        from cnnscope.records.trace import CallRecord, ModuleRecord, Source, Trace
        from cnnscope.reports.summary import report
        model, call = (ModuleRecord('', 'Net'),), (CallRecord(0, -1),)
        trace = Trace(Source('a', 'b', 'c'), (), (), model, call, (), (), (), ())
        stored = msgspec.msgpack.encode(trace)
        assert report(msgspec.msgpack.decode(stored, type=Trace)).totals.macs == 0
    """.strip()
    assert imported_by(program) == []


# What a command that answers from the store may import of the packages that are installed, and
# the parts of the standard library that take long.
ALLOWED = {"cnnscope", "typer", "click", "rich", "msgspec", "platformdirs", "shellingham"}
SLOW = {"asyncio", "hashlib", "tempfile", "unittest", "multiprocessing", "concurrent", "ssl"}
SLOW |= {"zipfile", "html"}  # of readers and formats that were not asked for

# Records of other commands; and how many modules of ours a command needs: each costs 0.3 ms.
OTHERS = {"bench", "check", "checkpoint", "stack"}
MOST = {"summary": 102, "rf": 95, "diff": 61, "list": 53}

UNASKED = {"imported package", "org", "sitecustomize", "usercustomize"}  # by python itself

WARM = [
    ("summary", "alexnet"),
    ("rf", "alexnet"),
    ("diff", "alexnet", "vgg11"),
    ("list", "alexnet", "--source", "torchvision"),
]


@pytest.mark.parametrize("command", WARM, ids=lambda c: c[0])
def test_what_a_warm_command_imports(command):
    assert run_cli(*command).code == 0
    output, modules = import_log("-m", "cnnscope", *command)
    assert "alexnet" in output
    packages = {name.partition(".")[0] for name in modules}
    installed = packages - sys.stdlib_module_names - ALLOWED - UNASKED
    assert not {name for name in installed if not name.startswith(("_", "typing_ext", "annot"))}
    assert not packages & SLOW
    assert not {name for name in modules if name.startswith("cnnscope.models.find")}
    assert "json" not in packages
    assert not modules & {f"cnnscope.records.{name}" for name in OTHERS}
    ours = {name for name in modules if name.startswith("cnnscope.")}
    assert command[0] != "diff" or not any(name.startswith("cnnscope.ops") for name in ours)
    assert len(ours) <= MOST[command[0]], sorted(ours)


# What torch's meta kernels and torchvision import unless `tracing.stubs` keeps them from it.
COMPILER = {"torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "sympy"}

NET = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(True))
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.norm = nn.GroupNorm(2, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 10)
        nn.init.kaiming_normal_(self.head.weight)

    def forward(self, x):
        x = self.stem(x)
        x = F.max_pool2d(x, 2) + F.gelu(F.avg_pool2d(x, 2)) * 0.5
        x = self.norm(self.up(F.interpolate(x, scale_factor=2, mode="bilinear")))
        x = torch.cat((x[:, :4], F.pad(x, (1, 1, 1, 1))[..., 1:-1, 1:-1][:, 4:]), 1)
        x = F.adaptive_avg_pool2d(F.leaky_relu(x), 4).flatten(2).transpose(1, 2)
        x = x + F.softmax(self.attention(x, x, x)[0], -1).clamp(0, 1)
        return self.head(F.dropout(x.mean(1)))
"""


def test_a_cold_command_is_told_from_a_warm_one_and_needs_no_compiler():
    _, modules = import_log("-m", "cnnscope", "summary", "alexnet", "--no-cache")
    assert modules >= {"torch", "torchvision"}
    assert {name.partition(".")[0] for name in modules} & SLOW
    assert not modules & COMPILER


def test_what_a_network_in_a_file_imports(tmp_path):
    net = tmp_path / "net.py"
    net.write_text(NET)
    output, modules = import_log("-m", "cnnscope", "summary", f"{net}:Net", "--input", "3x32x32")
    assert "ConvTranspose2d" in output
    assert "torch" in modules
    assert not modules & (COMPILER | {"torchvision"})


def test_a_network_that_fails_needs_no_compiler_for_its_remedy(tmp_path):
    net = tmp_path / "net.py"
    net.write_text(NET.replace("nn.Linear(8, 10)", "nn.Linear(9, 10)"))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cnnscope", f"{net}:Net", "--input", "3x32x32"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 3
    assert "in_features must be 8" in done.stderr
    assert not [name for name in COMPILER if re.search(rf"\| *{name}$", done.stderr, re.MULTILINE)]


def test_names_of_the_classic_models_need_no_torch():
    assert imported_by("from cnnscope.models.sources import classic; assert classic.names()") == []


def test_a_classic_model_needs_no_torchvision():
    modules = imported_by("import cnnscope; cnnscope.trace('classic:lenet5', cache=False)")
    assert "torch" in modules
    assert "torchvision" not in modules

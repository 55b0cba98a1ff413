"""`cnnscope bench` from end to end: a real model on the CPU, every format, and what goes wrong."""

import csv
import io
import json
import sys
from contextlib import nullcontext
from itertools import count

import msgspec
import pytest
import torch
from command_line import run_cli

from cnnscope.cli import bench as command
from cnnscope.cli.bench import Bench
from cnnscope.cli.commands import with_values
from cnnscope.errors import RequestError
from cnnscope.models.request import Request
from cnnscope.records.bench import COMPILE_MODES, BenchReport, Ceilings, Comparison, Interval, Ratio
from cnnscope.records.trace import TensorSpec
from cnnscope.render import bench as renderer
from cnnscope.render import drawing, page, units
from cnnscope.timing import compare, layers, loop, machine, programs, runner, timers, warnings

pytestmark = pytest.mark.broad

CEILINGS = Ceilings("float32", flops=1e11, bandwidth=1e10, matmul_size=1024, copy_bytes=2**28)
# a small model on a small input: some milliseconds
SHORT = ("--device", "cpu", "--input", "32", "--seconds", "0.05", "--threads", "1")
MODEL = "squeezenet1_1"


@pytest.fixture(autouse=True)
def known_ceilings(request, monkeypatch):
    """Ceilings take a second to measure; one test measures them."""
    if "real_ceilings" not in request.fixturenames:
        monkeypatch.setattr(machine, "ceilings", lambda *_: CEILINGS)


@pytest.fixture
def real_ceilings():
    return machine.ceilings(torch.device("cpu"), "float32")


def bench_json(*arguments):
    result = run_cli("bench", *arguments, "--format", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of the model, saved."""
    path = tmp_path_factory.mktemp("bench") / "run.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "ceilings", lambda *_: CEILINGS)
        result = run_cli("bench", MODEL, *SHORT, "--save", str(path))
    assert result.code == 0, result.err
    return path, result


def report_of(path):
    return msgspec.json.decode(path.read_bytes(), type=BenchReport)


SECOND = 1_000_000_000
STEADY = 5_000_000


def with_samples_of(path, ns):
    """The saved run as it would be had every sample taken so long."""
    data = json.loads(path.read_text())
    for run in data["runs"]:
        run["samples_ns"] = [[ns] * len(r) for r in run["samples_ns"]]
    other = path.with_name(f"{ns}.json")
    other.write_text(json.dumps(data))
    return str(other)


# ----------------------------------------------------------------------------- what is told


def test_the_table_tells_latency_limits_and_machine(saved):
    _, result = saved
    assert result.err == ""  # no progress in a pipe
    head, latency, limits, below = result.out.split("\n\n")
    assert head.startswith(f"{MODEL}   cpu (")
    assert "1 thread · input 1x3x32x32 · float32 · forward" in head
    shown = latency.split("\n")[0]
    assert shown.startswith("model          batch")
    for column in ("median", "95 % interval", "IQR", "min", "images/s", "samples"):
        assert f" {column} " in shown
    assert "wall" not in shown  # the samples are wall clock
    assert " of ceiling" in limits
    # squeezenet1_1's MACs are counted elsewhere; here they are those of the summary
    totals = json.loads(run_cli("summary", MODEL, "-i", "32", "-f", "json").out)["totals"]
    assert units.si_short(totals["macs"]) in limits
    assert "a 1024x1024 float32 matrix product reached 100.0 GFLOP/s" in below
    assert "machine " in below


def test_control_characters_of_a_saved_run_are_written_out(saved):
    data = json.loads(saved[0].read_text())
    data["notes"] = ["a\nb\x1b[31m\u202e"]
    data["runs"][0]["label"] = "x\n# y"
    read = compare.read(json.dumps(data).encode(), "run.json")
    assert read.notes == ("a\\nb\\x1b[31m\\u202e",)
    assert read.runs[0].label == "x\\n# y"
    assert compare.read(saved[0].read_bytes(), "run.json") == report_of(saved[0])


def test_json_has_every_sample_and_the_environment(saved):
    data = json.loads(saved[0].read_text())
    (run,) = data["runs"]
    samples = [ns for r in run["samples_ns"] for ns in r]
    assert len(run["samples_ns"]) >= loop.MIN_ROUNDS
    assert run["statistics"]["count"] == len(samples)
    assert min(samples) == run["statistics"]["min_ns"] > 0
    assert run["first_call_ns"] > 0
    assert run["settings"]["threads"] == 1
    environment = data["environment"]
    assert environment["torch"] == str(torch.__version__)
    assert environment["cores"] == machine.usable_cores()
    assert {"conv_fp32", "matmul_fp32", "cudnn_benchmark", "driver"} <= set(environment)


def test_a_saved_run_can_be_read_back(saved):
    report = report_of(saved[0])
    assert drawing.write(report, "json").encode() == saved[0].read_bytes()


def test_csv_and_markdown_have_the_numbers_of_the_json(saved):
    report = report_of(saved[0])
    (row,) = csv.DictReader(io.StringIO(drawing.write(report, "csv")))
    statistics = report.runs[0].statistics
    assert float(row["median_ns"]) == statistics.median_ns
    assert row["p99_ns"] == ""  # too few samples
    assert int(row["macs"]) == report.runs[0].work.macs
    assert units.duration(statistics.median_ns) in page.markdown(renderer.page(report))


@pytest.mark.parametrize("format_", ["table", "csv", "markdown"])
def test_every_format_is_written(format_):
    result = run_cli("bench", MODEL, *SHORT, "--format", format_)
    assert result.code == 0
    assert MODEL in result.out.replace("\\", "")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(saved, width):
    text = page.text(renderer.page(report_of(saved[0])), width)
    assert max(map(len, text.plain.splitlines())) <= width


def test_a_terminal_without_unicode_gets_ascii(saved):
    assert page.text(renderer.page(report_of(saved[0])), 80, ascii_only=True).plain.isascii()


def test_achieved_rates_are_work_over_the_median(saved):
    run = report_of(saved[0]).runs[0]
    seconds = run.statistics.median_ns / 1e9
    assert renderer.flops_per_second(run) == pytest.approx(2 * run.work.macs / seconds)
    assert renderer.bytes_per_second(run) == pytest.approx(run.work.nbytes / seconds)
    assert renderer.images_per_second(run) == pytest.approx(1 / seconds)


def test_ceilings_are_measured(real_ceilings):
    assert real_ceilings.matmul_size >= 256
    # a product of this size does 2 n^3 operations; no machine of today does it in a microsecond
    assert 1e8 < real_ceilings.flops < 1e15
    assert 1e8 < real_ceilings.bandwidth < 1e13


# --------------------------------------------------------------------------- what it can run


def test_a_sweep_measures_every_batch():
    runs = bench_json(MODEL, *SHORT, "--batch-size", "1,3")["runs"]
    assert [run["batch"] for run in runs] == [1, 3]
    assert [run["inputs"][0]["shape"][0] for run in runs] == [1, 3]
    assert runs[1]["work"]["macs"] == 3 * runs[0]["work"]["macs"]


def test_the_input_is_named_for_batches_and_for_lists(saved):
    report = report_of(saved[0])
    (run,) = report.runs

    def header(*shapes):
        runs = tuple(
            msgspec.structs.replace(run, inputs=(TensorSpec(shape),), batch=batch)
            for shape, batch in shapes
        )
        return renderer.page(msgspec.structs.replace(report, runs=runs)).header

    assert " input 1x3x32x32 " in header(((1, 3, 32, 32), 1))
    assert " input Nx3x32x32 " in header(((1, 3, 32, 32), 1), ((8, 3, 32, 32), 8))
    assert " input 3x320x320 " in header(((3, 320, 320), 1))  # one of a list
    assert " input " not in header(((1, 3, 32, 32), 1), ((1, 3, 64, 64), 1))


def test_models_are_measured_in_turns_and_compared():
    data = bench_json(MODEL, "shufflenet_v2_x0_5", *SHORT)
    rounds = [len(run["samples_ns"]) for run in data["runs"]]
    assert rounds[0] == rounds[1]
    (comparison,) = data["comparisons"]
    assert (comparison["base"], comparison["other"]) == (MODEL, "shufflenet_v2_x0_5")
    assert comparison["interleaved"]


def test_the_same_model_twice_is_told_apart():
    runs = bench_json(MODEL, MODEL, *SHORT)["runs"]
    assert [run["label"] for run in runs] == [MODEL, f"{MODEL} #2"]


def test_training_steps_compute_gradients_and_leave_the_weights_alone(monkeypatch):
    models = []
    original = programs.RealModel.__init__

    def remember(self, *args, **kwargs):
        original(self, *args, **kwargs)
        models.append((self, [p.detach().clone() for p in self.model.parameters()]))

    monkeypatch.setattr(programs.RealModel, "__init__", remember)
    data = bench_json("shufflenet_v2_x0_5", *SHORT, "--mode", "train", "-b", "2")
    assert data["runs"][0]["settings"]["mode"] == "train"
    ((model, before),) = models
    assert model.model.training
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.model.parameters())
    for old, new in zip(before, model.model.parameters(), strict=True):
        assert torch.equal(old, new)


def test_dtype_layout_and_autocast_reach_the_model(monkeypatch):
    seen = []
    original = programs.RealModel._step

    def spy(self, inputs):
        seen.append((inputs.args[0], next(self.model.parameters()), self.settings.amp))
        return original(self, inputs)

    monkeypatch.setattr(programs.RealModel, "_step", spy)
    bench_json(MODEL, *SHORT, "--dtype", "bfloat16", "--channels-last")
    bench_json(MODEL, *SHORT, "--amp")
    (cast, weight, _), (full, full_weight, amp) = seen
    assert cast.dtype == weight.dtype == torch.bfloat16
    assert cast.is_contiguous(memory_format=torch.channels_last)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert full.dtype == full_weight.dtype == torch.float32
    assert amp == "bfloat16"


def test_classes_and_arguments_reach_the_model():
    data = bench_json("shufflenet_v2_x0_5", *SHORT, "--num-classes", "7")
    assert data["runs"][0]["source"]["arguments"] == {"num_classes": "7"}


def test_threads_are_set_and_restored():
    before = torch.get_num_threads()
    data = bench_json(MODEL, *SHORT[:-1], "2")
    assert data["runs"][0]["settings"]["threads"] == 2
    assert torch.get_num_threads() == before


def test_weights_are_the_same_every_time_and_the_random_state_is_kept():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one = programs.RealModel(Request.of(MODEL), runner.BenchSettings("cpu"), torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    other = programs.RealModel(Request.of(MODEL), runner.BenchSettings("cpu"), torch.device("cpu"))
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_layers_are_timed_one_at_a_time():
    data = bench_json(MODEL, *SHORT, "--per-layer")
    (run,) = data["runs"]
    rows = json.loads(run_cli("summary", MODEL, "-i", "32", "-f", "json").out)["layers"]
    expected = [
        row["path"] for row in rows if row["leaf"] and row["kind"] == "module" and not row["minor"]
    ]
    assert [layer["path"] for layer in run["layers"]] == expected
    assert sum(layer["macs"] for layer in run["layers"]) == run["work"]["macs"]
    for layer in run["layers"]:
        compute, moving = 2e9 * layer["macs"] / 1e11, 1e9 * layer["nbytes"] / 1e10
        assert layer["bound"] == ("compute" if compute >= moving else "memory")
        assert layer["roofline"] == pytest.approx(max(compute, moving) / layer["median_ns"])


def test_layers_are_shown_with_their_sum_beside_the_whole():
    out = run_cli("bench", MODEL, *SHORT, "--per-layer").out
    assert "layers measured one at a time, the slowest first" in out
    assert "calls of layers add up to" in out


def test_shares_of_the_roofline_above_all_of_it_are_withheld_with_one_note():
    data = run_cli("bench", MODEL, *SHORT, "--per-layer", "--format", "json").out
    report = msgspec.json.decode(data, type=BenchReport)
    (run,) = report.runs
    shares = [1.5, 0.5, *[1.2] * (len(run.layers) - 2)]
    slow = zip(sorted(run.layers, key=lambda x: -x.median_ns), shares, strict=True)
    made = tuple(msgspec.structs.replace(x, roofline=share) for x, share in slow)
    run = msgspec.structs.replace(run, layers=made)
    shown = page.text(renderer.page(msgspec.structs.replace(report, runs=(run,)))).plain
    below = shown.partition("the slowest first")[2]
    cells = [line.split() for line in below.splitlines() if line.endswith((" memory", " compute"))]
    assert [row[-2] for row in cells] == ["-", "%", *["-"] * (len(cells) - 2)]
    assert " 50.0 %" in shown
    assert shown.count("above 100 %: the roofline") == 1
    assert f"- for {len(made) - 1} calls of layers" in shown


def test_compile_needs_no_mode():
    bare = Bench.bare()
    args = ["bench", "m", "--compile", "--amp"]
    assert with_values(args, bare) == ["bench", "m", "--compile=default", "--amp"]
    assert with_values(["--compile"], bare) == ["--compile=default"]
    for args in (["--compile", COMPILE_MODES[1], "m"], ["m", "--", "--compile"], []):
        assert with_values(args, bare) == args


def test_compile_reaches_torch(monkeypatch):
    asked = []

    def compiled(model, **options):
        asked.append(options)
        return model

    monkeypatch.setattr(torch, "compile", compiled)
    assert run_cli("bench", "--compile", MODEL, *SHORT).code == 0
    assert run_cli("bench", MODEL, *SHORT, "--compile", "max-autotune").code == 0
    assert [options["mode"] for options in asked] == ["default", "max-autotune"]


@pytest.mark.parametrize(
    ("error", "part"),
    [
        ("InvalidCxxCompiler: No working C++ compiler found", "install g++ or name one in CXX"),
        ("RuntimeError: Failed to find C compiler.", "install g++ or name one in CXX"),
        ("Cannot find a working triton installation.", "needs Triton on cpu"),
    ],
)
def test_a_compiler_that_is_missing_is_one_message(monkeypatch, error, part):
    def fails(*_):
        raise RuntimeError(error)

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    message = error_of(MODEL, *SHORT, "--compile")
    assert message.startswith("--compile default: torch.compile ")
    assert part in message


def test_every_batch_is_compiled(monkeypatch, own):
    compiled, original = [], torch.compile

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    def eager(model, *, mode, dynamic):
        assert mode == "default"
        return original(model, backend=backend, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", eager)
    short = ("--device", "cpu", "--input", "8", "--seconds", "0.001", "--threads", "1")
    with torch._dynamo.config.patch(recompile_limit=1):  # monkeypatch would leave it deleted
        bench_json(f"{own}:Plain", *short, "--compile", "default", "-b", "1,2,3")
        assert torch._dynamo.config.recompile_limit == 1
    assert len(compiled) == 3  # and none is run as it is, with torch's warning


@pytest.mark.slow
def test_a_compiled_model_runs(tmp_path, monkeypatch, own):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    (run,) = bench_json(f"{own}:Plain", *SHORT, "--compile", "default")["runs"]
    assert run["settings"]["compile"] == "default"
    assert run["first_call_ns"] > 100 * run["statistics"]["median_ns"]  # it compiles


# ------------------------------------------------------------------------------ comparisons


def test_a_run_against_itself_shows_no_difference(saved):
    report = runner.with_saved(report_of(saved[0]), report_of(saved[0]), "run.json")
    (comparison,) = report.comparisons
    assert comparison.ratio.verdict == "no difference visible"
    assert comparison.differences == ()
    assert "no difference visible" in page.text(renderer.page(report)).plain


@pytest.mark.parametrize(
    ("before", "code", "verdict"),
    # 5 ms now is +11 %, +4 %, +0.4 % and -9 %
    [
        (4_500_000, 1, "slower"),
        (4_800_000, 0, "slower"),
        (4_980_000, 0, "no difference visible"),
        (5_500_000, 0, "faster"),
    ],
)
def test_slower_than_allowed_is_exit_code_1(monkeypatch, saved, before, code, verdict):
    def block(self, step, number, *, prime):
        step()
        return loop.Block([STEADY] * number)

    monkeypatch.setattr(timers.HostTimer, "block", block)
    base = with_samples_of(saved[0], before)
    result = run_cli("bench", MODEL, *SHORT, "--against", base, "--fail-if-slower", "5%")
    assert result.code == code
    assert verdict in result.out


def beside(saved, label):
    """The saved run as a steady one, and the same under another name, twice as slow."""
    report = report_of(saved[0])
    (run,) = report.runs
    runs = tuple(
        msgspec.structs.replace(run, label=name, samples_ns=((ns,),) * 20)
        for name, ns in ((run.label, STEADY), (label, 2 * STEADY))
    )
    return msgspec.structs.replace(report, runs=runs, comparisons=compare.interleaved(runs))


def test_two_models_may_differ_where_a_saved_run_is_the_bar(saved):
    two = beside(saved, "other")
    assert runner.too_slow(two, 0.05)  # than the first model, where that is all there is
    assert not runner.too_slow(runner.with_saved(two, two, "run.json"), 0.05)


def test_a_run_that_the_saved_one_lacks_is_named(saved):
    report = runner.with_saved(beside(saved, "other"), beside(saved, "third"), "run.json")
    assert [c.other for c in report.comparisons if not c.interleaved] == [MODEL]
    assert report.notes == ("other at batch 1 is not in run.json: it is not compared with it",)


@pytest.mark.parametrize(
    ("models", "batches", "refused"),
    [
        (("alexnet",), (), False),  # one and one: whatever they are
        (("alexnet",), (1, 2), True),
        (("alexnet", "vgg11"), (), True),
        ((MODEL, "vgg11"), (), False),
        ((MODEL, "vgg11"), (8,), True),
        ((MODEL,), (8, 1), False),
    ],
)
def test_a_saved_run_of_something_else_is_refused_before_any_work(saved, models, batches, refused):
    request = runner.Plan(tuple(map(Request.of, models)), batches=batches)
    context = pytest.raises(RequestError, match="none of these") if refused else nullcontext()
    with context:
        runner.check_saved(request, report_of(saved[0]), "run.json")


def test_what_was_measured_is_kept_even_if_nothing_was_like_it(saved, tmp_path):
    # the batch follows from the input, and is known when the model is traced
    kept = tmp_path / "kept.json"
    arguments = ("--input", "2x3x32x32", "--against", str(saved[0]), "--save", str(kept))
    message = error_of(MODEL, "squeezenet1_0", *SHORT[:2], *SHORT[4:], *arguments)
    assert "none of these runs is in it" in message
    assert [run.batch for run in report_of(kept).runs] == [2, 2]


@pytest.mark.parametrize("samples", [[], [[]], [[0]]])
def test_a_saved_run_without_times_is_refused(saved, samples):
    data = json.loads(saved[0].read_text())
    data["runs"][0]["samples_ns"] = samples
    with pytest.raises(RequestError, match="without samples, or one of 0 ns"):
        compare.read(json.dumps(data).encode(), "run.json")


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_keeps_the_verdict_and_the_names(saved, width):
    other = beside(saved, "other")
    report = runner.with_saved(other, other, "run.json")
    text = page.text(renderer.page(report), width).plain
    assert text.count("no difference visible") == 2
    assert text.count(f"\n{MODEL} ") == 3
    assert ("run.json: squee" in text) == (width == 80)


def test_a_difference_that_the_noise_hides_is_told_in_words(saved):
    def told(low, high, floor, verdict):
        ratio = Ratio((low + high) / 2, Interval(low, high, 0.95), floor, verdict)
        comparison = Comparison("run.json: a", "a", 0, False, ratio)
        report = msgspec.structs.replace(report_of(saved[0]), comparisons=(comparison,))
        return [text for kind, text in renderer.page(report).below if "noise" in text]

    (text,) = told(0.67, 0.84, 0.386, "no difference visible")
    assert text == (
        "a with run.json: a: differences of less than 38.6 %, the noise floor, cannot be told from "
        "noise here"
    )
    assert not told(0.97, 1.02, 0.386, "no difference visible")
    assert not told(0.67, 0.84, 0.01, "faster")


def test_large_ratios_have_four_digits():
    ratios = (0.3741, 9.9994, 40.1461, 128.54, 40961.879)
    assert list(map(units.ratio, ratios)) == ["0.374", "9.999", "40.15", "128.5", "40962"]


def test_what_is_not_alike_is_named(saved):
    data = json.loads(saved[0].read_text())
    data["runs"][0]["settings"]["dtype"] = "bfloat16"
    data["environment"]["cpu"] = "Other CPU"
    other = msgspec.json.decode(json.dumps(data).encode(), type=BenchReport)
    report = runner.with_saved(report_of(saved[0]), other, "other.json")
    assert "dtype: bfloat16 -> float32" in report.comparisons[0].differences
    assert any(d.startswith("cpu: Other CPU -> ") for d in report.comparisons[0].differences)


# ----------------------------------------------------------------------------- interruptions


def interrupted_after(monkeypatch, blocks):
    counter = count()
    original = timers.HostTimer.block

    def block(self, step, number, *, prime):
        if next(counter) == blocks:
            raise KeyboardInterrupt
        return original(self, step, number, prime=prime)

    monkeypatch.setattr(timers.HostTimer, "block", block)


def test_ctrl_c_prints_what_has_been_measured(monkeypatch):
    monkeypatch.setattr(loop, "warm_up", lambda *_: None)
    monkeypatch.setattr(programs, "warm_up", lambda p, *_: setattr(p, "per_call", 1e6))
    interrupted_after(monkeypatch, 9)  # the first call and eight rounds
    result = run_cli("bench", MODEL, *SHORT)
    assert result.code == 130
    assert "interrupted: this is what had been measured" in result.out
    assert "Traceback" not in result.err


def test_ctrl_c_before_anything_was_measured_prints_nothing(monkeypatch):
    interrupted_after(monkeypatch, 0)
    result = run_cli("bench", MODEL, *SHORT)
    assert (result.code, result.out) == (130, "")
    assert "Traceback" not in result.err


def test_ctrl_c_in_a_later_batch_keeps_the_earlier_ones(monkeypatch):
    original = programs.random_inputs

    def inputs(spec, device, **options):
        if spec.tensors[0].shape[0] == 2:
            raise KeyboardInterrupt
        return original(spec, device, **options)

    monkeypatch.setattr(programs, "random_inputs", inputs)
    result = run_cli("bench", MODEL, *SHORT, "--batch-size", "1,2", "--format", "json")
    assert result.code == 130
    data = json.loads(result.out)
    assert data["interrupted"]
    assert [run["batch"] for run in data["runs"]] == [1]


# ------------------------------------------------------------------------------ out of memory


def full_from(monkeypatch, batch, error):
    original = programs.random_inputs

    def inputs(spec, device, **options):
        if spec.tensors[0].shape[0] >= batch:
            raise error
        return original(spec, device, **options)

    monkeypatch.setattr(programs, "random_inputs", inputs)


CPU_FULL = RuntimeError("[enforce fail at alloc_cpu.cpp:127] ... can't allocate memory: you tried")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), CPU_FULL])
def test_a_sweep_stops_where_memory_ends_and_keeps_what_it_has(monkeypatch, error):
    full_from(monkeypatch, 3, error)
    data = bench_json(MODEL, *SHORT, "--batch-size", "1,2,3,4")
    assert [run["batch"] for run in data["runs"]] == [1, 2]
    (note,) = data["notes"]
    assert note == f"stopped at batch 3: {MODEL}: cpu ran out of memory"


@pytest.mark.parametrize(("batches", "at"), [((), ""), (("--batch-size", "1,2"), "batch 1: ")])
def test_rounds_are_kept_where_memory_ends_after_them(monkeypatch, batches, at):
    def full(*_):
        raise CPU_FULL

    monkeypatch.setattr(layers, "time_layers", full)
    data = bench_json(MODEL, *SHORT, "--per-layer", *batches)
    assert len(data["runs"]) == 1
    (note,) = data["notes"]
    assert note == f"{at}what follows the rounds is left out: {MODEL}: cpu ran out of memory"


def test_memory_of_a_model_is_its_own_whatever_is_built_beside_it():
    def new(run):
        return run["memory"]["resident"] - run["memory"]["resident_before"]

    # 1.2 million parameters, and 61 million of 233 MiB beside them
    data = bench_json(MODEL, "alexnet", "--device", "cpu", "--input", "64", "--seconds", "0.05")
    assert [run["label"] for run in data["runs"]] == [MODEL, "alexnet"]
    assert new(data["runs"][0]) < 100 * 2**20
    assert new(data["runs"][1]) > 200 * 2**20


def error_of(*arguments, code=2):
    result = run_cli("bench", *arguments)
    assert result.code == code, result
    assert result.out == ""
    assert result.err.startswith("cnnscope: ")
    assert result.err.count("\n") == 1
    return result.err.removeprefix("cnnscope: ").strip()


def test_a_first_batch_that_does_not_fit_is_one_message(monkeypatch):
    full_from(monkeypatch, 1, torch.OutOfMemoryError("CUDA out of memory."))
    message = error_of(MODEL, *SHORT)
    assert message.startswith(f"{MODEL}: cpu ran out of memory; use a smaller")


def test_a_model_larger_than_memory_is_never_allocated(monkeypatch):
    def never(*_, **__):
        raise AssertionError("allocated")

    monkeypatch.setattr(machine, "free_memory", lambda _: 2**30)
    monkeypatch.setattr(programs.RealModel, "__init__", never)
    # 645 M parameters of 4 bytes are 2.4 GiB
    message = error_of("regnet_y_128gf", "--device", "cpu", "--input", "32", "--batch-size", "2")
    assert message == (
        "batch 2: regnet_y_128gf needs at least 2.4 GiB by the trace, and cpu has 1.0 GiB free; "
        "use a smaller --batch-size, --input or --dtype"
    )


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--device", "tpu"), "--device 'tpu': use cpu"),
        (("--mode", "sleep"), "--mode 'sleep'"),
        (("--compile=",), "--compile ''"),
        (("--dtype", "int64"), "--dtype 'int64'"),
        (("--amp", "--dtype", "float32"), "--amp"),
        (("--threads", "0"), "--threads 0"),
        (("--seconds", "0"), "seconds 0"),
        (("--batch-size", "1,x"), "--batch-size '1,x'"),
        (("--batch-size", "0"), "every size from 1 up"),
        (("--batch-size", "2,2"), "once"),
        (("--per-layer", "--mode", "train"), "--per-layer with --mode train"),
        (("--per-layer", "--compile"), "--per-layer with --compile"),
        (("--fail-if-slower", "5%"), "slower than what?"),
        (("--against", "no-such-file.json"), "cannot be read"),
        (("--save", "no-such-folder/run.json"), "--save no-such-folder/run.json: there is no"),
        (("--save", "a.json", "--output", "./a.json"), "--save and --output are one file"),
    ],
)
def test_a_wrong_request_is_one_message_before_any_work(monkeypatch, arguments, part):
    def never(*_):
        raise AssertionError("worked")

    monkeypatch.setattr(runner, "bench", never)
    assert part in error_of(MODEL, *arguments)


def test_limits_are_percent():
    assert command._limit("5%", compared=True) == 0.05
    assert command._limit("2.5", compared=True) == 0.025
    with pytest.raises(RequestError):
        command._limit("a lot", compared=True)


def test_a_dtype_that_a_layer_lacks_is_one_message(monkeypatch):
    def fails(self, _):
        def step():
            raise RuntimeError("\"max_pool2d\" not implemented for 'Half'")

        return step

    monkeypatch.setattr(programs.RealModel, "_step", fails)
    message = error_of(MODEL, *SHORT)
    assert f"{MODEL}: float32 is not supported on cpu" in message


def test_a_batch_norm_that_cannot_train_on_one_sample_is_told_the_remedy():
    # deeplab's image pooling leaves one value per channel
    message = error_of("deeplabv3_mobilenet_v3_large", *SHORT, "--mode", "train")
    assert message.endswith("cannot train on one value per channel; use --batch-size 2")


OWN = """
import torch

class Small(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3)

    def forward(self, x):
        import neighbour  # at run time, from the file's own folder
        print("hello")
        return neighbour.positive(self.conv(x))

class Plain(Small):
    def forward(self, x):
        return self.conv(x)

class Long(Small):
    def forward(self, x):
        return super().forward(super().forward(x)[:, :3])

class Bare(torch.nn.Module):
    def forward(self, x):
        return x + 1

class Frozen(Small):
    def forward(self, x):
        return self.conv(x).detach()

class Quits(Small):
    def forward(self, x):
        if not x.is_meta:
            raise SystemExit(3)
        return self.conv(x)
"""


@pytest.fixture
def own(tmp_path):
    """A file of the user's, whose forward needs its neighbour."""
    (tmp_path / "net.py").write_text(OWN)
    (tmp_path / "neighbour.py").write_text("def positive(x):\n    return x.relu()\n")
    return tmp_path / "net.py"


def test_networks_of_a_file_are_compared_and_their_prints_stay_out_of_the_report(own):
    data = bench_json(f"{own}:Small", f"{own}:Long", *SHORT, "--arg", "width=3")
    assert len(data["comparisons"]) == 1
    assert all(run["source"]["arguments"] == {"width": "3"} for run in data["runs"])
    assert "neighbour" not in sys.modules
    assert str(own.parent) not in sys.path


@pytest.mark.parametrize(
    ("kind", "part"), [("Bare", "no parameters to train"), ("Frozen", "nothing to train")]
)
def test_what_cannot_be_trained_is_one_message(own, monkeypatch, kind, part):
    monkeypatch.chdir(own.parent)  # of a longer name the end is left out
    message = error_of(f"net.py:{kind}", *SHORT, "--mode", "train", code=3)
    assert message.startswith(f"net.py:{kind}: ")
    assert part in message
    assert message.endswith("to measure the forward, give --mode forward")


def test_a_forward_that_exits_is_one_message(own):
    message = error_of(f"{own}:Quits", *SHORT, code=3)
    assert "failed on cpu" in message


def test_a_program_in_a_file_has_no_weights_to_run_with(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(model, (torch.rand(1, 3, 8, 8),)), path)
    message = error_of(str(path), "--device", "cpu")
    assert "its weights are not read from the file" in message


def test_a_detector_cannot_be_trained_without_targets():
    message = error_of("ssdlite320_mobilenet_v3_large", *SHORT, "--mode", "train")
    assert "training needs targets" in message


# ------------------------------------------------------------- calls that do something else


ODD = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, padding=1)
        self.kept, self.calls = {}, 0

    def forward(self, x):
        return self.c(x)


class Cache(Small):
    def forward(self, x):
        if id(x) not in self.kept:
            self.kept[id(x)] = self.c(x)
        return self.kept[id(x)]


class Grow(Small):
    def forward(self, x):
        self.calls += 1
        self.kept[self.calls] = self.c(x)
        return self.kept[self.calls]


class Last(Small):
    def forward(self, x):
        self.kept["last"] = self.c(x)
        return self.kept["last"]


class Early(Small):
    def forward(self, x):
        self.calls += 1
        return self.c(x) if self.calls < 3 else x


class Fail(Small):
    def forward(self, x):
        self.calls += 1
        if self.calls > 4:
            raise RuntimeError("boom")
        return self.c(x)


class Recurrent(Small):
    def __init__(self):
        super().__init__()
        self.r = nn.LSTM(32, 64)

    def forward(self, x):
        return self.r(self.c(x)[0])
"""


@pytest.fixture
def odd(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    return str(tmp_path / "odd.py")


# of 3x32x32: 8*3*3*3 MACs at 32*32 places = 221,184; the output has 8*32*32*4 = 32 KiB
@pytest.mark.parametrize(
    ("name", "mode", "computed", "kept", "warned"),
    [
        ("Small", "forward", 221_184, 0, set()),
        ("Small", "train", 2 * 221_184, 0, set()),  # the gradient of the weights is as much again
        ("Cache", "forward", 0, 0, {"other-work"}),
        ("Early", "forward", 0, 0, {"other-work"}),
        ("Grow", "forward", 221_184, 32 * 1024, {"grows"}),
        ("Last", "forward", 221_184, 0, set()),
        ("Recurrent", "forward", None, 0, set()),  # nobody counts what its kernel computes
    ],
)
def test_what_a_call_does_is_watched(odd, name, mode, computed, kept, warned):
    (run,) = bench_json(f"{odd}:{name}", *SHORT, "--mode", mode)["runs"]
    assert (run["computed"], run["kept"]) == (computed, kept)
    assert warned == {"other-work", "grows"} & set(run["warnings"])


def test_rates_of_other_work_are_withheld_with_a_reason(odd):
    result = run_cli("bench", f"{odd}:Cache", *SHORT)
    assert "calls do not do the traced work: one was seen to compute none of its 221.2 k" in (
        result.out
    )
    assert "FLOP/s" not in result.out.partition("! ")[0]
    csv_ = run_cli("bench", f"{odd}:Cache", *SHORT, "--format", "csv").out
    (row,) = csv.DictReader(io.StringIO(csv_))
    assert (row["flops_per_second"], row["bytes_per_second"]) == ("", "")
    assert "every call makes 32.0 KiB that the model keeps" in (
        run_cli("bench", f"{odd}:Grow", *SHORT).out
    )


def test_a_model_that_would_fill_the_memory_is_not_measured(odd, monkeypatch):
    # a call takes 1 ms: 10^6 calls in 1000 s, each with 32 KiB, are 30.5 GiB
    monkeypatch.setattr(machine, "free_memory", lambda _: 10 * 2**20)
    monkeypatch.setattr(loop, "warm_up", lambda p, *_: setattr(p, "per_call", 1e6))
    monkeypatch.setattr(programs, "warm_up", loop.warm_up)
    message = error_of(f"{odd}:Grow", *SHORT[:4], "--seconds", "1000")
    assert "keeps 32 KiB with every call: 1,000,000 calls in 1000 s would need 30.5 GiB" in message
    assert "give fewer seconds" in message


def test_a_call_that_raises_later_is_the_models_failure(odd):
    assert "boom" in error_of(f"{odd}:Fail", *SHORT, code=3)


def test_a_ceiling_that_is_exceeded_is_measured_again(odd, monkeypatch):
    low = msgspec.structs.replace(CEILINGS, flops=1.0, bandwidth=1e15)
    high = msgspec.structs.replace(CEILINGS, flops=1e15, bandwidth=1.0, copy_bytes=7)
    found = [low, high]
    monkeypatch.setattr(machine, "ceilings", lambda *_: found.pop(0))
    data = bench_json(f"{odd}:Small", *SHORT)
    assert found == []
    assert (data["ceilings"]["flops"], data["ceilings"]["bandwidth"]) == (1e15, 1e15)
    assert not {"above-arithmetic", "above-traffic"} & set(data["runs"][0]["warnings"])


def test_a_share_above_the_ceiling_is_withheld_with_a_reason(odd, monkeypatch):
    low = msgspec.structs.replace(CEILINGS, flops=1.0, bandwidth=1.0)
    asked = []
    monkeypatch.setattr(machine, "ceilings", lambda *_: asked.append(0) or low)
    result = run_cli("bench", f"{odd}:Small", *SHORT)
    assert len(asked) == 2
    limits = result.out.partition("of ceiling")[2].partition("! ")[0]
    assert "%" not in limits
    assert "its share of the ceiling of arithmetic is withheld" in result.out
    assert "its share of the ceiling of traffic is withheld" in result.out


# ---------------------------------------------------------------------------------- warnings


def with_warnings(path, **changes):
    report = report_of(path)
    run = report.runs[0]
    parts = {
        name: msgspec.structs.replace(getattr(run, name), **values)
        for name, values in changes.items()
        if name not in ("launch", "waited")
    }
    run = msgspec.structs.replace(
        run, **parts, launch=changes.get("launch"), waited=changes.get("waited", 0.01)
    )
    run = warnings.of_run(run, report.environment)
    return run.warnings, page.text(
        renderer.page(msgspec.structs.replace(report, runs=(run,)))
    ).plain


QUIET = {"drift": 0.0, "outliers": 0, "count": 100}


def test_a_quiet_run_has_no_warnings(saved):
    warnings, text = with_warnings(saved[0], statistics=QUIET)
    assert warnings == ()
    assert "\n!" not in text


def test_drift_is_told_in_words(saved):
    warnings, text = with_warnings(saved[0], statistics=QUIET | {"drift": 0.062})
    assert warnings == ("drift",)
    assert "! squeezenet1_1 is unstable: its second half is +6.2 % beside the first" in text


def test_outliers_are_told_in_words(saved):
    warnings, text = with_warnings(saved[0], statistics=QUIET | {"outliers": 6})
    assert warnings == ("outliers",)
    assert "6 of 100 samples are far slower than the rest" in text


def test_a_busy_machine_is_told_in_words(saved):
    warnings, text = with_warnings(saved[0], statistics=QUIET, waited=0.426)
    assert warnings == ("busy",)
    assert "! the machine is busy: 1 thread waited for a core 42.6 % of the time, and" in text
    assert with_warnings(saved[0], statistics=QUIET, waited=None)[0] == ()


def test_waiting_for_a_core_is_a_share_of_the_time_of_the_threads(monkeypatch):
    waited, clock = iter([100, 100 + SECOND // 2]), iter([SECOND, 2 * SECOND])
    monkeypatch.setattr(machine, "waited_ns", lambda: next(waited))
    monkeypatch.setattr(runner.time, "perf_counter_ns", lambda: next(clock))
    assert runner._Waiting(2).share() == 0.25  # half a second, of two threads in one second


def test_launch_bound_is_told_in_words(saved):
    from cnnscope.records.bench import Launch

    warnings, text = with_warnings(saved[0], statistics=QUIET, launch=Launch(4.1e6, 2.2e6))
    assert warnings == ("launch-bound",)
    assert "enqueueing takes 4.100 ms, the device needs 2.200 ms; use a larger batch" in text


def test_more_threads_than_cores_are_told_in_words(saved):
    cores = machine.usable_cores()
    warnings, text = with_warnings(saved[0], statistics=QUIET, settings={"threads": cores + 1})
    assert warnings == ("threads",)
    assert f"{cores + 1} threads on {units.plural(cores, 'core')}" in text
    assert f"use --threads {cores}" in text


def test_the_remedy_for_threads_knows_of_a_limit_of_time(saved):
    report = report_of(saved[0])
    limited = msgspec.structs.replace(report.environment, cores=4, quota=1.5)
    run = msgspec.structs.replace(report.runs[0], warnings=("threads",))
    report = msgspec.structs.replace(report, runs=(run,), environment=limited)
    assert "use --threads 1" in " ".join(text for _, text in renderer.page(report).below)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(5, "5.000 ns"), (999.96e3, "1.000 ms"), (23.412e6, "23.41 ms"), (65e9, "65.00 s")],
)
def test_durations_have_four_digits(ns, text):
    assert units.duration(ns) == text


def test_whatever_is_not_empty_can_be_seen_in_a_sparkline():
    # of 70: 1 is a seventieth of the height, 10 a seventh
    assert units.sparkline([0, 1, 70, 10, 0]) == " ▂█▂"


def test_the_header_shows_the_dtype_of_the_input_beside_that_of_the_weights(tmp_path):
    path = tmp_path / "words.py"
    path.write_text(
        "from torch import nn\n"
        "class Words(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Embedding(10, 4), nn.Linear(4, 2))\n"
    )
    result = run_cli("bench", f"{path}:Words", *SHORT[:2], "--input", "2x7:int64", *SHORT[4:])
    assert result.code == 0
    assert " · input 2x7 int64 · weights float32 · forward · " in result.out
    assert " · float32 · forward · " in run_cli("bench", MODEL, *SHORT).out

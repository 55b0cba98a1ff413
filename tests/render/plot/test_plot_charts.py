"""Charts as plain data: which points each report becomes."""

import re

import msgspec
import pytest

import cnnscope
from cnnscope.errors import RequestError
from cnnscope.records.bench import BenchReport, BenchRun, Ceilings, LayerTime, Work
from cnnscope.records.catalogue import About, Card, Listed, ListReport
from cnnscope.records.sweep import Growth
from cnnscope.records.trace import Source, TensorSpec
from cnnscope.render.plot import bench, catalogue, chart
from cnnscope.render.plot.chart import looks, stacked
from cnnscope.reports import catalogue as lists
from cnnscope.timing.stats import describe

LENET = "classic:lenet5"


def series(panel, name):
    return next(one for one in panel.series if one.name == name)


@pytest.fixture(scope="module")
def fields():
    return chart(cnnscope.rf(LENET).record).panels[0]


def test_the_field_grows_along_the_depth(fields):
    # c1 5; s2 5 + (2-1)*1 = 6; c3 6 + (5-1)*2 = 14; s4 14 + (2-1)*2 = 16; c5 sees all 32 pixels
    sizes = [size for _, size in series(fields, "receptive field").points]
    assert sizes == [5, 5, 6, 14, 14, 16]
    assert [(level.value, level.label) for level in fields.levels] == [(32, "input 32")]
    assert [band.name for band in fields.bands][:3] == ["c1", "tanh", "s2"]
    assert (fields.bands[0].first, fields.bands[0].last) == (0.5, 1.5)


def test_branches_and_shortest_paths_are_points_beside_the_line():
    panel = chart(cnnscope.rf("resnet18", inputs="3x64x64").record).panels[0]
    line = [size for _, size in series(panel, "receptive field").points]
    assert line == sorted(line)
    assert line[-1] == 435  # Araujo, Norris, Sim 2019
    # conv1 7, maxpool 7 + 2*2 = 11, and six shortcuts of one pixel at strides up to 16
    least = [size for _, size in series(panel, "shortest path").points]
    assert min(least[4:]) == 11
    # the three projections see what their block's input sees: 43, 99 and 211
    less = {size for _, size in series(panel, "branch that sees less").points}
    assert less == {43, 99, 211}


def test_axes_that_differ_have_a_line_each():
    panel = chart(cnnscope.rf("nn.Conv2d(1, 1, (3, 5))", inputs="1x9x11").record).panels[0]
    lines = {one.name: [size for _, size in one.points] for one in panel.series}
    assert lines == {"receptive field, H": [3], "receptive field, W": [5]}
    assert [level.label for level in panel.levels] == ["input 9, H", "input 11, W"]


def test_every_layer_has_a_bar_for_what_it_costs():
    made = chart(cnnscope.summary(LENET).record)
    macs, params, activations = made.panels
    assert made.shared
    # 28*28 * 6 * 25, 10*10 * 10 maps' worth of 25 weights (the table of connections), 120*400 ...
    bars = [round(value) for _, value in macs.series[0].points]
    assert bars[0] == 117_600
    assert sum(bars) == 416_520
    assert sum(value for _, value in params.series[0].points) == 61_706
    assert activations.y.unit == "bytes"
    assert activations.series[0].points[0] == (1, 6 * 28 * 28 * 4)


def test_a_model_without_costs_or_fields_has_no_chart():
    for record in (cnnscope.rf(LENET).record, cnnscope.summary(LENET).record):
        with pytest.raises(RequestError, match=r"lenet5: no layer .* nothing to plot"):
            chart(msgspec.structs.replace(record, layers=()))


def test_a_model_that_sees_everything_at_once_has_no_chart():
    pooled = cnnscope.rf("nn.AdaptiveAvgPool2d(1)", inputs="3x8x8")
    assert "covers      all of the input\n" in f"{pooled}\n"
    with pytest.raises(RequestError, match="every layer sees all of the input"):
        pooled.plot()


def test_a_forward_that_raised_says_so():
    with pytest.raises(cnnscope.ModelError) as raised:
        cnnscope.summary(
            "nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(9, 2))", "3x8x8"
        )
    below = dict(chart(raised.value.report.record).below)
    assert re.match(r"the forward raised in 2 \(Linear\)", below["!"])


# ----------------------------------------------------------------------------------- sweep


@pytest.fixture(scope="module")
def sizes():
    return cnnscope.sweep("nn.Conv2d(3, 8, 1)", ["3x8x8", "3x16x16", "3x32x32"]).record


def test_costs_stand_on_axes_of_ratios_with_the_fitted_power(sizes):
    made = chart(sizes)
    macs = made.panels[0]
    assert (macs.x.log, macs.y.log, macs.x.label, macs.x.at) == (True, True, "side", (8, 16, 32))
    # 24 weights at each of 64, 256, 1024 places; s^2 * 24 fits exactly
    points = ((8, 1536), (16, 6144), (32, 24576))
    assert macs.series[0].points == points
    fit = series(macs, "as side^2.00")
    assert fit.faint
    assert all(round(y, 6) == round(24 * x**2, 6) for x, y in fit.points)
    assert (fit.points[0][0], round(fit.points[-1][0], 6)) == (8, 32)
    assert ("not drawn", "parameters: the same for all") in made.below


def test_the_line_drawn_is_the_law_that_is_named(sizes):
    straight = Growth("macs", "side", 1.2, 0.06, 1.4, 1.1, 500.0, 100.0, 0, 1, 1.1, 1.4, 9.0)
    line = chart(msgspec.structs.replace(sizes, growth=(straight,))).panels[0].series[1]
    assert line.name == "500 + 100 x side"
    assert all(round(y, 6) == round(500 + 100 * x, 6) for x, y in line.points)
    wild = Growth("macs", "side", 1.2, 0.5, 1.4, 1.1, lowest=0.2, highest=1.4, ratio=9.0)
    none = chart(msgspec.structs.replace(sizes, growth=(wild,))).panels[0].series[1]
    assert none.points == ((8, 1536), (16, 6144), (32, 24576))


def test_costs_that_are_near_look_near(sizes):
    rows = [
        msgspec.structs.replace(row, macs=macs)
        for row, macs in zip(sizes.rows, (10_000, 11_000, 12_100), strict=True)
    ]
    macs = chart(msgspec.structs.replace(sizes, rows=tuple(rows))).panels[0]
    low, high = macs.y.ends  # a factor of two around 11,000, the middle of ratios
    assert (round(high / low, 6), round((low * high) ** 0.5)) == (2, 11_000)


def test_of_two_choices_the_second_has_a_line_for_each_value():
    swept = cnnscope.sweep("nn.Conv2d(3, 8, 1)", ["3x8x8", "3x16x16"], batch_sizes=[1, 2]).record
    macs = chart(swept).panels[0]
    lines = {one.name: one.points for one in macs.series}
    assert lines == {
        "batch size 1": ((8, 1536), (16, 6144)),
        "batch size 2": ((8, 3072), (16, 12288)),
    }


def test_lines_that_would_cover_each_other_are_one():
    def swept(values):
        given = {"out_channels": 8, "kernel_size": 1, "padding_mode": values}
        made = cnnscope.sweep(
            "nn.Conv2d", ["4x8x8", "4x16x16"], arguments={"in_channels": 4, **given}
        )
        return [one.name for one in chart(made.record).panels[0].series]

    assert swept(["zeros", "reflect"]) == ["padding_mode zeros and padding_mode reflect"]
    assert swept(["zeros", "reflect", "replicate"]) == ["padding_mode zeros, and 2 more alike"]
    two = {"in_channels": 4, "out_channels": 8, "kernel_size": [1, 2], "bias": [True, False]}
    made = chart(cnnscope.sweep("nn.Conv2d", ["4x8x8", "4x9x9"], arguments=two).record)
    # a bias has parameters, and no multiplication: two lines of four, which keep their looks
    assert [[one.look for one in panel.series] for panel in made.panels[:2]] == [
        [0, 1, 2, 3],
        [0, 2],
    ]


def test_what_is_no_number_is_a_bar_with_its_name():
    swept = cnnscope.sweep("nn.Conv2d(4, 8, 1)", ["4x8x8", "4x8x16"], batch_sizes=()).record
    assert chart(swept).panels[0].x.label == "width"
    swept = cnnscope.sweep("nn.Conv2d(4, 8, 1)", ["4x8x8", "4x9x16"]).record
    macs = chart(swept).panels[0]
    assert macs.x.names == ("4x8x8", "4x9x16")
    assert macs.series[0].kind == "bars"
    assert [x for x, _ in macs.series[0].points] == [0, 1]


def test_a_value_that_fails_has_no_point_and_is_told(sizes):
    failed = msgspec.structs.replace(sizes.rows[1], failed="it does not fit", at=None, macs=0)
    made = chart(msgspec.structs.replace(sizes, rows=(sizes.rows[0], failed, sizes.rows[2])))
    assert [x for x, _ in made.panels[0].series[0].points] == [8, 32]
    assert any("it does not fit" in sentence for _, sentence in made.below)


# ------------------------------------------------------------------------------------- list


def listed(name, macs, top1, source="classic"):
    inputs = (TensorSpec((1, 3, 32, 32)),)
    about = About("net", "classification", top1)
    return Listed(source, name, Card(name, source, about, inputs, 5, macs, 0, 4, (3, 3), 2))


MODELS = (
    listed("cheap", 10, 60.0),
    listed("worse", 20, 50.0),
    listed("dear", 300, 80.0, "torchvision"),
    listed("unknown", 5, None),
)


def test_the_front_is_a_line_and_the_others_are_points_of_their_library():
    report = lists.compared(ListReport(MODELS, ""), ("macs", "acc"))
    made = chart(report)
    front, others = made.panels[0].series
    assert front.points == ((10, 60), (300, 80))
    assert (front.labels, front.kind, front.first) == (("classic:cheap", "dear"), "steps", True)
    assert (others.name, others.points, others.labels) == (
        "classic",
        ((20, 50),),
        ("classic:worse",),
    )
    assert (made.panels[0].x.log, made.panels[0].y.log) == (True, False)
    assert dict(made.below)["not drawn"].startswith("1 model without a number for macs or acc")


@pytest.mark.parametrize("key", lists.KEYS)
def test_every_figure_has_an_axis(key):
    assert key in catalogue._LABELS
    other = "acc" if key != "acc" else "macs"
    made = chart(lists.compared(ListReport(MODELS, ""), (key, other)))
    assert made.panels[0].x.label


@pytest.mark.parametrize(
    ("axes", "front"),
    [
        (("macs", "acc"), ((10, 60), (300, 80))),  # up to 299 MACs 60 %
        (("acc", "macs"), ((80, 300), (60, 10))),  # for 61 % already 300 MACs
        (("macs", "params"), ((5, 5),)),
    ],
)
def test_the_front_is_level_where_no_model_lies_between(axes, front):
    best = chart(lists.compared(ListReport(MODELS, ""), axes)).panels[0].series[0]
    assert (best.points, best.kind) == (front, "steps")


def test_a_list_without_two_figures_has_no_chart():
    with pytest.raises(RequestError, match=r"plot\('macs:acc'\)"):
        chart(ListReport(MODELS, ""))
    with pytest.raises(RequestError, match="no model of the list has both"):
        chart(lists.compared(ListReport(MODELS[3:], ""), ("macs", "acc")))


# ------------------------------------------------------------------------------------ bench


def timed(times, layers=(), ceilings=None):
    report = msgspec.convert(
        {
            "runs": (), "comparisons": (),
            "environment": {
                "cpu": "cpu", "cores": 2, "machine_cores": 2, "quota": None, "threads": 1,
                "interop_threads": 1, "memory_bytes": None, "cpu_mhz": None, "load": None,
                "system": "", "python": "", "torch": "2.9.0", "torch_cuda": "", "cudnn": "",
                "gpu": "", "gpu_memory_bytes": None, "driver": "", "gpu_clocks": {},
                "matmul_fp32": "", "conv_fp32": "", "cudnn_benchmark": False,
                "cudnn_deterministic": False, "mkldnn": True,
            },
        },
        BenchReport,
    )  # fmt: skip
    from cnnscope.records.bench import BenchSettings

    run = BenchRun(
        "net", Source("net", "classic", "net"), (), 1, BenchSettings("cpu"), 1, 1, 1,
        tuple(map(tuple, times)), (0,) * len(times), describe([ns for one in times for ns in one]),
        Work(1_000, 500, 1, 4, 4), layers=tuple(layers),
    )  # fmt: skip
    return msgspec.structs.replace(report, runs=(run,), ceilings=ceilings)


def test_times_are_an_empirical_distribution_function():
    panel = chart(timed([[30, 10], [20, 40]])).panels[0]
    assert panel.series[0].kind == "steps"
    assert panel.series[0].points == ((10, 0), (10, 25), (20, 50), (30, 75), (40, 100))


def test_a_long_tail_does_not_squeeze_the_rest():
    times = [[*range(100, 300), 10**9]]
    made = chart(timed(times))
    low, high = made.panels[0].x.ends
    assert low < 100
    assert 298 < high < 320
    assert dict(made.below)["not drawn"].endswith("up to 1.000 s")
    assert len(made.panels[0].series[0].points) <= bench._STEPS + 1


def test_whole_models_at_several_batches_have_names_of_their_own():
    layers = [LayerTime("a", 1, "Conv2d", (1,), 100.0, 9, 100, 50, "compute", 0.25)]
    report = timed([[50, 60]], layers, Ceilings("float32", 8e9, 4e9, 256, 1024))
    runs = [msgspec.structs.replace(report.runs[0], batch=batch) for batch in (1, 4)]
    whole = series(
        chart(msgspec.structs.replace(report, runs=tuple(runs))).panels[1], "the whole model"
    )
    assert whole.labels == ("net, batch 1", "net, batch 4")


def test_layers_stand_below_the_roofline():
    # 100 MACs in 100 ns are 2 FLOP/ns; the roof is flat from 8 GFLOP/s / 4 GB/s = 2 FLOP/byte on
    layers = [
        LayerTime("a", 1, "Conv2d", (1,), 100.0, 9, 100, 50, "compute", 0.25),
        LayerTime("b", 1, "ReLU", (1,), 900.0, 9, 0, 50, "memory", 0.5),
    ]
    ceilings = Ceilings("float32", 8e9, 4e9, 256, 1024)
    roof = chart(timed([[50, 60]], layers, ceilings)).panels[1]
    assert series(roof, "layers of net").points == ((4.0, 2e9),)
    line = series(roof, "roofline of this machine")
    assert (2.0, 8e9) in line.points
    assert all(y == min(8e9, 4e9 * x) for x, y in line.points)
    assert len(chart(timed([[50, 60]], layers)).panels) == 1  # no ceilings, no roofline


# ----------------------------------------------------------------------------------- memory


def test_areas_add_up_to_what_is_alive():
    record = cnnscope.memory(LENET).record
    panel = chart(record).panels[0]
    *_, (_, tops) = stacked(panel.series)
    assert tops[1:] == [event.live for event in record.events]
    assert max(tops) == record.tensors == panel.levels[0].value
    assert [band.name for band in panel.bands] == ["forward", "backward", "optimizer"]
    # a kind that is not there (buffers) leaves the looks of others as they are
    seen = {one.name: number for one, number in looks(panel)}
    assert (seen["weight"], seen["gradient"], seen["temporary"]) == (1, 4, 7)


def test_a_report_without_a_chart_says_which_have_one():
    with pytest.raises(RequestError, match=r"no chart of a StackReport; .* SweepReport"):
        cnnscope.stack().plot()
    with pytest.raises(RequestError, match="has no choice of axes"):
        cnnscope.rf(LENET).plot("macs:acc")


def test_of_many_operations_those_with_the_peaks_are_drawn(monkeypatch):
    record = cnnscope.memory(LENET).record
    monkeypatch.setattr("cnnscope.render.plot.memory._MOMENTS", 5)
    *_, (last, tops) = stacked(chart(record).panels[0].series)
    assert len(last.points) <= 7  # five, and both ends
    assert max(tops) == record.tensors

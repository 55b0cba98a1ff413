"""The analyses on traces written by hand, and on real models where nesting could mislead them."""

import msgspec
import pytest

from cnnscope.analysis import cost, layers, memory, params, weights
from cnnscope.records.summary import Geometry, UnknownOp
from cnnscope.records.trace import (
    CallRecord,
    ModuleRecord,
    OpRecord,
    ParamRecord,
    Source,
    StorageRecord,
    TensorRecord,
    Trace,
)
from cnnscope.reports.summary import report


def written(**parts):
    """A trace of what is given: the model alone, called once, unless modules and calls are."""
    whole = {
        "source": Source("hand", "hand", "hand"),
        "inputs": (),
        "outputs": (),
        "modules": (ModuleRecord("", "Net"),),
        "calls": (CallRecord(0, -1),),
        "params": (),
        "tensors": (),
        "storages": (),
        "ops": (),
    }
    return Trace(**{**whole, **{name: tuple(value) for name, value in parts.items()}})


def tensor(*shape, storage, dtype="float32"):
    return TensorRecord(shape, dtype, storage)


def relu(source, result, call=0):
    return OpRecord("aten.relu.default", {"self": source}, (result,), call=call)


def add(left, right, result, call=0):
    return OpRecord("aten.add.Tensor", {"self": left, "other": right}, (result,), call=call)


# -------------------------------------------------------------------------------- parameters

TWO_WEIGHTS = written(
    tensors=[
        tensor(4, 3, storage=0),
        tensor(4, storage=1, dtype="float16"),
        tensor(4, storage=2),
        tensor(storage=3, dtype="int64"),
    ],
    params=[
        ParamRecord("weight", 0),
        ParamRecord("bias", 1, trainable=False),
        ParamRecord("mean", 2, buffer=True, trainable=False),
        ParamRecord("count", 3, buffer=True, trainable=False, used=False),
    ],
)


def test_parameters_and_buffers_are_counted_apart():
    # 4*3 + 4 weights; 4 means and a scalar
    assert params.total(TWO_WEIGHTS) == 16
    assert params.total(TWO_WEIGHTS, buffers=True) == 5


def test_parameter_bytes_follow_the_dtype():
    # 12 * 4 + 4 * 2; 4 * 4 + 1 * 8
    assert params.nbytes(TWO_WEIGHTS) == 56
    assert params.nbytes(TWO_WEIGHTS, buffers=True) == 24


def test_frozen_parameters_are_those_that_do_not_train():
    # 12 train, 4 do not; buffers are neither
    totals = report(TWO_WEIGHTS).totals
    assert (totals.trainable_params, totals.frozen_params) == (12, 4)


def test_tied_weight_is_counted_once_and_its_other_names_are_listed():
    # 5*2 elements under three names: 10, and 20 more if each name counted
    tied = written(
        tensors=[tensor(5, 2, storage=0)],
        params=[ParamRecord("a.weight", 0, aliases=("b.weight", "c.weight"))],
    )
    answer = report(tied)
    assert params.total(tied) == 10
    assert answer.totals.shared_params == 20
    assert answer.shared == {"a.weight": ("b.weight", "c.weight")}


def test_unused_parameters_are_gathered_under_the_outermost_module_that_never_ran():
    # the model and body ran: head never did (6 + 2), body.extra was not read (4), body.weight was
    trace = written(
        modules=[
            ModuleRecord("", "Net"),
            ModuleRecord("body", "Body"),
            ModuleRecord("head", "Head"),
            ModuleRecord("head.fc", "Linear", "Linear"),
        ],
        calls=[CallRecord(0, -1), CallRecord(1, 0)],
        tensors=[tensor(3, 2, storage=0), tensor(2, storage=1), tensor(4, storage=2)],
        params=[
            ParamRecord("head.fc.weight", 0, used=False),
            ParamRecord("head.fc.bias", 1, used=False),
            ParamRecord("body.extra", 2, used=False),
            ParamRecord("body.weight", 2),
        ],
    )
    assert params.unused(trace) == {"head": 8, "body.extra": 4}


def test_unused_buffers_are_no_finding():
    assert params.unused(TWO_WEIGHTS) == {}


def test_unused_module_below_one_whose_weight_was_read_is_named_itself():
    # encoder was never called, but encoder.used was read: the finding is encoder.spare (2*2)
    trace = written(
        tensors=[tensor(3, storage=0), tensor(2, 2, storage=1)],
        params=[
            ParamRecord("encoder.used", 0),
            ParamRecord("encoder.spare.weight", 1, used=False),
        ],
    )
    assert params.unused(trace) == {"encoder.spare": 4}


def test_parameter_belongs_to_the_first_call_of_the_innermost_module_that_ran():
    weight, child = ParamRecord("block.weight", 0), ParamRecord("block.conv.weight", 1)
    lost = ParamRecord("elsewhere.weight", 2)
    trace = written(
        modules=[ModuleRecord("", "Net"), ModuleRecord("block", "Block")],
        calls=[CallRecord(0, -1), CallRecord(1, 0), CallRecord(1, 0)],
        tensors=[tensor(storage=n) for n in range(3)],
        params=[weight, child, lost, ParamRecord("block.never", 2, used=False)],
    )
    # block.conv was read without being called: block counts it. Nobody around elsewhere ran
    assert params.owners(trace) == {1: [weight, child], 0: [lost]}


def test_tied_parameter_belongs_to_whoever_ran_first():
    # decoder (call 1) ran before encoder (call 2)
    tied = ParamRecord("encoder.weight", 0, aliases=("decoder.weight",))
    trace = written(
        modules=[
            ModuleRecord("", "Net"),
            ModuleRecord("encoder", "Linear", "Linear"),
            ModuleRecord("decoder", "Linear", "Linear"),
        ],
        calls=[CallRecord(0, -1), CallRecord(2, 0), CallRecord(1, 0)],
        tensors=[tensor(2, 2, storage=0)],
        params=[tied],
    )
    assert params.owners(trace) == {1: [tied]}


# -------------------------------------------------------------------------------------- cost


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float64", 8), ("float32", 4), ("bfloat16", 2), ("float8_e4m3fn", 1), ("bool", 1)],
)
def test_tensor_bytes_are_elements_times_item_size(dtype, size):
    # 2*3*4 elements
    trace = written(tensors=[tensor(2, 3, 4, storage=0, dtype=dtype)])
    assert cost.tensor_bytes(trace, 0) == 24 * size


def test_a_scalar_is_one_element_and_an_empty_tensor_none():
    trace = written(tensors=[tensor(storage=0), tensor(3, 0, storage=1)])
    assert (cost.tensor_bytes(trace, 0), cost.tensor_bytes(trace, 1)) == (4, 0)


def test_unknown_operations_come_most_frequent_first_with_their_first_layer():
    odd = OpRecord("mine.odd.default", {"x": 0}, (0,), call=1)
    rare = OpRecord("mine.rare.default", {"x": 0}, (0,), call=0)
    trace = written(
        modules=[ModuleRecord("", "Net"), ModuleRecord("deep", "Deep")],
        calls=[CallRecord(0, -1), CallRecord(1, 0)],
        tensors=[tensor(2, storage=0)],
        ops=[rare, odd, relu(0, 0), odd],
    )
    assert cost.unknown_ops(trace) == (
        UnknownOp("mine.odd.default", 2, "deep"),
        UnknownOp("mine.rare.default", 1, ""),
    )


def convolution(weight, call=0):
    inputs = {"input": 0, "weight": weight, "bias": 3}
    return OpRecord("aten.convolution.default", inputs, (4,), {"transposed": False}, call)


WEIGHTS = {
    "tensors": [
        tensor(1, 3, 8, 8, storage=0),
        tensor(6, 3, 3, 3, storage=1),
        tensor(10, 6, storage=2),
        tensor(10, storage=3),
        tensor(1, 6, 6, 6, storage=4),
        tensor(1, 6, storage=5),
        tensor(6, 10, storage=2),  # the linear weight, transposed
    ],
    "params": [ParamRecord("conv.weight", 1), ParamRecord("fc.weight", 2), ParamRecord("b", 3)],
}
LINEAR = OpRecord("aten.addmm.default", {"self": 3, "mat1": 5, "mat2": 6}, (5,), call=0)


def test_weight_layers_are_convolutions_and_linear_layers():
    assert weights.weight_layers(written(**WEIGHTS, ops=[convolution(1), LINEAR])) == (1, 1, 0)


def test_weight_that_is_used_twice_is_one_layer():
    ops = [convolution(1), convolution(1), LINEAR, LINEAR]
    assert weights.weight_layers(written(**WEIGHTS, ops=ops)) == (1, 1, 0)


def test_product_of_two_activations_is_no_weight_layer():
    scores = OpRecord("aten.bmm.default", {"self": 4, "mat2": 4}, (4,), call=0)
    assert weights.weight_layers(written(**WEIGHTS, ops=[scores, relu(4, 4)])) == (0, 0, 0)


# ------------------------------------------------------------------------------------ memory


def test_peak_is_the_largest_sum_alive_at_once():
    # op:      0    1    2
    # a 400    #    #         born 0, freed before 2
    # b 200         #    #    born 1, freed before 3
    # c 300              #    born 2, outlives the run
    # input 100 throughout: 500, 700, 600
    trace = written(
        inputs=[0],
        tensors=[tensor(25, storage=0), *(tensor(1, storage=n) for n in (1, 2, 3))],
        storages=[
            StorageRecord(100, -1, 3),
            StorageRecord(400, 0, 2),
            StorageRecord(200, 1, 3),
            StorageRecord(300, 2, 3),
        ],
        modules=[ModuleRecord("", "Net"), ModuleRecord("second", "ReLU", "ReLU")],
        calls=[CallRecord(0, -1), CallRecord(1, 0, start=1)],
        ops=[relu(0, 1), relu(1, 2, call=1), relu(2, 3)],
    )
    assert memory.peak(trace) == memory.Peak(700, "second")
    assert memory.input_bytes(trace) == 100
    # 400 + 200 + 300, freed or not
    assert memory.allocated(trace) == 900


def test_storage_that_is_freed_makes_room_for_the_next():
    # b is born at the operation before which a is freed: 400, then 400
    trace = written(
        tensors=[tensor(1, storage=0), tensor(1, storage=1)],
        storages=[StorageRecord(400, 0, 1), StorageRecord(400, 1, 2)],
        ops=[relu(0, 0), relu(0, 1)],
    )
    assert memory.peak(trace).nbytes == 400


def test_aliases_are_one_storage():
    # a view and an in-place result of the same 400 bytes
    trace = written(
        tensors=[tensor(100, storage=0), tensor(10, 10, storage=0), tensor(10, 10, storage=0)],
        storages=[StorageRecord(400, 0, 3)],
        ops=[
            relu(0, 0),
            OpRecord("aten.view.default", {"self": 0}, (1,), call=0),
            OpRecord("aten.relu_.default", {"self": 1}, (2,), call=0),
        ],
    )
    assert memory.peak(trace).nbytes == 400
    assert memory.allocated(trace) == 400


def test_two_inputs_that_share_memory_are_held_once():
    trace = written(
        inputs=[0, 1],
        tensors=[tensor(25, storage=0), tensor(5, 5, storage=0)],
        storages=[StorageRecord(100, -1, 0)],
    )
    assert memory.input_bytes(trace) == 100
    assert memory.peak(trace) == memory.Peak(100, "")


def test_parameters_are_no_activations():
    # 4000 bytes of weights were there before; 8 are born
    trace = written(
        tensors=[tensor(1000, storage=0), tensor(2, storage=1)],
        storages=[StorageRecord(4000, -1, 1), StorageRecord(8, 0, 1)],
        params=[ParamRecord("weight", 0)],
        ops=[relu(0, 1)],
    )
    assert memory.peak(trace).nbytes == 8
    assert memory.allocated(trace) == 8


# -------------------------------------------------------------------------------------- rows

# The model holds a bare weight `scale` and calls `conv` twice, adding in between:
#   x -> conv -> + x -> conv -> + scale -> relu
# One 3x3 convolution of 2 channels, padding 1, on 4x4: 16 * 2 * 2 * 9 = 576 MACs, 36 parameters.
CONV = ModuleRecord(
    "conv",
    "Conv2d",
    "Conv2d",
    {"in_channels": 2, "out_channels": 2, "kernel_size": (3, 3), "stride": (1, 1), "padding": 1},
)


def conv_op(source, result, call):
    attributes = {"transposed": False, "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    inputs = {"input": source, "weight": 1}
    return OpRecord("aten.convolution.default", inputs, (result,), attributes, call)


IMAGE = {"dtype": "float32"}
TREE = written(
    inputs=[0],
    outputs=[7],
    modules=[ModuleRecord("", "Net"), CONV],
    calls=[
        CallRecord(0, -1, 0, (0,), (7,)),
        CallRecord(1, 0, 0, (0,), (3,)),
        CallRecord(1, 0, 2, (4,), (5,)),
    ],
    tensors=[
        tensor(1, 2, 4, 4, storage=0),
        tensor(2, 2, 3, 3, storage=1),
        tensor(1, 2, 1, 1, storage=2),
        *(tensor(1, 2, 4, 4, storage=n) for n in range(3, 8)),
    ],
    storages=[StorageRecord(128, -1, 5)] * 3 + [StorageRecord(128, n, 5) for n in range(5)],
    params=[ParamRecord("conv.weight", 1), ParamRecord("scale", 2)],
    ops=[conv_op(0, 3, 1), add(3, 0, 4), conv_op(4, 5, 2), add(5, 2, 6), relu(6, 7)],
)
ROWS = layers.rows(TREE)


def test_rows_follow_the_execution_below_the_model():
    assert [(row.path, row.kind, row.depth) for row in ROWS] == [
        ("", "module", 0),
        ("scale", "parameter", 1),
        ("conv", "module", 1),
        ("add", "operation", 1),
        ("conv", "module", 1),
        ("add_1", "operation", 1),
        ("relu", "operation", 1),
    ]
    assert [row.parent for row in ROWS] == [-1, 0, 0, 0, 0, 0, 0]


def test_rows_carry_what_each_costs():
    # conv 36 and scale 2 parameters; 576 MACs per call; 1*2*4*4 = 32 elements per add and relu
    found = [(row.params, row.macs, row.element_ops) for row in ROWS]
    assert found == [
        (38, 1152, 96),
        (2, 0, 0),
        (36, 576, 0),
        (0, 0, 32),
        (0, 576, 0),
        (0, 0, 32),
        (0, 0, 32),
    ]


def test_second_call_of_a_module_has_its_number_and_no_parameters():
    first, second = (row for row in ROWS if row.path == "conv")
    assert (first.call, first.params) == (1, 36)
    assert (second.call, second.params) == (2, 0)


def test_rows_of_one_depth_sum_to_the_whole():
    model, *inside = ROWS
    for field in ("params", "trainable_params", "buffers", "macs", "element_ops", "unknown_ops"):
        assert sum(getattr(row, field) for row in inside) == getattr(model, field), field


def test_row_of_a_module_knows_its_shapes_and_geometry():
    conv = ROWS[2]
    assert conv.name == "conv"
    assert conv.operation == "Conv2d"
    assert conv.features == (2, 2)
    assert conv.input_shapes == conv.output_shapes == ((1, 2, 4, 4),)
    assert conv.expected_output == (1, 2, 4, 4)
    assert conv.geometry == Geometry((3, 3), (1, 1), (1, 1), (1, 1), 1, (0, 0))
    # 1*2*4*4 * 4 bytes
    assert conv.activation_bytes == 128
    assert conv.leaf


def test_row_of_a_parameter_shows_its_shape():
    assert ROWS[1].output_shapes == ((1, 2, 1, 1),)
    assert ROWS[1].operation == "Parameter"


def test_nested_rows_name_themselves_below_their_parent():
    # outer calls outer.inner.act directly: there is no row for inner
    trace = written(
        modules=[
            ModuleRecord("", "Net"),
            ModuleRecord("outer", "Outer"),
            ModuleRecord("outer.inner.act", "ReLU", "ReLU"),
        ],
        calls=[CallRecord(0, -1), CallRecord(1, 0), CallRecord(2, 1)],
        tensors=[tensor(3, storage=0), tensor(3, storage=1)],
        storages=[StorageRecord(12, -1, 1), StorageRecord(12, 0, 1)],
        ops=[relu(0, 1, call=2)],
    )
    rows = layers.rows(trace)
    assert [(row.name, row.depth, row.parent) for row in rows] == [
        ("", 0, -1),
        ("outer", 1, 0),
        ("inner.act", 2, 1),
    ]
    assert [row.element_ops for row in rows] == [3, 3, 3]


def test_operation_inside_a_named_module_is_named_below_it():
    # two operations of its own, so that the block is not a leaf
    trace = written(
        modules=[ModuleRecord("", "Net"), ModuleRecord("block", "Block")],
        calls=[CallRecord(0, -1), CallRecord(1, 0)],
        tensors=[tensor(3, storage=0), tensor(3, storage=1), tensor(3, storage=2)],
        ops=[add(0, 0, 1, call=1), relu(1, 2, call=1)],
    )
    assert [row.path for row in layers.rows(trace)] == ["", "block", "block.add", "block.relu"]


def test_module_that_does_a_single_thing_is_a_leaf():
    trace = written(
        modules=[ModuleRecord("", "Net"), ModuleRecord("drop", "StochasticDepth")],
        calls=[CallRecord(0, -1), CallRecord(1, 0)],
        tensors=[tensor(3, storage=0), tensor(3, storage=1)],
        ops=[relu(0, 1, call=1)],
    )
    assert [(row.path, row.leaf) for row in layers.rows(trace)] == [("", False), ("drop", True)]


def test_operation_that_only_moves_data_is_minor():
    trace = written(
        tensors=[tensor(3, 2, storage=0), tensor(6, storage=0), tensor(6, storage=1)],
        ops=[
            OpRecord("aten.view.default", {"self": 0}, (1,), call=0),
            relu(1, 2),
            add(2, 2, 2),
        ],
    )
    assert [(row.name, row.minor) for row in layers.rows(trace)[1:]] == [
        ("view", True),
        ("relu", False),
        ("add", False),
    ]


def pooled(**parts):
    """A pool that gives maxima and, in integers, where they were."""
    name = "aten.max_pool2d_with_indices.default"
    return written(
        inputs=[0],
        tensors=[
            tensor(1, 2, 4, 4, storage=0),
            tensor(1, 2, 2, 2, storage=1),
            tensor(1, 2, 2, 2, storage=2, dtype="int64"),
            tensor(1, 2, 2, 2, storage=3),
        ],
        ops=[
            OpRecord(name, {"self": 0}, (1, 2), {"kernel_size": (2, 2), "stride": (2, 2)}, 0),
            relu(1, 3),
        ],
        **parts,
    )


def test_output_that_nobody_reads_is_not_shown():
    # 2*2*2 elements of 4 bytes; with the indices 2*2*2*8 more
    _, row, _ = layers.rows(pooled(outputs=[3]))
    assert (row.output_shapes, row.activation_bytes) == (((1, 2, 2, 2),), 32)
    _, row, _ = layers.rows(pooled(outputs=[3, 2]))
    assert (row.output_shapes, row.activation_bytes) == (((1, 2, 2, 2),) * 2, 96)


def test_operation_that_reads_a_weight_is_called_linear():
    trace = written(**WEIGHTS, ops=[LINEAR, relu(5, 5)])
    assert "linear" in [row.name for row in layers.rows(trace)]


def test_unknown_operation_is_a_row_with_its_own_name():
    odd = OpRecord("mine.odd.default", {"x": 0}, (0,), call=0)
    rows = layers.rows(written(tensors=[tensor(2, storage=0)], ops=[odd, relu(0, 0)]))
    assert [(row.name, row.unknown_ops) for row in rows] == [
        ("", 1),
        ("mine.odd", 1),
        ("relu", 0),
    ]


def test_unused_parameters_have_no_row():
    # 12 + 4 are read, `spare` (5) is not
    spare = written(
        tensors=[*TWO_WEIGHTS.tensors, tensor(5, storage=4)],
        params=[*TWO_WEIGHTS.params, ParamRecord("spare", 4, used=False)],
    )
    assert layers.rows(spare)[0].params == 16
    assert report(spare).totals.params == 21
    assert report(spare).totals.unused_params == 5


def test_a_trace_survives_being_written_down():
    assert msgspec.json.decode(msgspec.json.encode(TREE), type=Trace).ops[0].name == (
        "aten.convolution.default"
    )
    assert layers.rows(msgspec.msgpack.decode(msgspec.msgpack.encode(TREE), type=Trace)) == ROWS


# ------------------------------------------------------------------------------- real models


def make(name):
    """A model whose nesting, sharing or bare parameters could mislead a count; its input shape."""
    from torch import nn
    from torchvision import models as zoo

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
            self.scale = nn.Parameter(nn.Conv2d(1, 1, 1).weight.detach())
            self.spare = nn.Linear(3, 3)

        def forward(self, data):
            return data + self.inside(data) * self.scale

    shared = nn.Conv2d(4, 4, 3, padding=1)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    return {
        "resnet": lambda: (zoo.resnet18(), (1, 3, 64, 64)),
        "residual": lambda: (Residual(), (1, 4, 8, 8)),
        "shared": lambda: (nn.Sequential(shared, nn.ReLU(), shared, shared), (2, 4, 8, 8)),
        "tied": lambda: (tied, (2, 4)),
        "attention": lambda: (nn.TransformerEncoderLayer(8, 2, 16), (5, 2, 8)),
        "lstm": lambda: (nn.LSTM(3, 4, num_layers=2), (5, 2, 3)),
        "single": lambda: (nn.Conv2d(4, 4, 3), (1, 4, 8, 8)),
    }[name]()


NAMES = ["resnet", "residual", "shared", "tied", "attention", "lstm", "single"]


def report_of(module, shape):
    import torch

    from cnnscope.tracing.tracer import trace

    return report(trace(module, (torch.empty(shape, device="meta"),)))


@pytest.mark.parametrize("name", NAMES)
def test_totals_do_not_depend_on_nesting(name):
    from torch import nn

    module, shape = make(name)
    plain = report_of(module, shape).totals
    for around in (nn.Sequential(module), nn.Sequential(nn.Sequential(nn.Identity(), module))):
        nested = report_of(around, shape).totals
        paths = {
            "peak_layer": plain.peak_layer,
            "field_exceeds_input_at": plain.field_exceeds_input_at,
            "field_covers_input_at": plain.field_covers_input_at,
        }
        assert msgspec.structs.replace(nested, **paths) == plain


@pytest.mark.parametrize("name", NAMES)
def test_rows_inside_a_row_add_up_to_it(name):
    module, shape = make(name)
    rows = report_of(module, shape).layers
    for index, row in enumerate(rows):
        inside = [other for other in rows if other.parent == index]
        assert row.leaf == (not inside)
        for field in ("params", "trainable_params", "macs", "element_ops") if inside else ():
            assert sum(getattr(part, field) for part in inside) == getattr(row, field), row.path


@pytest.mark.parametrize("name", NAMES)
def test_first_depth_adds_up_to_the_totals(name):
    module, shape = make(name)
    answer = report_of(module, shape)
    top = [row for row in answer.layers if row.depth == (1 if len(answer.layers) > 1 else 0)]
    assert sum(row.macs for row in top) == answer.totals.macs > 0
    assert sum(row.element_ops for row in top) == answer.totals.element_ops
    used = answer.totals.params - answer.totals.unused_params
    assert sum(row.params for row in top) == used > 0


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_module(name):
    module, shape = make(name)
    assert report_of(module, shape).totals.params == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_second_look_at_a_model_gives_the_same_report(name):
    module, shape = make(name)
    before = {path: (id(tensor), tensor.device) for path, tensor in module.named_parameters()}
    first = report_of(module, shape)
    after = {path: (id(tensor), tensor.device) for path, tensor in module.named_parameters()}
    assert after == before
    assert report_of(module, shape) == first


def test_unused_layer_of_a_real_model_is_found():
    # 3*3 + 3
    assert report_of(*make("residual")).unused == {"spare": 12}


def test_weight_layers_of_resnet18_are_those_of_the_paper():
    # He et al. 2015, table 1: 18 with weights on the main path, and 3 projections beside it
    totals = report_of(*make("resnet")).totals
    assert (totals.conv_layers, totals.linear_layers) == (20, 1)

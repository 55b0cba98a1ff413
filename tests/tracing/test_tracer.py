"""The tracer, on small modules whose every operation, parameter and byte is known by hand."""

from __future__ import annotations

import copy
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from live_memory import live
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as module_internals
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cnnscope.analysis import memory, params
from cnnscope.ops import table as ops
from cnnscope.records.trace import OpRecord, ParamRecord, Trace
from cnnscope.tracing.recorder import ForwardError
from cnnscope.tracing.tracer import trace

DEVICES = ("meta", "cpu")


class Lambda(nn.Module):
    """A module whose forward is a function of the module and its inputs."""

    def __init__(self, function: Callable[..., Any], **children: Any) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def empty(*shape: int, device: str = "meta", dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, device=device, dtype=dtype)


def of(function: Callable[..., Any], *args: Any, **children: Any) -> Trace:
    return trace(Lambda(function, **children), args)


def shape(result: Trace, tensor: int) -> tuple[int, ...]:
    return result.tensors[tensor].shape


def names(result: Trace) -> list[str]:
    return [op.name for op in result.ops]


def paths(result: Trace) -> list[str]:
    return [result.modules[call.module].path for call in result.calls]


def parents(result: Trace) -> list[str | None]:
    """Path of the module that made each call."""
    calls, modules = result.calls, result.modules
    return [modules[calls[c.parent].module].path if c.parent >= 0 else None for c in calls]


def param(result: Trace, path: str) -> ParamRecord:
    return next(p for p in result.params if p.path == path)


def producer(result: Trace, tensor: int) -> OpRecord:
    """The one operation that made a tensor."""
    makers = [op for op in result.ops if tensor in op.outputs]
    assert len(makers) == 1
    return makers[0]


def total_macs(result: Trace) -> int:
    return sum(ops.macs(result, op) for op in result.ops)


def assert_single_assignment(result: Trace) -> None:
    """Every tensor has at most one maker, and is read only after it was made."""
    given = {*result.inputs, *(p.tensor for p in result.params)}
    made: set[int] = set()
    born_before = {t for t, r in enumerate(result.tensors) if result.storages[r.storage].born < 0}
    for op in result.ops:
        read = {t for value in op.inputs.values() for t in tree_leaves(value) if t is not None}
        assert read <= made | given | born_before
        assert not made & set(op.outputs)
        made.update(op.outputs)
    assert set(result.outputs) <= made | given | born_before


# ------------------------------------------------------------------------------ operations


def test_operations_are_in_the_order_and_the_module_in_which_they_ran():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, device="meta"), nn.ReLU(), nn.Flatten())
    result = trace(net, (empty(1, 3, 6, 6),))
    assert names(result) == ["aten.convolution.default", "aten.relu.default", "aten.view.default"]
    assert [op.call for op in result.ops] == [1, 2, 3]
    assert paths(result) == ["", "0", "1", "2"]
    assert [call.parent for call in result.calls] == [-1, 0, 0, 0]


# A 3x3 kernel without padding takes 2 pixels: 6 -> 4; 8 channels of 4x4 are 128 elements.
@pytest.mark.parametrize("device", DEVICES)
def test_shapes_are_those_of_the_forward(device: str):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, device=device), nn.Flatten())
    result = trace(net, (empty(2, 3, 6, 6, device=device),))
    assert [shape(result, t) for t in result.inputs] == [(2, 3, 6, 6)]
    assert [shape(result, t) for t in result.calls[1].outputs] == [(2, 8, 4, 4)]
    assert [shape(result, t) for t in result.outputs] == [(2, 128)]
    assert result.device == device


def test_arguments_that_are_no_tensors_are_attributes():
    net = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), groups=2, device="meta")
    (op,) = trace(net, (empty(1, 4, 9, 9),)).ops
    assert set(op.inputs) == {"input", "weight", "bias"}
    assert {k: op.attributes[k] for k in ("stride", "padding", "dilation", "groups")} == {
        "stride": (2, 1),
        "padding": (1, 2),
        "dilation": (1, 1),
        "groups": 2,
    }


def test_tensors_in_a_list_argument_are_a_tuple_of_ids():
    result = of(lambda _, x, y: torch.cat([x, y, x], dim=1), empty(1, 2), empty(1, 3))
    (op,) = result.ops
    x, y = result.inputs
    assert op.inputs == {"tensors": (x, y, x)}
    assert shape(result, op.outputs[0]) == (1, 7)


def test_an_operation_outside_every_submodule_belongs_to_the_model():
    result = of(lambda self, x: self.inner(x) + 1, empty(2), inner=nn.ReLU())
    add = next(op for op in result.ops if op.name == "aten.add.Tensor")
    assert result.modules[result.calls[add.call].module].path == ""


# -------------------------------------------------------------------- in place, views, SSA


def test_an_in_place_operation_makes_a_new_tensor():
    def forward(_: Any, x: Tensor) -> Tensor:
        y = x + 1
        y.relu_()
        return y * 2

    result = of(forward, empty(4))
    add, relu, mul = result.ops
    assert relu.name == "aten.relu_.default"
    assert relu.inputs["self"] == add.outputs[0]
    assert relu.outputs != add.outputs
    assert mul.inputs["self"] == relu.outputs[0]
    storages = {result.tensors[t].storage for t in (*add.outputs, *relu.outputs)}
    assert len(storages) == 1
    assert_single_assignment(result)


def test_a_view_that_is_read_after_its_base_was_written_sees_the_write():
    def forward(_: Any, x: Tensor) -> Tensor:
        y = x + 1
        flat = y.view(-1)
        y.relu_()
        return flat * 2

    result = of(forward, empty(2, 3))
    mul = result.ops[-1]
    again = producer(result, mul.inputs["self"])
    assert again.name == "aten.view.default"
    assert shape(result, again.outputs[0]) == (6,)
    assert producer(result, again.inputs["self"]).name == "aten.relu_.default"
    assert_single_assignment(result)


def test_a_base_that_is_read_after_its_slice_was_written_sees_the_write():
    def forward(_: Any, x: Tensor) -> Tensor:
        y = x + 1
        y[:, 1:3].mul_(3)
        return y * 2

    result = of(forward, empty(2, 4))
    write = producer(result, result.ops[-1].inputs["self"])
    assert write.name == "cnnscope.write_window"
    assert producer(result, write.inputs["base"]).name == "aten.add.Tensor"
    assert producer(result, write.inputs["value"]).name == "aten.mul_.Tensor"
    # Columns 1 and 2 of a row-major (2, 4): begins at element 1, rows are 4 apart.
    assert write.attributes == {"offset": 1, "shape": (2, 2), "stride": (4, 1)}
    assert shape(result, write.outputs[0]) == (2, 4)
    assert_single_assignment(result)


def test_a_slice_sees_what_was_written_through_another_slice():
    def forward(_: Any, x: Tensor) -> Tensor:
        y = x + 1
        left, right = y[:2], y[1:]
        left.zero_()
        return right * 2

    result = of(forward, empty(3))
    slice_again = producer(result, result.ops[-1].inputs["self"])
    assert slice_again.name == "aten.slice.Tensor"
    assert producer(result, slice_again.inputs["self"]).name == "cnnscope.write_window"
    assert_single_assignment(result)


def test_item_assignment_is_a_write_to_the_base():
    def forward(_: Any, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, 0] = x[:, 1]
        return y.exp()

    result = of(forward, empty(2, 4))
    write = producer(result, result.ops[-1].inputs["self"])
    assert write.name == "cnnscope.write_window"
    copied = producer(result, write.inputs["value"])
    assert copied.name == "aten.copy_.default"
    assert producer(result, copied.inputs["src"]).name == "aten.select.int"


def test_a_write_through_one_chunk_reaches_the_base_and_not_the_other_chunk():
    def forward(_: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + 1
        a, b = y.chunk(2)
        a.relu_()
        return y * 2, b * 3

    result = of(forward, empty(4))
    base, other = (producer(result, t) for t in result.outputs)
    assert producer(result, base.inputs["self"]).name == "cnnscope.write_window"
    assert shape(result, other.inputs["self"]) == (2,)
    assert_single_assignment(result)


def test_an_input_that_is_written_to_is_read_as_written():
    def forward(_: Any, x: Tensor) -> Tensor:
        x.relu_()
        return x + 1

    result = of(forward, empty(3))
    relu, add = result.ops
    assert relu.inputs["self"] == result.inputs[0]
    assert add.inputs["self"] == relu.outputs[0] != result.inputs[0]


def test_the_output_of_an_in_place_module_is_its_new_value():
    net = nn.Sequential(nn.Conv2d(3, 4, 1, device="meta"), nn.ReLU(inplace=True))
    result = trace(net, (empty(1, 3, 2, 2),))
    relu = result.ops[-1]
    assert result.calls[2].outputs == relu.outputs == result.outputs
    assert result.calls[1].outputs == (relu.inputs["self"],)


def test_a_view_shares_its_base_storage_and_a_copy_does_not():
    def forward(_: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.transpose(0, 1), x.transpose(0, 1).contiguous()

    result = of(forward, empty(2, 3))
    view, copied = (result.tensors[t].storage for t in result.outputs)
    assert view == result.tensors[result.inputs[0]].storage
    assert copied != view


def test_an_output_that_is_the_input_is_the_input():
    result = of(lambda _, x: x, empty(2, 3))
    assert result.outputs == result.inputs
    assert result.ops == ()


def test_out_argument_is_written():
    def forward(_: Any, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        torch.add(x, x, out=out)
        return out * 2

    result = of(forward, empty(3))
    assert producer(result, result.ops[-1].inputs["self"]).name == "aten.add.out"
    assert_single_assignment(result)


# ------------------------------------------------------------------------------ parameters


# One (5, 5) weight under two names is 25; a bias of 5 each is 10.
@pytest.mark.parametrize("device", DEVICES)
def test_a_weight_that_is_assigned_twice_is_counted_once(device: str):
    first, second = nn.Linear(5, 5, device=device), nn.Linear(5, 5, device=device)
    second.weight = first.weight
    result = trace(nn.Sequential(first, second), (empty(2, 5, device=device),))
    assert params.total(result) == 25 + 5 + 5
    assert param(result, "0.weight").aliases == ("1.weight",)
    # Two products of 2x5 by 5x5: the work is done twice.
    assert total_macs(result) == 2 * (2 * 5 * 5)


# An embedding of 10 x 4, read as a table and again as a matrix.
@pytest.mark.parametrize("built_on", DEVICES)
def test_a_tied_embedding_is_counted_once_and_used(built_on: str):
    table, head = nn.Embedding(10, 4, device=built_on), nn.Linear(4, 10, False, device=built_on)
    head.weight = table.weight
    result = trace(nn.Sequential(table, head), (empty(1, 3, dtype=torch.int64),))
    assert [p.path for p in result.params] == ["0.weight"]
    assert params.total(result) == 40
    assert result.params[0].used


def test_one_parameter_held_under_two_names_by_one_module_is_counted_once():
    weight = nn.Parameter(empty(4))
    result = of(lambda self, x: x * self.a + self.b, empty(4), a=weight, b=weight)
    assert params.total(result) == 4
    assert param(result, "a").aliases == ("b",)


def test_equal_parameters_that_are_not_tied_are_counted_apart():
    net = nn.Sequential(
        nn.Linear(3, 3, False, device="meta"), nn.Linear(3, 3, False, device="meta")
    )
    result = trace(net, (empty(1, 3),))
    assert params.total(result) == 18
    assert [p.aliases for p in result.params] == [(), ()]


def test_bare_parameters_of_the_root_and_of_a_block_are_found():
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.block(x) * self.scale

    block = Lambda(
        lambda self, x: self.linear(x) + self.shift,
        linear=nn.Linear(3, 2, device="meta"),
        shift=nn.Parameter(empty(2)),
    )
    result = of(forward, empty(1, 3), block=block, scale=nn.Parameter(empty(1)))
    # 3*2 weights + 2 biases in the linear layer, 2 in shift, 1 in scale.
    assert params.total(result) == 6 + 2 + 2 + 1
    assert {p.path for p in result.params if p.used} == {
        "scale", "block.shift", "block.linear.weight", "block.linear.bias",
    }  # fmt: skip


def test_a_parameter_that_nothing_reads_is_unused():
    result = of(
        lambda self, x: self.used(x),
        empty(1, 3),
        used=nn.Linear(3, 2, device="meta"),
        idle=nn.Linear(3, 5, device="meta"),
    )
    assert {p.path: p.used for p in result.params} == {
        "used.weight": True,
        "used.bias": True,
        "idle.weight": False,
        "idle.bias": False,
    }
    assert params.unused(result) == {"idle": 3 * 5 + 5}


def test_frozen_parameters_and_buffers_are_told_apart():
    net = nn.Sequential(nn.Conv2d(3, 4, 1, device="meta"), nn.BatchNorm2d(4, device="meta"))
    net[0].requires_grad_(requires_grad=False)
    result = trace(net, (empty(1, 3, 2, 2),))
    assert {p.path for p in result.params if p.trainable and not p.buffer} == {
        "1.weight", "1.bias",
    }  # fmt: skip
    assert {p.path for p in result.params if p.buffer} == {
        "1.running_mean", "1.running_var", "1.num_batches_tracked",
    }  # fmt: skip
    # 3*4 + 4 in the convolution, 4 + 4 in the norm; buffers 4 + 4 + 1.
    assert params.total(result) == 16 + 8
    assert params.total(result, buffers=True) == 9


def test_a_model_without_parameters_has_none():
    result = trace(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (empty(1, 3, 4, 4),))
    assert result.params == ()
    assert shape(result, result.outputs[0]) == (1, 3, 2, 2)


def test_parameter_lists_and_dicts_are_found():
    def forward(self: Any, x: Tensor) -> Tensor:
        return x * self.many[0] * self.many[1] * self.named["a"]

    result = of(
        forward,
        empty(3),
        many=nn.ParameterList([nn.Parameter(empty(3)), nn.Parameter(empty(1))]),
        named=nn.ParameterDict({"a": nn.Parameter(empty(3))}),
    )
    assert {p.path: p.used for p in result.params} == {
        "many.0": True,
        "many.1": True,
        "named.a": True,
    }


# ----------------------------------------------------------------------------------- calls


def test_a_module_that_is_called_twice_has_two_calls():
    result = of(lambda self, x: self.twice(self.twice(x)), empty(1, 4), twice=nn.ReLU())
    assert paths(result) == ["", "twice", "twice"]
    first, second = result.calls[1:]
    assert first.outputs == second.inputs
    assert [op.call for op in result.ops] == [1, 2]


# 4*4 + 4 parameters, 1*4*4 MACs in each of three runs.
def test_a_layer_that_runs_three_times_costs_three_times_and_weighs_once():
    linear = nn.Linear(4, 4, device="meta")
    result = of(lambda self, x: self.f(self.f(self.f(x))), empty(1, 4), f=linear)
    assert params.total(result) == 20
    assert total_macs(result) == 48


def test_one_module_under_two_names_is_one_module_with_two_calls():
    shared = nn.Linear(4, 4, device="meta")
    result = trace(nn.Sequential(shared, nn.ReLU(), shared), (empty(1, 4),))
    assert paths(result) == ["", "0", "1", "0"]
    assert params.total(result) == 20


def test_calls_are_nested_as_they_were_made():
    inner = nn.Sequential(nn.ReLU(), nn.ReLU())
    result = trace(nn.Sequential(inner, nn.ReLU()), (empty(2),))
    assert paths(result) == ["", "0", "0.0", "0.1", "1"]
    assert parents(result) == [None, "", "0", "0", ""]


def test_a_module_made_inside_forward_is_named_where_it_ran():
    block = Lambda(lambda _, x: nn.Conv2d(3, 2, 1, device=x.device)(x))
    result = trace(nn.Sequential(block), (empty(1, 3, 2, 2),))
    assert paths(result) == ["", "0", "0.Conv2d"]
    assert parents(result) == [None, "", "0"]
    # 4 positions, 3 channels in, 2 out.
    assert total_macs(result) == 24


def test_modules_made_inside_forward_are_not_mistaken_for_each_other():
    def forward(_: Any, x: Tensor) -> Tensor:
        for _ in range(4):  # each is garbage when the next is made, at the same address perhaps
            x = nn.ReLU()(x)
            x = nn.Sigmoid()(x)
        return x

    result = of(forward, empty(2))
    kinds = [result.modules[call.module].kind for call in result.calls[1:]]
    assert kinds == ["ReLU", "Sigmoid"] * 4
    assert len({call.module for call in result.calls}) == 9


def test_a_module_record_tells_class_base_and_hyper_parameters():
    class Own(nn.Conv2d):
        pass

    net = nn.Sequential(Own(3, 4, 3, stride=2, padding=1, bias=False, device="meta"), nn.ReLU())
    result = trace(net, (empty(1, 3, 8, 8),))
    own = next(m for m in result.modules if m.path == "0")
    assert (own.kind, own.base, own.library) == ("Own", "Conv2d", False)
    assert own.hyper["kernel_size"] == (3, 3)
    assert own.hyper["stride"] == (2, 2)
    assert own.hyper["in_channels"] == 3
    assert own.hyper["bias"] is False
    relu = next(m for m in result.modules if m.path == "1")
    assert (relu.kind, relu.base, relu.library) == ("ReLU", "ReLU", True)


def failing(_: Any, x: Tensor) -> Tensor:
    raise ArithmeticError("not today")


def test_a_call_after_a_caught_exception_is_a_sibling_of_the_one_that_failed():
    def forward(self: Any, x: Tensor) -> Tensor:
        try:
            return self.first(x)
        except ArithmeticError:
            return self.second(x) + 1

    children = {"first": Lambda(failing), "second": nn.ReLU()}
    result = of(forward, empty(2), **children)
    assert paths(result) == ["", "first", "second"]
    assert parents(result) == [None, "", ""]
    add = result.ops[-1]
    assert result.modules[result.calls[add.call].module].path == ""


def test_an_operation_after_a_caught_exception_belongs_to_the_module_that_caught_it():
    def forward(self: Any, x: Tensor) -> Tensor:
        try:
            return self.first(x)
        except ArithmeticError:
            return x + 1

    net = nn.Sequential(Lambda(forward, first=Lambda(failing)), nn.ReLU())
    result = trace(net, (empty(2),))
    assert paths(result) == ["", "0", "0.first", "1"]
    assert parents(result) == [None, "", "0", ""]
    where = {op.name: result.modules[result.calls[op.call].module].path for op in result.ops}
    assert where == {"aten.add.Tensor": "0", "aten.relu.default": "1"}


# ------------------------------------------------------------------------ inputs and outputs


@dataclasses.dataclass
class Pair:
    left: Tensor
    right: Tensor


@pytest.mark.parametrize(
    "argument",
    [
        [empty(2, 3), empty(4)],
        (empty(2, 3), [empty(4)]),
        {"a": empty(2, 3), "b": empty(4)},
        {"a": {"deep": [(empty(2, 3), empty(4))]}},
        Pair(empty(2, 3), empty(4)),
    ],
    ids=["list", "tuple", "dict", "nested", "dataclass"],
)
def test_tensors_of_any_nesting_are_inputs(argument: Any):
    result = of(lambda _, x: x, argument)
    assert [shape(result, t) for t in result.inputs] == [(2, 3), (4,)]
    assert [shape(result, t) for t in result.outputs] == [(2, 3), (4,)]
    assert result.calls[0].inputs == result.inputs
    assert result.calls[0].outputs == result.outputs


def test_keyword_arguments_are_inputs():
    model = Lambda(lambda _, x, y, scale: (x + y) * scale)
    result = trace(model, (empty(2, 3),), {"y": empty(3), "scale": 2.0})
    assert [shape(result, t) for t in result.inputs] == [(2, 3), (3,)]
    assert [shape(result, t) for t in result.calls[0].inputs] == [(2, 3), (3,)]
    assert result.ops[0].inputs == {"self": result.inputs[0], "other": result.inputs[1]}


def test_keyword_arguments_alone_are_enough():
    result = trace(Lambda(lambda _, *, x: x + 1), (), {"x": empty(2)})
    assert [shape(result, t) for t in result.inputs] == [(2,)]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: [a, b],
        lambda a, b: (a, (b,)),
        lambda a, b: {"out": a, "aux": b},
        lambda a, b: {"out": [{"x": a}, b]},
        Pair,
    ],
    ids=["list", "tuple", "dict", "nested", "dataclass"],
)
def test_tensors_of_any_nesting_are_outputs(wrap: Callable[..., Any]):
    result = of(lambda _, x: wrap(x + 1, x.sum()), empty(2, 3))
    assert [shape(result, t) for t in result.outputs] == [(2, 3), ()]
    assert [producer(result, t).name for t in result.outputs] == [
        "aten.add.Tensor",
        "aten.sum.default",
    ]


def test_an_output_that_is_no_tensor_is_no_output():
    assert of(lambda _, x: None, empty(2)).outputs == ()
    assert of(lambda _, x: ("text", 3, x.shape), empty(2)).outputs == ()


@pytest.mark.parametrize("device", DEVICES)
def test_integer_inputs_reach_an_embedding(device: str):
    net = nn.Embedding(10, 4, device=device)
    result = trace(net, (empty(2, 3, dtype=torch.int64, device=device),))
    assert result.tensors[result.inputs[0]].dtype == "int64"
    assert shape(result, result.outputs[0]) == (2, 3, 4)
    assert result.tensors[result.outputs[0]].dtype == "float32"
    assert total_macs(result) == 0


def test_one_tensor_given_twice_is_one_value():
    x = empty(3)
    result = of(lambda _, a, b: a + b, x, x)
    assert result.inputs[0] == result.inputs[1]


# ------------------------------------------------------------------------ left as it was found


def small_net(device: str = "cpu") -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, device=device),
        nn.BatchNorm2d(4, device=device),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 2, device=device),
    )


HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_state_dict_hooks", "_load_state_dict_pre_hooks", "_forward_hooks_with_kwargs",
)  # fmt: skip


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything about a model, and about torch, that a look at it must not change."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    every = [name for name in vars(module_internals) if name.startswith("_global_")]
    return {
        "keys": list(model.state_dict()),
        "identities": {name: id(t) for name, t in tensors.items()},
        "values": {n: t.clone().tolist() for n, t in tensors.items() if not t.is_meta},
        "versions": {name: t._version for name, t in tensors.items()},
        "devices": {name: str(t.device) for name, t in tensors.items()},
        "requires_grad": {name: t.requires_grad for name, t in tensors.items()},
        "grads": {name: t.grad is None for name, t in tensors.items()},
        "training": [m.training for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "hooks": [[len(getattr(m, name)) for name in HOOKS] for m in model.modules()],
        "global hooks": {n: copy.copy(getattr(module_internals, n)) for n in every},
        "random": torch.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "dtype": torch.get_default_dtype(),
    }


@pytest.mark.parametrize(
    ("built_on", "inputs_on"), [("meta", "meta"), ("cpu", "meta"), ("cpu", "cpu")]
)
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_found(built_on: str, inputs_on: str, training: bool):
    model = small_net(built_on).train(training)
    model[1].train(not training)
    model[0].weight.requires_grad_(requires_grad=False)
    model[5].register_forward_hook(lambda *_: None)
    before = state_of(model)
    trace(model, (empty(2, 3, 6, 6, device=inputs_on),))
    assert state_of(model) == before


@pytest.mark.parametrize("device", DEVICES)
def test_the_model_is_left_as_it_was_found_after_forward_raised(device: str):
    model = small_net("cpu").train()
    model[1].eval()
    before = state_of(model)
    with pytest.raises(ForwardError):
        trace(model, (empty(2, 3, 9, 9, device=device),))
    assert state_of(model) == before


def test_the_forward_runs_in_eval_mode_without_gradients():
    seen: list[tuple[bool, bool]] = []

    def forward(self: Any, x: Tensor) -> Tensor:
        seen.append((self.training, torch.is_grad_enabled()))
        return x

    model = Lambda(forward).train()
    trace(model, (empty(2),))
    assert seen == [(False, False)]
    assert model.training


@pytest.mark.parametrize("device", DEVICES)
def test_a_forward_that_draws_random_numbers_leaves_the_random_state(device: str):
    before = torch.get_rng_state()
    of(lambda _, x: x + torch.rand_like(x), empty(3, device=device))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("device", DEVICES)
def test_a_buffer_that_forward_writes_to_is_left_as_it_was_found(device: str):
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.steps.add_(1)
            return x * self.steps

    model = Counting()
    trace(model, (empty(3, device=device),))
    assert model.steps.device.type == "cpu"
    assert model.steps.tolist() == [0.0]


class CpuWork(TorchDispatchMode):
    """Which operations made a tensor that has data."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and not t.is_meta for t in tree_leaves(result)):
            self.seen.add(str(func))
        return result


def test_a_model_with_weights_does_no_arithmetic_on_inputs_without_data():
    model, work = small_net("cpu"), CpuWork()
    with work:
        result = trace(model, (empty(2, 3, 6, 6),))
    assert work.seen <= {"aten.detach.default", "aten.alias.default"}
    assert result.device == "meta"
    assert all(p.device.type == "cpu" for p in model.parameters())


def test_the_watcher_of_arithmetic_sees_arithmetic():
    model, work = small_net("cpu"), CpuWork()
    inputs = empty(2, 3, 6, 6, device="cpu")
    with work:
        trace(model, (inputs,))
    assert "aten.convolution.default" in work.seen


@pytest.mark.parametrize("device", DEVICES)
def test_tracing_twice_gives_equal_traces(device: str):
    model, inputs = small_net(device), (empty(2, 3, 6, 6, device=device),)
    assert trace(model, inputs) == trace(model, inputs)


def test_a_model_with_weights_gives_the_trace_of_one_without():
    inputs = (empty(2, 3, 6, 6),)
    assert trace(small_net("cpu"), inputs) == trace(small_net("meta"), inputs)


def test_the_model_still_learns_after_it_was_traced():
    model = small_net("cpu")
    trace(model, (empty(2, 3, 6, 6),))
    model(torch.ones(2, 3, 6, 6)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# ---------------------------------------------------------------------------------- failures


# A 3x3 kernel on 8x8 leaves 6x6; the linear layer expects 5 features where it is given 6.
def test_a_failure_names_the_module_and_the_shapes_that_it_was_given():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, device="meta"), nn.Linear(5, 2, device="meta"))
    with pytest.raises(ForwardError) as caught:
        trace(nn.Sequential(net), (empty(1, 3, 8, 8),))
    error = caught.value
    assert (error.path, error.module, error.shapes) == ("0.1", net[1], ((1, 8, 6, 6),))
    assert isinstance(error.cause, RuntimeError)
    assert error.__cause__ is error.cause
    assert str(error).startswith("forward failed in 0.1 (Linear), called with 1x8x6x6: ")


def test_a_failure_of_the_model_itself_names_its_class():
    with pytest.raises(ForwardError, match=r"^forward failed in Lambda, called with 2: ") as caught:
        of(failing, empty(2))
    assert caught.value.path == ""
    assert str(caught.value).endswith("ArithmeticError: not today")


def test_a_failure_after_a_submodule_returned_names_the_module_that_failed():
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.inner(x) @ x

    with pytest.raises(ForwardError) as caught:
        of(forward, empty(2, 3), inner=nn.ReLU())
    assert caught.value.path == ""


def test_a_failure_after_a_caught_exception_names_the_module_that_failed():
    def forward(self: Any, x: Tensor) -> Tensor:
        try:
            return self.inner(x)
        except ArithmeticError:
            return x @ x

    with pytest.raises(ForwardError) as caught:
        of(forward, empty(2, 3), inner=Lambda(failing))
    assert caught.value.path == ""


def test_a_wrong_number_of_arguments_is_a_failure_of_the_model():
    with pytest.raises(ForwardError, match="TypeError"):
        trace(nn.ReLU(), (empty(2), empty(2)))


# ------------------------------------------------------------------------------------ storage


ENCODINGS = {"json": msgspec.json, "msgpack": msgspec.msgpack}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_trace_survives_being_stored(encoding: str):
    model = nn.Sequential(
        nn.Conv2d(3, 4, (3, 1), padding=(1, 0), device="meta"),
        nn.BatchNorm2d(4, device="meta"),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(16, 2, device="meta"),
    )
    result = trace(model, (empty(1, 3, 4, 4),))
    codec = ENCODINGS[encoding]
    assert codec.decode(codec.encode(result), type=Trace) == result


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_numbers_that_are_not_finite_survive_being_stored(encoding: str):
    result = of(lambda _, x: x.masked_fill(x > 0, float("-inf")), empty(3))
    codec = ENCODINGS[encoding]
    again = codec.decode(codec.encode(result), type=Trace)
    assert again == result
    assert float(again.ops[-1].attributes["value"]) == float("-inf")


# ------------------------------------------------------------------------------------- memory


# The input is 3*8*8*4 = 768 bytes, the first convolution's output 8*8*8*4 = 2048, the ReLU's as
# much again, the last 4*8*8*4 = 1024. While ReLU runs: 768 + 2048 + 2048 = 4864; while the second
# convolution runs, the first output is gone: 768 + 2048 + 1024 = 3840.
def test_a_constant_made_in_forward_is_alive_while_it_is_used():
    # the input of 4 floats, the index of 8 bytes, the result of 1 float
    result = of(lambda _, x: x[:, [0]], empty(1, 4))
    seen = any("lift_fresh" in op.name for op in result.ops)  # torch 2.9 makes it unseen
    assert memory.peak(result).nbytes == 16 + 4 + 8 * seen
    assert seen or torch.__version__ < "2.15"


def test_the_peak_of_a_chain_is_its_two_largest_neighbours():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, device="meta"),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding=1, device="meta"),
    )
    result = trace(net, (empty(1, 3, 8, 8),))
    assert memory.peak(result) == (4864, "1")
    assert memory.input_bytes(result) == 768
    assert memory.allocated(result) == 2048 + 2048 + 1024


# As above, but ReLU works in place: 768 + 2048 + 1024 = 3840, at the second convolution.
def test_an_in_place_operation_takes_no_memory():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, device="meta"),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 3, padding=1, device="meta"),
    )
    result = trace(net, (empty(1, 3, 8, 8),))
    assert memory.peak(result) == (3840, "2")
    assert memory.allocated(result) == 2048 + 1024


# x is 40 bytes, held by the caller. a = x + 1 is kept to the end, b = a * 2 and c = b * 3 are 40
# each: at c there are x, a, b, c = 160. Then d = a + c, while b is gone: x, a, c, d = 160 as well;
# the first is the peak.
def test_a_skipped_value_stays_alive():
    def forward(self: Any, x: Tensor) -> Tensor:
        a = self.a(x)
        c = self.c(self.b(a))
        return a + c

    children = {n: Lambda(lambda _, x: x + 1) for n in "abc"}
    result = of(forward, empty(10), **children)
    assert memory.peak(result) == (160, "c")


# Views and a reshape of a contiguous tensor allocate nothing: 40 bytes in, 40 bytes out.
def test_a_view_takes_no_memory():
    result = of(lambda _, x: (x + 1).view(2, 5).transpose(0, 1)[1:], empty(10))
    assert memory.allocated(result) == 40
    assert memory.peak(result).nbytes == 80


# A value that only a view still holds is alive as a whole: x 40, y 40, and 400 of the constant.
def test_a_slice_keeps_its_whole_storage_alive():
    def forward(_: Any, x: Tensor) -> Tensor:
        part = torch.ones(100, device=x.device)[:10]
        return x + part

    result = of(forward, empty(10))
    assert memory.peak(result).nbytes == 40 + 400 + 40


def residual_net() -> nn.Module:
    def block(channels: int) -> nn.Module:
        body = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Conv2d(2 * channels, channels, 3, padding=1),
        )
        return Lambda(lambda self, x: F.relu(x + self.body(x)), body=body)

    return nn.Sequential(nn.Conv2d(3, 8, 3), block(8), nn.MaxPool2d(2), block(8))


def dense_net() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, dim=1)))
        return torch.cat(features, dim=1).mean((2, 3))

    layers = nn.ModuleList(nn.Conv2d(3 + 4 * n, 4, 3, padding=1) for n in range(4))
    return Lambda(forward, layers=layers)


def in_place_net() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.conv(x)
        skip = y[:, :2]
        y.relu_()
        y[:, 2:4].mul_(2)
        z = self.norm(y)
        z += y
        a, b = z.chunk(2, dim=1)
        a.add_(b)
        return (a.flatten(1) @ b.flatten(1).t()) + skip.sum()

    return Lambda(forward, conv=nn.Conv2d(3, 8, 3), norm=nn.BatchNorm2d(8))


def attention_net() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return Lambda(lambda self, x: self.layer(x.flatten(2).transpose(1, 2)[..., :1].expand(
        -1, -1, 16)), layer=layer)  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("net", [residual_net, dense_net, in_place_net])
def test_the_peak_is_that_of_a_real_forward(net: Callable[[], nn.Module], device: str):
    model = net()
    result = trace(model, (empty(2, 3, 12, 12, device=device),))
    assert memory.peak(result).nbytes == live(model, torch.rand(2, 3, 12, 12)).peak


def test_the_nets_of_the_peak_differ_so_that_a_constant_would_not_pass():
    peaks = {live(net(), torch.rand(2, 3, 12, 12)).peak for net in (residual_net, dense_net)}
    assert len(peaks) == 2
    assert min(peaks) > 2 * 3 * 12 * 12 * 4


# ------------------------------------------------------------------------------------- threads


def test_another_thread_that_runs_a_module_meanwhile_does_not_mix_in():
    other, its_input = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()), torch.ones(1, 3)

    def forward(self: Any, x: Tensor) -> Tensor:
        for module in (other, self.inner):  # one that is not ours, one that is
            thread = threading.Thread(target=module, args=(its_input,))
            thread.start()
            thread.join()
        return self.inner(x) + 1

    result = of(forward, empty(2), inner=nn.ReLU())
    assert paths(result) == ["", "inner"]
    assert names(result) == ["aten.relu.default", "aten.add.Tensor"]
    assert [m.kind for m in result.modules] == ["Lambda", "ReLU"]


def test_threads_that_trace_take_turns():
    inside, most, results = [], [], {}

    def forward(self: Any, x: Tensor) -> Tensor:
        inside.append(None)
        for _ in range(20):
            x = self.inner(x)
            most.append(len(inside))
            time.sleep(0.001)
        inside.pop()
        return x

    def work(inner: nn.Module) -> None:
        results[type(inner)] = of(forward, empty(2), inner=inner)

    kinds = {nn.ReLU: "aten.relu", nn.Tanh: "aten.tanh", nn.Sigmoid: "aten.sigmoid"}
    threads = [threading.Thread(target=work, args=(kind(),)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    for kind, name in kinds.items():
        assert names(results[kind]) == [f"{name}.default"] * 20
        assert paths(results[kind]) == [""] + ["inner"] * 20


# --------------------------------------------------------------- attention, recurrent networks


# 3 sequences of 5 tokens (15 positions) of 8 features, 2 heads of 4.
# Projections of Q, K, V: 15 * 8 * 24 = 2880; output: 15 * 8 * 8 = 960.
# Scores: 3 * 2 * 5 * 5 * 4 = 600; their product with V: 600. Together 5040.
ATTENTION = 2880 + 960 + 600 + 600


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_counts_its_matrix_products(device: str, need_weights: bool):
    layer = nn.MultiheadAttention(8, 2, batch_first=True, device=device)
    result = trace(
        Lambda(lambda self, x: self.layer(x, x, x, need_weights=need_weights)[0], layer=layer),
        (empty(3, 5, 8, device=device),),
    )
    assert total_macs(result) == ATTENTION
    assert all(p.used for p in result.params)


# The feed-forward part: 15 * 8 * 16 there and back, 3840.
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_layer_in_eval_counts_its_matrix_products(device: str, norm_first: bool):
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, batch_first=True, norm_first=norm_first, device=device
    ).eval()
    result = trace(layer, (empty(3, 5, 8, device=device),))
    assert total_macs(result) == ATTENTION + 3840
    assert all(p.used for p in result.params)


def test_a_transformer_encoder_in_eval_counts_every_layer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    result = trace(nn.TransformerEncoder(layer, 3).eval(), (empty(3, 5, 8, device="cpu"),))
    assert total_macs(result) == 3 * (ATTENTION + 3840)


# 3 * 2 heads, 5 queries, 7 keys: scores over 4 features, values of 6.
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("causal", [True, False])
def test_fused_attention_counts_scores_and_values(device: str, causal: bool):
    q, k, v = (
        empty(3, 2, n, d, device=device) for n, d in ((5, 4), (7, 4), (7, 6))
    )  # fmt: skip
    result = of(lambda _, *qkv: F.scaled_dot_product_attention(*qkv, is_causal=causal), q, k, v)
    assert total_macs(result) == 3 * 2 * 5 * 7 * (4 + 6)
    assert shape(result, result.outputs[0]) == (3, 2, 5, 6)


# 2 sequences of 4 steps: 8 positions. Gates (4, 3 or 1) x hidden 7 x (input 5 + hidden 7), with
# a second layer that reads 7 (or, from both directions, 14).
RECURRENT = {
    "lstm": (lambda d: nn.LSTM(5, 7, batch_first=True, device=d), 8 * 4 * 7 * (5 + 7)),
    "lstm, two layers": (
        lambda d: nn.LSTM(5, 7, 2, batch_first=True, device=d),
        8 * 4 * 7 * (5 + 7) + 8 * 4 * 7 * (7 + 7),
    ),
    "lstm, both directions": (
        lambda d: nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True, device=d),
        2 * (8 * 4 * 7 * (5 + 7) + 8 * 4 * 7 * (14 + 7)),
    ),
    # A projection from 7 to 3: the recurrent weights read 3, and 3 * 7 more at every step.
    "lstm, projected": (
        lambda d: nn.LSTM(5, 7, proj_size=3, batch_first=True, device=d),
        8 * (4 * 7 * (5 + 3) + 3 * 7),
    ),
    "lstm, without bias": (
        lambda d: nn.LSTM(5, 7, bias=False, batch_first=True, device=d),
        8 * 4 * 7 * (5 + 7),
    ),
    "gru": (lambda d: nn.GRU(5, 7, batch_first=True, device=d), 8 * 3 * 7 * (5 + 7)),
    "gru, both directions": (
        lambda d: nn.GRU(5, 7, bidirectional=True, batch_first=True, device=d),
        2 * 8 * 3 * 7 * (5 + 7),
    ),
    "rnn": (lambda d: nn.RNN(5, 7, batch_first=True, device=d), 8 * 7 * (5 + 7)),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_layer_counts_every_time_step(kind: str, device: str):
    build, expected = RECURRENT[kind]
    model = build(device)
    result = trace(model, (empty(2, 4, 5, device=device),))
    assert total_macs(result) == expected
    assert not [op.name for op in result.ops if ops.lookup(op.name).kind is ops.Kind.UNKNOWN]
    assert params.total(result) == sum(p.numel() for p in model.parameters())
    assert all(p.used for p in result.params)


# 2 sequences; gates x hidden 7 x (5 + 7), once.
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3), (nn.RNNCell, 1)])
def test_a_recurrent_cell_counts_one_step(cell: Any, gates: int, device: str):
    result = trace(cell(5, 7, device=device), (empty(2, 5, device=device),))
    assert total_macs(result) == 2 * gates * 7 * (5 + 7)


# Every layer reads and writes the same number of elements on a device with data as without.
@pytest.mark.parametrize(
    "net", [residual_net, dense_net, in_place_net, attention_net, small_net]
)  # fmt: skip
def test_a_real_forward_counts_what_a_forward_without_data_counts(net: Callable[[], nn.Module]):
    model = net()
    size = 6 if net is small_net else 12
    on = {d: trace(model, (empty(2, 3, size, size, device=d),)) for d in DEVICES}
    assert total_macs(on["cpu"]) == total_macs(on["meta"]) > 0
    for result in on.values():
        assert not [op.name for op in result.ops if ops.lookup(op.name).kind is ops.Kind.UNKNOWN]
        assert_single_assignment(result)
    shapes = {d: [[shape(r, t) for t in c.outputs] for c in r.calls] for d, r in on.items()}
    assert shapes["cpu"] == shapes["meta"]
    assert len(shapes["meta"]) > 2

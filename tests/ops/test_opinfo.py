"""All operators that torch's own tests describe, traced: known, or reported by name."""

import itertools
import random
import sys
import types
import unittest

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from cnnscope.ops import table
from cnnscope.tracing.tracer import trace
from cnnscope.tracing.values import needs_data

SAMPLES = 6

# Backward passes, operations newer than the oldest supported torch, and higher-order operators.
UNKNOWN = {
    "_softmax_backward_data",
    "linalg_matrix_sqrth",
    "linalg_polar",
    "max_pool2d_with_indices_backward",
    "native_dropout_backward",
    "torch_nn._linear_cross_entropy_batch_chunked",
    "torch_nn._linear_cross_entropy_batch_chunked_no_reduction",
}
# Sparse tensors are not followed; the last are CUDA's alone.
NOT_FOLLOWED = ("sparse.", "jiterator_")


@pytest.fixture(scope="module")
def operators():
    """torch.testing's table of operators, which imports a package for its own expected outputs."""
    if "expecttest" not in sys.modules:
        stand_in = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase
        sys.modules["expecttest"] = stand_in
    with pytest.MonkeyPatch.context() as patch:  # it names a folder for the compiler to write in
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
        try:
            return pytest.importorskip("torch.testing._internal.common_methods_invocations").op_db
        finally:  # that import has every flag of torch.backends refuse to be set
            flags = torch.backends.disable_global_flags.__globals__
            flags["__allow_nonbracketed_mutation_flag"] = True


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, args, kwargs):
        return self.function(*args, **kwargs)


def on_meta(value):
    dense = isinstance(value, torch.Tensor) and value.layout is torch.strided
    return value.to("meta") if dense else value


def as_list(value):
    """Tensor ids of an input: one, or those of a list that are given."""
    return [tid for tid in (value if isinstance(value, tuple) else (value,)) if tid is not None]


def traces(operator):
    """Traces of an operator's first samples, and why others could not be made."""
    try:
        dtypes = operator.dtypes  # none for what runs on CUDA alone
        dtype = torch.float32 if torch.float32 in dtypes else min(dtypes, key=str)
        samples = list(itertools.islice(operator.sample_inputs("cpu", dtype), SAMPLES))
    except Exception:  # noqa: BLE001  a sample may need what is not installed
        return [], []
    made, failed = [], []
    for sample in samples:
        arguments = tree_map(on_meta, ((sample.input, *sample.args), sample.kwargs))
        try:
            made.append(trace(Call(operator.op), arguments))
        except Exception as error:  # noqa: BLE001  judged by the caller
            failed.append(getattr(error, "cause", error))
    return made, failed


def hold(operators):
    """Every operation is known or named, and what computes has a count."""
    unknown, empty, failures = set(), set(), []
    for operator in operators:
        made, failed = traces(operator)
        for found in made:
            for record in found.ops:
                entry = table.lookup(record.name)
                if entry.kind is table.Kind.UNKNOWN:
                    unknown.add(table.base_name(record.name))
                elif entry.kind in (table.Kind.PRODUCT, table.Kind.ELEMENT):
                    count = table.macs(found, record) + table.element_ops(found, record)
                    if not count and is_large(found, record):
                        empty.add((record.name, operator.name))
        unexplained = [e for e in failed if not made and not needs_data(e)]
        if unexplained and not operator.name.startswith(NOT_FOLLOWED):
            failures.append((operator.name, unexplained[0]))
    assert unknown <= UNKNOWN
    assert failures == []
    assert empty == set()


def is_large(found, record):
    """Return True if no tensor of an operation has an axis of one or none, which may be free."""
    tids = [*record.outputs, *(tid for v in record.inputs.values() for tid in as_list(v))]
    return all(min(found.tensors[tid].shape, default=1) > 1 for tid in tids)


@pytest.mark.broad
def test_some_operators_of_torchs_tests_are_known_or_named(operators):
    hold(random.Random(0).sample(operators, 30))


@pytest.mark.slow
def test_every_operator_of_torchs_tests_is_known_or_named(operators):
    hold(operators)

"""Expected counts of other counters, each by its own published rule, and the verdicts.

A counter that differs is not wrong by itself: torchinfo counts biases, fvcore counts norms. So the
rule of each is applied to the trace (from the sources of torchinfo 1.8.0 and fvcore 0.1.5), and
what it adds or leaves out is a *reason* with an amount. The amounts follow from shapes and from
what the trace contains, never from the name of a model, and not from the counter's answer: only if
their sum is the whole difference, to the last multiplication, is the difference explained.

Where a model looks at its data, the trace was made at its own limits (every score passes); a real
run has other numbers of boxes. What depends on them is found in the trace, and bounds what a
counter can say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

from cnnscope.analysis import params, step
from cnnscope.analysis.weights import RECURRENT
from cnnscope.ops import table
from cnnscope.ops.operation import Op
from cnnscope.ops.table import Family
from cnnscope.records.check import PRUNED, Count, Reason, Verdict
from cnnscope.records.step import StepTrace
from cnnscope.records.trace import CallRecord, ModuleRecord, OpRecord, Shape, Trace
from cnnscope.reports import listing

EQUAL, EXPLAINED, INCOMPARABLE = "equal", "explained", "incomparable"
UNEXPLAINED, ABSENT = "unexplained", "absent"

# Operations whose results have a size that depends on values.
_SELECTING = frozenset(
    "nonzero nonzero_numpy masked_select torchvision.nms _unique2 unique_dim".split()
)
# Of the products in a trace, those that are a function of their own for torch.jit and that fvcore
# has no formula for. Recurrent layers are traced as one, see `_Fvcore`.
_UNKNOWN_TO_FVCORE = frozenset(
    "baddbmm addbmm mv addmv dot vdot _int_mm _trilinear torchvision.deform_conv2d "
    "mkldnn_rnn_layer _cudnn_rnn miopen_rnn linalg_matrix_exp".split()
)
_NORMS = (Family.LAYER_NORM, Family.GROUP_NORM)  # beside batch norms
_POOLS = frozenset(("_adaptive_avg_pool2d", "adaptive_avg_pool2d"))
_RESAMPLING = {  # fvcore's flops per element of the output
    "upsample_nearest2d": ("upsampling", 1),
    "upsample_bilinear2d": ("upsampling", 4),
    "grid_sampler_2d": ("grid sampling", 4),
    "grid_sampler_3d": ("grid sampling", 4),
    "cudnn_grid_sampler": ("grid sampling", 4),
}


_PLACES = 4  # of a reason, named in its record


class Term(NamedTuple):
    """A part of what a counter should say beyond (or short of) our number.

    `about` names the reason (see `records.Reason`), `where` is the layer or operation, `dependent`
    tells that its size depends on data.
    """

    about: str
    amount: int
    where: str
    dependent: bool = False


# ------------------------------------------------------------------------------- verdicts


def verdict(trace: Trace, count: Count) -> Verdict:
    """Compare what a counter said with the trace, and explain what differs.

    Args:
        trace: of the model that it counted.
        count: its answer.
    """
    if count.failed or count.needs:
        return _absent(count, count.failed)
    if count.figure == "shapes":
        return _shapes(trace, count)
    if count.figure == "parameters":
        return _judged(count, params.total(trace), _parameter_terms(trace, count))
    known = Known(trace)
    return _judged(count, known.macs, _mac_terms(known, count), known.dependent_macs)


def of_step(made: StepTrace, watched: int, count: Count) -> Verdict:
    """Compare what was measured of a real training step with the trace of one.

    Args:
        made: the step.
        watched: the peak of its tensors where a dispatch mode watches, in bytes.
        count: what was measured.
    """
    if count.failed or count.needs:
        return _absent(count, count.failed)
    if count.figure == "step MACs":
        known = Known(made.trace)
        terms = [*_without_formula(known, set(count.evidence), made.path), *_of_groups(known)]
        return _judged(count, known.macs, terms, known.dependent_macs)
    ours = step.peak(made).nbytes
    if made.accuracy == "unknown":
        return _absent(count, made.trace.notes[-1])
    tracks = count.counter == "MemTracker"
    unseen = step.unregistered(made, viewed=not tracks)
    terms = [Term("strays", -nbytes, f"storage {number}") for number, nbytes in unseen.items()]
    if tracks:
        terms.append(Term("watched", watched - ours, ""))
    return _judged(count, ours, terms, ours if made.accuracy == "at most" else 0)


def _absent(count: Count, note: str) -> Verdict:
    return Verdict(count.counter, count.version, count.figure, ABSENT, note=note, needs=count.needs)


def at_another_input(trace: Trace, elsewhere: Trace, count: Count) -> Verdict:
    """Compare a number of MACs that is published for another input than the trace has.

    Args:
        trace: of the model.
        elsewhere: of the same model, at the input that the number is published for.
        count: what is published.
    """
    ours, there = Known(trace), Known(elsewhere)
    shapes = ["x".join(map(str, spec.shape)) for spec in elsewhere.input_specs]
    inputs = f"{len(shapes)} x {shapes[0]}" if len(set(shapes)) < len(shapes) else ", ".join(shapes)
    terms = [Term("input", there.macs - ours.macs, inputs), *_not_selected(there, count)]
    return _judged(count, ours.macs, terms, there.dependent_macs)


def _judged(count: Count, ours: int, terms: Sequence[Term], dependent_macs: int = 0) -> Verdict:
    """The verdict on a number, given what its counter should add to ours.

    `dependent_macs` of ours depend on data; a real run may have none of them.
    """
    theirs = count.value
    expected = ours + sum(term.amount for term in terms)
    least = expected - dependent_macs - sum(term.amount for term in terms if term.dependent)
    reasons = tuple(_reasons(terms))
    slack = count.resolution // 2
    if abs(theirs - ours) <= slack:
        status, reasons = EQUAL, ()
    elif reasons and abs(theirs - expected) <= slack:
        status = EXPLAINED
    elif least < expected and least - slack <= theirs <= expected + slack:
        status = INCOMPARABLE
    else:
        status = UNEXPLAINED
    return Verdict(
        count.counter,
        count.version,
        count.figure,
        status,
        theirs=theirs,
        ours=ours,
        resolution=count.resolution,
        reasons=reasons,
        unexplained=theirs - expected if status == UNEXPLAINED else 0,
        range=(least, expected) if status == INCOMPARABLE else None,
    )


def _reasons(terms: Iterable[Term]) -> Iterator[Reason]:
    """Terms of one kind together, the largest first; a term of zero is left out."""
    kinds: dict[str, list[Term]] = {}
    for term in terms:
        if term.amount:
            kinds.setdefault(term.about, []).append(term)
    sums = []
    for about, found in kinds.items():
        places = tuple(dict.fromkeys(term.where for term in found))
        sums.append(Reason(about, sum(t.amount for t in found), len(places), places[:_PLACES]))
    yield from sorted((r for r in sums if r.amount), key=lambda r: -abs(r.amount))


def _parameter_terms(trace: Trace, count: Count) -> list[Term]:
    if count.counter == "torchinfo":
        return _Torchinfo(Known(trace), count.evidence).parameter_terms()
    if count.counter in ("numel", "fvcore"):
        return [
            Term("tied", params.numel(trace, param), name)
            for param in trace.params
            for name in param.aliases
            if name in count.evidence
        ]
    unused = params.unused(trace)
    if count.counter == "published" and count.value == params.total(trace) - sum(unused.values()):
        return [Term("unused", -size, path) for path, size in unused.items()]
    return []


def _mac_terms(known: Known, count: Count) -> list[Term]:
    if count.counter == "torchinfo":
        return _Torchinfo(known, count.evidence).mac_terms()
    if count.counter == "fvcore":
        return _Fvcore(known, count).terms()
    if count.counter == "flop counter":
        return list(_without_formula(known, set(count.evidence)))
    if count.counter == "onnx-tool":
        return list(_of_nodes(count.evidence))
    return _not_selected(known, count)


def _of_nodes(evidence: Mapping[str, int]) -> Iterator[Term]:
    """What onnx-tool adds to the products of each node (see `measure/onnx_nodes.py`)."""
    for key, amount in evidence.items():
        about, _, where = key.partition(": ")
        yield Term(about, amount, where)


def _not_selected(known: Known, count: Count) -> list[Term]:
    """MACs that are left out where a stage selected nothing, so that none after it ran.

    Figures are published of models whose scores pass no threshold (random weights): the stages of
    selection are tried one by one, and one is a reason only if it gives the figure.
    """
    slack = count.resolution // 2
    for stage in sorted({depth for i in known.products if (depth := known.depth(i))}):
        missing = [i for i in known.products if known.depth(i) >= stage]
        left = known.macs - sum(known.products[i] for i in missing)
        if abs(count.value - left) <= slack:
            return [
                Term("not selected", -known.products[i], known.path(i), dependent=True)
                for i in missing
            ]
    return []


def _without_formula(
    known: Known, formulas: Collection[str], path: Callable[[int], str] | None = None
) -> Iterator[Term]:
    """Torch's counter passes over what it has no formula for.

    Args:
        known: about the trace.
        formulas: the counter's evidence.
        path: of the module that an operation belongs to; None for the one that ran it.
    """
    real = "on real tensors" in formulas  # where an LSTM is one operation
    lstms = {module.path for module in known.trace.modules if module.base == "LSTM"}
    for index, macs in known.products.items():
        name = table.base_name(known.trace.ops[index].name)
        if real and (path or known.path)(index) in lstms:
            yield Term("no formula", -macs, "mkldnn_rnn_layer", known.depends(index))
        elif name not in formulas:
            yield Term("no formula", -macs, name, known.depends(index))
        else:
            yield from _of_complex(known, index)


def _of_groups(known: Known) -> Iterator[Term]:
    """MACs that torch's counter adds to gradients of weights in groups (`conv_backward_flop`).

    It takes each output channel with each input channel.
    """
    for index, macs in known.products.items():
        record = known.trace.ops[index]
        if table.base_name(record.name) == "convolution_backward":
            given: Mapping[str, Any] = record.attributes
            groups, mask = given["groups"], given["output_mask"]
            once = macs // sum(mask[:2])
            yield Term("grouped", (groups - 1) * once * mask[1], f"operation {index}")


def _of_complex(known: Known, index: int) -> Iterator[Term]:
    """MACs that a complex product lacks where it is counted as a real one."""
    record, macs = known.trace.ops[index], known.products[index]
    if table.is_complex(known.trace, record):
        plain = macs // table.real_products(known.trace, record)
        yield Term("complex", plain - macs, known.path(index), known.depends(index))


# --------------------------------------------------------------------- what the trace holds


class Known:
    """Facts of a trace that several rules need."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    @cached_property
    def products(self) -> dict[int, int]:
        """MACs of each operation that has any, by its position in the trace."""
        found = {i: table.macs(self.trace, record) for i, record in enumerate(self.trace.ops)}
        return {i: macs for i, macs in found.items() if macs}

    @property
    def macs(self) -> int:
        """MACs of the model."""
        return sum(self.products.values())

    @cached_property
    def dependent(self) -> dict[int, int]:
        """Tensors whose size depends on values, and how many selections came before them."""
        found: dict[int, int] = {}
        for record in self.trace.ops:
            depth = self._depth(record, found) + self._selects(record)
            if depth:
                found.update(dict.fromkeys(record.outputs, depth))
        return found

    def _depth(self, record: OpRecord, known: Mapping[int, int]) -> int:
        return max((known.get(t, 0) for t in record.tensors), default=0)

    def depth(self, index: int) -> int:
        """Number of selections before an operation."""
        return self._depth(self.trace.ops[index], self.dependent)

    def depends(self, index: int) -> bool:
        """Return True if the size of an operation depends on data."""
        return self.depth(index) > 0

    def path(self, index: int) -> str:
        """The module that ran an operation."""
        return self.trace.index.path(self.trace.ops[index])

    @property
    def dependent_macs(self) -> int:
        """MACs of products whose size depends on data."""
        return sum(macs for index, macs in self.products.items() if self.depends(index))

    def _selects(self, record: OpRecord) -> bool:
        name = table.base_name(record.name)
        if name != "index":
            return name in _SELECTING
        indices = record.inputs.get("indices", ())
        some = indices if isinstance(indices, tuple) else (indices,)
        return any(t is not None and self.trace.tensors[t].dtype == "bool" for t in some)

    @cached_property
    def leaves(self) -> frozenset[int]:
        """Modules without modules inside."""
        modules = self.trace.modules
        outer = {m.path.rpartition(".")[0] for m in modules if m.path and not made_inside(m)}
        return frozenset(
            i for i, m in enumerate(modules) if m.path not in outer and not made_inside(m)
        )

    @cached_property
    def weights(self) -> dict[str, dict[str, int]]:
        """Elements of the parameters that a module itself has, by its path and by their name."""
        found: dict[str, dict[str, int]] = {}
        for param in self.trace.params:
            if not param.buffer:
                for name in param.names:
                    path, _, last = name.rpartition(".")
                    found.setdefault(path, {})[last] = params.numel(self.trace, param)
        return found


def made_inside(module: ModuleRecord) -> bool:
    """True if a module is no part of the model: made by a forward, or held in a plain list."""
    return not module.registered


# ------------------------------------------------------------------------------- torchinfo


class _Torchinfo:
    """torchinfo counts modules, not operations (layer_info.py, `calculate_macs`).

    For each call of a module that has no modules inside, and each of its parameters:

    * `weight` and `bias` of a class with "Conv" in its name: elements x all sizes of the output but
      its second. For a convolution that is the output's positions.
    * `weight` and `bias` of any other: elements x the first size of the output.
    * other names with "weight" or "bias" in them: elements x the first two sizes of the output.

    Nothing else is counted, so a product counts where it belongs to a parameter of such a module.
    """

    def __init__(self, known: Known, evidence: Mapping[str, int]) -> None:
        self.known, self.trace = known, known.trace
        self.names = {k: v for k, v in evidence.items() if not k.startswith(PRUNED)}
        self.pruned = {
            k.removeprefix(PRUNED): v for k, v in evidence.items() if k.startswith(PRUNED)
        }

    def _weights(self, path: str) -> dict[str, int]:
        """Elements of a module's own parameters by their name, without those that are masked."""
        found: dict[str, int] = {}
        for name, size in self.known.weights.get(path, {}).items():
            bare = name.removesuffix("_orig")
            masked = self.pruned.get(f"{path}.{bare}".lstrip("."))
            found[name if masked is None else bare] = size - (masked or 0)
        return found

    def mac_terms(self) -> list[Term]:
        """Terms that it adds to the MACs of the operations, or leaves out."""
        terms: list[Term] = []
        covered: set[int] = set()
        for index, call in (*enumerate(self.trace.calls), *((-1, c) for c in self.trace.within)):
            if call.module in self.known.leaves and call.outputs:
                own = (
                    []
                    if index < 0
                    else [
                        i
                        for i in self.trace.index.own_ops.get(index, ())
                        if i in self.known.products
                    ]
                )
                found = list(self._of_call(call, own))
                terms += found
                if any(self._counts_products(call)) and own:
                    covered.update(own)
        terms += [
            Term("no layer", -macs, self.known.path(index), self.known.depends(index))
            for index, macs in self.known.products.items()
            if index not in covered
        ]
        return terms

    def _counts_products(self, call: CallRecord) -> Iterator[str]:
        """Parameters of a module that stand for its products: weights, not biases."""
        path = self.trace.modules[call.module].path
        yield from (name for name in self.known.weights.get(path, ()) if "weight" in name)

    def _of_call(self, call: CallRecord, own: Sequence[int]) -> Iterator[Term]:
        """The terms of one call of a leaf that ran the products `own`."""
        module = self.trace.modules[call.module]
        out = self.trace.tensors[call.outputs[0]].shape
        dependent = call.outputs[0] in self.known.dependent
        weights = self._weights(module.path)
        if own and not module.base:  # not a layer of torch.nn: only its operations tell
            counted = sum(_times(module, name, out) * size for name, size in weights.items())
            if any(self._counts_products(call)):
                counted -= sum(self.known.products[i] for i in own)
            yield Term("own layer", counted, module.path, dependent)
            return
        computed = self._computed(module, own)
        if computed and own:
            products = sum(self.known.products[i] for i in own)
            named = {n: size for n, size in weights.items() if "weight" in n}
            whole = sum(_times(module, name, out) * size for name, size in named.items())
            yield Term(computed, whole - products, module.path, dependent)
            weights = {n: size for n, size in weights.items() if "weight" not in n}
        for name, size in weights.items():
            times = _times(module, name, out)
            if own and "weight" in name:
                about = "transposed" if "Transpose" in module.base else "positions"
                yield Term(about, (times - self._positions(own[0], out)) * size, module.path,
                           dependent)  # fmt: skip
            else:
                yield Term(self._about(call, name, own), times * size, module.path, dependent)

    def _computed(self, module: ModuleRecord, own: Sequence[int]) -> str:
        """Reason why a layer's weights do not stand for its products one by one; "" if they do.

        They are complex, or others stand in their place: `weight_orig`, `weight_g`, `weight_v`.
        """
        names = [n for n in self.known.weights.get(module.path, ()) if "weight" in n]
        if not names or module.base in RECURRENT:
            return ""
        if any(table.is_complex(self.trace, self.trace.ops[i]) for i in own):
            return "complex"
        return "" if names == ["weight"] and len(own) < 2 else "computed weights"

    def _positions(self, index: int, out: Shape) -> int:
        """Number of multiplications of each element of a layer's weight.

        Once for each position: of the output, or of the input where the layer is transposed.
        """
        record = self.trace.ops[index]
        op = Op(self.trace, record)
        entry = table.lookup(record.name)
        if entry.family is Family.BILINEAR:
            return 2 * prod(out[:-1])  # with one input, and the result with the other
        if entry.family is Family.CONVOLUTION:
            spatial = len(op.shape("weight")) - 2
            where = op.shape("input") if op.get("transposed", False) else op.out
            return prod(where[-spatial:]) * (where[0] if len(where) > spatial + 1 else 1)
        return prod(out[:-1])

    def _about(self, call: CallRecord, name: str, own: Sequence[int]) -> str:
        if own and "bias" in name:
            return "biases"
        base = self.trace.modules[call.module].base
        if "Norm" in base:
            return "norms"
        return "lookups" if "Embedding" in base else "other weights"

    def parameter_terms(self) -> list[Term]:
        """Parameters that it counts more than once, in lines of its list (see `listing`)."""
        ours = params.total(self.trace)
        if self.pruned:
            return [Term("pruned", -masked, name) for name, masked in self.pruned.items()]
        listed = listing.lines(self.trace, self.names)
        more = sum(line.counted for line in listed) - ours
        left = ours
        for line in listed:  # the first at which there is more than there can be
            left -= line.counted
            if left < 0:
                about = "tied" if self._tied() else "containers"
                return [Term(about, more, line.name.path or "the model")]
        return []

    def _tied(self) -> bool:
        """Return True if a weight, or a module, has several names."""
        weights = any(p.aliases for p in self.trace.params if not p.buffer)
        return weights or len(set(self.names.values())) < len(self.names)


def _times(module: ModuleRecord, name: str, out: Shape) -> int:
    """Number of times that torchinfo counts each element of a parameter."""
    if name in ("weight", "bias"):
        return prod(out[:1] + out[2:]) if "Conv" in module.kind else prod(out[:1])
    return prod(out[:2]) if "weight" in name or "bias" in name else 0


# ---------------------------------------------------------------------------------- fvcore


class _Fvcore:
    """fvcore counts the functions that torch.jit traces (flop_count.py, jit_handles.py).

    Besides products it counts norms (2 for each element of a batch norm with constant statistics,
    5 of any other; 1 and 4 without weights), adaptive average pools (1 for each element that goes
    in), and for each that comes out, nearest (1) and bilinear (4) upsampling and grid sampling (4).
    It has no formula for scaled_dot_product_attention, nor for some other products. What it does to
    einsum and matmul is seen only where it does it, and is reported by `measure/counters.py`.
    """

    def __init__(self, known: Known, count: Count) -> None:
        self.known, self.trace, self.count = known, known.trace, count

    def terms(self) -> list[Term]:
        """Terms that it adds to the MACs of the operations, or leaves out."""
        evidence = self.count.evidence
        products = [Term(name, evidence.get(name, 0), name) for name in ("einsum", "matmul")]
        return [*self._left_out(), *self._added(), *products]

    def _left_out(self) -> Iterator[Term]:
        attention, padded = self._attention(), self._padded_by_name()
        for index, macs in self.known.products.items():
            record = self.trace.ops[index]
            name = table.base_name(record.name)
            module = self.trace.index.module(record)
            dependent = self.known.depends(index)
            if index in attention:
                yield Term("attention", -macs, self.known.path(index), dependent)
            elif index in padded:
                yield Term("no formula", -macs, "convolutions padded by name", dependent)
            elif name in _UNKNOWN_TO_FVCORE:
                yield Term("no formula", -macs, name, dependent)
            elif module is not None and module.base in RECURRENT:
                yield Term("no formula", -macs, module.base, dependent)
            else:
                yield from _of_complex(self.known, index)

    def _padded_by_name(self) -> set[int]:
        """Convolutions with padding="same" or "valid", another function to torch.jit.

        Accepted if fvcore met as many.
        """
        found = set()
        for index in self.known.products:
            module = self.trace.index.module(self.trace.ops[index])
            if module is not None and isinstance(module.hyper.get("padding"), str):
                found.add(index)
        met = self.count.evidence.get("aten::_convolution_mode", 0)
        return found if met == len(found) else set()

    def _added(self) -> Iterator[Term]:
        for index, record in enumerate(self.trace.ops):
            about, amount = self._amount(record)
            if amount:
                yield Term(about, amount, self.known.path(index), self.known.depends(index))

    def _amount(self, record: OpRecord) -> tuple[str, int]:
        """Count of an operation without MACs."""
        name, op = table.base_name(record.name), Op(self.trace, record)
        if name in _RESAMPLING:
            about, each = _RESAMPLING[name]
            return about, each * prod(op.out)
        family = table.lookup(record.name).family
        if family is Family.BATCH_NORM:
            module = self.trace.index.module(record)
            instance = module is not None and "Instance" in module.base
            each = 4 if instance or op.get("training", False) else 1
            return "norm flops", prod(op.first) * (each + op.has("weight"))
        if family in _NORMS:
            return "norm flops", prod(op.first) * (4 + op.has("weight"))
        if name in _POOLS or self._is_pool(record):
            return "pools", 0 if self._unsqueezed(record) else prod(op.first)
        return "", 0

    def _is_pool(self, record: OpRecord) -> bool:
        """An adaptive pool to 1x1 is traced as this mean over the last two axes."""
        given = record.attributes
        return (
            table.base_name(record.name) == "mean"
            and given.get("dim") == (-1, -2)
            and bool(given.get("keepdim"))
        )

    def _unsqueezed(self, record: OpRecord) -> bool:
        """A pool over one axis is traced as one over two: fvcore has no formula for it."""
        maker = self.trace.index.maker.get(record.tensors[0])
        return maker is not None and table.base_name(self.trace.ops[maker].name) == "unsqueeze"

    def _attention(self) -> set[int]:
        """The two products around each softmax of scaled_dot_product_attention.

        Recognised by `_safe_softmax`, which nothing else runs, and accepted if fvcore met as many.
        """
        softmaxes = [r for r in self.trace.ops if table.base_name(r.name) == "_safe_softmax"]
        fused = [
            i
            for i in self.known.products
            if table.lookup(self.trace.ops[i].name).family is Family.ATTENTION
        ]
        met = self.count.evidence.get("aten::scaled_dot_product_attention", 0)
        if met != len(softmaxes) + len(fused):
            return set()
        found = set(fused)
        for softmax in softmaxes:
            around = (self._product_before(softmax), self._product_after(softmax))
            found.update(index for index in around if index is not None)
        return found

    def _product_before(self, record: OpRecord) -> int | None:
        """The product that an operation's first operand comes from, by first operands alone."""
        maker = self.trace.index.maker
        index = maker.get(record.tensors[0])
        while index is not None and index not in self.known.products:
            index = maker.get(next(iter(self.trace.ops[index].tensors), -1))
        return index

    def _product_after(self, record: OpRecord) -> int | None:
        """The product that reads an operation's result, by first readers alone."""
        readers = self.trace.index.readers
        index = next(iter(readers.get(record.outputs[0], ())), None)
        while index is not None and index not in self.known.products:
            index = next(iter(readers.get(self.trace.ops[index].outputs[0], ())), None)
        return index


# ---------------------------------------------------------------------------------- shapes


def _shapes(trace: Trace, count: Count) -> Verdict:
    """Compare the module calls of a real forward with those of the trace, in their order.

    Calls whose output has a size that depends on data are left out on both sides, wherever they
    ran: the real forward has other weights than the trace assumes. So are single numbers: to
    torch.jit, the sizes of a tensor are tensors. Parametrizations run whenever code reads a
    weight.
    """
    dependent = Known(trace).dependent
    skipped: set[str] = set()
    traced = []
    for call in trace.calls:
        module = trace.modules[call.module]
        if any(t in dependent for t in call.outputs):
            skipped.add(module.path)
        if not made_inside(module):
            traced.append((module.path, tuple(trace.tensors[t].shape for t in call.outputs)))
    left_out = sum(path in skipped for path, _ in traced)
    skipped.update(m.path for m in trace.modules if "parametrizations" in m.path.split("."))
    expected = [_sized(one) for one in traced if one[0] not in skipped]
    real = [_sized(one) for one in count.calls if one[0] not in skipped]
    return Verdict(
        count.counter,
        count.version,
        count.figure,
        EQUAL if real == expected else UNEXPLAINED,
        theirs=len(real),
        ours=len(expected),
        unexplained=_differing(real, expected),
        note=_first_difference(real, expected),
        left_out=left_out,
    )


CallShapes = tuple[str, tuple[Shape, ...]]
Calls = Sequence[CallShapes]


def _sized(call: CallShapes) -> CallShapes:
    return call[0], tuple(shape for shape in call[1] if shape)


def _differing(real: Calls, expected: Calls) -> int:
    """Count the calls of either that have no equal in the other."""
    ours, theirs = Counter(expected), Counter(real)
    return max(sum((theirs - ours).values()), sum((ours - theirs).values()))


def _first_difference(real: Calls, expected: Calls) -> str:
    for theirs, ours in zip(real, expected, strict=False):
        if theirs != ours:
            return f"{_shown(theirs)}, traced {_shown(ours)}"
    longer = max(real, expected, key=len)
    rest = longer[min(len(real), len(expected)) :]
    if not rest:
        return ""
    return f"{_shown(rest[0])} only in the {'forward' if longer is real else 'trace'}"


def _shown(call: CallShapes) -> str:
    path, shapes = call
    return f"{path or 'the model'} {', '.join('x'.join(map(str, s)) for s in shapes)}"

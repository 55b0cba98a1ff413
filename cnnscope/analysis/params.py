"""Parameters: each storage counted once, however many names it has."""

from collections import Counter
from math import prod

from cnnscope.analysis.cost import tensor_bytes
from cnnscope.records.trace import ParamRecord, Trace


def numel(trace: Trace, param: ParamRecord) -> int:
    """Number of elements."""
    return prod(trace.tensors[param.tensor].shape)


def total(trace: Trace, *, buffers: bool = False) -> int:
    """Elements of all parameters (or of all buffers)."""
    return sum(numel(trace, p) for p in trace.params if p.buffer == buffers)


def nbytes(trace: Trace, *, buffers: bool = False) -> int:
    """Bytes of all parameters (or of all buffers)."""
    return sum(tensor_bytes(trace, p.tensor) for p in trace.params if p.buffer == buffers)


def met(trace: Trace, param: ParamRecord) -> bool:
    """Return True if the run came to a parameter: it was read, or its layer is the one that broke.

    A layer that refuses its input has read nothing.
    """
    if param.used or trace.broken is None or trace.broken.call < 0:
        return param.used
    layer = trace.modules[trace.calls[trace.broken.call].module]
    own = param.path.rpartition(".")[0] == layer.path
    return own or (layer.library and param.path.startswith(f"{layer.path}."))


def unused(trace: Trace) -> dict[str, int]:
    """Parameters that no operation read, gathered under the outermost module that never ran.

    Of a forward that raised: parameters that it did not come to.

    Returns:
        Elements by path: of the module, or of the parameter where its module did run.
    """
    called = {trace.modules[call.module].path for call in trace.calls}
    ancestors_of_used = {""} | {
        prefix for p in trace.params if met(trace, p) for prefix in _prefixes(p.path)
    }
    found: Counter[str] = Counter()
    for param in trace.params:
        if not met(trace, param) and not param.buffer:
            outside = (
                prefix
                for prefix in _prefixes(param.path)
                if prefix not in called and prefix not in ancestors_of_used
            )
            found[next(outside, param.path)] += numel(trace, param)
    return dict(found)


def decided_by(trace: Trace) -> tuple[str, ...]:
    """What chose the operations that ran, so that parameters which they do not read may be read.

    Returns:
        "data", "random" as the trace has them, and "batch" where parameters are not read and the
        forward took an input apart along its batch, as one that wants a list of tensors does.
    """
    apart = any(
        op.name.startswith("aten.unbind") and op.tensors[:1] and op.tensors[0] in trace.inputs
        and not op.attributes.get("dim", 0)
        for op in trace.ops
    )  # fmt: skip
    batch = ("batch",) if apart and unused(trace) else ()
    return (*trace.decided_by, *batch)


def _prefixes(path: str) -> list[str]:
    """The modules around a parameter, outermost first: a.b.weight lies in a and in a.b."""
    parts = path.split(".")[:-1]
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def owners(trace: Trace) -> dict[int, list[ParamRecord]]:
    """Assign the parameters and buffers that the run came to to calls.

    A parameter belongs to the first call of the innermost module around it that ran at all:
    usually its own module, or the module that reads the weight of a child without calling it.
    """
    first_call: dict[str, int] = {}
    for index, call in enumerate(trace.calls):
        first_call.setdefault(trace.modules[call.module].path, index)
    owned: dict[int, list[ParamRecord]] = {}
    for param in trace.params:
        if not met(trace, param):
            continue
        around = [["", *_prefixes(name)] for name in param.names]
        own = [first_call[modules[-1]] for modules in around if modules[-1] in first_call]
        nearest = [
            next((first_call[m] for m in reversed(modules) if m in first_call), 0)
            for modules in around
        ]
        owned.setdefault(min(own or nearest), []).append(param)
    return owned

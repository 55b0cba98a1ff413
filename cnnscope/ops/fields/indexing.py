"""Rules of operations that read or write chosen positions: windows, slices, lists of indices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from cnnscope.ops.fields import layout, maps
from cnnscope.ops.fields.layout import Atom, Dim, State
from cnnscope.ops.fields.rules import UNKNOWN, Seen, View, end_to_end, numbers, sliced, squeezed
from cnnscope.records.trace import Shape

Cut = tuple[int, int, int]  # start, step and number of the units of a slice


def window_of(op: View) -> Seen:
    """A view of a storage by bare geometry, where that is a slice, or all of it in order."""
    state = op.main
    if state is None:
        return UNKNOWN
    offset, strides = op.get("offset", 0), op.get("stride", ())
    if offset == 0 and not op.get("permuted") and _is_all(op.first, op.out, strides):
        return layout.reshape(state, op.first, op.out)
    cuts = _slices(op, op.first, op.out)
    if cuts is None:
        return UNKNOWN
    for dim, (start, step, count) in enumerate(cuts):
        if (start, step, count) != (0, 1, op.first[dim]):
            state = sliced(state, dim, start, step, count)
    for dim in reversed(_dropped(cuts, op.first, op.out)):
        state = squeezed(state, dim)
    return state


def write_window(op: View) -> Seen:
    """A write into a slice: the base where it was not written, the value where it was.

    Where only some channels were written a unit sees both.
    """
    inner = op.shape("value")
    cuts = _slices(op, op.shape("base"), inner)
    if cuts is None:
        return UNKNOWN
    value = op.state("value")
    for dim in _dropped(cuts, op.shape("base"), inner):
        value = value and State((*value.layout[:dim], (), *value.layout[dim:]), value.axes)
    return _written(op, op.state("base"), value, cuts)


def _written(op: View, base: State | None, value: State | None, cuts: Sequence[Cut]) -> Seen:
    shape = op.out
    partial = [d for d, (_, _, count) in enumerate(cuts) if count != shape[d]]
    if not partial:
        return value
    placed = [d for d in partial if any(s and s.layout[d] for s in (base, value))]
    if len(partial) == 1 and (placed or value is None or base is None or shape[partial[0]] > 1):
        return _into(op, base, value, partial[0], cuts[partial[0]])
    if value is None:
        return base
    for dim in partial:
        if value.layout[dim]:
            start, step, count = cuts[dim]
            value = layout.read(value, dim, _scattered(start, step, count, shape[dim]), shape[dim])
        elif base is not None and base.layout[dim] and any(a.units == 1 for a in value.axes):
            return UNKNOWN
    return op.hull([base, value])


def _into(op: View, base: State | None, value: State | None, dim: int, cut: Cut) -> Seen:
    """A write along one dimension, all across the others."""
    (start, step, count), size = cut, op.out[dim]
    if step == 1 or count == 1:
        before = base and sliced(base, dim, 0, 1, start)
        after = base and sliced(base, dim, start + count, 1, size - start - count)
        pieces = [(before, start), (value, count), (after, size - start - count)]
        pieces = [(s, n) for s, n in pieces if n]
        if all(s is None for s, _ in pieces):
            return None  # all of it is written over
        if any(s.layout[dim] for s in (base, value) if s is not None):
            return end_to_end(op, pieces, dim)
        if base is None and count == 1 and (axis := _single(value)) is not None:
            return end_to_end(op, pieces, dim, axis)  # a map built unit by unit
        return op.hull([base, value])
    if base is not None and base.layout[dim]:
        left = [() if (u - start) % step == 0 and start <= u < start + count * step else (u,)
                for u in range(size)]  # fmt: skip
        whole = start < step and start + count * step >= size
        how = maps.besides(start, step) if whole else maps.explicit(left)
        base = layout.read(base, dim, how, size)
    if value is not None and value.layout[dim]:
        value = layout.read(value, dim, _scattered(start, step, count, size), size)
    return op.hull([base, value])


def _single(value: State | None) -> int | None:
    """The one axis of which a value is a single unit, taken out of its map."""
    if value is None:
        return None
    axes = [i for i, a in enumerate(value.axes) if a.units == 1 and not value.dims_of(i)]
    return axes[0] if len(axes) == 1 else None


def _scattered(start: int, step: int, count: int, size: int) -> maps.Reading:
    """Positions of the units of a slice."""
    if step == 1:
        return maps.shift(start)
    if start < step and start + count * step >= size:
        return maps.scattered(start, step)
    places = [((u - start) // step,) if (u - start) % step == 0 and 0 <= u - start < count * step
              else () for u in range(size)]  # fmt: skip
    return maps.explicit(places)


def _is_all(outer: Shape, inner: Shape, strides: Sequence[int]) -> bool:
    """Return True if a window is the whole of a contiguous tensor, in its order."""
    dense = [prod(inner[dim + 1 :]) for dim in range(len(inner))]
    return prod(outer) == prod(inner) and all(
        size == 1 or a == b for size, a, b in zip(inner, strides, dense, strict=True)
    )


def _slices(op: View, outer: Shape, inner: Shape) -> list[Cut] | None:
    """A slice for each dimension of the base, None where the window is none of it."""
    offset, strides = op.get("offset", 0), op.get("stride", ())
    if not op.get("permuted"):
        return _cuts(outer, inner, offset, strides)
    steps = op.get("base_stride", ())
    if not len(outer) == len(inner) == len(steps) == len(strides):
        return None
    order = sorted(range(len(outer)), key=lambda d: (-steps[d], outer[d] > 1))
    shape = tuple(outer[d] for d in order)
    dense = [prod(shape[i + 1 :]) for i in range(len(shape))]
    if any(outer[d] > 1 and steps[d] != n for d, n in zip(order, dense, strict=True)):
        return None
    found = _cuts(shape, tuple(inner[d] for d in order), offset, [strides[d] for d in order])
    return found and [found[order.index(d)] for d in range(len(outer))]


def _cuts(outer: Shape, inner: Shape, offset: int, strides: Sequence[int]) -> list[Cut] | None:
    """A slice for each dimension of a contiguous tensor, None if it is no such window.

    A dimension that the window has not is one unit of it.
    """
    gone = len(outer) - len(inner)
    if gone < 0 or len(strides) != len(inner):
        return None
    cuts: list[Cut] = []
    rest, at = prod(outer), 0
    for size in outer:
        rest //= max(size, 1)
        start, offset = divmod(offset, rest)
        if at < len(inner) and (gone == 0 or _is_slice(size, inner[at], strides[at], rest)):
            kept, step = inner[at], strides[at] // rest if inner[at] > 1 else 1
            if (kept > 1 and strides[at] % rest) or step < 1:
                return None
            at += 1
        else:
            kept, step, gone = 1, 1, gone - 1
        if start + (kept - 1) * step >= size:
            return None
        cuts.append((start, step, kept))
    return None if offset or at < len(inner) else cuts


def _is_slice(size: int, kept: int, stride: int, rest: int) -> bool:
    """Return True if a dimension of a window can be a slice of one of the tensor's."""
    if kept == 1:
        return size == 1
    return stride % rest == 0 and stride // rest * (kept - 1) < size


def _dropped(cuts: Sequence[Cut], outer: Shape, inner: Shape) -> list[int]:
    """The dimensions of the tensor that the window has not."""
    gone, at = [], 0
    for dim, (_, _, count) in enumerate(cuts):
        left = len(cuts) - dim > len(inner) - at
        if count == 1 and left and not (at < len(inner) and inner[at] == 1 and outer[dim] == 1):
            gone.append(dim)
        else:
            at += 1
    return gone


# ------------------------------------------------------------------------- windows written out


def unfold_windows(op: View) -> Seen:
    """`F.unfold`: windows side by side, their taps among the channels.

    An axis counts windows times taps: the dimension of windows holds its coarse digits, the
    channels its fine ones, so that nothing is lost if they are folded back.
    """
    state = op.main
    if state is None or len(op.first) not in (3, 4):
        return UNKNOWN
    first = len(op.first) - 2
    names = ("kernel_size", "stride", "padding", "dilation")
    geometry = list(zip(*(numbers(op.get(n), 2) for n in names), strict=True))
    fine: list[Atom] = []
    coarse: list[Atom] = []
    for position, (kernel, stride, padding, dilation) in enumerate(geometry):
        dim = first + position
        count = (op.first[dim] + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        if not state.layout[dim]:
            fine.append(Atom(kernel, -1, 0))
            coarse.append(Atom(count, -1, 0))
            continue
        how = maps.windows(kernel, stride, padding, dilation)
        state = layout.read(state, dim, how, count * kernel)
        axis = layout.alone(state, dim)
        if axis is None or state.dims_of(axis) != [dim]:
            return UNKNOWN
        fine.append(Atom(kernel, axis, 1))
        coarse.append(Atom(count, axis, kernel))
    channels = (*(state.layout[first - 1] or (Atom(op.first[first - 1], -1, 0),)), *fine)
    rows = _many(coarse)
    return State((*state.layout[: first - 1], _many(channels), rows), state.axes)


def _many(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Without atoms of one unit; nothing where there are only channels."""
    kept = tuple(a for a in atoms if a.size > 1)
    return kept if any(a.axis != -1 for a in kept) else ()


def fold_windows(op: View) -> Seen:
    """`F.fold`: every pixel is the sum of the taps that were read from its place."""
    state = op.main
    if state is None or len(op.first) not in (2, 3):
        return UNKNOWN
    names = ("kernel_size", "stride", "padding", "dilation", "output_size")
    geometry = list(zip(*(numbers(op.get(n), 2) for n in names), strict=True))
    kernels = [g[0] for g in geometry]
    counts = [(s + 2 * p - d * (k - 1) - 1) // t + 1 for k, t, p, d, s in geometry]
    batch = op.first[:-2]
    split = (*batch, op.first[-2] // prod(kernels), *kernels, *counts)
    state = layout.reshape(state, op.first, split)
    n = len(batch) + 1
    order = [*range(n), n + 2, n, n + 3, n + 1]
    state = State(tuple(state.layout[d] for d in order), state.axes)
    joined = (*split[:n], counts[0] * kernels[0], counts[1] * kernels[1])
    state = layout.reshape(state, tuple(split[d] for d in order), joined)
    for position, (kernel, stride, padding, dilation, size) in enumerate(geometry):
        how = maps.overlapped(kernel, stride, padding, dilation)
        state = layout.read(state, n + position, how, size)
    return state


def unfold_dim(op: View) -> Seen:
    """`Tensor.unfold`: windows along one dimension, their taps in a new last one."""
    state = op.main
    if state is None:
        return UNKNOWN
    dim, size, step = op.dim("dimension"), op.get("size"), op.get("step")
    count = op.out[dim]
    if not state.layout[dim]:
        return State((*state.layout, ()), state.axes)
    state = layout.read(state, dim, maps.windows(size, step, 0, 1), count * size)
    shape = (*op.first[:dim], count, size, *op.first[dim + 1 :])
    state = layout.reshape(state, (*op.first[:dim], count * size, *op.first[dim + 1 :]), shape)
    moved = state.layout[dim + 1]
    return State((*state.layout[: dim + 1], *state.layout[dim + 2 :], moved), state.axes)


# --------------------------------------------------------------------------- lists of indices


def index(op: View) -> Seen:
    """Advanced indexing: positions by known indices, channels by any that see nothing."""
    state, indices = op.main, op.record.inputs.get("indices", ())
    if state is None or not isinstance(indices, tuple):
        return UNKNOWN
    if any(tid is not None and op.states[tid] is not None for tid in indices):
        return UNKNOWN  # which positions are read depends on the image
    used = {d: tid for d, tid in enumerate(indices) if tid is not None}
    shapes = [op.trace.tensors[tid].shape for tid in used.values()]
    if not used or any(op.trace.tensors[t].dtype in ("bool", "uint8") for t in used.values()):
        return UNKNOWN if any(state.layout[d] for d in used) or used else state
    rank = max(map(len, shapes))
    read: list[Dim] = [()] * rank
    for dim, tid in used.items():
        if not state.layout[dim]:
            continue
        found = _along(op, tid, rank, op.first[dim])
        if found is None or read[found[0]]:
            return UNKNOWN
        at, places = found
        state = layout.read(state, dim, maps.listed(places), len(places))
        read[at] = state.layout[dim]
    dims = list(used)
    first = dims[0] if dims == list(range(dims[0], dims[-1] + 1)) else 0
    rest = [atoms for d, atoms in enumerate(state.layout) if d not in used]
    return State((*rest[:first], *read, *rest[first:]), state.axes)


def _along(op: View, tensor: int, rank: int, size: int) -> tuple[int, list[int]] | None:
    """The dimension of the broadcast indices along which one of them counts, and what it says."""
    value = op.constant(tensor)
    if value is None:
        return None
    value = value.reshape((1,) * (rank - value.ndim) + value.shape)
    varying = [d for d in range(rank) if value.shape[d] > 1 and (value != value.take([0], d)).any()]
    if len(varying) > 1:
        return None
    at = varying[0] if varying else max(range(rank), key=lambda d: value.shape[d])
    return at, [int(v) % size for v in _line(value, at)]


def _line(value: Any, at: int) -> Any:
    """The values along one dimension, at the first place of all others."""
    where = tuple(slice(None) if d == at else 0 for d in range(value.ndim))
    return value[where]


def index_select(op: View) -> Seen:
    """Positions by a known list of indices, channels by any."""
    state, dim = op.main, op.dim()
    if state is None or op.state("index"):
        return UNKNOWN
    if not state.layout[dim]:
        return state
    tensor = op.record.inputs["index"]
    found = _along(op, tensor, 1, op.first[dim]) if isinstance(tensor, int) else None
    if found is None:
        return UNKNOWN
    return layout.read(state, dim, maps.listed(found[1]), len(found[1]))


def embedding(op: View) -> Seen:
    """A row of a table, as channels, for the index at each place."""
    chosen = op.state("indices")
    if not isinstance(chosen, State) or op.state("weight") is not None:
        return UNKNOWN
    return State((*chosen.layout, ()), chosen.axes)


def packed_embedding(op: View) -> Seen:
    """A row of a packed table, as channels, for the index at each place."""
    chosen = op.state("indices")
    return State((*chosen.layout, ()), chosen.axes) if isinstance(chosen, State) else UNKNOWN


def gather(op: View) -> Seen:
    """One element of a line each: by a known index, or from channels by any."""
    state, chosen, dim = op.main, op.state("index"), op.dim()
    tensor = op.record.inputs["index"]
    if state is None:
        return UNKNOWN
    for d, (size, kept) in enumerate(zip(op.first, op.out, strict=True)):
        if d != dim and size != kept:
            state = sliced(state, d, 0, 1, kept)
    if chosen is not None:  # anything in the line, as far as is known
        return op.joined([layout.contract_all(state, [dim], entirely=True), chosen])
    if not state.layout[dim]:
        return state
    value = op.constant(tensor) if isinstance(tensor, int) else None
    others = [d for d in range(len(op.out)) if d != dim]
    if value is None or any((value != value.take([0], d)).any() for d in others):
        return UNKNOWN
    places = [int(v) for v in _line(value, dim)]
    return layout.read(state, dim, maps.listed(places), len(places))


def index_put(op: View) -> Seen:
    """A write at known indices along one dimension, or into channels by any."""
    base, value, indices = op.state("self"), op.state("values"), op.record.inputs["indices"]
    if not isinstance(indices, tuple):
        return UNKNOWN
    used = {d: tid for d, tid in enumerate(indices) if tid is not None}
    if any(op.states[t] is not None for t in used.values()):
        return _masked(op, base, value, list(used.values()))
    shapes = {op.trace.tensors[t].shape for t in used.values()}
    if len(used) != 1 or len(next(iter(shapes))) != 1:
        return UNKNOWN
    (dim, tensor), count = *used.items(), next(iter(shapes))[0]
    if value is not None:
        wanted = (*op.out[:dim], count, *op.out[dim + 1 :])
        value = layout.broadcast(value, op.shape("values"), wanted)
    if not any(s and s.layout[dim] for s in (base, value)):
        return op.hull([base, value])
    known = op.constant(tensor)
    if known is None:
        return UNKNOWN
    size = op.out[dim]
    add = bool(op.get("accumulate"))
    places: dict[int, tuple[int, ...]] = {}
    for i, v in enumerate(known):  # the last of those with one place, or the sum of all
        unit = int(v) % size
        places[unit] = (*places.get(unit, ()), i) if add else (i,)
    if base is not None and base.layout[dim] and not add:
        left = [() if u in places else (u,) for u in range(size)]
        base = layout.read(base, dim, maps.listed(left), size)
    if value is not None and value.layout[dim]:
        put = [places.get(u, ()) for u in range(size)]
        value = layout.read(value, dim, maps.listed(put), size)
    return op.hull([base, value])


def _masked(op: View, base: State | None, value: State | None, masks: Sequence[int]) -> Seen:
    """A constant written where a mask of the same positions says so: y[y < 0] = 0."""
    if len(masks) != 1 or value is not None or base is None:
        return UNKNOWN
    mask = op.states[masks[0]]
    shape = op.trace.tensors[masks[0]].shape
    if not isinstance(mask, State) or op.trace.tensors[masks[0]].dtype != "bool":
        return UNKNOWN
    if prod(op.shape("values")) != 1 or shape != op.out[: len(shape)]:
        return UNKNOWN
    mask = State((*mask.layout, *((),) * (len(op.out) - len(shape))), mask.axes)
    return op.joined([base, mask])


def select_scatter(op: View) -> Seen:
    """A write of one unit, without changing what it is written to."""
    base, value, dim = op.state("self"), op.state("src"), op.dim()
    if value is not None:
        value = State((*value.layout[:dim], (), *value.layout[dim:]), value.axes)
    start = op.get("index", 0) % op.out[dim]
    return _written(op, base, value, _one(op.out, dim, (start, 1, 1)))


def slice_scatter(op: View) -> Seen:
    """A write into a slice, without changing what it is written to."""
    dim = op.dim()
    size, step = op.out[dim], op.get("step", 1) or 1
    start = op.get("start") or 0
    start = max(start + size, 0) if start < 0 else min(start, size)
    count = op.shape("src")[dim]
    return _written(op, op.state("self"), op.state("src"), _one(op.out, dim, (start, step, count)))


def _one(shape: Shape, dim: int, cut: Cut) -> list[Cut]:
    return [cut if d == dim else (0, 1, size) for d, size in enumerate(shape)]


def unpooled(op: View) -> Seen:
    """A maximum put back in its window, where pooling had windows side by side."""
    state, tensor = op.main, op.record.inputs["indices"]
    place = op.trace.index.maker.get(tensor) if isinstance(tensor, int) else None
    maker, axes = None if place is None else op.trace.ops[place], op.axes or 2
    if state is None or maker is None or "max_pool" not in maker.name:
        return UNKNOWN
    kernel = numbers(maker.attributes.get("kernel_size"), axes)
    stride = numbers(maker.attributes.get("stride") or kernel, axes)
    padding = numbers(maker.attributes.get("padding", 0), axes)
    if kernel != stride or any(padding):
        return UNKNOWN
    for position, times in enumerate(kernel):
        dim = len(op.out) - axes + position
        if state.layout[dim]:
            size = op.out[dim]
            state = layout.read(state, dim, maps.repeat(times), size)
    return state

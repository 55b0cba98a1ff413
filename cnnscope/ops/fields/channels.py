"""Channels that do not see the same, distinguished until something sums over them.

A state is the hull over channels. What `cat` and `stack` laid side by side is remembered beside it
as a *grid*: a slice sees what its channels see, and channels that become positions each see their
own (sub-pixel convolution, Shi et al. 2016; interleaved maps, Laina et al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any, NamedTuple

from cnnscope.ops.fields import layout, maps, rules
from cnnscope.ops.fields.layout import Atom, State
from cnnscope.records.trace import Shape

MOST = 2**14  # channels that are distinguished
_BLOCK = 256  # pixels of a block that went to the channels


class Grid(NamedTuple):
    """Receptive field of each index of the dimensions without positions.

    `index` says which of `cells`, by a dimension for each of the tensor's, of size 1 where all are
    alike. A cell is a state of such a tensor with one unit in the other dimensions, or None where
    nothing is seen.
    """

    index: Any
    cells: tuple[State | None, ...]

    def each(self, change: Callable[[State], State]) -> Grid:
        """The same change of every cell."""
        return self._replace(cells=tuple(cell and change(cell) for cell in self.cells))


Hulls = Sequence[rules.Seen]
Grids = list[Grid | None]
Later = Callable[[], Grid | None]


def tracked(op: rules.View, rule: rules.Rule, result: rules.Result) -> rules.Result:
    """The states of an operation's outputs, with what its channels see by themselves."""
    make = _MAKERS.get(rule)
    if make is None or (result is rules.UNKNOWN and rule is not rules.concatenate):
        return result
    hulls = result if isinstance(result, list) else [result] * len(op.record.outputs)
    grids = make(op, hulls)
    if not grids:
        return result
    pairs = zip(op.record.outputs, grids, hulls, strict=False)
    return [_kept(op, tensor, grid, hull) for tensor, grid, hull in pairs]


def _kept(op: rules.View, tensor: int, grid: Grid | None, hull: rules.Seen) -> rules.Seen:
    """The hull of a grid, which is remembered if not all of its cells are one."""
    import numpy as np

    if grid is None:
        return hull
    cells = [grid.cells[i] for i in np.unique(grid.index)]
    found = op.hull(cells)
    both = isinstance(found, State) and isinstance(hull, State)
    if both and any(map(_newly, found.axes, hull.axes)):  # type: ignore[union-attr]
        return hull  # wider, rather than nothing known
    if len(cells) > 1:
        op.memo.setdefault("grids", {})[tensor] = grid
    return found


def passed(memo: dict[Any, Any], source: int, out: int) -> None:
    """Keep the grid of a tensor in what is computed from it element by element."""
    grids: dict[int, Grid | Later] = memo.get("grids", {})
    if source in grids:
        grids[out] = grids[source]


def _grid(op: rules.View, tensor: int | None) -> Grid | None:
    """The grid of a tensor, None if it has none; what was put off is done."""
    known: dict[int | None, Grid | Later] = op.memo.get("grids", {})
    found = known.get(tensor)
    if found is None or isinstance(found, Grid):
        return found
    made = found()
    known.pop(tensor)
    if made is not None:
        known[tensor] = made
    return made


def _through(op: rules.View, hulls: Hulls) -> Grids:
    seeing = [t for t in op.record.tensors if op.states[t] is not None]
    alone = len(seeing) == 1 and op.trace.tensors[seeing[0]].shape == op.out
    if alone and hulls[0] is op.states[seeing[0]]:  # nothing is summed over
        passed(op.memo, seeing[0], op.record.outputs[0])
    return []


def _main(op: rules.View) -> Grid | None:
    tensor = next(iter(op.record.inputs.values()), None)
    return _grid(op, tensor) if isinstance(tensor, int) and 0 not in op.first else None


# ---------------------------------------------------------------------------- side by side


def _concatenated(op: rules.View, hulls: Hulls) -> Grids:
    return _side_by_side(op, hulls, op.dim(rank=len(op.out)), stacked=False)


def _stacked(op: rules.View, hulls: Hulls) -> Grids:
    return _side_by_side(op, hulls, op.dim(rank=len(op.out)), stacked=True)


def _side_by_side(op: rules.View, hulls: Hulls, dim: int, *, stacked: bool) -> Grids:
    """A grid where tensors see differently: at once where their hull is not known, else later."""
    states, hull = [s for s, _ in op.all()], hulls[0]
    given = op.record.inputs.get("tensors")
    if op.out[dim] > MOST or not isinstance(given, tuple):
        return []
    if not stacked and any(s and s.layout[dim] for s in states):
        known = isinstance(hull, State) and not any(a.lost for a in hull.axes)
        return [] if known else [_built(op, dim, stacked=False)]
    grids = op.memo.setdefault("grids", {})
    alike = len({s and s.axes for s in states}) < 2 and not any(t in grids for t in given)
    if isinstance(hull, State) and not hull.layout[dim] and not alike:
        grids[op.record.outputs[0]] = lambda: _built(op, dim, stacked=stacked)
    return []


def _built(op: rules.View, dim: int, *, stacked: bool) -> Grid | None:
    """The grid of tensors side by side."""
    import numpy as np

    parts = []
    given = op.record.inputs["tensors"]
    for tensor, (state, shape) in zip(given, op.all(), strict=True):  # type: ignore[arg-type]
        if 0 in shape:
            continue
        grid = _grid(op, tensor) or _by_digits(state, shape, dim, stacked=stacked)
        if grid is None:
            return None
        if stacked:
            grid = Grid(np.expand_dims(grid.index, dim), grid.cells).each(
                lambda s: State((*s.layout[:dim], (), *s.layout[dim:]), s.axes)
            )
        else:
            size = [n if d != dim else shape[dim] for d, n in enumerate(grid.index.shape)]
            grid = grid._replace(index=np.broadcast_to(grid.index, size))
        parts.append(grid)
    return _beside(parts, dim)


def _by_digits(state: State | None, shape: Shape, dim: int, *, stacked: bool) -> Grid | None:
    """One cell; or one for each of the positions that channels hold (pixels of a block)."""
    import numpy as np

    index = np.zeros((1,) * len(shape), int)
    if state is None or stacked or not state.layout[dim]:
        return Grid(index, (state,))
    atoms, places = state.layout[dim], range(shape[dim])
    if not all(a.axis == -1 or _fine(state, dim, a) for a in atoms):
        return None
    rest = shape[dim]
    digits: list[tuple[int, ...]] = [() for _ in places]
    for atom in atoms:
        rest //= atom.size
        if atom.axis >= 0:
            digits = [(*d, u // rest % atom.size) for d, u in zip(digits, places, strict=True)]
    first = {key: unit for unit, key in reversed(list(enumerate(digits)))}
    if len(first) > _BLOCK:
        return None
    cells = [layout.read(state, dim, maps.pick(unit, 1), 1).without([dim])
             for unit in first.values()]  # fmt: skip
    numbered = {key: i for i, key in enumerate(first)}
    size = [n if d != dim else shape[dim] for d, n in enumerate(index.shape)]
    return Grid(np.array([numbered[d] for d in digits]).reshape(size), tuple(cells))


def _fine(state: State, dim: int, atom: Atom) -> bool:
    """Return True if an atom is of the pixels of blocks that lie in other dimensions."""
    others = [a for d, dim_ in enumerate(state.layout) if d != dim
              for a in dim_ if a.axis == atom.axis]  # fmt: skip
    return atom.axis >= 0 and bool(others) and all(a.weight > atom.weight for a in others)


def _beside(parts: Sequence[Grid], dim: int) -> Grid | None:
    import numpy as np

    rest = [[n for d, n in enumerate(p.index.shape) if d != dim] for p in parts]
    common = list(np.broadcast_shapes(*map(tuple, rest)))
    cells: list[State | None] = []
    numbered = []
    for part in parts:
        shape = (*common[:dim], part.index.shape[dim], *common[dim:])
        numbered.append(np.broadcast_to(part.index, shape) + len(cells))
        cells += part.cells
    index = np.concatenate(numbered, dim)
    return Grid(index, tuple(cells)) if index.size <= MOST else None


# ----------------------------------------------------------------------------- rearranging


def _viewed(op: rules.View, _: Hulls) -> Grids:
    grid = _main(op)
    return [reshape(op, grid, op.first, op.out)] if grid is not None else []


def _permuted(op: rules.View, _: Hulls) -> Grids:
    grid = _main(op)
    return [_ordered(grid, rules.order_of(op))] if grid is not None else []


def _shuffled(op: rules.View, _: Hulls) -> Grids:
    grid: Grid | None = _main(op)
    if grid is None:
        return []
    split, order = rules.blocks_of(op)
    grid = reshape(op, grid, op.first, split)
    if grid is None:
        return []
    return [reshape(op, _ordered(grid, order), tuple(split[d] for d in order), op.out)]


def _ordered(grid: Grid, order: Sequence[int]) -> Grid:
    moved = grid.index.transpose(order)
    return Grid(moved, grid.cells).each(lambda s: State(tuple(s.layout[d] for d in order), s.axes))


def _sliced(op: rules.View, hulls: Hulls) -> Grids:
    start = op.get("start") or 0
    dim, size = op.dim(), op.first[op.dim()]
    start = max(start + size, 0) if start < 0 else min(start, size)
    step = int(op.get("step", 1) or 1)
    units = [start + i * step for i in range(op.out[dim])]
    return [_taken(_along(op, hulls, dim), dim, units)]


def _selected(op: rules.View, hulls: Hulls) -> Grids:
    dim, index = op.dim(), op.get("index", 0)
    if not isinstance(index, int):
        return []
    return [_one(_along(op, hulls, dim), dim, index % max(op.first[dim], 1))]


def _unbound(op: rules.View, hulls: Hulls) -> Grids:
    dim, wanted = op.dim(), op.get("output")
    grid = _along(op, hulls, dim)
    which = range(op.first[dim]) if wanted is None else [wanted]
    return [_one(grid, dim, unit) for unit in which] if grid is not None else []


def _split(op: rules.View, hulls: Hulls) -> Grids:
    dim = op.dim()
    grid, found = _along(op, hulls, dim), rules.pieces_of(op, dim)
    if grid is None or found is None:
        return []
    return [_taken(grid, dim, list(range(start, start + size))) for start, size in found]


def _flipped(op: rules.View, hulls: Hulls) -> Grids:
    dims = op.dims("dims")
    grid = _along(op, hulls, dims[0]) if dims else None
    for dim in dims:
        grid = _taken(grid, dim, range(op.first[dim] - 1, -1, -1))
    return [grid]


def _along(op: rules.View, hulls: Hulls, dim: int) -> Grid | None:
    """The grid of the first input; by its channels' pixels where taking some loses positions."""
    grid, state = _main(op), op.main
    if grid is not None or state is None or not state.layout[dim]:
        return grid
    lost = any(
        isinstance(hull, State) and any(map(_newly, hull.axes, state.axes)) for hull in hulls
    )
    return _by_digits(state, op.first, dim, stacked=False) if lost else None


def _newly(after: maps.Axis, before: maps.Axis) -> bool:
    return after.lost and not before.lost


def _taken(grid: Grid | None, dim: int, units: Sequence[int]) -> Grid | None:
    """Some units of a dimension without positions; of one with positions the result is unknown."""
    if grid is None or not units or any(cell and cell.layout[dim] for cell in grid.cells):
        return None
    many = grid.index.shape[dim] > 1
    return grid._replace(index=grid.index.take(units, dim)) if many else grid


def _one(grid: Grid | None, dim: int, unit: int) -> Grid | None:
    taken = _taken(grid, dim, [unit])
    if taken is None:
        return None
    return Grid(taken.index.squeeze(dim), taken.cells).each(
        lambda s: State((*s.layout[:dim], *s.layout[dim + 1 :]), s.axes)
    )


# ------------------------------------------------------------------------------- reshaping


def reshape(op: rules.View, grid: Grid, before: Shape, after: Shape) -> Grid | None:
    """Split and merge dimensions.

    None where channels and positions are joined otherwise than as maps interleaved or laid end
    to end.
    """
    found: Grid | None = grid
    shape = before
    for old, new in reversed(_blocks(before, after)):
        sizes = [after[d] for d in new]
        if found is not None and [before[d] for d in old] != sizes:
            found = _block(op, found, shape, old, sizes)
        shape = (*shape[: old.start], *sizes, *shape[old.stop :])
    return found


def _blocks(before: Shape, after: Shape) -> list[tuple[range, range]]:
    """Neighbouring dimensions, as few as can be, that hold the same elements."""
    found = []
    i = j = 0
    while i < len(before) or j < len(after):
        first = i, j
        a = before[i] if i < len(before) else 1
        b = after[j] if j < len(after) else 1
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while a != b:
            if a < b:
                a, i = a * before[i], i + 1
            else:
                b, j = b * after[j], j + 1
        found.append((range(first[0], i), range(first[1], j)))
    return found


def _block(
    op: rules.View, grid: Grid, shape: Shape, dims: range, sizes: Sequence[int]
) -> Grid | None:
    """One block of dimensions in new sizes."""
    import numpy as np

    placed = [d for d in dims if any(cell and cell.layout[d] for cell in grid.cells)]
    told_ = [d for d in dims if grid.index.shape[d] > 1]
    outer, inner = grid.index.shape[: dims.start], grid.index.shape[dims.stop :]
    if placed and told_:
        return _woven(op, grid, shape, dims, sizes)
    if placed:
        within = [1 if n > 1 else shape[d] for d, n in enumerate(grid.index.shape)]
        whole = (*within[: dims.start], *sizes, *within[dims.stop :])
        index = grid.index.reshape((*outer, *(1 for _ in sizes), *inner))
        return Grid(index, grid.cells).each(lambda s: layout.reshape(s, tuple(within), whole))
    full = [shape[d] for d in dims] if told_ else [1 for _ in dims]
    if told_ and prod(outer) * prod(full) * prod(inner) > MOST:
        return None
    index = np.broadcast_to(grid.index, (*outer, *full, *inner))
    index = index.reshape((*outer, *(sizes if told_ else [1 for _ in sizes]), *inner))
    return Grid(index, grid.cells).each(
        lambda s: State(
            (*s.layout[: dims.start], *(() for _ in sizes), *s.layout[dims.stop :]), s.axes
        )
    )


def _woven(
    op: rules.View, grid: Grid, shape: Shape, dims: range, sizes: Sequence[int]
) -> Grid | None:
    """Channels beside positions of one dimension: maps interleaved, or one after the other."""
    import numpy as np

    core = [d for d in dims if shape[d] > 1]
    at = [d for d in core if any(cell and cell.layout[d] for cell in grid.cells)]
    big = [i for i, n in enumerate(sizes) if n > 1]
    if len(at) != 1 or len(big) != 1 or at[0] not in (core[0], core[-1]):
        return None
    among = [d for d in core if d != at[0]]
    full = [shape[d] if d in among else n for d, n in enumerate(grid.index.shape)]
    if prod(full) > MOST:
        return None
    index = np.moveaxis(np.broadcast_to(grid.index, full), among, range(-len(among), 0))
    rest = [n for d, n in enumerate(full) if d not in among]
    rows, where = np.unique(index.reshape(prod(rest), -1), axis=0, return_inverse=True)
    lay = _interleaved if at[0] == core[0] else _end_to_end
    cells = []
    for row in rows:
        cell = _together(op, [grid.cells[i] for i in row], at[0], lay)
        if cell is None:
            return None
        atoms = cell.layout[at[0]]
        new = [atoms if i == big[0] else () for i in range(len(sizes))]
        cells.append(
            State((*cell.layout[: dims.start], *new, *cell.layout[dims.stop :]), cell.axes)
        )
    shape_ = (*full[: dims.start], *(1 for _ in sizes), *full[dims.stop :])
    return Grid(where.reshape(shape_), tuple(cells))


Lay = Callable[[rules.View, Sequence[maps.Axis | None], int], maps.Axis]


def _together(op: rules.View, cells: Sequence[State | None], dim: int, lay: Lay) -> State | None:
    """Maps in one: `lay` says where the units of each are placed. None if that is not known."""
    seeing = [cell for cell in cells if cell is not None]
    axes = {layout.alone(cell, dim) for cell in seeing}
    axis = axes.pop() if len(axes) == 1 else None
    if axis is None or any(cell.dims_of(axis) != [dim] for cell in seeing):
        return None
    settled = [cell and layout.settle(cell, dim) for cell in cells]
    units = {cell.axes[axis].units for cell in settled if cell is not None}
    size = units.pop()
    if units or not size:
        return None
    value = lay(op, [cell.axes[axis] if cell else None for cell in settled], size)
    own = [cell for cell in settled if cell is not None]
    return rules.laid(op, own, dim, axis, value, size * len(cells))


def _interleaved(op: rules.View, axes: Sequence[maps.Axis | None], units: int) -> maps.Axis:
    count = len(axes)
    parts = [maps.compose(axis, maps.every(count, place), units * count)
             for place, axis in enumerate(axes) if axis is not None]  # fmt: skip
    return reduce(op.join, parts)


def _end_to_end(_: rules.View, axes: Sequence[maps.Axis | None], units: int) -> maps.Axis:
    return maps.concatenate([(axis, units) for axis in axes])


_MAKERS: dict[rules.Rule, Callable[[rules.View, Hulls], Grids]] = {
    rules.elementwise: _through,
    rules.same: _through,
    rules.batch_norm: _through,
    rules.concatenate: _concatenated,
    rules.stack: _stacked,
    rules.view: _viewed,
    rules.permute: _permuted,
    rules.unsqueeze: _viewed,
    rules.squeeze: _viewed,
    rules.slice_: _sliced,
    rules.narrow: _sliced,
    rules.select: _selected,
    rules.unbind: _unbound,
    rules.flip: _flipped,
    rules.split: _split,
    rules.pixel_shuffle: _shuffled,
    rules.pixel_unshuffle: _shuffled,
    rules.channel_shuffle: _shuffled,
}

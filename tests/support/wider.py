"""Blocks that move, join, broadcast and mix positions in the ways that real networks do."""

from __future__ import annotations

import math

import torch
from building import (
    LONGEST,
    Do,
    axes,
    cropped,
    divisor,
    even,
    fitted,
    kind,
    of_axes,
    one_by_one,
    smaller,
    spatial,
)  # fmt: skip
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize


def last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


def places(x: Tensor, channels: int) -> tuple[int, ...]:
    """A vector of channels as a map."""
    return (x.shape[0], channels, *(1,) * axes(x))


def at(dim: int, rank: int, part: slice) -> tuple[slice, ...]:
    """An index that cuts one dimension."""
    return tuple(part if d == dim else slice(None) for d in range(rank))


# ----------------------------------------------------------------------------- moved places


@kind
def flip(x, choose, _):
    dim = choose(*spatial(x))
    return choose(
        Do(lambda _, x: x.flip(dim)),
        Do(lambda _, x: x.flip(spatial(x))),
        Do(lambda _, x: x + x.flip(dim)),
        Do(lambda _, x: torch.cat([x, x.flip(dim)], 1)),
        Do(lambda _, x: torch.cat([x.flip(dim), x], dim)),
        Do(
            lambda m, x: x.index_select(
                dim, torch.arange(x.shape[dim] - 1, -1, -1, device=x.device)
            )
        ),
        Do(lambda _, x: x[(slice(None),) * dim + (list(range(x.shape[dim]))[::-1],)]),
        Do(lambda _, x: x.flip(dim).relu().flip(dim)),
        Do(lambda _, x: x.rot90(2, (2, 3)) if axes(x) > 1 else x.fliplr()),
    )


@kind
def roll(x, choose, _):
    dim, by = choose(*spatial(x)), choose(1, -1, 2, 3)
    part = choose(2, 3)
    return choose(
        Do(lambda _, x: x.roll(by, dim)),
        Do(lambda _, x: x + x.roll(by, dim)),
        Do(lambda _, x: x - x.roll((by, 1), (dim, 1))),
        Do(lambda _, x: x.roll((by,) * axes(x), spatial(x))),
        Do(lambda _, x: torch.cat([x, x.roll(by, dim), x.roll(-by, dim)], 1)),
        Do(lambda _, x: torch.cat([x[at(dim, x.dim(), slice(part, None))],
                                   x[at(dim, x.dim(), slice(0, part))]], dim)),
        Do(lambda _, x: torch.maximum(x.roll(by, dim), x.roll(-by, dim))),
    )  # fmt: skip


@kind
def shifted_windows(x, choose, _):
    """Windows of two that are shifted by one, mixed inside, and shifted back (Swin)."""
    count, (batch, channels), sizes = axes(x), x.shape[:2], even(x).shape[2:]
    split = [part for n in sizes for part in (n // 2, 2)]
    order = [0, *range(2, 2 + 2 * count, 2), *range(3, 3 + 2 * count, 2), 1]
    back = sorted(range(len(order)), key=order.__getitem__)
    shift, mix = choose(1, 0), nn.Linear(2**count, 2**count)

    def forward(m, x):
        x = even(x).roll((-shift,) * count, spatial(x))
        parts = x.reshape(batch, channels, *split).permute(order)
        rows = parts.reshape(-1, 2**count, channels).transpose(1, 2)
        rows = m.mix(rows).transpose(1, 2).reshape(parts.shape)
        return (
            rows.permute(back).reshape(batch, channels, *sizes).roll((shift,) * count, spatial(x))
        )

    return Do(forward, mix=mix)


@kind
def repeated(x, choose, _):
    """Positions and channels repeated, by expand, repeat and kron."""
    count, (batch, channels), sizes = axes(x), x.shape[:2], x.shape[2:]
    dim, times = choose(*spatial(x)), choose(2, 3, 1)
    grid = nn.Parameter(torch.rand(1, 1, *(times,) * count))
    wide = nn.Parameter(torch.rand(1, 2, *(1,) * count))

    def by_view(_, x):
        spaced = [part for n in sizes for part in (n, 1)]
        larger = [part for n in sizes for part in (n, times)]
        y = x.reshape(batch, channels, *spaced).expand(batch, channels, *larger)
        return y.reshape(batch, channels, *(n * times for n in sizes))

    return choose(
        Do(by_view),
        Do(lambda _, x: x.repeat_interleave(times, dim)),
        Do(lambda _, x: x.repeat(*(times if d == dim else 1 for d in range(x.dim())))),
        Do(lambda _, x: x.unsqueeze(dim + 1).expand(*x.shape[: dim + 1], times, *x.shape[dim + 1 :])
           .flatten(dim, dim + 1)),
        Do(lambda _, x: x.unsqueeze(dim).expand(*x.shape[:dim], times, *x.shape[dim:])
           .flatten(dim, dim + 1)),
        Do(lambda _, x: torch.kron(x, x.new_ones(1, 1, *(times,) * count))),
        Do(lambda m, x: torch.kron(x, m.weight), weight=grid),
        Do(lambda m, x: torch.kron(m.weight, x), weight=wide),
        Do(lambda _, x: x[at(dim, x.dim(), slice(0, 1))].expand_as(x)),
        Do(lambda _, x: x + x[at(dim, x.dim(), slice(0, 1))].expand_as(x)),
        Do(lambda _, x: x.mean(dim, keepdim=True).expand_as(x)),
        Do(lambda _, x: x.tile((times,) * count)),
    )  # fmt: skip


@kind
def resized(x, choose, _):
    linear = ("linear", "bilinear", "trilinear")[axes(x) - 1]
    mode = choose("nearest-exact", "nearest", linear, "area", "bicubic")
    factor = choose(2, 1.5, 0.5, 0.7, 2.5, 3)
    how = {"align_corners": choose(False, True)} if mode in (linear, "bicubic") else {}
    factors = choose(factor, [factor] + [choose(2, 0.5, 1)] * (axes(x) - 1))
    scales = factors if isinstance(factors, list) else [factors] * axes(x)
    sizes = [*x.shape[2:], *(s * f for s, f in zip(x.shape[2:], scales, strict=True))]
    # to a column of one unit torch's kernel gives every row what the first one sees
    if mode in ("bilinear", "bicubic") and min(sizes) >= 2 and choose(0, 0, 1):
        how = {"antialias": True}
    again = choose(True, None)
    return Do(lambda _, x: F.interpolate(
        x, scale_factor=factors, mode=mode, recompute_scale_factor=again, **how))  # fmt: skip


@kind
def padded(x, choose, _):
    """Pads of every mode and of unequal widths; a constant one may cut."""
    mode = choose("constant", "reflect", "replicate", "circular")
    widths = [choose(1, 0, 2, -1 if mode == "constant" else 1) for _ in range(2 * axes(x))]
    names = {
        "constant": "ConstantPad", "reflect": "ReflectionPad", "replicate": "ReplicationPad",
        "circular": "CircularPad",
    }  # fmt: skip
    value = (choose(0.0, 1.0),) if mode == "constant" else ()
    pad = of_axes(names[mode], x)(tuple(widths), *value)
    if choose(0, 1):
        return nn.Sequential(pad, of_axes("Conv", x)(x.shape[1], 4, choose(3, 2)))
    return choose(
        pad, Do(lambda _, x: F.pad(x, widths, mode=mode, value=0.5 if mode == "constant" else None))
    )


# ------------------------------------------------------------------------------ joined maps


@kind
def unequal(x, choose, inner):
    """Two branches of unlike sizes, one of which is cropped or padded (or resized) to the other."""
    branch = fitted(inner[0], x)[0] if inner and choose(0, 1) else None
    make = of_axes("Conv", x)
    if branch is None:
        branch = make(
            x.shape[1], choose(x.shape[1], 2), choose(3, 2, 4), choose(1, 2), choose(0, 1)
        )
    y = branch(x)
    how = choose("crop", "centre", "pad", "replicate", "resize")
    join = choose(torch.add, "cat", torch.mul) if y.shape[1] == x.shape[1] else "cat"
    sizes = x.shape[2:]

    def fit(y):
        if how == "resize":
            return F.interpolate(y, sizes)
        spare = [a - b for a, b in zip(sizes, y.shape[2:], strict=True)][::-1]
        before = [s // 2 if how == "centre" else 0 for s in spare]
        widths = [w for s, b in zip(spare, before, strict=True) for w in (b, s - b)]
        return F.pad(y, widths, mode="replicate" if how == "replicate" else "constant")

    def forward(m, x):
        y = m.branch(x)
        a, b = smaller(x, y) if how == "crop" else (x, fit(y))
        return torch.cat([a, b], 1) if join == "cat" else join(a, b)

    return Do(forward, branch=branch)


@kind
def broadcast(x, choose, _):
    """Vectors, rows and columns against maps."""
    dim = choose(*spatial(x))
    row = nn.Parameter(
        torch.rand(1, 1, *(n if d == dim else 1 for d, n in enumerate(x.shape[2:], 2)))
    )
    vector = nn.Parameter(torch.rand(x.shape[1], *(1,) * axes(x)))
    line = nn.Parameter(torch.rand(x.shape[-1]))
    first = at(dim, x.dim(), slice(0, 1))
    return choose(
        Do(lambda m, x: x * m.row, row=row),
        Do(lambda m, x: x + m.line, line=line),
        Do(lambda m, x: m.vector * x, vector=vector),
        Do(lambda _, x: x + x[first]),
        Do(lambda _, x: x * x.mean(dim, keepdim=True)),
        Do(lambda _, x: x - x.amax(dim, keepdim=True)),
        Do(lambda _, x: x.mean(dim, keepdim=True) + x.mean(spatial(x)[0], keepdim=True)),
        Do(lambda _, x: x / (1 + x.abs().sum(spatial(x), keepdim=True))),
        Do(lambda _, x: (x.flatten(1) / (1 + x.flatten(1).std(1, keepdim=True))).view(x.shape)),
        Do(lambda m, x: torch.where(m.row > 0.5, x, 0.0), row=row),
        Do(lambda _, x: x * torch.arange(x.shape[-1], device=x.device)),
        Do(lambda _, x: x + torch.linspace(0, 1, x.shape[dim], device=x.device).view(
            *(-1 if d == dim else 1 for d in range(x.dim())))),
        Do(lambda _, x: torch.cat([x, torch.ones_like(x[:, :1])], 1)),
        Do(lambda _, x: (x.unsqueeze(1) + x.unsqueeze(2)).flatten(1, 2)),
    )  # fmt: skip


@kind
def assigned(x, choose, _):
    """Slices of a map that are written, of its own values or of others."""
    dim, rank = choose(*spatial(x)), x.dim()
    conv = of_axes("Conv", x)(x.shape[1], x.shape[1], 3, 1, choose(1, 0))
    line = [-1 if d == dim else 1 for d in range(rank)]

    def keep(x):
        return torch.arange(x.shape[dim], device=x.device).view(line) > 0

    def inside(m, x):
        y = x.clone()
        index = (slice(None), slice(None), *(slice(1, -1) for _ in range(axes(x))))
        y[index] = m.conv(x)[index] if m.conv.padding[0] else m.conv(x)
        return y

    def interleaved(_, x):
        y = x.new_zeros(*(2 * n if d == dim else n for d, n in enumerate(x.shape)))
        y[at(dim, rank, slice(0, None, 2))] = x
        y[at(dim, rank, slice(1, None, 2))] = x.tanh()
        return y

    def tail(_, x):
        y = x.clone()
        y[at(dim, rank, slice(1, None))] += x[at(dim, rank, slice(0, -1))]
        return y

    def edge(_, x):
        y = x.clone()
        y[at(dim, rank, slice(0, 1))] = 0
        y[at(dim, rank, slice(-1, None))] = x[at(dim, rank, slice(0, 1))]
        return y

    def halves(m, x):
        y = torch.zeros_like(x)
        half = x.shape[1] // 2
        y[:, :half] = x[:, :half].roll(1, dim)
        y[:, half:] = m.conv(x)[:, half:] if m.conv.padding[0] else x[:, half:]
        return y

    return choose(
        Do(inside, conv=conv), Do(interleaved), Do(tail), Do(edge), Do(halves, conv=conv),
        Do(lambda _, x: x * keep(x)),
        Do(lambda _, x: x.masked_fill(keep(x), 0.0)),
        Do(lambda _, x: torch.where(keep(x), x, x.flip(1))),
        Do(lambda _, x: x.index_fill(dim, torch.tensor([0], device=x.device), 0.0)),
        Do(lambda _, x: x.slice_scatter(x[at(dim, rank, slice(0, 1))] * 2, dim, -1, x.shape[dim])),
    )  # fmt: skip


# ------------------------------------------------------------------- along one or all axes


@kind
def cumulative(x, choose, _):
    dim = choose(*spatial(x))
    line = [-1 if d == dim else 1 for d in range(x.dim())]

    def count(x):
        return torch.arange(1, x.shape[dim] + 1, device=x.device).view(line)

    return choose(
        Do(lambda _, x: x.cumsum(dim)),
        Do(lambda _, x: x.cumsum(dim) / count(x)),
        Do(lambda _, x: x.flip(dim).cumsum(dim).flip(dim)),
        Do(lambda _, x: x + x.cumsum(dim)),
        Do(lambda _, x: x.cummax(dim)[0]),
        Do(lambda _, x: x.logcumsumexp(dim)),
        Do(lambda _, x: x.cumprod(dim)),
    )


@kind
def rows_recurrent(x, choose, _):
    """A recurrent layer over rows or columns, each by itself (ReNet)."""
    if axes(x) != 2:
        raise ValueError("only images")
    across = choose(True, False)
    make, both = choose(nn.GRU, nn.LSTM, nn.RNN), choose(False, True)
    body = make(x.shape[1], choose(2, 3), batch_first=True, bidirectional=both)

    def forward(m, x):
        x = x if across else x.transpose(2, 3)
        n, c, h, w = x.shape
        y = m.body(x.permute(0, 2, 3, 1).reshape(n * h, w, c))[0]
        y = y.reshape(n, h, w, -1).permute(0, 3, 1, 2)
        return y if across else y.transpose(2, 3)

    return Do(forward, body=body)


@kind
def along_axis(x, choose, _):
    """A linear layer over one axis (MLP-Mixer), a softmax over it, a transform of it."""
    dim = choose(*spatial(x))
    size = x.shape[dim]
    mix = nn.Linear(size, choose(size, size + 1, 2))
    tokens = nn.Linear(math.prod(x.shape[2:]), math.prod(x.shape[2:]))
    gain = nn.Parameter(torch.rand(size // 2 + 1))
    conv = nn.Conv1d(x.shape[1], 4, 3, padding=1)
    return choose(
        Do(lambda m, x: m.mix(x.movedim(dim, -1)).movedim(-1, dim), mix=mix),
        Do(lambda m, x: x + m.mix(x.flatten(2)).view(x.shape), mix=tokens),
        Do(lambda _, x: x.softmax(dim)),
        Do(lambda _, x: x * x.softmax(dim)),
        Do(lambda _, x: x.sort(dim)[0]),
        Do(lambda m, x: torch.fft.irfft(torch.fft.rfft(x.movedim(dim, -1)) * m.gain, n=size)
           .movedim(-1, dim), gain=gain),
        Do(lambda _, x: torch.fft.fft(x, dim=dim).real),
        Do(lambda _, x: F.layer_norm(x.movedim(dim, -1), (size,)).movedim(-1, dim)),
        Do(lambda _, x: F.layer_norm(x, x.shape[1:])),
        Do(lambda _, x: F.normalize(x, dim=dim)),
        Do(lambda _, x: x - x.mean(dim, keepdim=True)),
        Do(lambda m, x: m.conv(x.movedim(dim, -1).flatten(2)).view(x.shape[0], 4,
           *x.movedim(dim, -1).shape[2:]).movedim(-1, dim), conv=conv),
    )  # fmt: skip


@kind
def axial(x, choose, _):
    """Attention over one axis at a time, by a module, a function or by hand."""
    dim, channels = choose(*spatial(x)), x.shape[1]
    if x.shape[dim] > LONGEST:
        raise ValueError("too many positions")
    how = choose("module", "function", "by hand", "causal")
    body = nn.MultiheadAttention(channels, 1, batch_first=True) if how == "module" else None
    qkv = nn.Linear(channels, 3 * channels)

    def forward(m, x):
        lines = last(x).movedim(dim - 1, -2)
        t = lines.reshape(-1, x.shape[dim], channels)
        if how == "module":
            t = m.body(t, t, t)[0]
        else:
            q, k, v = m.qkv(t).chunk(3, -1)
            if how == "by hand":
                t = (q @ k.mT).softmax(-1) @ v
            else:
                t = F.scaled_dot_product_attention(q, k, v, is_causal=how == "causal")
        return t.view(lines.shape).movedim(-2, dim - 1).movedim(-1, 1)

    added = choose(True, False)
    module = Do(forward, body=body, qkv=None if how == "module" else qkv)
    return Do(lambda m, x: x + m.body(x), body=module) if added else module


@kind
def separate(x, choose, _):
    """Rows, columns or frames each by themselves, in the batch or in the channels."""
    if axes(x) < 2:
        raise ValueError("one axis only")
    n, c = x.shape[:2]
    rest = x.shape[3:]
    make = {1: nn.Conv1d, 2: nn.Conv2d}[axes(x) - 1]
    one = make(c, 4, 3, padding=1)
    many = make(c * x.shape[2], x.shape[2] * 2, choose(1, 3), padding="same")
    deep = {2: nn.Conv2d, 3: nn.Conv3d}[axes(x)](x.shape[2], x.shape[2], 3, padding=1)
    return choose(
        Do(lambda m, x: m.one(x.transpose(1, 2).reshape(-1, c, *rest)).view(n, -1, 4, *rest)
           .transpose(1, 2), one=one),
        Do(lambda m, x: m.many(x.flatten(1, 2)).view(n, 2, x.shape[2], *rest), many=many),
        Do(lambda m, x: m.deep(x.transpose(1, 2)).transpose(1, 2), deep=deep),
        Do(lambda m, x: m.one(x.amax(2)).unsqueeze(2) + 0 * x[:, :1], one=one),
    )  # fmt: skip


# ------------------------------------------------------------------------ gates and context


@kind
def context(x, choose, _):
    """Gates by what pools see: over everything, over rows, over channels."""
    channels, dim = x.shape[1], choose(*spatial(x))
    squeeze, excite = one_by_one(x, 2), nn.Conv1d(1, 1, 3, padding=1)
    mask, back = one_by_one(x, 1), one_by_one(x, channels)
    spot = of_axes("Conv", x)(2, 1, 3, padding=1)

    def blocks(m, x):  # global context (Cao et al. 2019)
        weights = m.mask(x).flatten(2).softmax(-1)
        seen = x.flatten(2) @ weights.transpose(1, 2)
        return x + m.back(seen.view(places(x, channels)))

    def efficient(m, x):  # ECA: a convolution over channels
        y = m.excite(x.mean(spatial(x)).unsqueeze(1))
        return x * y.transpose(1, 2).reshape(places(x, channels)).sigmoid()

    def spots(m, x):  # CBAM
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * m.spot(both).sigmoid()

    def strips(m, x):  # strip pooling (Hou et al. 2020)
        pooled = [m.back(x.mean(d, keepdim=True)).expand_as(x) for d in spatial(x)]
        return x * sum(pooled).sigmoid()

    def non_local(m, x):
        q, k, v = (f.flatten(2) for f in (m.squeeze(x), m.squeeze(x * 2), x))
        score = (q.transpose(1, 2) @ k).softmax(-1)
        return x + (v @ score.transpose(1, 2)).view(x.shape)

    def channels_attend(m, x):
        t = x.flatten(2)
        return x + ((t @ t.transpose(1, 2)).softmax(-1) @ t).view(x.shape)

    def pyramid(m, x):
        parts = [
            F.interpolate(of_axes("adaptive_avg_pool", x, F)(x, n), x.shape[2:]) for n in (1, 2)
        ]
        return torch.cat([x, *parts], 1)

    return choose(
        Do(blocks, mask=mask, back=back), Do(efficient, excite=excite), Do(spots, spot=spot),
        Do(strips, back=back), Do(non_local, squeeze=squeeze), Do(channels_attend), Do(pyramid),
        Do(lambda m, x: x * m.back(x.mean(dim, keepdim=True)).sigmoid(), back=back),
        Do(lambda m, x: torch.cat([x, m.back(x.mean(spatial(x), keepdim=True)).expand_as(x)], 1),
           back=back),
    )  # fmt: skip


@kind
def coordinate(x, choose, _):
    """Coordinate attention (Hou et al. 2021): both pooled maps through one layer."""
    if axes(x) != 2:
        raise ValueError("only images")
    mix, one, two = one_by_one(x, 2), nn.Conv2d(2, x.shape[1], 1), nn.Conv2d(2, x.shape[1], 1)

    def forward(m, x):
        h, w = x.shape[2:]
        both = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        rows, columns = m.mix(both).relu().split([h, w], 2)
        return x * m.one(rows).sigmoid() * m.two(columns.transpose(2, 3)).sigmoid()

    return Do(forward, mix=mix, one=one, two=two)


@kind
def dynamic(x, choose, _):
    """Kernels that are computed: of the whole image, or for every position."""
    (n, channels), count = x.shape[:2], axes(x)
    function, kernel = of_axes("conv", x, F), choose(3, 1)
    experts = nn.Parameter(torch.rand(2, 4, channels, *(kernel,) * count))
    route = nn.Linear(channels, 2)
    maker = nn.Linear(channels, channels * kernel**count)
    local = one_by_one(x, kernel**2)
    signs = nn.Parameter(torch.rand(4, channels, *(kernel,) * count) - 0.5)

    def mixed(m, x):  # CondConv: a kernel for each image, as groups
        gate = m.route(x.mean(spatial(x))).sigmoid()
        weight = (gate @ m.experts.flatten(1)).view(-1, channels, *(kernel,) * count)
        y = function(x.reshape(1, -1, *x.shape[2:]), weight, padding=kernel // 2, groups=n)
        return y.view(n, 4, *y.shape[2:])

    def depthwise(m, x):
        weight = m.maker(x.mean(spatial(x))).view(n * channels, 1, *(kernel,) * count)
        y = x.reshape(1, -1, *x.shape[2:])
        return function(y, weight, padding=kernel // 2, groups=n * channels).view(x.shape)

    def involution(m, x):
        weight = m.local(x).view(n, 1, kernel**2, *x.shape[2:])
        parts = F.unfold(x, kernel, padding=kernel // 2).view(n, channels, -1, *x.shape[2:])
        return (weight * parts).sum(2)

    return choose(
        Do(mixed, experts=experts, route=route), Do(depthwise, maker=maker),
        Do(involution, local=local),
        Do(lambda m, x: function(x, m.weight.sign() * m.weight.abs().mean()), weight=signs),
        Do(lambda m, x: function(x, F.normalize(m.weight.flatten(1)).view_as(m.weight)),
           weight=signs),
    )  # fmt: skip


@kind
def unfolded(x, choose, _):
    """Patches by unfold, and back by fold."""
    n, channels = x.shape[:2]
    dim, kernel, step = choose(*spatial(x)), choose(2, 3), choose(1, 2)
    mix = nn.Linear(channels * kernel**2, 4)
    padding = choose(0, 1)
    size = x.shape[dim]
    counts = [(m + 2 * padding - kernel) // step + 1 for m in x.shape[2:]]
    return choose(
        Do(lambda _, x: x.unfold(dim, kernel, step).mean(-1)),
        Do(lambda _, x: x.unfold(dim, kernel, step).movedim(-1, 2).flatten(1, 2)),
        Do(lambda m, x: F.unfold(x, kernel, 1, padding, step).view(n, -1, *counts)),
        Do(lambda m, x: m.mix(F.unfold(x, kernel, 1, padding, step).transpose(1, 2))
           .transpose(1, 2).reshape(n, 4, *counts), mix=mix),
        Do(lambda _, x: F.fold(F.unfold(x, kernel, 1, padding, step), x.shape[2:], kernel, 1,
                               padding, step)),
        Do(lambda _, x: F.fold(F.unfold(x, 2, stride=2), even(x).shape[2:], 2, stride=2)),
        Do(lambda _, x: torch.stack([x.narrow(dim, i, size - 1) for i in (0, 1)], 1).mean(1)),
    )  # fmt: skip


# ----------------------------------------------------------------------- weights, rearranging


class Symmetric(nn.Module):
    """A weight that is computed."""

    def forward(self, weight):
        return weight + weight.flip(-1)


@kind
def parametrized(x, choose, _):
    channels = x.shape[1]
    groups = divisor(channels, choose)
    conv = of_axes("Conv", x)(channels, groups * 2, 3, padding=1, groups=groups)
    up = of_axes("ConvTranspose", x)(channels, 2, 2, 2)
    layer = choose(conv, up, one_by_one(x, channels))
    if choose(0, 0, 0, 1):
        linear = choose(parametrizations.weight_norm, parametrizations.orthogonal,
                        parametrizations.spectral_norm)(nn.Linear(channels, channels))  # fmt: skip
        return Do(lambda m, x: m.linear(last(x)).movedim(-1, 1), linear=linear)
    form = choose("weight", "spectral", "orthogonal", "own", "old weight", "old spectral")
    if form == "own":
        parametrize.register_parametrization(layer, "weight", Symmetric())
        return layer
    return {
        "weight": parametrizations.weight_norm, "spectral": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal, "old weight": nn.utils.weight_norm,
        "old spectral": nn.utils.spectral_norm,
    }[form](layer)  # fmt: skip


@kind
def pixels_by_view(x, choose, _):
    """Depth to space and space to depth, by views and by slices."""
    count, (n, channels), sizes = axes(x), x.shape[:2], x.shape[2:]
    split = [part for s in even(x).shape[2:] for part in (s // 2, 2)]
    # N, C, then blocks of two for every axis: halves of each axis to the channels, in either order
    inside, outside = range(3, 3 + 2 * count, 2), range(2, 2 + 2 * count, 2)
    order = choose([0, 1, *inside, *outside], [0, *inside, 1, *outside])
    halves = tuple(s // 2 for s in even(x).shape[2:])
    wide = one_by_one(x, 2 * 2**count)

    def down(_, x):
        y = even(x).reshape(n, channels, *split).permute(order)
        return y.reshape(n, -1, *halves)

    def up(m, x):
        y = m.wide(x).view(n, 2, *(2,) * count, *sizes)
        woven = [0, 1, *(d for i in range(count) for d in (2 + count + i, 2 + i))]
        return y.permute(woven).reshape(n, 2, *(2 * s for s in sizes))

    def focus(_, x):
        x, dim = even(x), x.dim() - 1
        parts = [x[at(dim, x.dim(), slice(i, None, 2))] for i in (0, 1)]
        return torch.cat(parts, 1)

    return choose(
        Do(down), Do(up, wide=wide), Do(focus),
        nn.Sequential(Do(down), of_axes("Conv", x)(channels * 2**count, 4, 3, padding=1)),
        Do(lambda _, x: x.view(n, 2, -1, *sizes).transpose(1, 2).reshape(x.shape)),
        Do(lambda _, x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    )  # fmt: skip


@kind
def blurred(x, choose, _):
    """A fixed kernel for every channel, after a pad that reflects (anti-aliased pooling)."""
    channels, count = x.shape[1], axes(x)
    line = torch.tensor([1.0, 2.0, 1.0])
    kernel = line
    for _axis in range(count - 1):
        kernel = kernel.unsqueeze(-1) * line
    stride, mode = choose(2, 1), choose("reflect", "replicate", "constant", "circular")
    function = of_axes("conv", x, F)

    def forward(m, x):
        x = F.pad(x, (1,) * (2 * count), mode=mode)
        return function(x, m.kernel, stride=stride, groups=channels)

    made = Do(forward)
    made.register_buffer("kernel", kernel.expand(channels, 1, *kernel.shape).clone())
    return made


@kind
def pyramid(x, choose, _):
    """Branches of several dilations, or of several resolutions that are summed."""
    make = of_axes("Conv", x)
    if choose(0, 1):
        branches = [make(x.shape[1], 2, 3, padding=d, dilation=d) for d in (1, 2, choose(3, 4))]
        body = nn.ModuleList(branches)
        return Do(lambda m, x: torch.cat([branch(x) for branch in m.body], 1), body=body)
    down, side = make(x.shape[1], 4, 3, 2, 1), one_by_one(x, 4)
    mode = choose("nearest", ("linear", "bilinear", "trilinear")[axes(x) - 1], "nearest-exact")

    def forward(m, x):
        low = m.down(x)
        return m.side(x) + F.interpolate(low, x.shape[2:], mode=mode)

    return Do(forward, down=down, side=side)


@kind
def crops(x, choose, _):
    """Patches of the map that are taken apart and put together."""
    dim, rank = choose(*spatial(x)), x.dim()
    size = x.shape[dim]
    conv = of_axes("Conv", x)(x.shape[1], x.shape[1], 3, padding=1)
    return choose(
        Do(lambda m, x: torch.cat([m.conv(part) for part in x.split(3, dim)], dim), conv=conv),
        Do(lambda m, x: torch.cat([part * 2 for part in x.chunk(2, dim)], 1)
           if size % 2 == 0 else x),
        Do(lambda m, x: torch.stack(x.unbind(dim), dim)),
        Do(lambda m, x: torch.stack([part.tanh() for part in x.unbind(dim)][::-1], dim)),
        Do(lambda m, x: x[at(dim, rank, slice(1, None))] - x[at(dim, rank, slice(0, -1))]),
        Do(lambda m, x: F.pad(x.diff(dim=dim), (0,) * (2 * (rank - 1 - dim)) + (1, 0))),
        Do(lambda m, x: cropped(x, tuple(max(1, s - 2) for s in x.shape[2:]))),
        Do(lambda m, x: x.select(dim, size // 2).unsqueeze(dim).expand_as(x)),
        Do(lambda m, x: torch.cat([x.select(dim, 0).unsqueeze(dim), x], dim)),
    )  # fmt: skip


AROUND = ("unequal",)
LEAVES = (
    "flip", "roll", "shifted_windows", "repeated", "resized", "padded", "broadcast", "assigned",
    "cumulative", "rows_recurrent", "along_axis", "axial", "separate", "context", "coordinate",
    "dynamic", "unfolded", "parametrized", "pixels_by_view", "blurred", "pyramid", "crops",
)  # fmt: skip

"""Random networks: a recipe is plain data, `build` makes the module and its inputs of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import wider
from building import (
    LONGEST,
    Block,
    Built,
    Do,
    Recipe,
    axes,
    chain,
    divisor,
    even,
    fitted,
    kind,
    of_axes,
    one_by_one,
    smaller,
    spatial,
)
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F


def build(recipe: Recipe) -> Built:
    """The network of a recipe, with weights of a fixed seed."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        x = torch.rand(recipe.batch, recipe.channels, *recipe.sizes)
        body, y = chain(recipe.blocks, x)
        module, shapes = INPUTS[recipe.inputs](body, x)
        module = HEADS[recipe.head](module, y)
        return Built(module.eval(), shapes)


# ------------------------------------------------------------------------- layers that slide


@kind
def conv(x, choose, _):
    count, channels = axes(x), x.shape[1]
    kernel = choose.each(count, 1, 3, 2, 5)
    dilation = choose.each(count, 1, 1, 2)
    stride = choose.each(count, 1, 1, 2, 3)
    groups = divisor(channels, choose)
    out = groups * max(1, choose(4, channels, 2, 6) // groups)
    padding = choose(
        tuple(k // 2 for k in kernel), (0,) * count, (1,) * count, (2,) * count, "same"
    )
    if padding == "same":
        stride = (1,) * count
    made = of_axes("Conv", x)(
        channels, out, kernel, stride, padding, dilation, groups, choose(True, False),
        choose("zeros", "zeros", "reflect", "replicate", "circular"),
    )  # fmt: skip
    if choose(0, 0, 0, 0, 0, 0, 1):
        made = nn.utils.parametrizations.weight_norm(made)
    return made


@kind
def transposed(x, choose, _):
    count, channels = axes(x), x.shape[1]
    kernel = choose.each(count, 2, 1, 3, 4)
    stride = choose.each(count, 2, 1, 3)
    dilation = choose.each(count, 1, 1, 2)
    groups = divisor(channels, choose)
    out = groups * max(1, choose(4, channels, 2) // groups)
    extra = tuple(choose(0, s - 1) for s in stride)
    padding = choose.each(count, 0, 1)
    make = of_axes("ConvTranspose", x)
    made = make(
        channels, out, kernel, stride, padding, extra, groups, choose(True, False), dilation
    )
    if not choose(0, 0, 0, 1):
        return made
    size = [n + 1 if s > 1 else n for n, s in zip(made(x).shape[2:], stride, strict=True)]
    return Do(lambda m, x: m.up(x, output_size=size), up=made)


@kind
def pool(x, choose, _):
    count = axes(x)
    kernel, stride = choose.each(count, 2, 3, 1), choose.each(count, 2, 1, 3)
    padding = tuple(choose(0, k // 2) for k in kernel)
    ceil = choose(False, True)
    form = choose("max", "avg", "dilated", "lp", "function")
    if form == "avg":
        more = {"divisor_override": 3} if count > 1 and choose(0, 0, 1) else {}
        how = {"ceil_mode": ceil, "count_include_pad": choose(True, False), **more}
        return of_axes("AvgPool", x)(kernel, stride, padding, **how)
    if form == "lp":
        return of_axes("LPPool", x)(2, kernel, stride, ceil_mode=ceil)
    if form == "function":
        function = of_axes(choose("max_pool", "avg_pool"), x, F)
        return Do(lambda _, x: function(x, kernel, stride, padding, ceil_mode=ceil))
    dilation = choose.each(count, 2, 1) if form == "dilated" else 1
    return of_axes("MaxPool", x)(kernel, stride, padding, dilation, ceil_mode=ceil)


@kind
def adaptive(x, choose, _):
    wanted = choose.each(axes(x), 1, 2, 3, 4, None)
    form = choose("AdaptiveAvgPool", "AdaptiveMaxPool")
    return of_axes(form, x)(wanted)


@kind
def upsample(x, choose, _):
    linear = ("linear", "bilinear", "trilinear")[axes(x) - 1]
    mode = choose("nearest", linear, "nearest-exact", "bicubic", "area")
    corners = choose(None, True) if mode in (linear, "bicubic") else None
    if choose(True, False):
        return nn.Upsample(scale_factor=choose(2, 3, 1.5), mode=mode, align_corners=corners)
    size = tuple(choose(n, n + 3, 2 * n, max(1, n // 2)) for n in x.shape[2:])
    return Do(lambda _, x: F.interpolate(x, size, mode=mode, align_corners=corners))


@kind
def separable(x, choose, _):
    channels, kernel = x.shape[1], choose(3, 5)
    depth = of_axes("Conv", x)(
        channels, channels * choose(1, 2), kernel, choose(1, 2), kernel // 2, groups=channels
    )
    return nn.Sequential(depth, choose(nn.ReLU, nn.SiLU)(), one_by_one(depth(x), choose(4, 8)))


# ---------------------------------------------------------------------- norms, activations


@kind
def norm(x, choose, _):
    channels = x.shape[1]
    form = choose("batch", "group", "instance", "own", "plain", "lrn")
    if form == "group":
        return nn.GroupNorm(divisor(channels, choose), channels, affine=choose(True, False))
    if form == "instance":
        return of_axes("InstanceNorm", x)(channels, affine=choose(False, True),
                                          track_running_stats=choose(False, True))  # fmt: skip
    if form == "lrn":
        return nn.LocalResponseNorm(choose(2, 3))
    how = {"own": {"track_running_stats": False}, "plain": {"affine": False}}.get(form, {})
    return of_axes("BatchNorm", x)(channels, **how)


@kind
def activation(x, choose, _):
    return choose(
        nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(inplace=True), nn.Hardswish(),
        nn.Sigmoid(), nn.PReLU(x.shape[1]), nn.LeakyReLU(), nn.ELU(), nn.Softplus(), nn.Mish(),
        nn.Tanh(), nn.ReLU6(), nn.GLU(1), nn.Softmax(1), nn.Dropout(), nn.Identity(),
        nn.Hardtanh(inplace=True), nn.Softsign(), nn.LogSigmoid(), nn.Hardsigmoid(), nn.PReLU(),
        nn.Threshold(0.1, 0.0), nn.CELU(inplace=True), nn.Softshrink(), nn.Softmax2d(),
        Do(lambda _, x: torch.relu_(x)), Do(lambda _, x: x.clamp(0, 1)), Do(lambda _, x: -0.5 * x),
        Do(lambda _, x: x.sigmoid() * x), Do(lambda _, x: x.abs().sqrt() + 1),
        Do(lambda _, x: 2 * x**2 - 1), Do(lambda _, x: torch.maximum(x, 0.1 * x)),
        Do(lambda _, x: F.gelu(x, approximate="tanh")), Do(lambda _, x: F.normalize(x, dim=1)),
        Do(lambda _, x: torch.lerp(x, x.tanh(), 0.3)), Do(lambda _, x: x.addcmul(x, x, value=0.5)),
        Do(lambda _, x: F.glu(x.repeat_interleave(2, 1), 1)),
        Do(lambda _, x: F.glu(torch.cat([x, x.tanh()], 1), 1)),
        Do(lambda _, x: torch.where(x > 0, x, 0.1 * x)), Do(lambda _, x: x.masked_fill(x < 0, 0)),
        Do(lambda _, x: x - x.mean(1, keepdim=True)), Do(lambda _, x: x / (1 + x.amax(1, True))),
        Do(lambda _, x: x.double().exp().float()), Do(lambda _, x: x.half().float()),
    )  # fmt: skip


@kind
def polar(x, choose, _):
    """Complex numbers on the way: a rotation, as of positions in attention."""
    return choose(
        Do(lambda _, x: torch.polar(x.abs(), x).real),
        Do(lambda _, x: torch.complex(x, x.tanh()).abs()),
        Do(lambda _, x: torch.view_as_real(torch.polar(x.abs(), x)).sum(-1)),
        Do(lambda _, x: torch.view_as_complex(torch.stack([x, -x], -1)).angle()),
        Do(lambda _, x: (torch.polar(torch.ones_like(x), x) * x).imag),
    )


# ------------------------------------------------------------------------------ structures


@kind
def sequential(x, choose, inner):
    body, _ = chain(inner, x)
    if choose(0, 0, 1):
        return Do(lambda m, x: [x := part(x) for part in m.parts][-1] if len(m.parts) else x,
                  parts=nn.ModuleList(body))  # fmt: skip
    return body


@kind
def residual(x, choose, inner):
    body, y = chain(inner, x)
    short = nn.Identity()
    if y.shape != x.shape:
        stride = [max(1, round(a / b)) for a, b in zip(x.shape[2:], y.shape[2:], strict=True)]
        short = one_by_one(x, y.shape[1], stride=stride)

    def plain(m, x):
        a, b = smaller(m.body(x), m.short(x))
        return a + b

    def in_place(m, x):
        short = m.short(x)
        a, b = smaller(m.body(x), short)
        a += b
        return F.relu(a, inplace=True)

    def scaled(m, x):
        a, b = smaller(m.body(x), m.short(x))
        return b + m.scale.view(1, -1, *(1,) * (x.dim() - 2)) * a

    how = choose(plain, in_place, scaled)
    scale = nn.Parameter(torch.ones(y.shape[1])) if how is scaled else None
    return Do(how, body=body, short=short, scale=scale)


@kind
def dense(x, choose, inner):
    body, _ = chain(inner, x)

    def once(m, x):
        return torch.cat(smaller(x, m.body(x)), 1)

    def growing(m, x):
        features = [x]
        for layer in m.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)

    if choose(0, 1):
        make, channels = of_axes("Conv", x), x.shape[1]
        layers = [make(channels + 2 * i, 2, 3, padding=1) for i in range(choose(2, 3))]
        return Do(growing, layers=nn.ModuleList(layers))
    return Do(once, body=body)


@kind
def inception(x, choose, inner):
    branches = [fitted(block, x)[0] for block in inner] + [one_by_one(x, choose(2, 4))]
    parallel = nn.ModuleDict({f"b{i}": branch for i, branch in enumerate(branches)})

    def cat(m, x):
        return torch.cat(smaller(*[branch(x.clone()) for branch in m.parallel.values()]), 1)

    return Do(cat, parallel=parallel)


@kind
def unet(x, choose, inner):
    how = choose("pool", "conv")
    down = of_axes("MaxPool", x)(2, ceil_mode=choose(False, True))
    if how == "conv":
        down = of_axes("Conv", x)(x.shape[1], 4, 3, 2, 1)
    body, low = chain(inner, down(x))
    form = choose("transposed", "size", "scale")
    up = of_axes("ConvTranspose", x)(low.shape[1], 4, 2, 2) if form == "transposed" else None

    def forward(m, x):
        low = m.body(m.down(x))
        if form == "transposed":
            high = m.up(low)
        elif form == "size":
            high = F.interpolate(low, x.shape[2:])
        else:
            high = F.interpolate(low, scale_factor=2)
        return torch.cat(smaller(x, high), 1)

    return Do(forward, down=down, body=body, up=up)


@kind
def shared(x, choose, inner):
    body, y = chain(inner, x)
    if y.shape != x.shape:
        raise ValueError
    return choose(
        Do(lambda m, x: m.body(m.body(x)), body=body),
        Do(lambda m, x: m.body(x.clone()) + m.body(x * 2), body=body),
        nn.Sequential(body, nn.ReLU(), body),
    )


@kind
def tied(x, choose, _):
    channels = x.shape[1]
    first, second = (of_axes("Conv", x)(channels, channels, 3, padding=1) for _ in range(2))
    second.weight = first.weight
    if choose(0, 1):
        up = of_axes("ConvTranspose", x)(channels, channels, 3, padding=1, bias=False)
        up.weight = first.weight
        return nn.Sequential(first, second, up)
    return nn.Sequential(first, second)


@kind
def gate(x, choose, _):
    """Squeeze and excite, in several writings."""
    channels = x.shape[1]
    form = choose("conv", "linear", "mean")
    excite = choose(nn.Sigmoid, nn.Hardsigmoid)()
    if form == "linear":
        body = nn.Sequential(nn.Linear(channels, 2), nn.ReLU(), nn.Linear(2, channels), excite)
        places = (1,) * axes(x)
        return Do(
            lambda m, x: x * m.body(x.mean(spatial(x))).view(*x.shape[:2], *places), body=body
        )
    body = nn.Sequential(one_by_one(x, 2), nn.ReLU(inplace=True), one_by_one(x[:, :1].expand(
        x.shape[0], 2, *x.shape[2:]), channels), excite)  # fmt: skip
    if form == "mean":
        return Do(lambda m, x: m.body(x.mean(spatial(x), keepdim=True)) * x, body=body)
    return Do(lambda m, x: x * m.body(m.pool(x)), body=body, pool=of_axes("AdaptiveAvgPool", x)(1))


# ------------------------------------------------------------------- channels last, attention


def last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


@kind
def channels_last(x, choose, _):
    channels = x.shape[1]
    body = nn.Sequential(
        nn.LayerNorm(channels, elementwise_affine=choose(True, False)),
        nn.Linear(channels, 2 * channels, bias=choose(True, False)),
        choose(nn.GELU(), nn.ReLU(inplace=True), nn.GLU(-1)),
    )
    wide = body(last(x)).shape[-1]
    body.append(nn.Linear(wide, channels))
    order = (0, *range(2, x.dim()), 1)
    return choose(
        Do(lambda m, x: x + m.body(x.permute(order)).movedim(-1, 1), body=body),
        Do(lambda m, x: m.body(last(x)).movedim(-1, 1).contiguous(), body=body),
        Do(lambda m, x: m.body(last(x).contiguous()).movedim(-1, 1), body=body),
        Do(lambda m, x: m.body(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape),
           body=body),
    )  # fmt: skip


def tokens(x: Tensor) -> Tensor:
    """(N, C, ...) as (N, positions, C)."""
    return x.flatten(2).transpose(1, 2)


def short(x: Tensor) -> None:
    if math.prod(x.shape[2:]) > LONGEST:
        raise ValueError("too many positions")


@kind
def attention(x, choose, _):
    short(x)
    channels = x.shape[1]
    heads = choose(*(n for n in (2, 1, 4) if channels % n == 0))
    first = choose(True, False)
    body = nn.MultiheadAttention(channels, heads, bias=choose(True, False), batch_first=first)
    weights = choose(False, True)

    def forward(m, x):
        t = tokens(x)
        t = t if first else t.transpose(0, 1)
        t = m.body(t, t, t, need_weights=weights)[0]
        t = t if first else t.transpose(0, 1)
        return x + t.transpose(1, 2).reshape(x.shape)

    return Do(forward, body=body)


@kind
def dot_product(x, choose, _):
    short(x)
    channels = x.shape[1]
    heads = choose(*(n for n in (1, 2, 4) if channels % n == 0))
    written = choose("function", "by hand", "einsum")
    project = choose(nn.Linear(channels, 3 * channels), one_by_one(x, 3 * channels))
    out = nn.Linear(channels, channels) if choose(True, False) else None

    def forward(m, x):
        qkv = m.qkv(tokens(x)) if isinstance(m.qkv, nn.Linear) else tokens(m.qkv(x))
        q, k, v = qkv.reshape(x.shape[0], -1, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
        if written == "function":
            y = F.scaled_dot_product_attention(q, k, v)
        elif written == "einsum":
            score = torch.einsum("bhqc,bhkc->bhqk", q, k).softmax(-1)
            y = torch.einsum("bhqk,bhkc->bhqc", score, v)
        else:
            y = (q * channels**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        y = y.transpose(1, 2).reshape(x.shape[0], -1, channels)
        y = y if m.out is None else m.out(y)
        return y.transpose(1, 2).reshape(x.shape)

    return Do(forward, qkv=project, out=out)


@kind
def windows(x, choose, _):
    """Every axis cut in windows of two, which are mixed inside."""
    count, (batch, channels), sizes = axes(x), x.shape[:2], even(x).shape[2:]
    split = [part for n in sizes for part in (n // 2, 2)]
    outer = [0, *range(2, 2 + 2 * count, 2), *range(3, 3 + 2 * count, 2), 1]
    back = sorted(range(len(outer)), key=outer.__getitem__)
    mix = choose(nn.Linear(channels, channels), nn.LayerNorm(channels), nn.Softmax(-2))

    def forward(m, x):
        parts = even(x).reshape(batch, channels, *split).permute(outer)
        rows = m.mix(parts.reshape(-1, 2**count, channels))
        return rows.view(parts.shape).permute(back).reshape(batch, channels, *sizes)

    return Do(forward, mix=mix)


@kind
def recurrent(x, choose, _):
    if axes(x) > 1 or x.shape[2] > 16:
        raise ValueError("only short sequences")
    both = choose(False, True)
    make = choose(nn.LSTM, nn.GRU, nn.RNN)
    body = make(x.shape[1], choose(2, 3), choose(1, 2), batch_first=True, bidirectional=both)
    return Do(lambda m, x: m.body(x.transpose(1, 2))[0].transpose(1, 2), body=body)


# --------------------------------------------------------------------- functions, parameters


@kind
def functional(x, choose, _):
    channels = x.shape[1]
    function = of_axes("conv", x, F)
    kernel = nn.Parameter(torch.rand(4, channels, *(3,) * axes(x)))
    square = nn.Parameter(torch.rand(channels, channels))
    fixed = nn.Parameter(torch.rand(channels, *(1,) * axes(x)), requires_grad=False)
    stack = (x.shape[0], channels, channels)
    return choose(
        Do(lambda m, x: function(x, m.weight, padding=1), weight=kernel),
        Do(lambda m, x: (m.weight @ x.flatten(2)).view(x.shape), weight=square),
        Do(lambda m, x: torch.einsum("oc,nc...->no...", m.weight, x), weight=square),
        Do(lambda m, x: x * m.weight, weight=fixed),
        Do(lambda m, x: x.add(m.weight), weight=fixed),
        Do(lambda m, x: F.linear(last(x), m.weight).movedim(-1, 1), weight=square),
        Do(lambda m, x: torch.baddbmm(t := x.flatten(2), m.weight.expand(stack), t).view(x.shape),
           weight=square),
        Do(lambda m, x: x * m.weight, weight=fixed, never=nn.Linear(2, 3), spare=square),
    )  # fmt: skip


@kind
def positions(x, choose, _):
    """A buffer, or a parameter, of the size of the map."""
    table = torch.rand(1, x.shape[1], *x.shape[2:])
    if choose(0, 1):
        return Do(lambda m, x: x + m.table, table=nn.Parameter(table))
    made = Do(lambda m, x: x + m.table)
    made.register_buffer("table", table, persistent=choose(True, False))
    return made


@kind
def spread(x, choose, inner):
    """Several tensors between modules, by position and by name."""
    body, _ = chain(inner, x)
    fork = Do(lambda m, x: (m.body(x.clone()), {"rest": x}), body=body)
    how = choose(torch.add, torch.mul, torch.maximum)

    def merge(_, pair):
        a, b = smaller(pair[0], pair[1]["rest"])
        width = min(a.shape[1], b.shape[1])
        return how(a[:, :width], b[:, :width])

    return nn.Sequential(fork, Do(merge))


# ----------------------------------------------------------------------------- rearranging


@kind
def rearrange(x, choose, _):
    channels, sizes = x.shape[1], x.shape[2:]
    groups = divisor(channels, choose)
    ends = x.dim() - 1
    return choose(
        nn.ChannelShuffle(2) if channels == 4 else nn.Identity(),  # else only the CPU copies
        Do(lambda _, x: x.unflatten(1, (groups, -1)).transpose(1, 2).reshape(x.shape)),
        Do(lambda _, x: torch.cat(x.chunk(2, 1)[::-1], 1)),
        Do(lambda _, x: torch.cat([x, x.flip(1)], 1)),
        Do(lambda _, x: x.flip(ends)),
        Do(lambda _, x: x.roll(1, ends)),
        Do(lambda _, x: x.roll((1, -1), (1, 2))),
        Do(lambda _, x: x[..., 1:]),
        Do(lambda _, x: x[..., ::2]),
        Do(lambda _, x: x[:, :, 1:-1]),
        Do(lambda _, x: x.narrow(2, 0, x.shape[2] - 1)),
        Do(lambda _, x: F.pad(x, (1, 2))),
        Do(lambda _, x: F.pad(x, (0, 1) * (x.dim() - 2), value=1.0)),
        Do(lambda _, x: F.pad(x, (1, 1), mode="reflect")),
        Do(lambda _, x: F.pad(x, (1, 0) * (x.dim() - 2), mode="replicate")),
        Do(lambda _, x: F.pad(x, (2, 1) * (x.dim() - 2), mode="circular")),
        Do(lambda _, x: F.pad(x, (-1, 0))),
        Do(lambda _, x: torch.stack([x, x.tanh()], 2).sum(2)),
        Do(lambda _, x: torch.stack(x.unbind(1), 1)),
        Do(lambda _, x: torch.stack([x, x * 2], 2).flatten(1, 2)),
        Do(lambda _, x: x.repeat(1, 2, *(1,) * (x.dim() - 2))),
        Do(lambda _, x: x.mean(1, keepdim=True).expand_as(x)),
        Do(lambda _, x: x[:, list(range(channels))[::-1]]),
        Do(lambda _, x: x.index_select(1, torch.arange(0, channels, 2, device=x.device))),
        Do(lambda _, x: x.unsqueeze(1).expand(-1, 2, *x.shape[1:]).reshape(x.shape[0], -1, *sizes)),
        Do(lambda _, x: x.flatten(1).unflatten(1, x.shape[1:])),
        Do(lambda _, x: x.reshape(-1).view(x.shape)),
        Do(lambda _, x: x.transpose(1, -1).contiguous().transpose(1, -1)),
        Do(lambda _, x: x.transpose(2, -1).contiguous().transpose(2, -1)),
        Do(lambda _, x: torch.cat([x[..., :1], x[..., 1:] - x[..., :-1]], -1)),
        Do(lambda _, x: torch.cat([x, x[..., :1]], -1)),
        Do(lambda _, x: torch.cat([x[:, :, ::2], x[:, :, 1::2]], 2)),
        Do(lambda _, x: torch.cat(x.split(2, -1)[::-1], -1)),
        Do(lambda _, x: torch.cat(x.tensor_split(2, 1), 1)),
        Do(lambda _, x: x.as_strided(x.shape, x.stride())),
        Do(lambda _, x: x.squeeze().view(x.shape)),
        Do(lambda _, x: x.max(1, keepdim=True)[0]),
        Do(lambda _, x: x.cumsum(1)),
        Do(lambda _, x: x.sort(1)[0]),
        Do(lambda _, x: x.topk(1, 1)[0]),
        # and back: whose convolutions keep the order, a device's or meta's, is not the same
        Do(lambda _, x: x.movedim(1, -1).contiguous().movedim(-1, 1).contiguous()),
        Do(lambda _, x: x.repeat_interleave(2, -1)),
        Do(lambda _, x: torch.gather(x, 1, x.argmax(1, keepdim=True))),
    )  # fmt: skip


@kind
def blocks_of_pixels(x, choose, _):
    count, (batch, channels), sizes = axes(x), x.shape[:2], even(x).shape[2:]
    if count == 2 and choose(0, 1):
        down = Do(lambda m, x: m.down(even(x)), down=nn.PixelUnshuffle(2))
        return choose(down, nn.Sequential(one_by_one(x, 4), nn.PixelShuffle(2)))
    split = [part for n in sizes for part in (n // 2, 2)]
    order = [0, 1, *range(3, 3 + 2 * count, 2), *range(2, 2 + 2 * count, 2)]
    if choose(0, 1):  # patches: positions and channels, by a linear layer
        mix = nn.Linear(channels * 2**count, 4)

        def patches(m, x):
            rows = last(
                even(x).reshape(batch, channels, *split).permute(order).flatten(1, 1 + count)
            )
            return m.mix(rows).movedim(-1, 1)

        return Do(patches, mix=mix)
    return Do(
        lambda _, x: even(x).reshape(batch, channels, *split).permute(order).flatten(1, 1 + count)
    )


@kind
def in_place(x, choose, _):
    return choose(
        Do(lambda _, x: x.mul_(2)),
        Do(lambda _, x: x.clone().add_(1).mul_(x)),
        Do(lambda _, x: x.add_(x)),
        Do(lambda _, x: F.relu_(x.sub_(0.5)).add(x)),
        Do(lambda _, x: x.sigmoid_().clamp_(0, 0.7)),
        Do(lambda _, x: torch.mul(x, 2, out=torch.empty_like(x))),
        Do(lambda _, x: x.copy_(x.tanh())),
        Do(lambda _, x: x.zero_().add_(1) + x),
        Do(lambda _, x: x.t_().t_() if x.dim() == 2 else x.unsqueeze_(0).squeeze_(0)),
        Do(lambda _, x: x.transpose_(1, 2).mul_(2).transpose_(1, 2)),
        Do(lambda _, x: x.masked_fill_(x > 0.5, 0.0)),
        Do(lambda _, x: x.fill_(0.5)),
        Do(lambda _, x: torch.add(x, 1, out=x)),
        Do(lambda _, x: x.addcmul_(x, x)),
    )


def write_first_channel(_, y):
    y[:, :1] = y[:, :1] * 2
    return y


def write_every_second(_, y):
    y[:, ::2].mul_(2)
    return y


def write_later_positions(_, y):
    y[..., 1:] += 1
    return y


def write_halves(_, y):
    a, b = y.chunk(2, 1)
    a.add_(b[:, : a.shape[1]])
    return y


def write_halves_apart(_, y):
    half = y.shape[1] // 2
    a, b = y.split([half, y.shape[1] - half], 1)
    a.relu_()
    return torch.cat([b, a], 1)


def write_flat(_, y):
    y.flatten(2).mul_(0.5)
    return y


def write_flat_tail(_, y):
    y.view(y.shape[0], -1)[:, 1:].sigmoid_()
    return y


def write_turned(_, y):
    y.transpose(1, 2).add_(1.0)
    return y


def write_none_of_channel(_, y):
    y[:, 0] = 0
    y.select(1, -1).fill_(1)
    return y


def write_read_later(_, y):
    rest = y[:, 1:]
    y.mul_(3)
    return rest + y[:, :-1]


def write_read_view_of_view(_, y):
    view = y.flatten(2)[:, :, 1:]
    y.relu_()
    return y + view.mean(2).view(*y.shape[:2], *(1,) * (y.dim() - 2))


def write_canvas(_, y):
    out = y.new_zeros(y.shape[0], 2 * y.shape[1], *y.shape[2:])
    out[:, : y.shape[1]].copy_(y)
    out[:, y.shape[1] :] = y.tanh()
    return out


def write_empty_canvas(_, y):
    half = y.shape[1] // 2
    out = torch.empty_like(y)
    out[:, :half] = y[:, :half]
    out[:, half:] = y[:, half:] + 1
    return out


def write_framed(_, y):
    out = y.new_zeros(*y.shape[:2], *(n + 2 for n in y.shape[2:]))
    out[(..., *(slice(1, -1) for _ in y.shape[2:]))] = y
    return out


def write_border(_, y):
    y[..., 0] = 0
    y[:, :, -1:] = y[:, :, :1]
    return y


def write_shift(_, y):
    """The temporal shift of some y.shape[1]."""
    half = y.shape[1] // 2
    out = torch.zeros_like(y)
    out[:, :half, :-1] = y[:, :half, 1:]
    out[:, half:, 1:] = y[:, half:, :-1]
    return out


def write_unsqueezed(_, y):
    y.unsqueeze(1).squeeze(1).tanh_()
    return y


def write_strided(_, y):
    y[..., ::2] = y[..., ::2].clone()
    return y


def write_through_parts(_, y):
    for part in y.unbind(1):
        part.add_(1)
    return y


def write_doubly(_, y):
    view = y[:, 1:]
    view[..., :1].add_(2)
    view.mul_(y[:, :1])
    return y


def write_put(_, y):
    y[:, [0]] = y[:, [-1]]
    return y


def write_swapped(_, y):
    half = y.shape[1] // 2
    old = y[:, :half].clone()
    y[:, :half] = y[:, y.shape[1] - half :]
    y[:, y.shape[1] - half :] = old
    return y


WRITES = (
    write_first_channel, write_every_second, write_later_positions, write_halves,
    write_halves_apart, write_flat, write_flat_tail, write_turned, write_none_of_channel,
    write_read_later, write_read_view_of_view, write_canvas, write_empty_canvas, write_framed,
    write_border, write_shift, write_unsqueezed, write_strided, write_through_parts,
    write_doubly, write_put, write_swapped,
)  # fmt: skip


@kind
def write(x, choose, _):
    """Writes through views, to a copy or to what it is given."""
    copied = choose(True, True, False)
    into = Do(choose(*WRITES))
    return Do(lambda m, x: m.into(x.clone()), into=into) if copied else into


# ------------------------------------------------------------------------ inputs and outputs


def _one(body, x):
    return body, (tuple(x.shape),)


def _added(body, x):
    both = Do(lambda m, x, other: m.body(x + other), body=body)
    return both, (tuple(x.shape),) * 2


def _joined(body, x):
    """A second image of its own number of channels, beside the first."""
    merge = one_by_one(torch.cat([x, x[:, :1]], 1), x.shape[1])
    both = Do(lambda m, x, y: m.body(m.merge(torch.cat([x, y], 1))), merge=merge, body=body)
    return both, (tuple(x.shape), (x.shape[0], 1, *x.shape[2:]))


def _conditioned(body, x):
    """A vector that scales channels; no image is as wide, or it could be one of its rows."""
    width = 29
    style = nn.Linear(width, x.shape[1])
    places = (1,) * axes(x)
    both = Do(
        lambda m, x, v: m.body(x * (1 + m.style(v)).view(*x.shape[:2], *places)),
        style=style, body=body,
    )  # fmt: skip
    return both, (tuple(x.shape), (x.shape[0], width))


def _timed(body, x):
    """A time step for every image, as diffusion has it: sines of it, through two layers."""
    mix = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, x.shape[1]))

    def forward(m, x, t):
        angle = t[:, None] * torch.exp(-torch.arange(2, device=t.device) / 2.0)
        style = m.mix(torch.cat([angle.sin(), angle.cos()], -1))
        return m.body(x + style.view(*x.shape[:2], *(1,) * axes(x)))

    return Do(forward, mix=mix, body=body), (tuple(x.shape), (x.shape[0],))


def _labelled(body, x):
    """A label, before the image: it is looked up."""
    table = nn.Embedding(10, x.shape[1])

    def forward(m, label, x):
        style = m.table((9 * label).long()).view(*x.shape[:2], *(1,) * axes(x))
        return m.body(torch.cat([x, style.expand_as(x)], 1)[:, : x.shape[1]] * style)

    return Do(forward, table=table, body=body), ((x.shape[0],), tuple(x.shape))


def _twins(body, x):
    """One network for two images."""
    both = Do(lambda m, x, y: m.body(x) - 0.5 * m.body(y), body=body)
    return both, (tuple(x.shape),) * 2


INPUTS = {
    "one": _one, "added": _added, "joined": _joined, "conditioned": _conditioned, "twins": _twins,
    "timed": _timed, "labelled": _labelled,
}  # fmt: skip

HEADS: dict[str, Callable[[nn.Module, Tensor], nn.Module]] = {
    "none": lambda body, _: body,
    "mean": lambda body, y: Do(
        lambda m, *x: m.head(m.body(*x).mean(spatial(y))), body=body, head=nn.Linear(y.shape[1], 5)
    ),
    "flat": lambda body, y: Do(
        lambda m, *x: m.head(m.body(*x).flatten(1)).log_softmax(1),
        body=body, head=nn.Linear(y[0].numel(), 5),
    ),
    "pair": lambda body, y: Do(
        lambda m, *x: ((out := m.body(*x)), m.head(out)), body=body, head=one_by_one(y, 2)
    ),
    "dict": lambda body, y: Do(
        lambda m, *x: {"out": (out := m.body(*x)), "aux": [m.head(out).sigmoid_(), out.sum()]},
        body=body, head=one_by_one(y, 1),
    ),
}  # fmt: skip


# --------------------------------------------------------------------------------- strategy

LEAVES = [
    "conv", "conv", "conv", "transposed", "pool", "adaptive", "upsample", "separable", "norm",
    "norm", "activation", "activation", "tied", "gate", "channels_last", "attention",
    "dot_product", "windows", "recurrent", "functional", "positions", "rearrange", "rearrange",
    "rearrange", "blocks_of_pixels", "in_place", "write", "write", "polar", *wider.LEAVES,
]  # fmt: skip
AROUND = [
    "sequential",
    "residual",
    "dense",
    "inception",
    "unet",
    "shared",
    "spread",
    *wider.AROUND,
]
_DEPTH = 2  # levels of blocks inside blocks


def decode(data: bytes) -> Recipe:
    """Read any bytes as a recipe; missing bytes at the end are zero.

    One draw of bytes costs Hypothesis a hundredth of what the draws for a tree of blocks do.
    """
    stream = iter(data)

    def number(options: int) -> int:
        return next(stream, 0) % options

    def block(depth: int) -> Block:
        around = depth > 0 and number(5) > 2
        kinds = AROUND if around else LEAVES
        kind, digits = kinds[number(len(kinds))], tuple(number(60) for _ in range(6))
        inner = tuple(block(depth - 1) for _ in range(1 + number(2))) if around else ()
        return Block(kind, digits, inner)

    count = (2, 2, 2, 1, 3)[number(5)]
    least, most = (1, 6) if count == 3 else ((1, 6)[number(4) > 0], 16)
    return Recipe(
        batch=1 + number(2),
        channels=(3, 1, 2, 4)[number(4)],
        sizes=tuple(least + number(most - least + 1) for _ in range(count)),
        inputs=["one", "one", "one", *INPUTS][number(3 + len(INPUTS))],
        head=["none", "none", *HEADS][number(2 + len(HEADS))],
        blocks=tuple(block(_DEPTH) for _ in range(1 + number(5))),
    )


recipes = st.binary(min_size=16, max_size=240).map(decode)

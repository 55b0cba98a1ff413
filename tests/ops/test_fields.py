"""Fields through indices, writes, windows, whole axes and second inputs: by hand, and by NaN.

Each network's text is hand arithmetic (a 3x3 convolution adds 2 times the stride before it), and
what each unit sees is held against the positions that NaN reaches in a real forward.
"""

from __future__ import annotations

import pytest
import torch
import torchvision
from command_line import run_cli
from field_probe import computed, expected, measured
from torch import nn
from torch.nn import functional as F

from cnnscope.analysis import receptive_field
from cnnscope.ops.fields.constants import Constants
from cnnscope.render import units
from cnnscope.reports.summary import report
from cnnscope.tracing.tracer import trace

torch.set_num_threads(1)
IMAGE = (1, 3, 12, 20)


class Net(nn.Module):
    """A stem `a` of 3x3 from 3 channels, a 3x3 `b` of 4, and what a network needs besides."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        self.a, self.b = conv(3, 4), conv(4, 4)
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def conv(channels: int, out: int, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, **options)


def arange(x, *ends):
    return torch.arange(*ends, device=x.device)


def up_by_view(x):
    n, c, h, w = x.shape
    return x.view(n, c, h, 1, w, 1).expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def joined(repeat):
    """A map at half resolution (3 /2), repeated, beside one of 5x5: as after nn.Upsample."""
    return lambda m, x: m.b(repeat(m.down(x)) + m.skip(x))


HALF = {"down": conv(3, 4, stride=2), "skip": conv(3, 4, 5)}


def involution(m, x):
    """Kernels of each position, made of 3x3 (Li et al. 2021), on its 3x3 neighbours."""
    y = m.a(x)
    kernels = m.b(y).softmax(1).view(1, 1, 4, 12, 20)[:, :, :1]
    return (F.unfold(y, 3, padding=1).view(1, 4, 9, 12, 20) * kernels).sum(2)


def stylegan(m, x, z):
    """Weights scaled by a style (Karras et al. 2020): the style has no positions."""
    weights = m.b.weight[None] * m.style(z)[:, None, :, None, None]
    weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    return F.conv2d(m.a(x).view(1, 4, 12, 20), weights.view(4, 4, 3, 3), padding=1)


def interleaved(m, x):
    """An inverse wavelet's four writes: unit 2i + j of the output reads unit i."""
    y = m.down(x)
    out = torch.zeros_like(x[:, :1])
    for place in range(4):
        out[:, :, place // 2 :: 2, place % 2 :: 2] = y[:, place : place + 1]
    return m.b(out.expand(-1, 4, -1, -1))


def shifted(m, x):
    y = m.a(x)
    out = torch.zeros_like(y)
    out[:, :1, :, 1:] = y[:, :1, :, :-1]
    out[:, 1:2, :, :-1] = y[:, 1:2, :, 1:]
    out[:, 2:] = y[:, 2:]
    return m.b(out)


def messages(m, x):
    """SCNN (Pan et al. 2018): each row adds the one above, top to bottom."""
    y = m.a(x).clone()
    for row in range(1, 12):
        y[:, :, row : row + 1] += y[:, :, row - 1 : row].relu()
    return y


def behind_a_class(m, x):
    """Patches of 4x4 after a class token, which a slice takes away again."""
    y = m.patches(x).flatten(2).transpose(1, 2)
    y = m.norm(torch.cat([y.new_zeros(1, 1, 8), y], 1))
    return m.wide(y[:, 1:].transpose(1, 2).reshape(1, 8, 3, 5))


def coordinates(m, x):
    """Coordinate attention (Hou et al. 2021): means of rows and of columns, side by side."""
    y = m.a(x)
    rows, columns = y.mean(3, keepdim=True), y.mean(2, keepdim=True).transpose(2, 3)
    rows, columns = m.point(torch.cat([rows, columns], 2)).split([12, 20], 2)
    return y + rows.sigmoid() * columns.transpose(2, 3).sigmoid()


def coordinates_of_blocks(m, x):
    """The same with 2x2 pixels among the channels: 3 + 1 rows and columns, 2 apart."""
    y = F.pixel_unshuffle(m.a(x), 2)
    rows, columns = y.mean(3, keepdim=True), y.mean(2, keepdim=True).transpose(2, 3)
    rows, columns = m.point(torch.cat([rows, columns], 2)).split([6, 10], 2)
    return rows.sigmoid() * columns.transpose(2, 3).sigmoid()


def blocks_behind_a_class(m, x):
    """Blocks of 2x2 pixels of 3x3 as tokens, and a class token that is taken away again."""
    y = F.pixel_unshuffle(m.a(x), 2).flatten(2).transpose(1, 2)
    y = torch.cat([y.new_zeros(1, 1, 16), y], 1)
    return y[:, 1:].transpose(1, 2).reshape(1, 16, 6, 10)


def beside_padding(m, x):
    """A mean of rows of 3x3, a column of padding, a column of pixels: 3 rows, every column."""
    outside = F.pad(x, (1, 0))[..., :1]
    return m.a(x).mean(3, keepdim=True).sum(1, keepdim=True) + outside + x[..., :1]


def rows_among_channels(m, x):
    """Every other row in other channels, pooled over all rows: no rows are left but these."""
    return F.max_pool2d(F.pixel_unshuffle(m.a(x), 2), (6, 1)).expand(-1, -1, 2, -1)


def patches_before_their_mean(m, x):
    """Patches of 2x2 pixels of 3x3 by unfold, with the mean of all, which goes again."""
    y = F.unfold(m.a(x), 2, stride=2)
    return torch.cat([y, y.mean(2, keepdim=True)], 2)[:, :, :60].view(1, 16, 6, 10)


def masked(m, x):
    """All but every other column filled: 3x3 adds a column to either side, where it is even."""
    odd = arange(x, 20) % 2 == 0
    return m.b(m.a(x).masked_fill(odd, 0.0))


def chosen_rows(m, x):
    """Rows of 3x3 from the third on, of pixels before: 3 + 2, and 1 + 2 (2 at the border)."""
    return m.b(torch.where(arange(x, 12)[:, None] > 2, m.a(x), x[:, :1]))


def padding_beside_a_mean(m, x):
    """Columns of padding see the mean of 3x3 that is added, whatever they see themselves."""
    return m.wide(F.pad(x, (3, 0))[..., :20] + m.a(x)[:, :3].mean(3, keepdim=True))


def blocks_before_channels(m, x):
    """Blocks of 2x2 pixels of 3x3, pooled over all columns; pixels come first."""
    y = m.a(x).view(1, 4, 6, 2, 10, 2).permute(0, 3, 5, 1, 2, 4).reshape(1, 16, 6, 10)
    return F.max_pool2d(y, (1, 10)).expand(-1, -1, -1, 2)


def columns_as_channels(m, x):
    """Blocks of 2x2 pixels of 3x3, columns among the channels, and a mean: 3 + 1 rows."""
    y = F.pixel_unshuffle(m.a(x), 2)
    columns = y.transpose(2, 3).reshape(1, 160, 6, 1)
    return m.point(torch.cat([columns, y[:, :8].mean(3, keepdim=True)], 1))


def axial(m, x):
    y = m.a(x)
    n, c, h, w = y.shape
    z = y.permute(0, 2, 3, 1).reshape(n * h, w, c)
    return m.heads(z, z, z)[0].view(n, h, w, c).permute(0, 3, 1, 2)


def windows(m, x):
    """A convolution in windows of 4x4 that lie in the batch: zeros beyond their borders."""
    y = m.a(x).view(1, 4, 3, 4, 5, 4).permute(0, 2, 4, 1, 3, 5).reshape(15, 4, 4, 4)
    y = m.b(y).view(1, 3, 5, 4, 4, 4).permute(0, 3, 1, 4, 2, 5)
    return y.reshape(1, 4, 12, 20)


def by_columns(m, x):
    y = m.a(x).mean(2).permute(2, 0, 1)
    return m.steps(y)[0].permute(1, 2, 0)


def spectrum(m, x):
    y = m.a(x)
    return m.b(y + torch.fft.irfft2(torch.fft.rfft2(y) * 2, s=y.shape[-2:]))


def windows_behind_a_token(m, x):
    """Windows of 4x4 in the batch, each behind a token of its own that is taken away again."""
    y = m.a(x).view(1, 4, 3, 4, 5, 4).permute(0, 2, 4, 3, 5, 1).reshape(15, 16, 4)
    y = torch.cat([y.new_zeros(15, 1, 4), y], 1)[:, 1:]
    return y.reshape(1, 3, 5, 4, 4, 4).permute(0, 5, 1, 3, 2, 4).reshape(1, 4, 12, 20)


def fcrn(m, x, first=2):
    """Four kernels of 2 or 3 rows and columns, interleaved (Laina et al. 2016): 3 by the half."""
    pads = ((1, 1, 1, 1), (1, 1, 0, 1), (0, 1, 1, 1), (0, 1, 0, 1))
    a, b, c, d = (layer(F.pad(x, pad)) for layer, pad in zip(m.four, pads, strict=True))
    n, _, h, w = a.shape
    if first == 3:  # as published: a and b differ in rows, and are interleaved by columns
        a, c = (torch.stack(pair, 2).permute(0, 1, 3, 4, 2).reshape(n, -1, h, 2 * w)
                for pair in ((a, b), (c, d)))  # fmt: skip
        return torch.stack((a, c), 2).permute(0, 1, 3, 2, 4).reshape(n, -1, 2 * h, 2 * w)
    a, c = (torch.stack(pair, 3).reshape(n, -1, 2 * h, w) for pair in ((a, b), (c, d)))
    return torch.stack((a, c), 4).reshape(n, -1, 2 * h, 2 * w)


FOUR = {"four": nn.ModuleList([nn.Conv2d(3, 2, k) for k in (3, (2, 3), (3, 2), 2)])}


def coupling(m, x):
    """Half of each block's pixels as they are, half with what the first half's 3x3 says: Glow."""
    y = F.pixel_unshuffle(x[:, :1], 2)
    a, b = y.chunk(2, 1)
    return F.pixel_shuffle(torch.cat([a, b * m.pair(a).exp()], 1), 2)


def channels_of_a_join(act):
    """Of 3x3 and 5x5 the first two channels: 3x3."""
    return lambda m, x: act(torch.cat([m.a(x)[:, :2], m.five(x)], 1))[:, :2]


FIVE = {"five": conv(3, 2, 5), "six": conv(3, 4, 5)}


# name: forward, what it sees (interior units), shapes of inputs, further layers
NETWORKS = {
    "a time step": (lambda m, x, t: m.b(m.a(x) + m.embed(t[:, None])[..., None, None]), "5",
                    (IMAGE, (1,)), {"embed": nn.Linear(1, 4)}),
    "features first, scale and shift": (lambda m, z, x: m.b(m.a(x) * m.film(z)[..., None, None]),
                                        "5", ((1, 8), IMAGE), {"film": nn.Linear(8, 4)}),
    "noise beside a map": (lambda m, x, z: m.wide(torch.cat([m.a(x), z.expand(1, 4, 12, 20)], 1)),
                           "5", (IMAGE, (1, 4, 1, 1)), {"wide": conv(8, 4)}),
    "a mask of the same size": (lambda m, x, y: m.wide(torch.cat([m.a(x), y], 1)), "5",
                                (IMAGE, (1, 1, 12, 20)), {"wide": conv(5, 4)}),
    "weights by a style": (stylegan, "5", (IMAGE, (1, 8)), {"style": nn.Linear(8, 4)}),
    "weights by a global mean": (
        lambda m, x: F.conv2d(y := m.a(x), m.w(y.mean((2, 3))).view(4, 1, 3, 3), padding=1,
                              groups=4), "all (5)", (IMAGE,), {"w": nn.Linear(4, 36)}),
    "involution": (involution, "5", (IMAGE,), {}),
    "channels last": (lambda m, x: m.b(m.a(x.permute(0, 3, 1, 2))), "5", ((1, 12, 20, 3),), {}),
    "a sequence, channels last": (lambda m, x: m.one(x.transpose(1, 2)), "3", ((1, 24, 3),),
                                  {"one": nn.Conv1d(3, 4, 3, padding=1)}),
    "a waveform": (lambda m, x: m.one(x[:, None]), "3", ((1, 24),),
                   {"one": nn.Conv1d(1, 4, 3, padding=1)}),
    "slices of rank 3": (lambda _, x: x[..., 1:] + x[..., :-1], "2", ((2, 4, 24),), {}),
    "depthwise over rows": (lambda m, x: m.rows(m.a(x).transpose(1, 2)).transpose(1, 2), "3x5",
                            (IMAGE,), {"rows": conv(12, 12, groups=12)}),
    "repeated by view": (joined(up_by_view), "7", (IMAGE,), HALF),
    "repeat_interleave": (joined(lambda y: y.repeat_interleave(2, 2).repeat_interleave(2, 3)), "7",
                          (IMAGE,), HALF),
    "kron": (joined(lambda y: torch.kron(y, torch.ones(1, 1, 2, 2, device=y.device).to(y.dtype))),
             "7", (IMAGE,), HALF),
    "stacked twice": (joined(lambda y: torch.stack([z := torch.stack([y, y], -1).flatten(3), z], 3)
                             .flatten(2, 3)), "7", (IMAGE,), HALF),
    "indices": (joined(lambda y: y[:, :, (arange(y, 12) // 2)[:, None], arange(y, 20) // 2]), "7",
                (IMAGE,), HALF),
    "indices backwards": (lambda m, x: m.b(m.a(x)[..., arange(x, 19, -1, -1)]), "5x3-5",
                          (IMAGE,), {}),
    "shuffled there and back": (lambda m, x: m.b(F.pixel_shuffle(F.pixel_unshuffle(m.a(x), 2), 2)),
                                "5", (IMAGE,), {}),
    "circular": (lambda m, x: m.b(m.round(x)), "5", (IMAGE,),
                 {"round": conv(3, 4, padding_mode="circular")}),
    "circular by cat": (lambda m, x: m.b(torch.cat([y := m.a(x), y[..., :2]], 3)), "5", (IMAGE,),
                        {}),
    "pads of negative amounts": (lambda m, x: m.b(F.pad(m.a(x), (-2, 3, 1, -1), "circular")), "5",
                                 (IMAGE,), {}),
    "rolled": (lambda m, x: m.b((y := m.a(x)) + y.roll((2, -1), (3, 2))), "6x7", (IMAGE,), {}),
    "rolled there and back": (lambda m, x: m.b(m.a(x).roll(-2, 2)).roll(2, 2), "5", (IMAGE,), {}),
    "written into channels": (shifted, "5x7", (IMAGE,), {}),
    "written into phases": (interleaved, "5", (IMAGE,), HALF),
    "windows added up again": (lambda m, x: m.b(F.fold(F.unfold(m.a(x), 3, padding=1), (12, 20), 3,
                                                       padding=1)), "5", (IMAGE,), {}),
    "windows of one dimension": (lambda m, x: m.a(x).unfold(3, 3, 2).amax(-1), "3x5 /1x2",
                                 (IMAGE,), {}),
    "convolved in windows": (windows, "4-5", (IMAGE,), {}),
    "bands": (lambda m, x: torch.cat([m.b(p) for p in m.a(x).split(4, 2)], 2), "3-5x5", (IMAGE,),
              {}),
    "rows taken apart": (lambda m, x: m.b(torch.stack(m.a(x).unbind(2), 2)), "5", (IMAGE,), {}),
    "a strip": (lambda m, x: (y := m.a(x)) * y.mean(3, keepdim=True).sigmoid(), "3xall (3)",
                (IMAGE,), {}),
    "rows as channels": (lambda m, x: m.one(m.a(x).flatten(1, 2)), "allx5", (IMAGE,),
                         {"one": nn.Conv1d(48, 4, 3, padding=1)}),
    "patches behind a class token": (
        behind_a_class, "12 /4", (IMAGE,),
        {"patches": nn.Conv2d(3, 8, 4, 4), "norm": nn.LayerNorm(8), "wide": conv(8, 4)}),
    "coordinate attention": (coordinates, "all (3)", (IMAGE,), {"point": conv(4, 4, 1)}),
    "coordinate attention of blocks": (coordinates_of_blocks, "all (4)", (IMAGE,),
                                       {"point": nn.Conv2d(16, 3, 1)}),
    "blocks behind a class token": (blocks_behind_a_class, "4 /2", (IMAGE,), {}),
    "patches before their mean": (patches_before_their_mean, "4 /2", (IMAGE,), {}),
    "filled by a known mask": (masked, "5x3-5", (IMAGE,), {}),
    "filled at the border": (lambda m, x: m.b(m.a(x).masked_fill(~(arange(x, 20) > 0), 0.0)), "5",
                             (IMAGE,), {}),
    "chosen by a known mask": (chosen_rows, "2-5x5", (IMAGE,), {}),
    "padding beside a mean": (padding_beside_a_mean, "5xall (5x3)", (IMAGE,),
                              {"wide": nn.Conv2d(3, 4, 3, padding=3)}),
    "columns before channels": (blocks_before_channels, "4xall /2x1", (IMAGE,), {}),
    # four pixels of 3x3 in the corner, 3 rows and columns of the input together: each channel of a
    # unit holds one of them, so that a unit sees them all wherever it lies
    # a part of 3 and of 5 pixels, side by side in channels that become the rows of a block
    "a join as sub-pixels": (lambda m, x: F.pixel_shuffle(
        torch.cat([m.a(x)[:, :2], m.five(x)], 1), 2), "3-5x5 /0.5", (IMAGE,), FIVE),
    "a join as sub-pixels by view": (lambda m, x: torch.cat([m.a(x)[:, :2], m.five(x)], 1)
        .view(1, 2, 2, 12, 20).permute(0, 3, 1, 4, 2).reshape(1, 1, 24, 40), "3-5x5 /0.5",
        (IMAGE,), FIVE),
    "some channels of a join": (channels_of_a_join(torch.relu), "3", (IMAGE,), FIVE),
    "some channels of a join, shuffled": (
        lambda m, x: F.channel_shuffle(torch.cat([m.a(x), m.six(x)], 1), 2)[:, 1::2], "5", (IMAGE,),
        FIVE),
    # what sums over channels, or puts them in another order, is not taken for what was joined
    "channels of a join after a softmax": (channels_of_a_join(lambda y: y.softmax(1)), "5",
                                           (IMAGE,), FIVE),
    "channels of a join backwards": (channels_of_a_join(lambda y: y.flip(1)), "5", (IMAGE,), FIVE),
    "channels of a join rolled": (channels_of_a_join(lambda y: y.roll(2, 1)), "5", (IMAGE,), FIVE),
    "channels of a join summed up": (channels_of_a_join(lambda y: y.flip(1).cumsum(1)), "5",
                                     (IMAGE,), FIVE),
    "interleaved as in FCRN": (lambda m, x: fcrn(m, x, 3), "3 /0.5", (IMAGE,), FOUR),
    "interleaved along the same axis": (fcrn, "2-3 /0.5", (IMAGE,), FOUR),
    "interleaved with zeros": (
        lambda m, x: m.b(torch.stack([y := m.a(x), torch.zeros_like(y)], -1).flatten(3)),
        "5x3-4 /1x0.5", (IMAGE,), {}),
    "channels backwards after space to depth": (
        lambda m, x: F.pixel_shuffle(F.pixel_unshuffle(x[:, :1], 2).flip(1), 2), "1", (IMAGE,), {}),
    "coupled pixels": (coupling, "1-5x6", (IMAGE,), {"pair": conv(2, 2)}),
    # rows 2i and 2i + 1 of 3x3 side by side
    "rows as columns": (lambda m, x: m.a(x).view(1, 4, 6, 2, 20).transpose(3, 4).reshape(
        1, 4, 6, 40), "4x3 /2x0.5", (IMAGE,), {}),
    # row 2i + j has columns 10j to 10j + 9 of row i, and column 2k + c of it column 10j + k of
    # channel c: a unit sees, in one of both halves, 3 around column k or k + 10 (12 at the border)
    "rows cut in two": (lambda m, x: m.a(x).view(1, 2, 2, 12, 20).permute(0, 1, 3, 4, 2).reshape(
        1, 2, 24, 20), "3x12-13 /0.5x1", (IMAGE,), {}),
    "windows behind a token": (windows_behind_a_token, "3", (IMAGE,), {}),
    "a mirror across the diagonal": (lambda m, x: (y := m.a(x)[..., :12]) + y.mT, "all", (IMAGE,),
                                     {}),
    "chosen by a mask of both axes": (lambda m, x: torch.where(  # 3 in even rows and columns
        arange(x, 12)[:, None] % 2 + arange(x, 20) % 2 == 0, m.a(x), x[:, :1]), "1-3", (IMAGE,),
        {}),
    "filled where rows are even, flattened": (lambda m, x: m.a(x).flatten(2).masked_fill(
        (arange(x, 240) // 20) % 2 == 0, 0.0).view(1, 4, 12, 20), "3", (IMAGE,), {}),
    "all pixels as channels": (lambda m, x: F.interpolate(m.a(x)[:, :1, :2, :2].reshape(1, 4, 1, 1),
                                                          size=(2, 2)), "all", (IMAGE,), {}),
    "columns as channels": (columns_as_channels, "4xall /2x1", (IMAGE,),
                            {"point": nn.Conv2d(168, 4, 1)}),
    "beside padding": (beside_padding, "3xall (3x2)", (IMAGE,), {}),
    "rows among channels": (rows_among_channels, "allx4 /1x2", (IMAGE,), {}),
    "attention over a sequence": (lambda m, x: m.heads(x, x, x)[0].mT, "all (1)", ((1, 9, 4),),
                                  {"heads": nn.MultiheadAttention(4, 2, batch_first=True)}),
    "attention by hand": (lambda m, x: (((q := m.q(x)) @ x.mT).softmax(-1) @ q).mT, "all (1)",
                          ((1, 9, 4),), {"q": nn.Linear(4, 4)}),
    "axial attention": (axial, "3xall (3)", (IMAGE,),
                        {"heads": nn.MultiheadAttention(4, 2, batch_first=True)}),
    "a running sum": (lambda m, x: m.b(m.a(x).cumsum(3)), "5xall", (IMAGE,), {}),
    "a running maximum backwards": (lambda m, x: m.a(x).flip(3).cummax(3)[0].flip(3), "3xall",
                                    (IMAGE,), {}),
    "messages from row to row": (messages, "allx3", (IMAGE,), {}),
    "recurrent": (by_columns, "all", (IMAGE,), {"steps": nn.GRU(4, 4)}),
    "recurrent both ways": (by_columns, "all", (IMAGE,),
                            {"steps": nn.LSTM(4, 4, bidirectional=True)}),
    "a Fourier transform": (spectrum, "all (5)", (IMAGE,), {}),
    "anti-aliased": (lambda m, x: F.interpolate(m.a(x), scale_factor=0.5, mode="bilinear",
                                                antialias=True), "6 /2", (IMAGE,), {}),
    "nearest-exact": (lambda m, x: F.interpolate(m.a(x), scale_factor=0.5, mode="nearest-exact"),
                      "3 /2", (IMAGE,), {}),
    "normalised by itself": (lambda m, x: m.a(x / x.flatten(1).std(1)[:, None, None, None]),
                             "all (3)", (IMAGE,), {}),
}  # fmt: skip


def added_at(place):
    """Rows of a map added up at places of another one."""

    def forward(m, x):
        y = m.a(x)
        index = place(arange(x, 12))
        return m.b(torch.ops.aten.index_put(torch.zeros_like(y), [None, None, index], y, True))

    return forward


NETWORKS |= {
    # place u has rows 2u and 2u + 1 of a, of the input 2u - 1 to 2u + 2; b reads three places:
    # 2u - 3 to 2u + 4. Below the last one it reads rows 9 to 11 alone.
    "rows added up in pairs": (added_at(lambda rows: rows // 2), "3-8x5", (IMAGE,), {}),
    # place j has rows j, j + 3, ..., j + 9: of the input j - 1 to j + 10, and no more than 0 to 11
    "rows added up in turns": (added_at(lambda rows: rows % 3), "11-12x5", (IMAGE,), {}),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", NETWORKS)
def test_each_unit_sees_what_nan_reaches(name):
    function, seen, shapes, children = NETWORKS[name]
    torch.manual_seed(0)
    model = Net(function, **children).double().eval()
    inputs = [torch.rand(shape, dtype=torch.float64) for shape in shapes]
    field, found = computed(model, inputs)
    assert field is not None
    assert not field.unknown
    assert units.field(field.axes) == seen
    for axis, input_dim in enumerate(found.dims):
        if field.maps[axis] is not None:
            dim = axis - len(found.dims)
            assert expected(field, axis) == measured(model, inputs, found.input, input_dim, dim)


def meta(model, *shapes):
    inputs = tuple(torch.empty(shape, device="meta") for shape in shapes)
    return trace(model.to("meta"), inputs)


def test_a_deformable_convolution_is_taken_at_its_regular_grid_and_says_so():
    class Deformable(Net):
        def forward(self, x):
            y = self.a(x)
            return self.b(self.deform(y, self.offsets(y)))

    deform = torchvision.ops.DeformConv2d(4, 4, 3, padding=1)
    recorded = meta(Deformable(None, deform=deform, offsets=conv(4, 18)), IMAGE)
    field = receptive_field.fields(recorded)[recorded.outputs[0]]
    assert units.field(field.axes) == "7"  # 3, 3 + 2, 5 + 2
    assert "regular grid" in " ".join(report(recorded).notes)


def test_a_kernel_with_a_mask_says_that_all_of_its_taps_count():
    class Masked(nn.Conv2d):
        def __init__(self, size):
            super().__init__(3, 4, size, padding=size // 2)
            self.register_buffer("mask", torch.ones(size, size).tril())
            self.register_buffer("scale", torch.ones(4, 1, 1, 1))

        def forward(self, x):
            return self._conv_forward(x, self.weight * self.mask * self.scale, self.bias)

    class Last(Masked):
        def forward(self, x):
            return self._conv_forward(x, self.weight * self.scale * self.mask, self.bias)

    said = [" ".join(report(meta(net, IMAGE)).notes) for net in (Last(3), Last(1), Masked(3))]
    assert ["the kernel of the model is multiplied by a buffer" in one for one in said] == [
        True, False, True,
    ]  # fmt: skip


def test_where_a_grid_leads_is_unknown():
    recorded = meta(Net(lambda m, x, g: m.b(F.grid_sample(m.a(x), g, align_corners=False))), IMAGE,
                    (1, 12, 20, 2))  # fmt: skip
    field = receptive_field.fields(recorded)[recorded.outputs[0]]
    assert field.unknown
    assert field.reason == "grid sample is not followed"


def test_a_second_image_is_left_out_and_named():
    recorded = meta(Net(lambda m, x, y: m.b(m.a(x) + m.a(y))), IMAGE, IMAGE)
    assert "those of input 1 (1x3x12x20)" in " ".join(report(recorded).notes)


def test_positions_that_are_not_the_last_dimensions_are_named():
    recorded = meta(Net(lambda m, x: m.a(x.permute(0, 3, 1, 2))), (1, 12, 20, 3))
    assert "dimensions 1 and 2 of the input" in " ".join(report(recorded).notes)


SPECTROGRAM = """
from torch import nn
class Flat(nn.Module):  # frequency becomes channels: all of the height, 3 + 4 + 4 columns
    def __init__(self, last=5):
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv1d(4 * 16, 4, 5, padding=2)
        self.c = nn.Conv1d(4, 4, last, padding=last // 2)
    def forward(self, x): return self.c(self.b(self.a(x).flatten(1, 2)))
class Strip(nn.Module):  # rows of 3, every column
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
    def forward(self, x):
        y = self.a(x)
        return y * y.mean(3, keepdim=True).sigmoid()
"""


@pytest.fixture
def spectrogram(tmp_path):
    path = tmp_path / "spectrogram.py"
    path.write_text(SPECTROGRAM, encoding="utf-8")
    return f"{path}:Flat", f"{path}:Strip"


def test_each_axis_is_told_by_itself(spectrogram):
    flat, strip = spectrogram
    size = ("--input", "1x16x100")
    text = run_cli("summary", flat, *size).out
    assert "allx11 px of the 16x100 px input" in text
    assert run_cli("summary", flat, *size, "--min-rf", "11").code == 0
    assert run_cli("summary", flat, *size, "--min-rf", "12").code == 1
    text = run_cli("diff", flat, *size, "--arg-b", "last=7").out
    assert "allx13" in text
    assert "H unchanged, W +2 px" in text
    text = run_cli("explain", flat, "c", *size).out
    assert "7 + 1*(5 - 1)*1 = 11" in text
    assert "all of the input" in text
    assert "1x100" in run_cli("explain", flat, *size).out
    assert ",allx11,allx11,x11,x1,x5," in run_cli("summary", flat, *size, "--format", "csv").out
    text = run_cli("rf", strip, "mul", "--unit", "10,10", *size).out
    assert "[9, 11]" in text
    assert "[0, 99]" in text
    assert "along W it depends on every position" in text


@pytest.mark.parametrize("listed", [[0, 2, 4], [3, -1, 0], [5]])
def test_listed_indices_are_followed_where_their_values_were_made_on_the_cpu(listed):
    model = Net(lambda m, x: m.a(x)[:, :, torch.tensor(listed)]).double().eval()
    inputs = [torch.rand(IMAGE, dtype=torch.float64)]
    recorded = trace(model, tuple(inputs))
    if not any("lift_fresh" in op.name for op in recorded.ops):
        pytest.skip("torch 2.9 makes such tensors unseen")
    field, found = computed(model, inputs)
    for axis, dim in enumerate(found.dims):
        assert expected(field, axis) == measured(model, inputs, 0, dim, dim)


INDICES = {
    # 49 * (1 / 49) is 1 in float32, and 0.9999999999999999 in float64, which cuts to 0
    "parts of a unit": lambda x: (arange(x, 98) * (1 / 49)).long(),
    "a quotient of integers": lambda x: (arange(x, 98) / 49).long(),
    "a clamped offset": lambda x: (arange(x, 98) * (1 / 49) - 1).clamp(min=0).long(),
    "full of a fraction": lambda x: (arange(x, 98) * torch.full((98,), 1 / 49)).long(),
    "a limit for each": lambda x: torch.clamp(arange(x, 12), max=arange(x, 12) // 2),
    "limits on both sides": lambda x: arange(x, 8).clamp(arange(x, 8) // 3, 7 - arange(x, 8)),
    "bytes that wrap": lambda x: (arange(x, 20).to(torch.uint8) * 100).long() % 8,
    "int32": lambda x: (arange(x, 98).int() * (1 / 49)).int(),
}


@pytest.mark.parametrize("indices", INDICES.values(), ids=INDICES)
def test_known_indices_are_those_that_torch_computes(indices):
    made = trace(Net(lambda _, x: x[..., indices(x)]), (torch.empty(1, 3, 4, 8, device="meta"),))
    (index,) = [op for op in made.ops if op.name.startswith("aten.index")]
    known = Constants(made).value(index.inputs["indices"][-1])
    assert known.tolist() == indices(torch.zeros(1)).tolist()


class Tokens(nn.Module):
    """Indices of a table, and a convolution over their rows."""

    def __init__(self):
        super().__init__()
        self.table, self.conv = nn.Embedding(10, 4), nn.Conv1d(4, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(self.table(x).transpose(1, 2))


def test_an_index_of_a_table_is_seen_at_its_place():
    net, tokens = Tokens().eval(), torch.zeros(1, 12, dtype=torch.int64)
    result = trace(net, (tokens,))
    (units,) = receptive_field.fields(result)[result.outputs[0]].maps
    with torch.no_grad():
        plain = net(tokens)
        changed = [net(tokens.index_fill(1, torch.tensor([i]), 1)) != plain for i in range(12)]
    seen = torch.stack([one.any(1)[0] for one in changed])  # of each token, by each unit
    for unit in range(12):  # 3 tokens, 2 at the ends
        places = seen[:, unit].nonzero().flatten().tolist()
        assert places == list(range(units.lo[unit], units.hi[unit] + 1))
    assert units.unclipped(6) == (5, 7)


class Patches(nn.Module):
    """Patches of 4x4 whose pixels are features, normed, and one piece laid beside nothing."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(48), nn.Linear(48, 8)

    def forward(self, x):
        n, c, h, w = x.shape
        patches = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1)
        tokens = self.linear(self.norm(patches.reshape(n, h // 4, w // 4, 48)))
        packed = torch.cat([tokens.reshape(n, -1, 8)], 1)
        return packed.view(n, h // 4, w // 4, 8)


def test_features_of_a_patch_see_the_patch():
    result = trace(Patches(), (torch.empty(1, 3, 12, 20, device="meta"),))
    found = {row.name: row.field for row in report(result).layers if row.field}
    for name in ("norm", "linear"):  # 4 pixels, and the next patch 4 further
        assert [(a.size, a.stride, a.padding) for a in found[name]] == [(4, 4, 0)] * 2
    last = receptive_field.fields(result)[result.outputs[0]]
    assert [(a.size, a.stride) for a in last.axes] == [(4, 4)] * 2  # of a single piece, too


def test_a_kernel_of_a_billion_taps_is_not_followed_and_takes_no_time():
    pool = nn.MaxPool2d(2**40, padding=2**39)
    summary = report(trace(pool, [torch.zeros(1, 3, 8, 8, device="meta")]))
    assert summary.layers[0].output_shapes == ((1, 3, 1, 1),)
    assert summary.layers[0].field_unknown

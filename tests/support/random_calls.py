"""Random calls of the operations of networks, with dtypes and sizes that may not fit."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

_DTYPES = [torch.float32] * 14 + [
    *(torch.float64, torch.float16, torch.bfloat16, torch.int64),
    *(torch.int32, torch.uint8, torch.bool, torch.complex64),
]
_INDICES = [torch.int64] * 5 + [torch.int32, torch.float32]
_ACTIVATIONS = [
    *(F.relu, F.relu6, F.gelu, F.silu, F.mish, F.hardswish, F.hardtanh, F.elu, F.leaky_relu),
    *(F.softplus, F.hardshrink, torch.sigmoid, torch.tanh, torch.exp, torch.log, torch.sqrt),
    *(torch.abs, torch.neg, torch.floor, torch.sign, torch.erf, torch.logical_not, torch.square),
]
_REDUCTIONS = [
    *(F.softmax, F.log_softmax, F.glu, torch.cumsum, torch.sum, torch.mean, torch.amax),
    *(torch.argmax, torch.var, torch.std, torch.prod, torch.logsumexp, torch.sort, torch.max),
]
_PAIRS = [
    *(torch.add, torch.sub, torch.mul, torch.div, torch.maximum, torch.pow, torch.eq, torch.lt),
    *(torch.logical_and, torch.bitwise_and, torch.atan2, torch.hypot),
]


class Draw:
    """One random call, as (function, arguments)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of(self, *values):
        return self.random.choice(values)

    def near(self, value):
        """Mostly the value, at times another one."""
        return self.of(*[value] * 8, value + 1, max(value - 1, 1), 2 * value, 1)

    def tensor(self, *shape, dtype=None):
        dtype = dtype or self.of(*_DTYPES)
        data = torch.rand(shape)
        return (data if dtype.is_floating_point or dtype.is_complex else 0 * data).to(dtype)

    def index(self, *shape):
        return torch.zeros(shape, dtype=self.of(*_INDICES))

    def maybe(self, *shape):
        return self.of(None, self.tensor(*shape))

    def call(self):
        kinds = "convolution transposed linear product norm pool activation reduction pair indexing"
        return getattr(self, self.of(*f"{kinds} shape resize loss module".split()))()

    def convolution(self):
        axes, groups = self.of(1, 2, 3), self.of(1, 1, 2, 3)
        inner, outer = self.of(2, 4, 6), self.of(4, 6)
        weight = self.tensor(self.near(outer), max(1, inner // groups), *[self.of(1, 2, 3)] * axes)
        data = self.tensor(2, self.near(weight.shape[1] * groups), *[self.of(2, 5, 8)] * axes)
        options = {"stride": self.of(1, 1, 2, 0), "padding": self.of(0, 1, -1), "groups": groups}
        options["dilation"] = self.of(1, 1, 2, 0)
        function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
        bias = self.maybe(self.near(weight.shape[0]))
        return lambda x, w, b: function(x, w, b, **options), (data, weight, bias)

    def transposed(self):
        axes, groups = self.of(1, 2), self.of(1, 1, 2)
        weight = self.tensor(self.of(2, 4, 6), self.of(1, 2), *[self.of(2, 3)] * axes)
        data = self.tensor(2, self.near(weight.shape[0]), *[self.of(2, 5)] * axes)
        options = {"stride": self.of(1, 2, 0), "output_padding": self.of(0, 1), "groups": groups}
        function = (F.conv_transpose1d, F.conv_transpose2d)[axes - 1]
        # a bias of another dtype is taken or not by the size of the whole
        bias = self.of(None, self.tensor(self.near(weight.shape[1] * groups), dtype=weight.dtype))
        return lambda x, w, b: function(x, w, b, **options), (data, weight, bias)

    def linear(self):
        inner, outer = self.of(2, 3, 4), self.of(2, 3, 4)
        data = self.tensor(*[3] * self.of(0, 1, 2), self.near(inner))
        return F.linear, (data, self.tensor(outer, inner), self.maybe(self.near(outer)))

    def product(self):
        a, b, c = self.of(2, 3), self.of(2, 3), self.of(2, 3)
        left, right = self.tensor(2, a, self.near(b)), self.tensor(self.near(2), b, c)
        function = self.of(torch.bmm, torch.matmul, torch.mm, torch.addmm, torch.einsum)
        if function is torch.mm:
            return function, (left[0], right[0])
        if function is torch.addmm:
            return function, (self.tensor(self.near(c)), left[0], right[0])
        if function is torch.einsum:
            return lambda x, y: torch.einsum("bij,bjk->bik", x, y), (left, right)
        return function, (left, right)

    def norm(self):
        data = self.tensor(2, 4, 3, 3)
        weight, bias = self.maybe(self.near(4)), self.maybe(self.near(4))
        kind = self.of("batch", "group", "layer")
        if kind == "group":
            groups = self.of(1, 2, 3)
            return lambda x, w, b: F.group_norm(x, groups, w, b), (data, weight, bias)
        if kind == "layer":
            shape = [self.near(3), 3][self.of(0, 1) :]
            return (
                lambda x, w, b: F.layer_norm(x, shape, w, b),
                (data, self.maybe(*shape), self.maybe(*shape)),
            )
        mean, variance = self.tensor(self.near(4)), self.tensor(4)
        return F.batch_norm, (data, mean, variance, weight, bias)

    def pool(self):
        axes, kind = self.of(1, 2, 3), self.of("max_pool", "avg_pool", "adaptive_avg_pool")
        data = self.tensor(2, 3, *[self.of(2, 5, 8)] * axes)
        if kind.startswith("adaptive"):
            size = self.of(1, 2, 3)
            return lambda x: getattr(F, f"{kind}{axes}d")(x, size), (data,)
        if kind == "max_pool" and axes == 1 and not data.dtype.is_floating_point:
            axes, data = 2, data[..., None]  # another kernel serves it without gradients
        options = {"kernel_size": self.of(1, 2, 3), "stride": self.of(None, 1, 2)}
        options["padding"] = self.of(0, 0, 1, 2)
        return lambda x: getattr(F, f"{kind}{axes}d")(x, **options), (data,)

    def activation(self):
        return self.of(*_ACTIVATIONS), (self.tensor(*[3] * self.of(1, 2, 4)),)

    def reduction(self):
        function, dim = self.of(*_REDUCTIONS), self.of(-1, 0, 1, 5)
        return lambda x: function(x, dim), (self.tensor(2, 3, 4),)

    def pair(self):
        function = self.of(*_PAIRS)
        in_place = self.of(False, False, True) and function in (torch.add, torch.mul, torch.div)
        if in_place:
            name = f"{function.__name__}_"
            return lambda x, y: getattr(x.clone(), name)(y), (
                self.tensor(2, 3),
                self.tensor(self.near(3)),
            )
        return function, (self.tensor(2, 3), self.tensor(self.near(3)))

    def module(self):
        layer = self.of(
            lambda: nn.LSTM(4, 8, bidirectional=True),
            lambda: nn.GRU(4, 8),
            lambda: nn.TransformerEncoderLayer(4, 2, 8),
            lambda: nn.PReLU(self.of(1, 3, 4)),
            lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
            lambda: nn.InstanceNorm2d(4, affine=True),
        )().eval()
        layer.to(self.of(torch.float32, torch.float32, torch.float64, torch.bfloat16))
        return layer, (self.tensor(*[self.near(4)] * self.of(3, 3, 4)),)

    def shape(self):
        data = self.tensor(2, self.of(3, 4, 8, 9), 4, 6)
        factor, dim, pads = self.of(1, 2, 3), self.of(0, 1, 4), [self.of(0, 1, 3, 8)] * 4
        sizes, mode = self.of((2, -1, 12), (4, 8)), self.of("reflect", "replicate", "circular")
        other = self.tensor(2, self.near(3), 4, 6)
        return self.of(
            (lambda x: x.view(sizes), (data,)),
            (lambda x, y: torch.cat([x, y], dim), (data, other)),
            (lambda x: F.pixel_shuffle(x, factor), (data,)),
            (lambda x: F.pixel_unshuffle(x, factor), (data,)),
            (lambda x: F.unfold(x, 2 * factor), (data,)),
            (lambda x: F.pad(x, pads, mode), (data,)),
        )

    def resize(self):
        data, mode = self.tensor(2, 3, 4, 6), self.of("nearest", "bilinear", "bicubic", "area")
        sizes = self.of({"size": 5}, {"size": 0}, {"scale_factor": 2}, {"scale_factor": 0.1}, {})
        grid = self.tensor(self.near(2), 5, 5, self.near(2))
        return self.of(
            (lambda x: F.interpolate(x, mode=mode, **sizes), (data,)),
            (lambda x, g: F.grid_sample(x, g, align_corners=False), (data, grid)),
        )

    def loss(self):
        data, target = self.tensor(3, 4, 5), self.index(self.near(3), self.near(5))
        other = self.tensor(3, 4, self.near(5))
        return self.of(
            (F.cross_entropy, (data, target)),
            (F.nll_loss, (data, target)),
            (F.binary_cross_entropy_with_logits, (data, other)),
            (F.l1_loss, (data, other)),
        )

    def indexing(self):
        data, index, values = self.tensor(4, 5, 6), self.index(3), self.tensor(self.near(3), 5, 6)
        dim = self.of(0, 1, 3)
        return self.of(
            (lambda x, i: x.index_select(dim, i), (data, index)),
            (lambda x, i: x[i], (data, index)),
            (lambda x, i: x.gather(0, i), (data, self.index(self.near(4), 5, 6))),
            (lambda x, i, v: x.index_add(0, i, v), (data, index, values)),
            (lambda x, i, v: x.index_put((i,), v), (data, index, values)),
            (F.embedding, (index, self.tensor(5, 4))),
        )

"""Recipes of random networks as plain data, and the helpers that their blocks share.

Every recipe is a network. A block takes its hyper-parameters from `digits`, one for each choice; a
choice that torch refuses, or that leaves nothing of the data, is `Identity` instead. Hence a
failing example shrinks to few blocks with small digits, and prints as something to paste into
`networks.build`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

LARGEST = 3000  # elements of a tensor between blocks
LONGEST = 100  # positions that attention is over


class Block(NamedTuple):
    """A block of a recipe: its kind, one digit for each of its choices, the blocks inside it."""

    kind: str
    digits: tuple[int, ...]
    inner: tuple[Block, ...] = ()


class Recipe(NamedTuple):
    """A network: `sizes` of its input (as many as it has axes), its blocks, how it is called."""

    batch: int
    channels: int
    sizes: tuple[int, ...]
    blocks: tuple[Block, ...]
    inputs: str = "one"
    head: str = "none"


class Built(NamedTuple):
    """A module in eval mode, and shapes of its inputs."""

    module: nn.Module
    shapes: tuple[tuple[int, ...], ...]


class Do(nn.Module):
    """A forward with its parts: modules, parameters, constants."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


class Choices:
    """The digits of a block, one for each choice; the first option is the simplest."""

    def __init__(self, digits: tuple[int, ...]) -> None:
        self.digits, self.at = digits or (0,), 0

    def __call__(self, *options: Any) -> Any:
        digit = self.digits[self.at % len(self.digits)] + self.at // len(self.digits)
        self.at += 1
        return options[digit % len(options)]

    def each(self, count: int, *options: Any) -> tuple[Any, ...]:
        """The same for all axes, or one for each."""
        first = self(*options)
        if self(True, True, False):
            return (first,) * count
        return (first, *(self(*options) for _ in range(count - 1)))


Maker = Callable[[Tensor, Choices, tuple[Block, ...]], nn.Module]
KINDS: dict[str, Maker] = {}


def kind(maker: Maker) -> Maker:
    KINDS[maker.__name__.rstrip("_")] = maker
    return maker


# --------------------------------------------------------------------------------- building


def chain(blocks: tuple[Block, ...], x: Tensor) -> tuple[nn.Sequential, Tensor]:
    """Blocks one after the other, with an example of what comes out."""
    made = nn.Sequential()
    for block in blocks:
        module, x = fitted(block, x)
        made.append(module)
    return made, x


def fitted(block: Block, x: Tensor) -> tuple[nn.Module, Tensor]:
    """A block that runs on such an input, and its output."""
    try:
        module = KINDS[block.kind](x, Choices(block.digits), block.inner).eval()
        y = module(x)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return nn.Identity(), x
    fits = y.dim() == x.dim() and 0 < y.numel() <= LARGEST and y.shape[0] == x.shape[0]
    return (module, y) if fits else (nn.Identity(), x)


def axes(x: Tensor) -> int:
    return x.dim() - 2


def of_axes(name: str, x: Tensor, space: Any = nn) -> Any:
    """`Conv` for two axes is nn.Conv2d, `conv` is F.conv2d."""
    return getattr(space, f"{name}{axes(x)}d")


def spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def cropped(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    return x[(slice(None), slice(None), *(slice(0, n) for n in sizes))]


def even(x: Tensor) -> Tensor:
    """Without the last position of axes that have an odd number."""
    return cropped(x, tuple(n - n % 2 for n in x.shape[2:]))


def smaller(*tensors: Tensor) -> list[Tensor]:
    """Cut to the smallest size of each axis."""
    sizes = tuple(map(min, zip(*(t.shape[2:] for t in tensors), strict=True)))
    return [t if t.shape[2:] == sizes else cropped(t, sizes) for t in tensors]


def one_by_one(x: Tensor, out: int, **how: Any) -> nn.Module:
    return of_axes("Conv", x)(x.shape[1], out, 1, **how)


def divisor(channels: int, choose: Choices) -> int:
    return choose(*(n for n in (1, channels, 2, 3) if channels % n == 0))

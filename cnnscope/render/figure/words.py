"""What a figure says of a step: its size, its operation, its activation."""

from __future__ import annotations

from cnnscope.records import figure as f
from cnnscope.records.figure import Step
from cnnscope.records.stages import StageLayer
from cnnscope.records.trace import Shape
from cnnscope.text import printable

TIMES = "\N{MULTIPLICATION SIGN}"
_NAME = 28  # characters of a name
_ACTIVATIONS = {
    "relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "elu": "ELU", "selu": "SELU", "celu": "CELU",
    "relu6": "ReLU6", "hardtanh": "ReLU6", "hardswish": "h-swish", "hardsigmoid": "h-sigmoid",
    "leaky_relu": "leaky ReLU", "prelu": "PReLU", "log_softmax": "log softmax", "mish": "Mish",
}  # fmt: skip
_JOINS = {
    "mul": "multiply", "sub": "subtract", "div": "divide", "bmm": "matrix product",
    "cnnscope.write_window": "write", "cnnscope.window": "read",
}  # fmt: skip
SIGNS = {"add": "+", "sub": "\N{MINUS SIGN}", "mul": TIMES}


def by(positions: Shape) -> str:
    """28 x 28, 16 x 56 x 56; 1 for a single position."""
    return TIMES.join(map(str, positions)) or "1"


def resolution(positions: Shape) -> str:
    """224 of a square, 224 x 160 of any other map."""
    return str(positions[0]) if len(set(positions)) == 1 and len(positions) > 1 else by(positions)


def squared(positions: Shape) -> str:
    """572 with a two above of a square, 16 x 56 x 56 of others."""
    if len(positions) == 2 and positions[0] == positions[1]:
        return f"{positions[0]}\N{SUPERSCRIPT TWO}"
    return by(positions)


def sides(step: Step, axes: int) -> tuple[int, int] | None:
    """Height and width of a map as it is drawn, None for a single position.

    Args:
        step: that makes the map.
        axes: that maps of the network have; of a volume the last two are drawn, and tokens in a
            row of a network with two or more as a square.
    """
    if not step.positions:
        return None
    if len(step.positions) > 1:
        return step.positions[-2], step.positions[-1]
    (length,) = step.positions
    return (round(length**0.5),) * 2 if axes > 1 else (length, 1)


def size(step: Step) -> str:
    """6@28x28; 120 for a vector."""
    channels = "?" if step.channels is None else str(step.channels)
    return f"{channels}@{by(step.positions)}" if step.positions else channels


def operation(step: Step) -> str:
    """5x5 conv, 2x2 max pool, fully connected, BasicBlock."""
    if step.kind == f.BLOCK:
        return printable(step.label.lstrip("_") or step.label, _NAME)
    if step.kind == f.INPUT or step.layer is None or step.family == "recurrent":
        return printable(step.label, _NAME)
    if step.layer.kind == "linear":
        return "linear" if step.positions else "fc"
    if step.layer.heads:
        return f"{step.layer.kind}, {step.layer.heads} heads"
    return of_layer(step.layer)


def of_layer(layer: StageLayer) -> str:
    """The operation of a layer, with its kernel."""
    name = {"linear": "linear" if layer.output else "fc", "transposed conv": "up-conv"}.get(
        layer.kind, layer.kind
    )
    if layer.kind in ("max pool", "average pool"):
        name = layer.kind.replace("average", "avg")
    if layer.depthwise:
        name = f"dw {name}"
    if layer.geometry is None or not layer.geometry.kernel_size:
        whole = "pool" in layer.kind and not layer.output
        return f"global {name}" if whole else printable(name, _NAME)
    kernel = by(layer.geometry.kernel_size)
    return f"{name} {kernel}" if len(layer.geometry.kernel_size) == 1 else f"{kernel} {name}"


def strides(layer: StageLayer) -> str:
    """/2 for a stride of 2 on every axis, "" without; of an up-convolution x2."""
    stride = layer.geometry.stride if layer.geometry is not None else ()
    if not any(one != 1 for one in stride):
        return ""
    shown = str(stride[0]) if len(set(stride)) == 1 else by(stride)
    return f"{TIMES}{shown}" if layer.kind.startswith("transposed") else f"/{shown}"


def more(layer: StageLayer) -> str:
    """Dilation and groups, where they say something."""
    geometry = layer.geometry
    if geometry is None:
        return ""
    parts = []
    if any(one != 1 for one in geometry.dilation):
        parts.append(f"dilation {max(geometry.dilation)}")
    if geometry.groups > 1 and not layer.depthwise:
        parts.append(f"{geometry.groups} groups")
    return ", ".join(parts)


def named_input(step: Step) -> str:
    """An input with its size: input 3@224x224, input 2: 10."""
    name = operation(step)
    return f"{name}: {size(step)}" if name != "input" else f"{name} {size(step)}"


def after(step: Step) -> str:
    """Activations behind a step: ReLU."""
    return ", ".join(printable(_ACTIVATIONS.get(name, name), _NAME) for name in step.after[:2])


def joined(step: Step) -> str:
    """What a join does, in a word."""
    named = {"concatenate": "concat", "stack": "stack"}.get(step.family)
    return named or _JOINS.get(step.label) or printable(step.label, _NAME)


def sign(step: Step) -> str:
    """What stands in the circle of a join."""
    known = SIGNS.get(step.label)
    return known or {"concatenate": "c", "stack": "c"}.get(step.family, "\N{BULLET}")

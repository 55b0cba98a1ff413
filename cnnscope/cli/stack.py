"""`cnnscope stack`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.cli.timed import Timed


class Preset(str, Enum):
    """Comparisons that are not about one kernel size."""

    INCEPTION = "inception"


_STACKS = options.Panel("Stacks")


@dataclass(kw_only=True, repr=False, eq=False)
class Stack(options.Written, Timed):
    """Cost of stacks of small kernels beside one large kernel.

    Example: cnnscope stack --kernel 7 --channels 64 --input 56x56

    All stacks see as much as the large kernel. LAYERS are joined by commas: [max|avg|dw]K[xK],
    and behind it, where wanted, /S for stride, dD dilation, gG groups, pP padding (left out: what
    keeps the size at stride 1), @N channels (128, C, 2C, C/4; left out: as many as come in). dw
    is depthwise, max and avg are pools. Such as 3x3,3x3/2,1x1@2C or dw7x7,1x1 or 3x3d2g32. No
    biases; a ReLU behind each convolution.

    --time runs forwards in inference mode, in float32 with random weights, on the input counted.
    """

    kernel: Annotated[
        int | None,
        _STACKS(
            "--kernel -k N",
            "Compare with one kernel of this odd size, as in --kernel 5. Left out, 7.",
        ),
    ] = None
    channels: Annotated[
        int | None,
        _STACKS(
            "--channels -c C", "Take C channels in and out, as in --channels 128. Left out, 64."
        ),
    ] = None
    input: Annotated[
        str | None,
        _STACKS("--input -i HxW", "Take a map of this size, as in --input 28x28. Left out, 56x56."),
    ] = None
    custom: Annotated[
        list[str] | None,
        _STACKS(
            "--custom LAYERS",
            "Add a stack of your own, in the words above, as in --custom 3x3,3x3. May be repeated.",
        ),
    ] = None
    bottleneck: Annotated[
        int | None,
        _STACKS(
            "--bottleneck N", "Add 1x1 - 3x3 - 1x1 with C/N channels inside, as in --bottleneck 4."
        ),
    ] = None
    preset: Annotated[
        Preset | None,
        _STACKS(
            "--preset inception",
            "Compare an Inception module with its naive form instead, as in --preset inception.",
        ),
    ] = None
    block: Annotated[
        str | None,
        _STACKS(
            "--block 3a..5b", "Take this Inception block, 3a to 5b, as in --block 4e. Left out, 3a."
        ),
    ] = None

    def run(self, session: Session) -> int:
        """Write the comparison."""
        from cnnscope import api
        from cnnscope.cli import out
        from cnnscope.cli.progress import Line

        out.check_writable(self.output)
        measured = self.measured()
        given = {
            "kernel": self.kernel,
            "channels": self.channels,
            "size": self.input,
            "custom": self.custom,
            "bottleneck": self.bottleneck,
        }
        if self.preset is None:
            options.refuse({"--block": self.block}, "it needs --preset inception")
            block = None
        else:
            named = {f"--{name}".replace("size", "input"): one for name, one in given.items()}
            reason = "--preset inception has the sizes of GoogLeNet's blocks (--block)"
            options.refuse(named, reason)
            block = self.block or "3a"
        chosen: Any = {name: one for name, one in given.items() if one is not None}
        with Line() as line:
            report = api.stack(**chosen, **measured, inception=block, progress=line.show)
        self.write(report)
        timing = report.record.timing
        return 130 if timing is not None and timing.interrupted else 0

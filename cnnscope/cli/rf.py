"""`cnnscope rf`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cnnscope.cli import options, plotted
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.api import Report
    from cnnscope.api.traces import Cache
    from cnnscope.models.request import Request

_SAMPLES = 20


class _Asked(NamedTuple):
    """Options that only `rf` has."""

    layer: str | None
    unit: tuple[int, ...] | None
    verify: bool
    every: bool
    effective: bool
    seconds: float | None  # that measuring may take
    samples: int
    seed: int
    image: Path | None
    picture: Path | None  # where to draw to


@dataclass(kw_only=True, repr=False, eq=False)
class Rf(plotted.Plotted, options.Named):
    """Receptive fields: how they grow, and what one unit sees.

    Example: cnnscope rf resnet18 layer2.0 --unit 3,5

    The layers are listed with their fields, and from which one on a field is larger than the
    input. Sizes are in input pixels and unclipped: what an interior unit of an arbitrarily large
    image sees. `min` is the field of the shortest path; a layer is unproductive when that covers
    the input before the layer has run. With --output OUT.png the unit's field is drawn, over
    --image or over a plain grid.
    """

    layer: Annotated[
        str | None,
        typer.Argument(
            metavar="LAYER", help="One layer, such as layer4.0.conv1.", show_default=False
        ),
    ] = None
    unit: Annotated[
        str | None,
        options.MEASUREMENT(
            "--unit Y,X",
            "Take this unit of the layer's output, counted from 0, as in --unit 3,5. Left "
            "out, the centre one.",
        ),
    ] = None
    verify: Annotated[
        bool,
        options.MEASUREMENT(
            "--verify", "Measure the fields by gradient; the exit code is 1 if one differs."
        ),
    ] = False
    all: Annotated[
        bool,
        options.ROWS(
            "--all -a", "Show every layer; with --verify, measure each, which takes longer."
        ),
    ] = False
    depth: options.Depth = None
    unfold: Annotated[bool, options.ROWS("--unfold", "Show equal blocks one by one.")] = False
    seconds: Annotated[
        float | None,
        options.MEASUREMENT(
            "--seconds S", "With --verify, measure no longer than S seconds, as in --seconds 60."
        ),
    ] = None
    effective: Annotated[
        bool,
        options.MEASUREMENT(
            "--effective", "Measure the effective receptive field of the centre unit."
        ),
    ] = False
    samples: Annotated[
        int | None,
        options.MEASUREMENT(
            "--samples N",
            "With --effective, take N random inputs, as in --samples 50. Left out, 20.",
        ),
    ] = None
    seed: Annotated[
        int | None,
        options.MEASUREMENT(
            "--seed N",
            "With --effective, draw weights and inputs from this seed, as in --seed 7. "
            "Left out, 0.",
        ),
    ] = None
    image: Annotated[
        Path | None,
        options.OUTPUT(
            "--image FILE",
            "Draw over this picture, into a file, as in --image cat.jpg --output field.png.",
        ),
    ] = None

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Refuse a second layer."""
        super().surplus(words)
        raise RequestError(
            "rf takes one model and one layer, as in: cnnscope rf "
            f"{options.quoted(words[0])} {options.quoted(words[1])}"
        )

    def _levels(self) -> int | None:
        """How deep the table of layers is.

        Raises:
            RequestError: there is no such table.
        """
        given = {"--depth": self.depth, "--unfold": self.unfold}
        if self.layer is not None or self.verify or self.effective:
            options.refuse(given, "it is about the table of all layers")
        if self.written in (options.Format.JSON, options.Format.CSV):
            options.refuse(given, f"--format {self.written.value} always holds every layer")
        return 0 if self.all else options.levels(self.depth)

    def _check_plot(self) -> None:
        """Check that a chart is one of all layers.

        Raises:
            RequestError: it is not, or cannot be drawn.
        """
        if self.plot:
            given = {
                "LAYER": self.layer,
                "--verify": self.verify,
                "--effective": self.effective,
                "--image": self.image,
            }
            options.refuse(given, "--plot draws the growth of the field over all layers")
        pixels = self.ending == ".png" and not self.plot  # of one layer, which `_refuse` is about
        if self.layer is None and not self.verify and not self.effective and not pixels:
            rows = {"--depth": self.depth, "--unfold": self.unfold, "--all": self.all}
            self.check_chart(rows, "--plot draws every layer, in place of the table")

    def run(self, session: Session) -> int:
        """Write the fields."""
        from cnnscope.cli import out

        drawn = self.ending == ".png" and not self.plot
        picture = self.output if drawn else None
        asked = _Asked(
            self.layer, _unit(self.unit, self.layer), self.verify, self.all, self.effective,
            self.seconds, _SAMPLES if self.samples is None else self.samples,
            0 if self.seed is None else self.seed, self.image, picture,
        )  # fmt: skip
        self._check_plot()
        _refuse(asked, given=self.samples is not None or self.seed is not None)
        levels = self._levels()
        out.check_writable(self.output)

        from cnnscope import api

        request, cache = self.request_for(self.model), self.cache(session)
        if self.verify:
            measured = _verify(request, cache, asked)
            self.write(measured)
            return int(any(check.verdict == "differs" for check in measured.record.layers))
        if self.effective:
            self.write(_effective(request, cache, asked), drawn=drawn)
            return 0
        try:
            report = api.rf(request, self.layer, unit=asked.unit, cache=cache)
        except api.ModelError as error:
            if error.trace is not None and self.layer is not None:
                with suppress(api.CnnscopeError):  # it may not have run either
                    self.write(api.rf(error.trace, self.layer, unit=asked.unit))
            raise
        if self.layer is None:
            self.show(report.view(depth=levels, unfold=self.unfold or self.all))
            return 0
        if picture is not None:
            _draw(report.record, asked, picture)
        self.write(report, drawn=drawn)
        return 0


def _verify(request: Request, cache: Cache, asked: _Asked) -> Report[Any]:
    from cnnscope import api
    from cnnscope.cli import out
    from cnnscope.cli.progress import progress

    with progress("measuring") as update:
        return api.verify_rf(
            request, asked.layer, every=asked.every, seconds=asked.seconds, cache=cache,
            progress=update, tell=out.note,
        )  # fmt: skip


def _effective(request: Request, cache: Cache, asked: _Asked) -> Report[Any]:
    from cnnscope import api
    from cnnscope.cli.progress import progress

    with progress("measuring") as update:
        report = api.effective(
            request, asked.layer, unit=asked.unit, samples=asked.samples, seed=asked.seed,
            cache=cache, progress=update,
        )  # fmt: skip
    if asked.picture is not None:
        _draw(report.unit, asked, asked.picture, report.maps[0], report.record.layers[0].box)
    return report


def _draw(report: Any, asked: _Asked, path: Path, heat: Any = None, box: Any = ()) -> None:
    from cnnscope.cli import out
    from cnnscope.render import picture

    if len(report.axes) != 2:
        raise RequestError(
            f"--output {path}: a picture needs two axes; --output out.md has a table"
        )
    height, width = (axis.input_size for axis in report.axes)
    if asked.image is None:
        image = picture.grid(height, width)
    else:
        image, said = picture.fitted(asked.image, height, width)
        out.note(said)
    out.write_bytes(picture.draw(report, image, heat, box), path)
    out.note(f"drawn to {path}")


def _refuse(asked: _Asked, *, given: bool) -> None:
    """Options that would do nothing, or not together."""
    _refuse_measuring(asked, given=given)
    if asked.image is not None and asked.picture is None:
        raise RequestError("--image: say where to draw to, as in --output out.png")
    if asked.picture is not None and asked.layer is None:
        raise RequestError(
            f"--output {asked.picture}: a picture shows one layer; name it, as in: "
            "cnnscope rf resnet18 layer2.0 --output out.png; or add --plot for a chart of all"
        )


def _refuse_measuring(asked: _Asked, *, given: bool) -> None:
    verify, seconds = asked.verify, asked.seconds
    refused = {
        "--verify and --effective: one at a time": verify and asked.effective,
        "--seconds: only with --verify": seconds is not None and not verify,
        "--all: not with --effective": asked.every and asked.effective,
        "--all: not with a layer": asked.every and asked.layer is not None,
        "--samples and --seed: only with --effective": given and not asked.effective,
        "--samples must be at least 1, --seed at least 0 and below 2**63": (
            asked.samples < 1 or not 0 <= asked.seed < 2**63
        ),
        "--unit: not with --verify, which measures several units": (
            verify and asked.unit is not None
        ),
        "--verify draws no picture": verify and bool(asked.picture or asked.image),
    }
    for message, wrong in refused.items():
        if wrong:
            raise RequestError(message)


def _unit(text: str | None, layer: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if layer is None:
        raise RequestError("--unit: name a layer as well, as in: cnnscope rf resnet18 layer2.0")
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise RequestError(f"--unit {text[:20]!r}: expected numbers, as in 3,5")
    return tuple(map(int, parts))

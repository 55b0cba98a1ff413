"""`cnnscope figure`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.errors import ModelError, RequestError
from cnnscope.text import ending, printable

if TYPE_CHECKING:
    from cnnscope import api

_LEGIBLE = 4.5  # points: smaller text cannot be read in print


class FigureFormat(str, Enum):
    """Output formats of a figure."""

    SVG = "svg"
    PDF = "pdf"
    TEX = "tex"
    PNG = "png"


class Style(str, Enum):
    """Styles of a figure."""

    LENET = "lenet"
    BLOCKS = "blocks"
    GRAPH = "graph"
    UNET = "unet"


_FIGURE = options.Panel("Figure")


@dataclass(kw_only=True, repr=False, eq=False)
class Figure(options.Traced):
    """The architecture figure of a paper, made from the model.

    Example: cnnscope figure alexnet --output alexnet.svg

    Layers, sizes, channels and shortcuts are those of the trace, so the figure cannot contradict
    the code. Several models are drawn together, as in figure 3 of the ResNet paper: cnnscope
    figure vgg19 classic:plain34 resnet34 --style graph --output resnet.pdf. Options that build a
    model hold for all.
    """

    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Models that are drawn together.",
            autocompletion=options.complete_model,
        ),
    ]
    style: Annotated[
        Style | None,
        _FIGURE(
            "--style STYLE",
            "Draw lenet (feature maps as stacked sheets), blocks (boxes in perspective), "
            "graph (operations with shortcuts) or unet (an encoder-decoder as a U), as in --style "
            "blocks. Left out, the one that suits, which is said.",
        ),
    ] = None
    max_width: Annotated[
        str,
        _FIGURE(
            "--max-width LENGTH",
            "Draw no wider than this, as in --max-width 8.5cm (in, cm, mm, pt or px); the "
            "width of a page of two columns is 6.75in, of one of them 3.25in.",
        ),
    ] = "6.75in"
    max_height: Annotated[
        str,
        _FIGURE(
            "--max-height LENGTH",
            "Draw no higher than this, as in --max-height 20cm: where it is too little, what "
            "repeats is drawn once, then blocks as a whole, then everything smaller.",
        ),
    ] = "9in"
    font: Annotated[
        str,
        _FIGURE(
            "--font FONT",
            "Write in sans, serif, a family that this machine has, or a font file, as in "
            "--font serif.",
        ),
    ] = "sans"
    unfold: Annotated[
        bool, _FIGURE("--unfold", "Draw every repetition, and none with its number of times.")
    ] = False
    format: Annotated[
        FigureFormat | None,
        options.OUTPUT(
            "--format -f FORMAT",
            "Write svg, pdf (with fpdf2), tex (LaTeX with TikZ) or png, as in --format tex. "
            "Left out, the ending of --output decides, and else it is svg.",
        ),
    ] = None
    output: Annotated[
        Path | None,
        options.OUTPUT(
            "--output -o FILE",
            "Write to this file, as in --output net.pdf; its ending (.svg, .pdf, .tex, .png) "
            "chooses the format. Left out, the model's name in this folder; - is stdout.",
            show_default=False,
        ),
    ] = None

    def run(self, session: Session) -> None:
        """Write the figure."""
        from cnnscope.cli import out

        kind, path = self._format(), self._path()
        out.check_writable(path)
        if path is None and kind in (FigureFormat.PNG, FigureFormat.PDF):
            raise RequestError(f"--output -: name a file, as in --output figure.{kind.value}")

        if kind is FigureFormat.PDF:
            from cnnscope.render.figure.pdf import writer

            writer()  # told before the model is built

        from cnnscope import api

        figure = api.figure(
            [self.request_for(model) for model in self.models],
            style=self.style and self.style.value,
            max_width=self.max_width,
            max_height=self.max_height,
            font=self.font,
            unfold=self.unfold,
            cache=self.cache(session),
        )
        content = figure.write(kind.value)
        if path is None:
            out.write(content.decode(), None)
        else:
            out.write_bytes(content, path)
        for note in self._notes(figure, path):
            out.note(note)

    def failed(self, error: ModelError) -> None:
        """Write the table of what ran before a forward raised; there is no figure of it."""
        if error.report is not None:
            from cnnscope.cli import out

            out.write_report(error.report, options.Format.TABLE.value, None)

    def _notes(self, figure: api.Figure, path: Path | None) -> list[str]:
        width, height = (side / 72 for side in figure.size)
        reason = f" ({figure.contents.chosen})" if figure.contents.chosen else ""
        name = "figure" if path is None else ending(str(path))
        notes = [f"{name}: style {figure.style}{reason}, {width:.2f} x {height:.2f} in"]
        if figure.smallest_text < _LEGIBLE:
            notes.append(
                f"its smallest text is {figure.smallest_text:.1f} pt high: a larger --max-width "
                "or another --style makes it legible"
            )
        return [*notes, *figure.contents.notes]

    def _format(self) -> FigureFormat:
        """The format: what was asked for, or what the file's ending says.

        Raises:
            RequestError: the ending is that of no format, or of another one.
        """
        known = [one.value for one in FigureFormat]
        suffix = self.output.suffix.lower()[1:] if self.output is not None else ""
        named = f"--output {printable(str(self.output))}"
        if self.format is not None:
            if suffix in known and suffix != self.format.value:
                raise RequestError(
                    f"{named}: ends in .{suffix}, and --format is {self.format.value}; leave one "
                    "of them out"
                )
            return self.format
        if suffix and suffix not in known:
            raise RequestError(
                f"{named}: a figure is written as {', '.join(f'.{one}' for one in known)}; "
                "--format names one"
            )
        return FigureFormat(suffix or "svg")

    def _path(self) -> Path | None:
        """The file to write to: what was named, or the name of the model; None for stdout."""
        if self.output is None:
            return Path(f"{options.file_name(self.models)}.{self._format().value}")
        return None if self.output == Path("-") else self.output

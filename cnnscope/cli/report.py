"""`cnnscope report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.cli.training import Trained
from cnnscope.errors import ModelError, RequestError
from cnnscope.text import ending

if TYPE_CHECKING:
    from cnnscope.api import Document


class PageFormat(str, Enum):
    """Output formats of the page."""

    HTML = "html"
    SVG = "svg"
    PNG = "png"


_ENDINGS = {
    "": PageFormat.HTML,
    ".html": PageFormat.HTML,
    ".htm": PageFormat.HTML,
    ".svg": PageFormat.SVG,
    ".png": PageFormat.PNG,
}


@dataclass(kw_only=True, repr=False, eq=False)
class Report(options.Named, Trained):
    """One page that shows a network: graph, layers, costs, memory, fields.

    Example: cnnscope report resnet18 --output resnet18.html

    The page is one HTML file that a browser opens. It holds everything, asks for nothing from
    anywhere, and can be mailed. With a second model it shows what differs, as in: cnnscope report
    vgg11 vgg13 --output vgg.html. Options that build a model hold for both. A file that ends in
    .svg or .png gets the graph alone, for a paper or slides.
    """

    other: Annotated[
        str | None,
        typer.Argument(
            metavar="OTHER",
            help="Another model, to compare with.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ] = None
    train: Annotated[
        bool, options.TRAINING("--train", "Show the memory of a training step as well.")
    ] = False
    effective: Annotated[
        bool,
        options.MEASUREMENT(
            "--effective",
            "Measure effective receptive fields as well, by the gradients of the model with "
            "random weights.",
        ),
    ] = False
    bench: Annotated[
        Path | None,
        options.MEASUREMENT(
            "--bench FILE",
            "Show the times of layers in this file, which cnnscope bench --per-layer --save "
            "wrote, as in --bench run.json.",
        ),
    ] = None
    depth: options.Depth = None
    unfold: Annotated[
        bool, options.ROWS("--unfold", "Draw all members of a repeat, in a picture.")
    ] = False
    heat: Annotated[
        str | None,
        options.ROWS(
            "--heat COST",
            "Colour the boxes of a picture by macs, params, activations, element-ops or "
            "field, as in --heat macs. Left out, by their kind.",
        ),
    ] = None
    format: Annotated[
        PageFormat | None,
        options.OUTPUT(
            "--format -f FORMAT",
            "Write the page as html, or the graph alone as svg or png, as in --format svg. "
            "Left out, the ending of --output decides, and else it is html.",
        ),
    ] = None
    output: Annotated[
        Path | None,
        options.OUTPUT(
            "--output -o FILE",
            "Write to this file, as in --output resnet18.html; its ending (.html, .svg, .png) "
            "chooses the format. Left out, the model's name in this folder; - is stdout.",
            show_default=False,
        ),
    ] = None
    open: Annotated[bool, options.OUTPUT("--open", "Open the page in a browser.")] = False

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Refuse a third model."""
        every = " ".join(map(options.quoted, words))
        raise RequestError(
            f"report shows one model or compares two; for several side by side: cnnscope stages "
            f"{every}"
        )

    def run(self, session: Session) -> None:
        """Write the page."""
        from cnnscope.cli import out

        if not self.train:
            options.refuse(self.trained(), "it is of a training step, which --train shows")
        drawn = self._drawn()
        path = self._path()
        out.check_writable(path)
        if path is None and (self.open or self._format() is PageFormat.PNG):
            raise RequestError("--output -: name a file, as in --output model.html")

        from cnnscope import api
        from cnnscope.cli.progress import progress

        with progress("measuring") as update:
            page = api.report(
                self.request_for(self.model),
                None if self.other is None else self.request_for(self.other),
                train=self.step() if self.train else False,
                effective=self.effective,
                bench=self.bench,
                cache=self.cache(session),
                command=self._command(),
                progress=update,
            )
        self._write(page, path, drawn)

    def failed(self, error: ModelError) -> None:
        """Write the page and the table of what ran; of two models the table alone."""
        if error.trace is None:
            return
        from cnnscope import api
        from cnnscope.cli import out

        path = self._path()
        if path is not None:
            out.write_report(error.report, options.Format.TABLE.value, None)
        if self.other is None:
            self._write(api.report(error.trace, command=self._command()), path, self._drawn())
        else:
            out.note("no page is written: it compares two networks that run to their end")

    def _format(self) -> PageFormat:
        """The format: what was asked for, or what the file's ending says."""
        if self.format is not None:
            return self.format
        suffix = self.output.suffix.lower() if self.output is not None else ""
        found = _ENDINGS.get(suffix)
        if found is None:
            raise RequestError(
                f"--output {ending(str(self.output))}: a page ends in .html, the graph alone in "
                ".svg or .png, and a browser prints a page to PDF; --format chooses for any name"
            )
        return found

    def _drawn(self) -> dict[str, Any]:
        """What of the graph is in a picture; the page shows all of it, as its reader wants."""
        given = {"--depth": self.depth, "--unfold": self.unfold, "--heat": self.heat}
        if self._format() is PageFormat.HTML:
            options.refuse(given, "it is about a picture, as in --output model.svg")
        else:
            of_page = {"--train": self.train, "--effective": self.effective, "--bench": self.bench}
            options.refuse(of_page, "the graph alone has none of it, a page has: --output x.html")
            if self.other is not None:
                options.refuse({"--heat": self.heat}, "two models are coloured by what differs")
        return {"depth": options.levels(self.depth), "unfold": self.unfold, "heat": self.heat}

    def _write(self, page: Document, path: Path | None, drawn: dict[str, Any]) -> None:
        from cnnscope.cli import out

        kind = self._format()
        if kind is PageFormat.PNG:
            content = page.png(**drawn)
        else:
            text = page.page() if kind is PageFormat.HTML else page.svg(**drawn)
            content = text.encode()
        if path is None:
            out.write(content.decode(), None)
            return
        out.write_bytes(content, path)
        out.note(f"{ending(str(path))}: {max(len(content) // 1000, 1):,} kB, one file")
        if self.open:
            import webbrowser

            webbrowser.open(path.resolve().as_uri())

    def _path(self) -> Path | None:
        """The file to write to: what was named, or the name of the model; None for stdout."""
        if self.output is None:
            names = [self.model] if self.other is None else [self.model, self.other]
            return Path(f"{options.file_name(names)}.{self._format().value}")
        return None if self.output == Path("-") else self.output

    def _command(self) -> str:
        """The command that makes this page again."""
        words = ["cnnscope", "report", self.model, *([self.other] if self.other else [])]
        for name, values in {
            **self.given(),
            "--train": self.train,
            **self.trained(),
            "--effective": self.effective,
            "--bench": self.bench,
        }.items():
            for value in values if isinstance(values, list) else [values]:
                words += [name] if value is True else [name, str(value)] if value else []
        return " ".join(map(options.quoted, words))

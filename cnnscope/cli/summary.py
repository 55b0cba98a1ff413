"""`cnnscope summary`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session

if TYPE_CHECKING:
    from cnnscope.records import ModelReport


@dataclass(frozen=True, kw_only=True)
class Summary(options.Written, options.Named):
    """Layers, output shapes, parameters, MACs and memory of a model.

    Example: cnnscope summary resnet18 --input 3x224x224

    A checkpoint (model.pth) is listed by key: it has no shapes but those of its weights.

    No weights are allocated or downloaded: the model runs once on tensors without data. With
    limits (--max-params 5M --max-macs 1G --max-activation 50MiB --min-rf 200) the exit code is 1
    when the model does not keep them.
    """

    depth: options.Depth = None
    unfold: Annotated[bool, typer.Option("--unfold", help="Show equal blocks one by one.")] = False
    all: Annotated[
        bool, typer.Option("--all", "-a", help="Every row, rearranging operations too.")
    ] = False
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="A,B,...",
            help="Of layer, path, operation, input, output, kernel, features, params, macs, "
            "flops, share, field, element-ops, activation.",
        ),
    ] = None
    sort: Annotated[
        str | None,
        typer.Option("--sort", help="List layers by macs, params, element-ops or activation."),
    ] = None
    filter: Annotated[
        str | None,
        typer.Option("--filter", metavar="GLOB", help="Only layers of such a path or operation."),
    ] = None
    max_params: Annotated[
        str | None,
        typer.Option("--max-params", metavar="N", help="Exit 1 beyond it; such as 5M."),
    ] = None
    max_macs: Annotated[
        str | None,
        typer.Option("--max-macs", metavar="N", help="Exit 1 beyond it; such as 1.5G."),
    ] = None
    max_activation: Annotated[
        str | None,
        typer.Option(
            "--max-activation", metavar="BYTES", help="Exit 1 if the peak is more; as 50MiB."
        ),
    ] = None
    min_rf: Annotated[
        str | None,
        typer.Option("--min-rf", metavar="N", help="Exit 1 if the field is less, in pixels."),
    ] = None

    def run(self, session: Session) -> int:
        """Write the summary."""
        from cnnscope.cli import out
        from cnnscope.render import columns as all_columns
        from cnnscope.render.tree import Options
        from cnnscope.reports.budget import parse_limits

        if _is_weights(self.model):
            useless = self.given() | self._rows() | self._limits() | {"--columns": self.columns}
            useless.pop("--depth")
            options.refuse(useless, "a checkpoint has weights and no forward")
            return _weights(self.model, options.levels(self.depth), self.format.value, self.output)
        if self.format in (options.Format.JSON, options.Format.CSV):
            given = self._rows() | {"--columns": self.columns}
            options.refuse(given, f"--format {self.format.value} always holds every row and column")
        elif self.sort is not None or self.filter is not None:
            given = {"--depth": self.depth, "--unfold": self.unfold}
            options.refuse(given, "--sort and --filter list single layers")
        columns = all_columns.DEFAULT
        if self.columns is not None:
            columns = all_columns.known(self.columns.split(","))
        pattern = options.pattern(self.filter, "--filter")
        rows = Options(options.levels(self.depth), self.unfold, self.all, self.sort, pattern)
        limits = parse_limits(self._limits())
        out.check_writable(self.output)

        from cnnscope.reports.summary import report

        made = report(self.trace(self.model, session))
        out.write_report(made, self.format.value, self.output, options=rows, columns=columns)
        return _over_budget(made, limits) if limits else 0

    def _rows(self) -> dict[str, object]:
        """Options that choose rows."""
        return {
            "--depth": self.depth,
            "--unfold": self.unfold,
            "--all": self.all,
            "--sort": self.sort,
            "--filter": self.filter,
        }

    def _limits(self) -> dict[str, str | None]:
        """Options that set limits."""
        return {
            "--max-params": self.max_params,
            "--max-macs": self.max_macs,
            "--max-activation": self.max_activation,
            "--min-rf": self.min_rf,
        }


def _is_weights(model: str) -> bool:
    """Return True for a file of weights alone; readers are imported for files only."""
    from cnnscope.files import names_file

    if not names_file(model):
        return False
    from cnnscope.models.files import archive

    return archive.is_weights(model)


def _weights(file: str, levels: int | None, format_: str, output: Path | None) -> int:
    """The summary of a file that holds weights alone."""
    from cnnscope.cli import out
    from cnnscope.reports.checkpoint import checkpoint_report

    out.check_writable(output)
    out.write_report(checkpoint_report(file), format_, output, levels=levels)
    return 0


def _over_budget(report: ModelReport, limits: Mapping[str, float]) -> int:
    """1 and a line on stderr for each limit that is not kept, else 0."""
    from cnnscope.cli import out
    from cnnscope.render import facts
    from cnnscope.reports.budget import broken

    found = broken(report, limits)
    for excess in found:
        out.note(facts.excess(excess))
    return 1 if found else 0

"""`cnnscope summary`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cnnscope.cli import options, plotted
from cnnscope.cli.session import Session
from cnnscope.errors import ModelError, RequestError

if TYPE_CHECKING:
    from cnnscope.api import Report, View


@dataclass(kw_only=True, repr=False, eq=False)
class Summary(plotted.Plotted, options.Named):
    """Layers, output shapes, parameters, MACs and memory of a model.

    Example: cnnscope summary resnet18 --input 3x224x224

    A checkpoint (model.pth) is listed by key: it has no shapes but those of its weights.

    No weights are allocated or downloaded: the model runs once on tensors without data. Where
    its forward raises, what ran is shown with the cause and a remedy, and the exit code is 3. With
    limits (--max-params 5M --max-macs 1G --max-activation 50MiB --min-rf 200) the exit code is 1
    when the model does not keep them. --max-train-memory 8GiB holds a training step of the batch to
    the memory of a device, as cnnscope memory predicts it.
    """

    depth: options.Depth = None
    unfold: Annotated[bool, options.ROWS("--unfold", "Show equal blocks one by one.")] = False
    all: Annotated[
        bool, options.ROWS("--all -a", "Show every row, those that only move data too.")
    ] = False
    columns: Annotated[
        str | None,
        options.ROWS(
            "--columns A,B",
            "Choose columns, as in --columns layer,output,macs, or change the usual ones, "
            "as in --columns +input,-field. There is layer, path, operation, input, "
            "output, kernel, features, params, params-share, trainable, macs, flops, "
            "share, field, element-ops, activation.",
        ),
    ] = None
    sort: Annotated[
        str | None,
        options.ROWS(
            "--sort COLUMN",
            "List single layers, the largest first, by macs, params, element-ops or "
            "activation, as in --sort macs.",
        ),
    ] = None
    filter: Annotated[
        str | None,
        options.ROWS(
            "--filter GLOB",
            "List the layers whose path or operation matches a pattern, as in --filter 'Conv*'.",
        ),
    ] = None
    findings: Annotated[
        bool | None,
        options.ROWS(
            "--findings/--no-findings",
            "Show all findings, or none of them; left out, the first eight.",
            show_default=False,
        ),
    ] = None
    watch: Annotated[
        bool,
        options.OUTPUT(
            "--watch",
            "Draw the table of a file again whenever it, or a neighbour that it imports, is "
            "saved, and mark what changed. Ctrl-C ends it.",
        ),
    ] = False
    max_params: Annotated[
        str | None,
        options.LIMITS(
            "--max-params N", "Exit with 1 if the model has more parameters, as in --max-params 5M."
        ),
    ] = None
    max_macs: Annotated[
        str | None,
        options.LIMITS("--max-macs N", "Exit with 1 if it takes more MACs, as in --max-macs 1.5G."),
    ] = None
    max_activation: Annotated[
        str | None,
        options.LIMITS(
            "--max-activation BYTES",
            "Exit with 1 if activations need more memory at their peak, as in "
            "--max-activation 50MiB.",
        ),
    ] = None
    min_rf: Annotated[
        str | None,
        options.LIMITS(
            "--min-rf N",
            "Exit with 1 if its receptive field is smaller, in pixels, as in --min-rf 200.",
        ),
    ] = None

    max_train_memory: Annotated[
        str | None,
        options.LIMITS(
            "--max-train-memory BYTES",
            "Exit with 1 if a training step may hold more of a device, workspace and CUDA "
            "context included, as in --max-train-memory 8GiB.",
        ),
    ] = None
    optimizer: options.LimitedOptimizer = None

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Say which command takes several models, and which a layer."""
        super().surplus(words)
        from cnnscope.cli import typed

        model, other = map(options.quoted, words[:2])
        if len(words) == 2 and not typed.is_model(words[1]):
            raise RequestError(
                f"summary takes one model, and {other} is none that is known: for a layer of "
                f"{model}, cnnscope explain {model} {other}"
            )
        every = " ".join(map(options.quoted, words))
        raise RequestError(
            f"summary takes one model: for what changes between two, cnnscope diff {model} "
            f"{other}; for several side by side, cnnscope stages {every}"
        )

    def run(self, session: Session) -> int:
        """Write the summary."""
        from cnnscope import api
        from cnnscope.cli import out

        levels = options.levels(self.depth)
        self.check_chart(self._shown(), "--plot draws every layer, in place of the table")
        if self.max_train_memory is None:
            options.refuse({"--optimizer": self.optimizer}, "it is for --max-train-memory")
        if self.watch:
            self._follow(session, levels)
        if api.verdicts.is_checkpoint(self.model):
            useless = self.given() | self._shown() | self._limits() | {"--plot": self.plot}
            useless["--findings"] = self.findings
            useless.pop("--depth")
            weights = api.checkpoint(self.model)  # first, as it may be a whole network
            options.refuse(useless, "a checkpoint has weights and no forward")
            out.check_writable(self.output)
            self.write(weights.view(depth=levels))
            return 0
        view = self._view(levels)
        limits = api.verdicts.limits(self._limits())
        out.check_writable(self.output)
        report = api.summary(self.request_for(self.model), cache=self.cache(session))
        report = report.view(**view)
        self.show(report)
        training = self._training(session) if self.max_train_memory is not None else None
        broken = api.verdicts.over_budget(report, limits, training) if limits else ()
        for sentence in broken:
            out.note(sentence)
        return 1 if broken else 0

    def _follow(self, session: Session, levels: int | None) -> None:
        """Draw the summary until Ctrl-C.

        Raises:
            RequestError: an option has no effect, or the model cannot be followed.
        """
        from cnnscope.cli import watching

        watching.check_terminal()
        drawn = {"--output": self.output, "--format": self.format, "--plot": self.plot}
        given = drawn | self._limits()
        options.refuse(given, "--watch draws on the terminal until Ctrl-C")
        watching.follow(self.request_for(self.model), self._view(levels), self.cache(session))

    def _training(self, session: Session) -> Report[Any]:
        """The memory of a training step."""
        from cnnscope import api

        return api.memory(
            self.request_for(self.model),
            **options.chosen(optimizer=self.optimizer),
            cache=self.cache(session),
        )

    def failed(self, error: ModelError) -> None:
        """Write the rows that ran before a forward raised."""
        if error.report is not None and not self.answered:
            with suppress(RequestError):  # a filter may match nothing of that
                self.write(error.report.view(**self._view(options.levels(self.depth))))

    def _view(self, levels: int | None) -> View:
        """Which rows and columns are shown.

        Raises:
            RequestError: an option has no effect, or cannot be.
        """
        if self.written in (options.Format.JSON, options.Format.CSV):
            options.refuse(
                self._shown(), f"--format {self.written.value} always holds every row and column"
            )
        elif self.sort is not None or self.filter is not None:
            given = {"--depth": self.depth, "--unfold": self.unfold}
            options.refuse(given, "--sort and --filter list single layers")
        columns = None
        if self.columns is not None:
            from cnnscope.render.columns import known

            columns = known(self.columns.split(","))
        return {
            "depth": levels,
            "unfold": self.unfold,
            "everything": self.all,
            "columns": columns,
            "sort": self.sort,
            "filter": options.pattern(self.filter, "--filter"),
            "findings": self.findings,
        }

    def _rows(self) -> dict[str, object]:
        """Options that choose rows."""
        return {
            "--depth": self.depth,
            "--unfold": self.unfold,
            "--all": self.all,
            "--sort": self.sort,
            "--filter": self.filter,
        }

    def _shown(self) -> dict[str, object]:
        """Options that choose rows, columns and sentences."""
        found = None if self.findings is None else True
        return self._rows() | {"--columns": self.columns, "--findings": found}

    def _limits(self) -> dict[str, str | None]:
        """Options that set limits."""
        return {
            "--max-params": self.max_params,
            "--max-macs": self.max_macs,
            "--max-activation": self.max_activation,
            "--min-rf": self.min_rf,
            "--max-train-memory": self.max_train_memory,
        }

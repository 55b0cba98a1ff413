"""`cnnscope diff`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.api import Report
    from cnnscope.api.traces import Cache
    from cnnscope.models.request import Request


@dataclass(kw_only=True, repr=False, eq=False)
class Diff(options.Written, options.Traced):
    """Differences between two models, layer by layer.

    Example: cnnscope diff vgg11 vgg13

    A model may be a file at a revision of git, as in HEAD~1:net.py:Net.

    Layers, cost, memory and receptive field. Rows are `=` equal, `~` changed, `+` added, `-`
    removed. Options hold for both models; one that ends in -b takes its place for B.
    """

    before: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A model.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ]
    after: Annotated[
        str | None,
        typer.Argument(
            metavar="B",
            help="Another; left out: A again, with the options that end in -b.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ] = None
    input_b: Annotated[
        list[str] | None,
        options.MODEL(
            "--input-b SIZE", "Give B this input in place of --input, as in --input-b 3x320x320."
        ),
    ] = None
    batch_size_b: Annotated[
        int | None,
        options.MODEL(
            "--batch-size-b N",
            "Give B this batch size in place of --batch-size, as in --batch-size-b 8.",
        ),
    ] = None
    num_classes_b: Annotated[
        int | None,
        options.MODEL(
            "--num-classes-b N",
            "Build B with N classes in place of --num-classes, as in --num-classes-b 10.",
        ),
    ] = None
    arg_b: Annotated[
        list[str] | None,
        options.MODEL(
            "--arg-b NAME=VALUE",
            "Pass B this argument in place of the --arg of that name, as in --arg-b "
            "width_mult=0.5.",
        ),
    ] = None
    dtype_b: Annotated[
        str | None,
        options.MODEL(
            "--dtype-b DTYPE", "Take this type for B in place of --dtype, as in --dtype-b float16."
        ),
    ] = None
    depth: options.Depth = None
    unfold: Annotated[
        bool, options.ROWS("--unfold", "Show equal rows one by one, and open every block.")
    ] = False
    all: Annotated[
        bool, options.ROWS("--all -a", "Show operations that only move data as well.")
    ] = False
    exit_code: Annotated[
        bool,
        options.LIMITS(
            "--exit-code",
            "Exit with 1 if the models differ, as git diff does; with budgets, if one of them "
            "is not kept.",
        ),
    ] = False
    max_params: Annotated[
        str | None,
        options.LIMITS(
            "--max-params CHANGE",
            "Exit with 1 if B has more parameters than A by more than this, as in "
            "--max-params +5%, +1M, or -10% if it has to shrink; 12M without a sign is all that B "
            "may have.",
        ),
    ] = None
    max_macs: Annotated[
        str | None,
        options.LIMITS(
            "--max-macs CHANGE",
            "Exit with 1 if B has more MACs than A by more than this, as in --max-macs +0%.",
        ),
    ] = None
    max_activation: Annotated[
        str | None,
        options.LIMITS(
            "--max-activation CHANGE",
            "Exit with 1 if the peak of activations grows by more than this, as in "
            "--max-activation +1MiB.",
        ),
    ] = None
    max_train_memory: Annotated[
        str | None,
        options.LIMITS(
            "--max-train-memory CHANGE",
            "Exit with 1 if what a device may hold in a training step grows by more than "
            "this, as in --max-train-memory +10%. The report has it then.",
        ),
    ] = None
    optimizer: options.LimitedOptimizer = None

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Say which command takes more than two models."""
        every = " ".join(map(options.quoted, words))
        raise RequestError(
            f"diff compares two models; for several side by side: cnnscope stages {every}"
        )

    def run(self, session: Session) -> int:
        """Write the differences."""
        from cnnscope.cli import out

        given = (self.input_b, self.batch_size_b, self.num_classes_b, self.arg_b, self.dtype_b)
        if self.after is None and all(one is None or one == [] for one in given):
            raise RequestError(
                "diff: name a second model, as in: cnnscope diff vgg11 vgg13, or what is different "
                "the second time, as in: cnnscope diff resnet18 --input-b 3x320x320"
            )
        if self.written in (options.Format.JSON, options.Format.CSV):
            shown = {"--depth": self.depth, "--unfold": self.unfold, "--all": self.all}
            options.refuse(shown, f"--format {self.written.value} always holds every row")
        levels = options.levels(self.depth)
        out.check_writable(self.output)

        from cnnscope import api

        budgets = api.verdicts.budgets(self._budgets())
        if self.max_train_memory is None:
            options.refuse({"--optimizer": self.optimizer}, "it is for --max-train-memory")
        after = self._other().request_for(self.before if self.after is None else self.after)
        before = self.request_for(self.before)
        cache = self.cache(session)
        report = api.diff(before, after, cache=cache)
        if budgets:
            report = api.verdicts.held_to(report, budgets, self._training(before, after, cache))
        report = report.view(depth=levels, unfold=self.unfold, everything=self.all)
        self.write(report)
        for sentence in api.verdicts.overrun(report):
            out.note(sentence)
        return int(bool(report.record.over) if budgets else self.exit_code and report.differs)

    def _budgets(self) -> dict[str, str | None]:
        return {
            "--max-params": self.max_params,
            "--max-macs": self.max_macs,
            "--max-activation": self.max_activation,
            "--max-train-memory": self.max_train_memory,
        }

    def _training(
        self, before: Request, after: Request, cache: Cache
    ) -> tuple[Report[Any], Report[Any]] | None:
        """A training step of each, where there is a budget on it."""
        from cnnscope import api

        if self.max_train_memory is None:
            return None
        given = options.chosen(optimizer=self.optimizer)
        first, second = (api.memory(m, **given, cache=cache) for m in (before, after))
        return first, second

    def _other(self) -> Self:
        """The command with the options of B in place of those of A."""
        return replace(
            self,
            input=self.input_b or self.input,
            batch_size=self.batch_size if self.batch_size_b is None else self.batch_size_b,
            num_classes=self.num_classes if self.num_classes_b is None else self.num_classes_b,
            arg=_instead(self.arg or (), self.arg_b or ()),
            dtype=self.dtype if self.dtype_b is None else self.dtype_b,
        )


def _instead(arguments: Sequence[str], others: Sequence[str]) -> list[str]:
    """Arguments, those that others name replaced by them."""
    named = {text.partition("=")[0] for text in others}
    return [*(text for text in arguments if text.partition("=")[0] not in named), *others]

"""`cnnscope check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.errors import RequestError

if TYPE_CHECKING:
    from cnnscope.api import Report
    from cnnscope.api.traces import Cache

_SOURCE = "torchvision"  # whose models --all checks


@dataclass(kw_only=True, repr=False, eq=False)
class Check(options.Written, options.Cached, options.Batched):
    """Our numbers beside those of other counters and a real forward.

    Example: cnnscope check resnet18

    The others are torchinfo, fvcore, torch and the published figures, and onnx-tool for an ONNX
    file. Every counter runs on the spot, on random weights where it needs some: large models take
    minutes, unless --seconds ends it. A difference is explained if what the counter adds and leaves
    out, by its own rule, is the whole of it; the exit code is 1 if one is not. The largest
    receptive field is measured by gradient, as by `rf --verify`. With --train, memory and MACs of a
    training step are compared with real steps on the CPU, which takes several of them.
    """

    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A model, such as resnet18.",
            show_default=False,
            autocompletion=options.complete_model,
        ),
    ] = None
    all: Annotated[
        bool,
        options.MEASUREMENT(
            "--all", "Check every model of torchvision, which may be interrupted and resumed."
        ),
    ] = False
    train: Annotated[
        bool,
        options.MEASUREMENT(
            "--train",
            "Check a training step too: run it on the CPU under torch's profiler, MemTracker "
            "and FlopCounterMode. Not with --all.",
        ),
    ] = False
    optimizer: Annotated[
        str | None,
        options.MEASUREMENT(
            "--optimizer NAME",
            "With --train, update with sgd, momentum, adam, adamw or rmsprop, as in "
            "--optimizer adam. Left out, sgd.",
        ),
    ] = None
    seconds: Annotated[
        float | None,
        options.MEASUREMENT(
            "--seconds S", "Begin no further counter after S seconds, as in --seconds 60."
        ),
    ] = None

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Refuse a second model."""
        raise RequestError(
            "check takes one model, as in: cnnscope check "
            f"{options.quoted(words[0])}; --all checks every model of torchvision"
        )

    def run(self, session: Session) -> int:
        """Check."""
        from cnnscope.cli import out

        if self.all:
            given = {"MODEL": self.model, **self.given(), "--seconds": self.seconds is not None}
            given |= {"--train": self.train, "--optimizer": self.optimizer}
            options.refuse(given, "--all checks every model as it is published")
            out.check_writable(self.output)
            session.use = out.use
            checked = _all(self.cache(session))
            self.write(checked)
            return int(any(model.unexplained or model.failed for model in checked.record.models))
        if self.model is None:
            raise RequestError("check: name a model, as in: cnnscope check resnet18; or give --all")
        out.check_writable(self.output)

        from cnnscope import api

        request = self.request_for(self.model)
        report = api.check(
            request,
            train=self.train,
            optimizer=self.optimizer,
            seconds=self.seconds,
            tell=out.note,
        )
        self.write(report)
        return int(api.verdicts.unexplained(report))


def _all(cache: Cache) -> Report[Any]:
    """Check every model of torchvision."""
    from cnnscope import api
    from cnnscope.cli import out
    from cnnscope.cli.progress import progress

    done = total = 0
    try:
        with progress("checking") as update:

            def count(*standing: Any) -> None:
                nonlocal done, total
                done, total = standing[:2]
                update(*standing)

            return api.check_all(_SOURCE, cache=cache, progress=count)
    except KeyboardInterrupt:
        if cache:
            out.note(
                f"{done} of {total} models are checked and kept; the same command goes on from "
                "there"
            )
        raise

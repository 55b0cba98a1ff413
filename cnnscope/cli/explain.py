"""`cnnscope explain`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session
from cnnscope.errors import CnnscopeError, ModelError, RequestError


@dataclass(kw_only=True, repr=False, eq=False)
class Explain(options.Written, options.Named):
    """Every number of a layer as a formula, with its values put in.

    Example: cnnscope explain vgg11 features.3

    Output size, parameters, MACs, receptive field, memory. A block is the sum of what it holds.
    Without a layer, the model in words and numbers: where its parameters and MACs are, where its
    resolution drops, and the sizes of input that work.
    """

    layer: Annotated[
        str | None,
        typer.Argument(
            metavar="LAYER",
            help="A layer such as features.4, or several: 'features.*'.",
            show_default=False,
        ),
    ] = None

    seconds: Annotated[
        float | None,
        options.MEASUREMENT(
            "--seconds S",
            "Without a layer, try input sizes for S seconds, as in --seconds 10. Left out, 4.",
        ),
    ] = None

    @classmethod
    def surplus(cls, words: Sequence[str]) -> None:
        """Refuse a second layer."""
        raise RequestError(
            "explain takes one layer; a pattern takes several, as in: cnnscope explain "
            f"{options.quoted(words[0])} 'layer1.*'"
        )

    def run(self, session: Session) -> None:
        """Explain a layer, or the model."""
        from cnnscope.cli import out

        options.pattern(self.layer, "LAYER")
        if self.layer is not None:
            given = {"--seconds": self.seconds is not None}
            options.refuse(given, "sizes are tried without a layer")
        out.check_writable(self.output)

        from cnnscope import api

        report = api.explain(
            self.request_for(self.model),
            self.layer,
            seconds=self.seconds,
            cache=self.cache(session),
        )
        self.write(report)

    def failed(self, error: ModelError) -> None:
        """Explain a layer that came to its end before the forward raised, else what ran."""
        from cnnscope import api

        report = None
        if error.trace is not None and self.layer is not None:
            with suppress(CnnscopeError):  # it may not have run either
                report = api.explain(error.trace, self.layer)
        if report is None:
            super().failed(error)
        else:
            self.write(report)

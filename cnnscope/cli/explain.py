"""`cnnscope explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from cnnscope.cli import options
from cnnscope.cli.session import Session


@dataclass(frozen=True, kw_only=True)
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
            help="A layer such as features.4, or several: 'features.*'.", show_default=False
        ),
    ] = None

    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", metavar="S", help="Without a layer: try input sizes for S seconds.  [4]"
        ),
    ] = None

    def run(self, session: Session) -> None:
        """Explain a layer, or the model."""
        from cnnscope.cli import out

        options.pattern(self.layer, "LAYER")
        options.seconds(self.seconds)
        if self.layer is not None:
            given = {"--seconds": self.seconds is not None}
            options.refuse(given, "sizes are tried without a layer")
        out.check_writable(self.output)

        from cnnscope.analysis import receptive_field
        from cnnscope.cache import requests
        from cnnscope.reports.explain import explain_layers, explain_model
        from cnnscope.reports.summary import report

        if self.layer is None:
            request = self.request_for(self.model)
            trace, sizes = requests.examined(request, self.store(session), self.seconds)
            fields = receptive_field.fields(trace)
            model = explain_model(trace, report(trace, fields).totals, sizes, fields)
            out.write_report(model, self.format.value, self.output)
        else:
            layers = explain_layers(self.trace(self.model, session), self.layer)
            out.write_report(layers, self.format.value, self.output)

"""From a trace to what `cnnscope diff` needs of a model."""

from cnnscope.analysis.notes import of_findings
from cnnscope.analysis.parts import parts
from cnnscope.records.comparable import Comparable
from cnnscope.records.trace import Trace
from cnnscope.reports.summary import report


def comparable(trace: Trace) -> Comparable:
    """All that a comparison with another model depends on."""
    answer = report(trace, review=False)
    return Comparable(
        source=answer.source,
        inputs=answer.inputs,
        device=answer.device,
        totals=answer.totals,
        unknown=answer.unknown,
        notes=(*answer.notes, *of_findings(trace)),
        parts=parts(trace, answer),
    )

"""Notes on a trace for reports without findings: how it was made, and what is missing from it."""

from cnnscope.analysis import cost
from cnnscope.analysis.review import chance, parameters
from cnnscope.records.trace import Trace


def notes(trace: Trace) -> tuple[str, ...]:
    """Sentences about a trace, with those that the summary has among its findings."""
    return (*trace.notes, *of_findings(trace), *cost.notes(trace))


def of_findings(trace: Trace) -> tuple[str, ...]:
    """The findings without which other numbers may be misread."""
    said = (parameters.unregistered_weights(trace), chance.random_path(trace))
    return tuple(filter(None, said))

"""The report of `cnnscope diff` on two traces."""

from cnnscope.reports import diff as report
from cnnscope.reports.comparable import comparable


def diff(before, after):
    """Compare the models of two traces."""
    return report.diff(comparable(before), comparable(after))

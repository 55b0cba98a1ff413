"""Time of receptive fields in `summary` without torch: trace to text with and without them.

CPU time, interleaved.
"""

import statistics
import sys
import time

from cnnscope.analysis import receptive_field
from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.render import drawing, page
from cnnscope.reports.summary import report

MODELS = ("resnet18", "densenet201", "efficientnet_b7", "efficientnet_v2_l", "regnet_y_128gf",
          "inception_v3", "convnext_large", "maxvit_t")  # fmt: skip
ROUNDS = 15


def seconds(function, *arguments):
    begin = time.process_time()
    function(*arguments)
    return time.process_time() - begin


def summary(trace):
    """Render a trace as `cnnscope summary` does."""
    made = report(trace)
    return page.text(drawing.page(made), 120)


def without(trace):
    """The same where nothing has a field."""
    fields = receptive_field.fields
    receptive_field.fields = lambda trace: (None,) * len(trace.tensors)
    try:
        return summary(trace)
    finally:
        receptive_field.fields = fields


def main(names):
    for name in names:
        trace = trace_spec(Request.of(name))
        summary(trace)
        pairs = [(seconds(without, trace), seconds(summary, trace)) for _ in range(ROUNDS)]
        bare, whole = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{name:<18} without {bare:6.1f} ms   with {whole:6.1f} ms   "
            f"fields {whole - bare:6.1f} ms, {100 * (whole - bare) / bare:5.1f} %"
        )


if __name__ == "__main__":
    main(sys.argv[1:] or MODELS)

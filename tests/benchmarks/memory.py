"""Memory of a summary above `import torch, torchvision` (peak resident set)."""

import resource
import sys

import torch  # noqa: F401
import torchvision  # noqa: F401


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    before = peak_mb()
    from cnnscope.models.request import Request
    from cnnscope.models.run import trace_spec
    from cnnscope.reports.summary import report

    for name in sys.argv[1:] or ["regnet_y_128gf"]:
        params = report(trace_spec(Request.of(name))).totals.params
        print(f"{name:<32} {params:>13,} parameters   {peak_mb() - before:6.1f} MB")


if __name__ == "__main__":
    main()

"""All of torchvision's models, summarised in one process."""

import time

from cnnscope.models.request import Request
from cnnscope.models.run import trace_spec
from cnnscope.models.sources import torchvision
from cnnscope.reports.summary import report


def main():
    begin = time.perf_counter()
    names = torchvision.names()
    reports = {name: report(trace_spec(Request.of(name))) for name in names}
    took = time.perf_counter() - begin
    unknown = sum(len(r.unknown) for r in reports.values())
    wrong = sum(len(r.mismatches) for r in reports.values())
    print(
        f"{len(reports)} of {len(names)} models in {took:.1f} s; {unknown} unknown operations, "
        f"{wrong} shapes that the floor formula does not give"
    )


if __name__ == "__main__":
    main()

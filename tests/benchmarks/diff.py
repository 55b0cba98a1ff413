"""Time of comparing two traces without torch: swin_b against swin_v2_b, or two other models.

The traces are made in a process of their own; this one reads them, and has never imported torch.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from cnnscope.records.trace import Trace
from cnnscope.render import drawing, page
from cnnscope.reports.diff import diff

ROUNDS = 11
MAKE = """
import sys
from pathlib import Path
import msgspec
from cnnscope import trace
for name in sys.argv[2:]:
    (Path(sys.argv[1]) / name).write_bytes(msgspec.msgpack.encode(trace(name)))
"""


def timed(function):
    begin = time.perf_counter()
    return function(), 1e3 * (time.perf_counter() - begin)


def main():
    names = sys.argv[1:] or ["swin_b", "swin_v2_b"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", MAKE, folder, *names], check=True)
        stored = [(Path(folder) / name).read_bytes() for name in names]
    decode = msgspec.msgpack.Decoder(Trace).decode
    took = []
    for _ in range(ROUNDS):
        traces, reading = timed(lambda: [decode(each) for each in stored])
        report, comparing = timed(lambda traces=traces: diff(*traces))
        _, draw = timed(lambda report=report: page.text(drawing.page(report)))
        took.append((reading, comparing, draw))
    assert "torch" not in sys.modules
    read, compared, drawn = (statistics.median(times) for times in zip(*took, strict=True))
    operations = " and ".join(str(len(trace.ops)) for trace in traces)
    print(
        f"{' -> '.join(names)} ({operations} operations), median of {ROUNDS}: "
        f"read {read:.0f} ms, diff {compared:.0f} ms, draw {drawn:.0f} ms, "
        f"together {read + compared + drawn:.0f} ms"
    )


if __name__ == "__main__":
    main()

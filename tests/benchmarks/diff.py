"""Time of comparing two stored models without torch: swin_b against swin_v2_b, or two others.

They are made ready in a process of their own; this one reads them, and has never imported torch.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from cnnscope.records.comparable import Comparable
from cnnscope.render import drawing, page
from cnnscope.reports.diff import diff

ROUNDS = 11
MAKE = """
import sys
from pathlib import Path
import msgspec
from cnnscope import trace
from cnnscope.reports.comparable import comparable
for name in sys.argv[2:]:
    (Path(sys.argv[1]) / name).write_bytes(msgspec.msgpack.encode(comparable(trace(name))))
"""


def timed(function):
    begin = time.process_time()
    return function(), 1e3 * (time.process_time() - begin)


def main():
    names = sys.argv[1:] or ["swin_b", "swin_v2_b"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", MAKE, folder, *names], check=True)
        stored = [(Path(folder) / name).read_bytes() for name in names]
    decode = msgspec.msgpack.Decoder(Comparable).decode
    took = []
    for _ in range(ROUNDS):
        models, reading = timed(lambda: [decode(each) for each in stored])
        report, comparing = timed(lambda models=models: diff(*models))
        _, draw = timed(lambda report=report: page.text(drawing.page(report)))
        took.append((reading, comparing, draw))
    assert "torch" not in sys.modules
    read, compared, drawn = (statistics.median(times) for times in zip(*took, strict=True))
    rows = " and ".join(str(len(model.parts)) for model in models)
    print(
        f"CPU time of {' -> '.join(names)} ({rows} rows), median of {ROUNDS}: "
        f"read {read:.0f} ms, diff {compared:.0f} ms, draw {drawn:.0f} ms, "
        f"together {read + compared + drawn:.0f} ms"
    )


if __name__ == "__main__":
    main()

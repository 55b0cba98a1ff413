"""Heavy modules that a program imports, in a process of its own."""

import json
import subprocess
import sys

HEAVY = {"torch", "torchvision", "torch._dynamo", "numpy"}

# Runs a program with `arguments` and tells on the last line which heavy modules it imported.
PROBE = """
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()):
    try:
        {program}
    except SystemExit:
        pass
print(json.dumps(sorted({heavy} & set(sys.modules))))
"""


def imported_by(program):
    """Heavy modules that a program imports."""
    script = PROBE.format(program=program, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600
    )
    return json.loads(done.stdout.splitlines()[-1])

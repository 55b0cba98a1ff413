"""Causes of another path in another run of a model: random numbers, and looks at data.

Clocks are not followed: a forward that reads one mostly wants to know how long something took.
"""

from __future__ import annotations

import inspect
import os
import random
import sys
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Generator, nn

from cnnscope.records.trace import OpRecord
from cnnscope.tracing.lines import TORCH

DATA, RANDOM = "data", "random"  # in `Trace.decided_by`
SYSTEM = "the operating system's"
_STANDARD = str(Path(os.__file__).parent)

_READS = frozenset(
    "_local_scalar_dense item is_nonzero equal nonzero nonzero_numpy masked_select _unique "
    "_unique2 unique_dim unique_consecutive".split()
)
_DRAWS = frozenset(
    "rand rand_like randn randn_like randint randint_like randperm bernoulli multinomial normal "
    "uniform random exponential geometric cauchy log_normal poisson binomial _standard_gamma "
    "_sample_dirichlet native_dropout rrelu_with_noise".split()
)
_SIZES = frozenset("empty_like zeros_like ones_like full_like rand_like randn_like".split())


class Generators:
    """The generators of random numbers that code can draw from in Python, and what they were.

    Python's own, numpy's global one, and those that a module or the file of its class holds.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._before = [(name, read, read()) for name, read in _states(modules)]

    def drawn(self) -> tuple[str, ...]:
        """The names of those that were drawn from."""
        return tuple(dict.fromkeys(n for n, read, old in self._before if _differ(read(), old)))


def _states(modules: Iterable[nn.Module]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and state of each generator."""
    yield "Python's random", random.getstate
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        yield "numpy.random", numpy.get_state
    seen: set[int] = set()
    for module in modules:
        forward = getattr(inspect.getattr_static(type(module), "forward"), "__globals__", {})
        held = list(vars(module).values())
        if id(forward) not in seen:
            seen.add(id(forward))
            held += forward.values()
        for value in held:
            read = _reader(value, numpy)
            if read is not None and id(value) not in seen:
                seen.add(id(value))
                yield "a generator of its own", read


def _reader(value: Any, numpy: Any) -> Callable[[], Any] | None:
    """Return the function that reads the state of a generator; None for anything else."""
    if isinstance(value, random.Random):
        return None if isinstance(value, random.SystemRandom) else value.getstate  # it has no state
    if isinstance(value, Generator):
        return lambda: value.get_state().tolist()
    if numpy is not None and isinstance(value, numpy.Generator):
        return lambda: str(value.bit_generator.state)
    if numpy is not None and isinstance(value, numpy.RandomState):
        return lambda: str(value.get_state())
    return None


@contextmanager
def system_random() -> Iterator[list[str]]:
    """Notice draws from the operating system: `os.urandom`, `secrets`, `random.SystemRandom`.

    These have no state that could be compared. A checkpoint of torch's gives its graph a name of
    random digits, which decides nothing.

    Yields:
        A list that has `SYSTEM` once this thread has drawn.
    """
    drawn, thread = list[str](), threading.get_ident()
    urandom, held = os.urandom, vars(random)["_urandom"]

    def noticed(size: int, /) -> bytes:
        if threading.get_ident() == thread and not drawn and not _for_torch():
            drawn.append(SYSTEM)
        return urandom(size)

    try:
        os.urandom = vars(random)["_urandom"] = noticed
        yield drawn
    finally:
        os.urandom, vars(random)["_urandom"] = urandom, held


def _for_torch() -> bool:
    """Return True if torch's own code draws from the operating system, as through `uuid`."""
    at: Any = sys._getframe(2)
    while at is not None and _is_standard(at.f_code.co_filename):
        at = at.f_back
    return at is not None and at.f_code.co_filename.startswith(TORCH)


def _is_standard(file: str) -> bool:
    """Return True for a file of Python's own library."""
    return file.startswith(_STANDARD) and "-packages" not in file


def _differ(one: Any, other: Any) -> bool:
    return bool(_plain(one) != _plain(other))


def _plain(state: Any) -> Any:
    """A state without arrays, which do not compare to one truth."""
    if isinstance(state, (list, tuple)):
        return tuple(map(_plain, state))
    return state.tobytes() if hasattr(state, "tobytes") else state


def decided_by(
    ops: Sequence[OpRecord], inputs: Iterable[int], outputs: Iterable[int], bools: Container[int]
) -> tuple[str, ...]:
    """Sources of the values that Python read during a run: "data", "random", both or none.

    Random numbers that no operation reads count as looked at: a list was made of them.

    Args:
        ops: those that ran.
        inputs: tensors that the run was given.
        outputs: tensors that it gave back.
        bools: tensors of truth values.
    """
    of = {DATA: set(inputs), RANDOM: set[int]()}
    read = {t for record in ops for t in record.tensors} | set(outputs)
    found: set[str] = set()
    for record in ops:
        name = record.name.partition(".")[2].partition(".")[0]
        name = name.removesuffix("_") or name
        given = set(record.tensors)
        looks = name in _READS or (name == "index" and any(t in bools for t in given))
        draws = name in _DRAWS
        for what, tensors in of.items():
            met = not given.isdisjoint(tensors)
            if met and looks:
                found.add(what)
            if (met and name not in _SIZES) or (draws and what == RANDOM):
                tensors.update(record.outputs)
        if draws and record.outputs and record.outputs[0] not in read:
            found.add(RANDOM)
    return tuple(sorted(found))

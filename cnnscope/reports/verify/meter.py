"""Gradients measured as far as time and memory suffice, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cnnscope import parallel
from cnnscope.deadline import Deadline
from cnnscope.records.rf import AxisCheck, LayerCheck
from cnnscope.records.trace import Shape
from cnnscope.reports.verify.canvas import Canvas
from cnnscope.reports.verify.tasks import Task

if TYPE_CHECKING:
    from cnnscope.measure import gradient

Progress = Callable[[int, int], None]  # done, of how many
Result = list[list[tuple[int, int]]] | str  # as `gradient.measure` gives it
_COPIES = 3  # of what is alive at once: made anew, kept for gradients, gradients


class Meter:
    """Measures, counts what is done, and keeps the checks of each layer or why it has none.

    Args:
        deadline: after which nothing more is measured.
        progress: called with what is done and how much there is.
        total: fields along an axis that are to be measured.
    """

    def __init__(self, deadline: Deadline, progress: Progress, total: int) -> None:
        self.deadline, self.progress = deadline, progress
        self.done, self.total = 0, total
        self.checks: dict[gradient.Target, list[AxisCheck]] = {}
        self.reasons: dict[gradient.Target, str] = {}
        progress(0, total)

    def measure(
        self, canvas: Canvas, roots: Sequence[gradient.Root], grows: gradient.Growth | None
    ) -> dict[gradient.Target, Result]:
        """Measure as far as time and memory suffice; the reason is given where they do not."""
        from cnnscope.measure import gradient

        short = _short_of_memory(canvas.tape, canvas.size)
        if short or self.deadline.over:
            return {root.target: short or self.deadline.reason for root in roots}
        found = gradient.measure(canvas.tape, roots, grows, self._advance, self.deadline.end)
        return {t: self.deadline.reason if r == gradient.LATE else r for t, r in found.items()}

    def _advance(self) -> None:
        self.done = min(self.done + 1, self.total)
        self.progress(self.done, self.total)

    def note(self, task: Task, check: AxisCheck) -> None:
        """Keep a check of a layer."""
        self.checks.setdefault(task.target, []).append(check)

    def give_up(self, tasks: Sequence[Task], reason: str) -> None:
        """Keep why layers have no check, unless they have a reason already."""
        for task in tasks:
            self.reasons.setdefault(task.target, reason)

    def refuse(self, task: Task, reason: str) -> None:
        """Keep why a layer has no check."""
        self.reasons[task.target] = reason

    def result(self, task: Task) -> LayerCheck:
        """All that was found of a layer."""
        checks = sorted(self.checks.get(task.target, ()), key=lambda c: (c.axis, c.how == "whole"))
        reason = self.reasons.get(task.target, "")
        return LayerCheck(task.row.path, task.row.call, task.axes, tuple(checks), reason)


def _short_of_memory(tape: gradient.Tape, size: Shape) -> str:
    """Explain that a canvas needs more than the free memory; "" if it fits."""
    from cnnscope.measure import gradient

    needed, free = _COPIES * 8 * gradient.size(tape).peak, parallel.free_memory()
    if free is None or needed <= free:
        return ""
    gib = [f"{n / 2**30:.1f} GiB" for n in (needed, free)]
    return f"a canvas of {'x'.join(map(str, size))} px needs about {gib[0]}, and {gib[1]} are free"

"""Diagnose a failed forward in the terms of the layer that refused: channels, window, features."""

from __future__ import annotations

import linecache
import traceback

from cnnscope.analysis import shapes
from cnnscope.errors import CnnscopeError
from cnnscope.ops import table
from cnnscope.records.trace import ModuleRecord, Shape
from cnnscope.text import printable, said
from cnnscope.tracing.plain import module_record
from cnnscope.tracing.tracer import ForwardError

_LONG = 160  # characters of other people's messages


def where_and_why(error: CnnscopeError) -> tuple[str, str]:
    """The layer (or operation) that refused, and why, both in few words.

    "features.12", "floor((2 + 2*0 - 1*(3 - 1) - 1)/2 + 1) = 0".
    """
    if not isinstance(error, ForwardError):
        return "", printable(str(error), _LONG)
    return where(error), _short(error)


def where(error: ForwardError) -> str:
    """`features.12`, `encoder.add`: the path of a layer of torch's, or of an operation."""
    record = _record(error)
    if record.library or not error.operation:
        return error.path or record.kind
    label = table.lookup(error.operation).label.replace(" ", "_")
    return f"{error.path}.{label}" if error.path else label


def _short(error: ForwardError) -> str:
    slide = shapes.of_module(_record(error))
    wrong = channels(error)
    if wrong is not None:
        return f"takes {wrong[0]} channels and is given {wrong[1]}"
    if slide is not None and _slides(error, slide):
        formula = _no_window(slide, error.shapes[0])
        if formula:
            return formula
    wrong = features(error)
    if wrong is not None:
        return f"takes {wrong[0]} features and is given {wrong[1]}"
    return cause(error)


def cause(error: ForwardError, limit: int = _LONG) -> str:
    """Return the message of the exception; of an assert without one, its source line."""
    if isinstance(error.cause, AssertionError) and not str(error.cause):
        frames = traceback.extract_tb(error.cause.__traceback__)
        line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0) if frames else ""
        if line.strip():
            return printable(f"AssertionError: {line.strip()}", limit)
    return said(error.cause, limit)


def layer_reason(error: ForwardError) -> str | None:
    """Explain why a layer refused its input, as a sentence that names it; None if unknown."""
    record = _record(error)
    name = f"{error.path} ({record.kind})" if error.path else record.kind
    wrong = channels(error)
    if wrong is not None:
        return f"{name} takes {wrong[0]} channels and was given {wrong[1]}"
    slide = shapes.of_module(record)
    if slide is not None and _slides(error, slide):
        formula = _no_window(slide, error.shapes[0])
        return f"the input is too small for {name}: {formula}" if formula else None
    wrong = features(error)
    if wrong is not None:
        return f"{name} takes {wrong[0]} features and was given {wrong[1]}"
    return None


def channels(error: ForwardError) -> tuple[int, int] | None:
    """(expected, given) channels, where a convolution was given the wrong number."""
    slide = shapes.of_module(_record(error))
    expected = getattr(error.module, "in_channels", None)
    if slide is None or expected is None or not error.shapes:
        return None
    shape = error.shapes[0]
    given = shape[-slide.axes - 1] if len(shape) > slide.axes else None
    return (expected, given) if given is not None and given != expected else None


def features(error: ForwardError) -> tuple[int, int] | None:
    """(expected, given) features, where a linear layer was given the wrong number."""
    record = _record(error)
    if record.base != "Linear" or not error.shapes or not error.shapes[0]:
        return None
    expected, given = record.hyper.get("in_features"), error.shapes[0][-1]
    return (expected, given) if isinstance(expected, int) and expected != given else None


def _slides(error: ForwardError, slide: shapes.Slide) -> bool:
    stepping = min(slide.geometry.stride, default=1) > 0
    return stepping and bool(error.shapes) and len(error.shapes[0]) > slide.axes


def _no_window(slide: shapes.Slide, shape: Shape) -> str | None:
    """The formula of the first axis on which the window does not fit."""
    if slide.form not in ("convolution", "pool"):
        return None
    predicted = slide.predict(shape)[-slide.axes :]
    return next((shapes.formula(slide, shape, a) for a, n in enumerate(predicted) if n < 1), None)


def _record(error: ForwardError) -> ModuleRecord:
    return module_record(error.path, error.module)

"""Diagnose a failed forward in the terms of the layer that refused: channels, window, features."""

from __future__ import annotations

import linecache
import re
import traceback
from difflib import get_close_matches
from typing import Any

from cnnscope.analysis import shapes
from cnnscope.errors import CnnscopeError
from cnnscope.models import refused, widths
from cnnscope.ops import table
from cnnscope.records.trace import ModuleRecord, Shape
from cnnscope.text import printable, said
from cnnscope.tracing.plain import module_record
from cnnscope.tracing.recorder import ExitedError, ForwardError

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
    """Why a layer or an operation refused: of sizes that differ, which these are."""
    record, broken = _record(error), error.trace.broken
    differ = ""
    if broken is not None and broken.operation is not None and not record.library:
        differ = refused.difference(error.trace, broken.operation)
    return _of_layer(error) or printable(differ, _LONG) or cause(error)


def cause(error: ForwardError, limit: int = _LONG) -> str:
    """Return the message of the exception; of an assert without one, its source line."""
    if isinstance(error.cause, AssertionError) and not str(error.cause):
        frames = traceback.extract_tb(error.cause.__traceback__)
        line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0) if frames else ""
        if line.strip():
            return printable(f"AssertionError: {line.strip()}", limit)
    return said(error.cause, limit)


def reason(error: ForwardError) -> str:
    """Explain in a sentence that names the layer or operation why it refused its input."""
    if isinstance(error.cause, ExitedError):
        return str(error.cause)
    layer = layer_reason(error)
    if layer is not None:
        return layer
    if isinstance(error.cause, AssertionError) and not str(error.cause):
        return f"{where(error)}: {cause(error)}{_named(error)}"
    record, broken = _record(error), error.trace.broken
    if broken is not None and broken.operation is not None and not record.library:
        sentence = refused.reason(error.trace, broken.operation)
        if sentence:
            return f"{error.path}: {sentence}" if error.path else sentence
    return str(error).rstrip(".") + (_nothing(error) or _named(error))


def layer_reason(error: ForwardError) -> str | None:
    """Explain why a layer refused its input, as a sentence that names it; None if unknown."""
    record = _record(error)
    name = f"{error.path} ({record.kind})" if error.path else record.kind
    if error.missing and record.library and "NoneType" in said(error.cause):
        return f"{name} was given None{_nothing(error)}"
    slide = shapes.of_module(record)
    too_small = slide is not None and _slides(error, slide) and width(error) is None
    formula = _no_window(slide, error.shapes[0]) if slide is not None and too_small else None
    if formula:
        return f"the input is too small for {name}: {formula}"
    found = _of_layer(error)
    return f"{name} {found}" if found else None


def _of_layer(error: ForwardError) -> str:
    """`takes 3 channels and was given 4`, `floor(...) = 0`; "" where it is about neither."""
    record = _record(error)
    if not error.shapes:
        return ""
    wanted = widths.rank(record, error.shapes[0])
    if wanted:
        given = "x".join(map(str, error.shapes[0])) or "a single number"
        return f"takes {wanted} and was given {given}"
    wrong = width(error)
    if wrong is not None:
        return f"takes {_sizes(wrong.takes)} {wrong.noun} and was given {_sizes(wrong.given)}"
    slide = shapes.of_module(record)
    if slide is not None and _slides(error, slide):
        return _no_window(slide, error.shapes[0]) or ""
    return ""


def width(error: ForwardError) -> widths.Width | None:
    """The width of the layer that failed and the one that it was given, where they differ."""
    if not error.shapes:
        return None
    record = _record(error)
    if widths.rank(record, error.shapes[0]):
        return None
    return widths.width(record, error.shapes[0])


def alike(error: ForwardError) -> str:
    """A name that an attribute which is not there may have meant; "" if there is none near."""
    found = re.search(r"has no attribute '(\w+)'", said(error.cause))
    if not isinstance(error.cause, AttributeError) or found is None:
        return ""
    module = error.module
    names = [*module._modules, *module._parameters, *module._buffers, *vars(module)]
    owner = f"'{type(module).__name__}' object" in said(error.cause)
    near = get_close_matches(found[1], [n for n in names if n], 1, 0.5) if owner else []
    return printable(near[0]) if near else ""


def _nothing(error: ForwardError) -> str:
    """That a module returned None, where that is what was used."""
    about = error.missing or "NoneType" in said(error.cause)
    if not about or error.empty is None:
        return ""
    return f"; {error.empty or 'the model'} returned None (has its forward a return?)"


def _named(error: ForwardError) -> str:
    """The shapes of the tensors that the line names: " (x is 1x4x32x32)"."""
    named = [f"{name} is {_sizes(shape) or 'a scalar'}" for name, shape in error.named[:3]]
    return f" ({', '.join(named)})" if named else ""


def _sizes(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


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

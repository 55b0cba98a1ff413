"""The sentences around the table: header, totals and findings, alike in every text format."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cnnscope.records.findings import Finding
from cnnscope.records.summary import AxisField, Excess, Failed, ModelReport, Totals
from cnnscope.records.trace import Source, TensorSpec
from cnnscope.render import units
from cnnscope.render.tree import View
from cnnscope.text import operation

_FINDINGS = 8  # lines of them, unless more are asked for
_PACKAGES = {"hf": "transformers"}  # of sources that are not named like theirs


class _Traced(Protocol):
    """A report, or a part of one, that is about one traced model."""

    @property
    def source(self) -> Source: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def device(self) -> str: ...


def header(report: _Traced) -> str:
    """resnet18, torchvision 0.29.2, input 1x3x224x224 float32, traced on meta."""
    inputs = [str(spec) for spec in report.inputs]
    parts = [
        library(report.source),
        f"input {counted(inputs)}" if inputs else "no input",
        f"traced on {report.device}",
    ]
    return " · ".join(parts)


def library(source: Source, varied: Sequence[str] = ()) -> str:
    """The library of a model and its arguments, without those that vary: timm 1.0 (width=2)."""
    package = _PACKAGES.get(source.source, source.source)
    version = source.versions.get(package, "").partition("+")[0]
    given = ", ".join(f"{k}={v}" for k, v in source.arguments.items() if k not in varied)
    return f"{package} {version}".strip() + (f" ({given})" if given else "")


def failure(failed: Failed) -> list[tuple[str, str]]:
    """Where a forward raised, why, and the remedy, a line for each."""
    lines = [("fails", place(failed)), ("cause", failed.cause or failed.message)]
    return lines + ([("remedy", failed.remedy)] if failed.remedy else [])


def place(failed: Failed) -> str:
    """Where a forward raised: fc (Linear) on 1x3136 from view of conv2; net.py:17: self.fc(x)."""
    name = units.called(failed)
    same = failed.path.rpartition(".")[2] == failed.operation
    where = name if same else f"{name} ({failed.operation})"
    pairs = itertools.zip_longest(failed.inputs, failed.made_by)
    made = [units.shape(s or ()) + (f" from {by}" if by else "") for s, by in dict.fromkeys(pairs)]
    given, more = " and ".join(made[:4]), f" and {len(made) - 4} more" if len(made) > 4 else ""
    source = ": ".join(filter(None, (failed.line, failed.expression)))
    return where + (f" on {given}{more}" if given else "") + (f"; {source}" if source else "")


def totals(report: ModelReport) -> list[tuple[str, str]]:
    """Totals of the model, a line for each; of a forward that raised, up to there."""
    lines = _totals(report)
    if report.failed is None:
        return lines
    whole = ("parameters", "buffers")
    return [
        (title, text if title in whole else f"{text}, up to the break") for title, text in lines
    ]


def _totals(report: ModelReport) -> list[tuple[str, str]]:
    t = report.totals
    lines = [
        ("parameters", _parameters(report)),
        ("MACs", macs(t)),
        (
            "activations",
            f"peak {units.nbytes(t.peak_activation_bytes)}"
            + (f" at {t.peak_layer}" if t.peak_layer else "")
            + f", {units.nbytes(t.activation_bytes)} allocated in all",
        ),
        ("depth", weight_layers(t)),
    ]
    unknown = _first_unknown_field(report)
    if unknown:
        lines.append(("field", f"not followed through {unknown}, nor known after it"))
    elif t.field:
        lines.append(("field", _field(t)))
    return lines


def weight_layers(t: Totals) -> str:
    """8 conv + 3 linear = 11 weight layers; recurrent ones are named where there are any."""
    parts = [f"{t.conv_layers} conv"]
    if t.recurrent_layers:
        parts.append(f"{t.recurrent_layers} recurrent")
    parts.append(f"{t.linear_layers} linear")
    every = t.conv_layers + t.recurrent_layers + t.linear_layers
    return f"{' + '.join(parts)} = {units.plural(every, 'weight layer')}"


def macs(t: Totals) -> str:
    """1.814 GMACs (3.628 GFLOPs; 1 MAC = 2 FLOPs) + 9.860 M element ops."""
    return (
        f"{with_unit(t.macs, 'MACs')} ({with_unit(t.flops, 'FLOPs')}; 1 MAC = 2 FLOPs)"
        f" + {with_unit(t.element_ops, 'element ops')}" + _by_type(t.macs_by_dtype, "; ")
    )


def _by_type(counts: Mapping[str, int], before: str) -> str:
    """1.8 G int8, 4.1 M float32; "" where all are of one type of floating point."""
    plain = ("float16", "float32", "float64", "bfloat", "complex")
    if len(counts) == 1 and next(iter(counts)).startswith(plain):
        return ""
    shown = ", ".join(f"{units.si(count)} {dtype}" for dtype, count in counts.items())
    return f"{before}{shown}" if shown else ""


def _quantised(counts: Mapping[str, int]) -> bool:
    """Return True where some are integers of 8 bits or less: weights, and no counters."""
    return any(re.fullmatch(r"u?int[1248]", dtype) for dtype in counts)


def findings(report: ModelReport, shown: bool | None = None) -> list[str]:
    """What a reviewer would say of the model, a sentence each.

    Args:
        report: with its findings.
        shown: all of them, none, or (None) the first few and how many more there are.
    """
    every = [sentence(finding) for finding in report.findings] if shown is not False else []
    if shown or len(every) <= _FINDINGS:
        return every
    left = units.plural(len(every) - _FINDINGS + 1, "more finding")
    return [*every[: _FINDINGS - 1], f"{left} (--findings)"]


def sentence(finding: Finding) -> str:
    """A finding with the layer that `cnnscope explain` has more of."""
    return (
        f"{finding.sentence} (explain {finding.explain})" if finding.explain else finding.sentence
    )


def doubts(report: ModelReport) -> list[str]:
    """What to know before trusting the numbers: what is missing, and how they were made."""
    found = [
        f"no formula for {operation(op.name)} (x{op.count}, first in "
        f"{op.first_layer or 'the model'}): its cost is missing above"
        for op in report.unknown
    ]
    found += [f"the floor formula does not give the output of {path}" for path in report.mismatches]
    return found + list(report.notes)


_LIMITS = {
    "max_params": ("parameters", units.integer),
    "max_macs": ("MACs", units.integer),
    "max_activation": ("peak activations", units.nbytes),
    "max_train_memory": ("memory of a training step", units.nbytes),
    "min_rf": ("receptive field", lambda value: f"{value} px"),
}


def excess(over: Excess) -> str:
    """parameters: 11,689,512, more than --max-params 5,000,000; 2,359,296 of them in layer4.0."""
    what, shown = _LIMITS[over.limit_name]
    option = f"--{over.limit_name.replace('_', '-')} {shown(int(over.limit))}"
    if over.value is None:
        lost = f" because of {over.where}" if over.where else ""
        return f"{what}: not known{lost}, so that {option} cannot be held"
    side = "less" if over.limit_name == "min_rf" else "more"
    text = f"{what}: {shown(over.value)}, {side} than {option}"
    if not over.where:
        return text
    if over.share == over.value:
        return f"{text}, at {over.where}"
    return f"{text}; most in {over.where}: {shown(over.share)}"


def shown(view: View[Any], hidden: str) -> str:
    """Note on rows that a table leaves out, and the option that shows them."""
    parts = []
    if view.depth < view.full_depth and view.lines:
        opened = " and one block per kind" if view.examples else ""
        parts.append(
            f"{view.depth} of {view.full_depth} levels{opened} (--depth {view.full_depth})"
        )
    if view.folded and view.lines:
        parts.append("equal rows folded (--unfold)")
    if view.hidden:
        parts.append(f"{units.plural(view.hidden, hidden)} hidden (--all)")
    return ", ".join(parts)


def _first_unknown_field(report: ModelReport) -> str:
    """The first layer behind which the field of the model's output is lost, "" if it is known."""
    if not report.layers[0].field_unknown:
        return ""
    return next((row.path for row in report.layers if row.leaf and row.field_unknown), "")


def _field(t: Totals) -> str:
    """435 px, larger than the 224 px input from layer4.0.conv1 on.

    Or 16 px of the 224 px input; all of it from encoder.layers.encoder_layer_0.self_attention on.
    """
    axes = t.field or ()
    if all(a.local_size is None for a in axes):
        return f"all of the input, from {t.field_covers_input_at or 'its first layer'} on"
    sizes = units.same(["all" if a.local_size is None else str(a.local_size) for a in axes])
    given = units.same([str(a.input_size) for a in axes])
    context = _context(axes)
    if not t.field_exceeds_input_at:
        text = f"{sizes} px of the {given} px input{context}"
        whole = t.field_covers_input_at
        return f"{text}; all of it from {whole} on" if whole and not context else text
    return (
        f"{sizes} px{context}, larger than the {given} px input from {t.field_exceeds_input_at} on"
    )


def _context(axes: Sequence[AxisField]) -> str:
    """Context of a receptive field beside its local extent; "" if there is none."""
    whole = [a.size is None and a.local_size is not None for a in axes]
    if all(whole):
        return " beside a function of the whole image"
    names = " and ".join(itertools.compress(units.axis_names(len(axes)), whole))
    return f" beside everything along {names}" if names else ""


def _parameters(report: ModelReport) -> str:
    t = report.totals
    parts = [units.nbytes(t.param_bytes)]
    if t.frozen_params:
        parts.append(f"{units.integer(t.trainable_params)} trainable")
        parts.append(f"{units.integer(t.frozen_params)} frozen")
    elif t.params:
        parts.append("all trainable")
    if types := _by_type(t.params_by_dtype, ""):
        parts.append(types)
    if t.unused_params:
        when = "not used in this run" if report.decided_by else "never used"
        when = "not reached" if report.failed else when
        parts.append(f"{units.integer(t.unused_params)} {when}")
    if t.shared_params:
        parts.append(f"{units.integer(t.shared_params)} more if tied weights were counted twice")
    whole = " in the whole network" if report.failed else ""
    buffers = ""
    if t.buffers:
        types = _by_type(t.buffers_by_dtype, ", ") if _quantised(t.buffers_by_dtype) else ""
        buffers = f"; buffers {units.integer(t.buffers)} ({units.nbytes(t.buffer_bytes)}{types})"
    return f"{units.integer(t.params)}{whole} ({', '.join(parts)}){buffers}"


def with_unit(value: int, unit: str) -> str:
    """1.814 GMACs: the prefix belongs to the unit."""
    number, _, prefix = units.si(value).partition(" ")
    return (
        f"{number} {prefix} {unit}".replace("  ", " ")
        if " " in unit
        else f"{number} {prefix}{unit}"
    )


def counted(names: list[str]) -> str:
    """2 x 1x3x8x8 float32; different ones with commas."""
    return (
        f"{len(names)} x {names[0]}"
        if len(set(names)) == 1 and len(names) > 1
        else ", ".join(names)
    )

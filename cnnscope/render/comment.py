"""A difference as a comment on a pull request, in GitHub-flavoured Markdown.

The first line is the verdict, which is all that a list of comments shows. Tables are folded, and
the whole is shorter than the platforms allow, whatever the models are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cnnscope.records.diff import DiffReport
from cnnscope.records.summary import Totals
from cnnscope.render import units
from cnnscope.render.escaping import markdown as escape
from cnnscope.render.escaping import markdown_block
from cnnscope.render.page import Page, items, markdown_table

LIMIT = 60_000  # bytes of UTF-8; GitHub refuses 65,536 characters, the action cuts at this
_SENTENCE = 400  # characters
_SENTENCES = 25  # above the table, and below it
_NAME = 120  # characters
_HEAD = 2  # lines of a table before its rows
_NOTHING = "&#8203;"  # a space of no width; the character itself would be written out
# @name, #1, GH-1, !1 (of GitLab), https://, www.
_LINKS = re.compile(r"@(?=\w)|[#!](?=\d)|\bGH-(?=\d)|:(?=//)|\bwww\.(?=\w)", re.IGNORECASE)


def markdown(report: DiffReport, page: Page) -> str:
    """The comment: verdict, broken budgets and findings, the tables in `<details>`, notes.

    Args:
        report: of the two models.
        page: of it.
    """
    above = [pair for pair in page.above if pair[0] not in ("before", "after")]
    sides = [pair for pair in page.above if pair[0] in ("before", "after")]
    head = [_verdict(report), "", *_few(above), ""]
    notes = [markdown_block(page.header)] if page.header else []
    tail = ["", *_few([*sides, *page.below]), *[""] * bool(notes), *notes]
    tables = [_safe(line) for table in page.tables[1:] for line in ("", *markdown_table(table))]
    rows = [_safe(line) for line in markdown_table(page.tables[0])]
    around = ["<details><summary>Layers and totals</summary>", "", *tables, "", "</details>"]
    left = LIMIT - sum(map(_size, (*head, *map(_safe, tail), *around))) - _size(_left_out(0, 0))
    shown = list(_fitting(rows, left))
    if len(shown) < len(rows):
        shown += ["", _left_out(len(rows) - len(shown), len(rows) - _HEAD)]
    lines = [*head, around[0], "", *shown, *around[2:], *map(_safe, tail)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _few(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Sentences as a list, the first of many."""
    few = [_safe(line) for line in items(pairs[:_SENTENCES], _SENTENCE)]
    more = len(pairs) - _SENTENCES
    return few + (
        [f"- and {units.plural(more, 'sentence')} more, left out here"] if more > 0 else []
    )


def _left_out(rows: int, of: int) -> str:
    return (
        f"*{rows:,} of {of:,} rows are left out, as a comment may not be longer: cnnscope diff "
        "shows them*"
    )


def _fitting(lines: Sequence[str], room: int) -> Iterator[str]:
    for line in lines:
        room -= _size(line)
        if room < 0:
            return
        yield line


def _size(line: str) -> int:
    return len(line.encode("utf-8", "replace")) + 1


def _safe(line: str) -> str:
    """A line in which no name mentions a person or a team, or links an issue or another site."""
    return _LINKS.sub(rf"\g<0>{_NOTHING}", line)


# -------------------------------------------------------------------------------- the verdict


def _verdict(report: DiffReport) -> str:
    """**a → b**: parameters 11.69 M → 21.80 M (▲ +86.5 %) · MACs ..."""
    names = [_safe(escape(_short(side.source.name))) for side in (report.before, report.after)]
    before, after = report.before.totals, report.after.totals
    parts = [
        _part("parameters", before.params, after.params, lambda n: units.si(n, 2)),
        _part("MACs", before.macs, after.macs, lambda n: units.si(n, 3)),
        _part(
            "peak activations",
            before.peak_activation_bytes,
            after.peak_activation_bytes,
            units.nbytes,
        ),
        _field(before, after),
    ]
    if report.training is not None:
        parts.append(_part("training memory", *report.training, units.nbytes))
    verdict = "" if report.differs else "no difference: "
    over = "over budget: " if report.over else ""
    return f"**{' → '.join(names)}**: {over}{verdict}{' · '.join(parts)}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def _part(title: str, before: int, after: int, written: units.Writer) -> str:
    """What there was and is, with an arrow and a percentage."""
    if before == after:
        return f"{title} {written(after)} (=)"
    change = units.relative(before, after) or units.signed(after - before, written)
    return f"{title} {written(before)} → {written(after)} ({_arrow(before, after)} {change})"


def _arrow(before: int, after: int) -> str:
    return "▲" if after > before else "▼"


def _field(before: Totals, after: Totals) -> str:
    """The largest receptive field, in pixels, by axis where axes differ."""
    texts = [units.field(one.field) if one.field else "none" for one in (before, after)]
    if texts[0] == texts[1]:
        return f"receptive field {texts[0]} (=)"
    sizes = [{axis.local_size for axis in one.field or ()} for one in (before, after)]
    change = ""
    if all(len(one) == 1 and None not in one for one in sizes):
        (first,), (second,) = sizes
        if first and second and first != second:
            change = f" ({_arrow(first, second)} {units.relative(first, second)})"
    return f"receptive field {texts[0]} → {texts[1]}{change}"

"""The tables of a page as LaTeX, with the rules of booktabs."""

import re
from collections.abc import Iterator, Sequence

from cnnscope.render.escaping import latex as escape
from cnnscope.render.escaping import one_line
from cnnscope.render.page import Bar, Box, Cell, Heading, Page, Table

_NEXT = " \\\\ "  # the next line of an array


def latex(page: Page) -> str:
    """A tabular for each table, with warnings as comments; what else is around is not written."""
    lines = ["% needs \\usepackage{booktabs}"]
    for table in page.tables:
        lines += [f"% {escape(table.caption)}"] if table.caption else []
        lines += _tabular(_in_letters(table))
    lines += [f"% ! {one_line(sentence)}" for title, sentence in page.below if title == "!"]
    return "\n".join(lines) + "\n"


def _in_letters(table: Table) -> Table:
    """A table without the columns that are drawn, and without the rows that have nothing else."""
    drawn = [i for i, h in enumerate(table.headings) if h.bar or _is_drawn(table, i)]
    kept = [i for i in range(len(table.headings)) if i not in drawn]
    lost = [
        number
        for number, row in enumerate(table.rows)
        if any(isinstance(row[i], str) and row[i] for i in drawn)
        and not any(row[i] for i in kept[1:])
    ]
    rest = table.chosen(kept)
    rows = tuple(row for number, row in enumerate(rest.rows) if number not in lost)
    gaps = frozenset(gap - sum(number < gap for number in lost) for gap in rest.gaps)
    return rest._replace(rows=rows, styles=(), gaps=gaps)


def _is_drawn(table: Table, column: int) -> bool:
    """Return True if a column is drawn with characters that LaTeX has not: bars and histograms."""
    return any(re.search("[\u2580-\u259f]", str(row[column])) for row in table.rows)


def _tabular(table: Table) -> Iterator[str]:
    sides = "".join(_side(table, i, heading) for i, heading in enumerate(table.headings))
    yield f"\\begin{{tabular}}{{{sides}}}"
    yield "\\toprule"
    yield " & ".join(escape(heading.title) for heading in table.headings) + " \\\\"
    for number, row in enumerate(table.rows):
        if number == 0 or number in table.gaps:
            yield "\\midrule"
        yield " & ".join(_cells(row)) + " \\\\"
    yield "\\bottomrule"
    yield "\\end{tabular}"


def _side(table: Table, column: int, heading: Heading) -> str:
    """Blocks are centred, numbers end at the right."""
    if any(isinstance(row[column], tuple) for row in table.rows):
        return "c"
    return "l" if heading.left else "r"


def _cells(row: Sequence[Cell]) -> Iterator[str]:
    """Cells, those that reach over others as wide as these."""
    starts = [i for i, cell in enumerate(row) if cell is not None]
    for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
        text = _cell(row[start])
        yield f"\\multicolumn{{{end - start}}}{{c}}{{{text}}}" if end - start > 1 else text


def _cell(cell: Cell) -> str:
    if cell is None or isinstance(cell, Bar):
        return ""
    texts = list(map(_text, cell.split("\n")) if isinstance(cell, str) else map(_box, cell))
    if len(texts) < 2:
        return "".join(texts)
    return f"\\begin{{tabular}}{{@{{}}c@{{}}}}{_NEXT.join(texts)}\\end{{tabular}}"


def _text(text: str) -> str:
    """Text with the room before it that shows what is inside of what."""
    bare = text.lstrip(" ")
    return "\\quad " * ((len(text) - len(bare)) // 2) + escape(bare)


def _box(box: Box) -> str:
    if not box.bracket:
        return _NEXT.join(map(escape, box.lines))
    inside = _NEXT.join(f"\\mbox{{{escape(text)}}}" for text in box.lines)
    times = f" \\times {box.times}" if box.times > 1 else ""
    array = f"\\begin{{array}}{{@{{}}l@{{}}}}{inside}\\end{{array}}"
    return f"$\\left[{array}\\right]{times}$"

"""The difference of two models as a comment on a pull request."""

import msgspec
import pytest
from differences import diff

import cnnscope
from cnnscope.render import drawing
from cnnscope.render.tree import Options


@pytest.fixture(scope="module")
def answer():
    return diff(cnnscope.trace("vgg11"), cnnscope.trace("vgg13"))


def named(report, name):
    source = msgspec.structs.replace(report.before.source, name=name)
    return msgspec.structs.replace(
        report, before=msgspec.structs.replace(report.before, source=source)
    )


def test_the_first_line_is_the_verdict(answer):
    # 132,863,336 -> 133,047,848 parameters, 7,609 -> 11,308 MMACs, fields of 150 and 156 pixels
    first, empty, *_ = drawing.write(answer, "markdown").splitlines()
    assert first == (
        "**vgg11 → vgg13**: parameters 132.86 M → 133.05 M (▲ +0.1 %) · MACs 7.609 G → 11.308 G "
        "(▲ +48.6 %) · peak activations 22.0 MiB → 25.1 MiB (▲ +13.9 %) · receptive field "
        "150 /32 → 156 /32 (▲ +4.0 %)"
    )
    assert not empty
    back, *_ = drawing.write(
        diff(cnnscope.trace("vgg13"), cnnscope.trace("vgg11")), "markdown"
    ).splitlines()
    assert "MACs 11.308 G → 7.609 G (▼ -32.7 %)" in back
    same = diff(cnnscope.trace("vgg11"), cnnscope.trace("vgg11"))
    assert drawing.write(same, "markdown").startswith(
        "**vgg11 → vgg11**: no difference: parameters"
    )


def test_tables_are_folded(answer):
    text = drawing.write(answer, "markdown")
    before, _, after = text.partition("<details><summary>Layers and totals</summary>\n\n|")
    assert "- **added**: 2 Conv2d" in before
    assert "|" not in before
    assert "\n\n</details>\n" in after
    assert text.count("<details>") == text.count("</details>") == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", "a\\|b"), ("*x*", "\\*x\\*"), ("<img src=x>", "\\<img src=x\\>"),
        ("[x](http://y)", "\\[x\\](http:&#8203;//y)"), ("@team/all", "@&#8203;team/all"),
        ("a/b#1", "a/b#&#8203;1"), ("gh-12", "gh-&#8203;12"), ("!7", "!&#8203;7"),
        ("www.x.y", "www.&#8203;x.y"), ("# 1", "# 1"),
        ("a\n# b", "a # b"), ("`x`", "\\`x\\`"), ("HEAD@{1}:net.py", "HEAD@{1}:net.py"),
    ],
)  # fmt: skip
def test_no_name_is_markup_or_calls_a_person(answer, name, shown):
    first, *rest = drawing.write(named(answer, name), "markdown").splitlines()
    assert first.startswith(f"**{shown} → vgg13**: ")
    assert any(shown in line for line in rest)
    assert f" {name} " not in first


def test_a_long_comment_is_cut_and_says_so(answer):
    rows = tuple(
        msgspec.structs.replace(answer.rows[3], status="changed", parent=0) for _ in range(4000)
    )
    long = msgspec.structs.replace(
        named(answer, "n" * 1000), rows=(*answer.rows, *rows), findings=answer.findings * 500
    )
    text = drawing.write(long, "markdown", options=Options(unfold=True, depth=0))
    assert 50_000 < len(text) < 65_536
    assert "rows are left out, as a comment may not be longer" in text
    assert "left out here" in text or "kinds of change more" in text
    assert text.splitlines()[0].count("n") < 200
    assert text.rstrip().endswith("traced on meta")


def test_no_row_links_an_issue():
    """The third call of a ReLU is called `relu #3`, which is an issue to the platforms."""
    text = drawing.write(
        diff(cnnscope.trace("resnet18"), cnnscope.trace("resnet34")),
        "markdown",
        options=Options(unfold=True, depth=0),
    )
    assert "relu #&#8203;2" in text
    assert "relu #2" not in text

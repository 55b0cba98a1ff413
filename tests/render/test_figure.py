"""The architecture figure: what is drawn where, and what each file format says."""

import re
import shutil
import subprocess
from functools import cache
from xml.etree import ElementTree as ET

import pytest
import torch
from command_line import OVERWRITE, run_cli
from figures import crossed_texts, outside, overlapping_parts, overlapping_texts
from paths import ROOT
from torch import nn

import cnnscope
from cnnscope.errors import RequestError
from cnnscope.render.figure import draw, font, palette
from cnnscope.render.figure.tex import escaped

PICTURES = {
    "lenet": ["alexnet"],
    "blocks": ["vgg16"],
    "graph": ["resnet18", "classic:plain18"],
    "unet": ["classic:unet"],
}
TIMES = "\N{MULTIPLICATION SIGN}"
COLUMN, PAGE = 234.0, 486.0  # points: widths of a column and of a page


@cache
def traced(name):
    return cnnscope.trace(cnnscope.Request.of(name))


@cache
def figure(*names, style=None, max_width=PAGE, font="sans"):
    return cnnscope.figure(
        [traced(name) for name in names], style=style, max_width=max_width, font=font
    )


def scene(made):
    return draw(made.contents, font(made.font), made.max_width)


def of(net, *sizes, style=None, max_width=PAGE):
    inputs = [torch.empty(size, device="meta") for size in sizes]
    return cnnscope.figure(cnnscope.trace(net, inputs), style=style, max_width=max_width)


def written(made):
    return [text.text for text in scene(made).texts()]


def holds(made):
    """Check what holds for every figure."""
    drawn = scene(made)
    assert not overlapping_texts(drawn)
    assert not outside(drawn)
    assert not crossed_texts(drawn)
    assert drawn.width <= made.max_width + 0.01
    if made.style != "blocks":  # where a box in perspective hides a part of the one behind
        assert not overlapping_parts(drawn)


# ------------------------------------------------------------------------------ the drawings


@pytest.mark.parametrize("style", PICTURES)
def test_pictures_of_the_docs_are_what_the_program_draws(style):
    made = figure(*PICTURES[style], style=style).svg()
    path = ROOT / "docs" / "pictures" / f"figure-{style}.svg"
    if OVERWRITE:
        path.write_text(made, encoding="utf-8")
    assert made == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("max_width", [COLUMN, PAGE])
@pytest.mark.parametrize("typeface", ["sans", "serif"])
@pytest.mark.parametrize("style", PICTURES)
def test_nothing_overlaps_and_all_text_is_inside(style, typeface, max_width):
    holds(figure(*PICTURES[style], style=style, max_width=max_width, font=typeface))


@pytest.mark.parametrize("style", ["lenet", "blocks"])
def test_chains_of_several_models_stand_below_each_other(style):
    made = figure("classic:lenet5", "classic:lenet1989", style=style)
    holds(made)
    names = [text for text in scene(made).texts() if text.text in ("lenet5", "lenet1989")]
    assert [text.text for text in names] == ["lenet5", "lenet1989"]
    assert names[0].y < names[1].y


def test_lenet_has_the_captions_of_its_paper():
    # LeCun et al. 1998, figure 2: C1 6@28x28, S2 6@14x14, C3 16@10x10, S4 16@5x5, then 120, 84, 10
    texts = written(figure("classic:lenet5", style="lenet"))
    captions = "1@32x32 6@28x28 6@14x14 16@10x10 16@5x5 120 84 10".replace("x", TIMES).split()
    assert [text for text in texts if text in captions] == captions
    assert {"input", "C1", "S2", "C3", "S4", "F5", "F6", "output"} <= set(texts)


def test_sheets_are_the_channels_up_to_twelve():
    items = scene(figure("classic:lenet5", style="lenet")).items
    fills = [item.fill for item in items if hasattr(item, "fill")]
    # C1 has 6 sheets; C3, of 16 channels, 12 and ceil(1.6 * log2(16/12)) = 1 more
    legend = 1
    assert fills.count(palette.CONVOLUTION.fill) == 6 + 13 + legend


def test_vgg_and_resnet_are_those_of_the_paper():
    made = figure("vgg19", "classic:plain34", "resnet34", style="graph")
    vgg, plain, residual = made.contents.flows
    # He et al. 2015, figure 3: 16 + 3 weight layers, 34, and 34 with 16 shortcuts, 3 of them dashed
    counts = [sum(step.family in ("convolution", "linear") for step in one.steps)
              for one in (vgg, plain, residual)]  # fmt: skip
    assert counts == [19, 34, 34]
    assert sum(step.family == "add" for step in residual.steps) == 16
    assert sum(edge.grows for edge in residual.edges) == 3
    sizes = [band.sizes[0][:1] for band in residual.bands]
    assert sizes == [(224,), (112,), (56,), (28,), (14,), (7,), ()]
    assert all(None not in row for row in made.contents.rows)
    holds(made)


class Repeats(nn.Module):
    """Many residual blocks of one width."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return x + self.two(self.one(x).relu())

    def __init__(self, times):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(self.Block() for _ in range(times)))

    def forward(self, x):
        return self.blocks(self.first(x))


def test_what_repeats_is_drawn_once_where_there_are_too_many_boxes():
    # 3 steps a block: two convolutions and the addition
    assert len(of(Repeats(20), (1, 3, 8, 8), style="graph").contents.flows[0].steps) == 62
    made = of(Repeats(30), (1, 3, 8, 8), style="graph")
    (flow,) = made.contents.flows
    assert [step.repeats for step in flow.steps] == [1, 1, 30, 30, 30]
    assert f"{TIMES} 30" in written(made)
    narrow = of(Repeats(30), (1, 3, 8, 8), style="blocks", max_width=COLUMN)
    assert f"{TIMES} 30" in written(narrow)


class Padded(nn.Module):
    """A shortcut that pads channels with zeros, and one without."""

    def __init__(self):
        super().__init__()
        self.same, self.more = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        x = x + self.same(x)
        return nn.functional.pad(x, (0, 0, 0, 0, 0, 2)) + self.more(x)


def test_a_shortcut_is_dashed_where_its_shape_changes():
    (flow,) = of(Padded(), (1, 4, 8, 8), style="graph").contents.flows
    into = {edge.target: edge.grows for edge in flow.edges if edge.source != edge.target - 1}
    # input, same, add, more, add: the first shortcut is as it is, the second has 2 channels more
    assert into == {2: False, 4: True}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lstm = nn.Conv2d(3, 8, 3), nn.LSTM(8, 16, 2, bidirectional=True)
        self.last = nn.Linear(32, 4)

    def forward(self, x):
        return self.last(self.lstm(self.conv(x).mean(2).permute(2, 0, 1))[0][-1])


@pytest.mark.parametrize(
    ("names", "style", "reason"),
    [
        (["classic:lenet5"], "lenet", "a short chain of feature maps"),
        (["vgg16"], "blocks", "a long chain of feature maps"),
        (["resnet18"], "blocks", "a chain of blocks"),
        (["classic:unet"], "unet", "an encoder-decoder with skips"),
        (["classic:lenet5", "classic:lenet1989"], "graph", "several models"),
    ],
)
def test_the_style_that_suits_is_taken_for_a_reason(names, style, reason):
    made = figure(*names)
    assert (made.style, made.contents.chosen) == (style, reason)


def test_a_recurrent_layer_is_one_box_whatever_it_is_made_of():
    # 3x3 on 6x10: 4x8; the mean leaves a sequence of 8, and two directions give 2 * 16 channels
    (flow,) = of(Recurrent(), (1, 3, 6, 10), style="graph").contents.flows
    assert [step.path for step in flow.steps] == ["", "conv", "lstm", "last"]
    assert flow.steps[2].channels == 32


def test_attention_is_one_box_between_linear_layers():
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    (flow,) = of(encoder, (1, 7, 16), style="graph").contents.flows
    # queries, keys and values; attention; its output; the addition; the two layers; the addition
    families = "input linear attention linear add linear linear add".split()
    assert [step.family for step in flow.steps] == families
    assert [step.positions for step in flow.steps[1:]] == [(7,)] * 7


def test_two_inputs_have_numbers():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x, y):
            return self.conv(x) - self.conv(y)

    made = of(Twins(), (1, 3, 8, 8), (1, 3, 8, 8))
    assert made.style == "graph"
    boxes = [text for text in written(made) if "@" in text]
    assert boxes == [f"input 1 3@8{TIMES}8", f"input 2 3@8{TIMES}8"]


# --------------------------------------------------------------------------------------- the U


def double(given, made, padding=1):
    return nn.Sequential(
        nn.Conv2d(given, made, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(made, made, 3, padding=padding), nn.ReLU(),
    )  # fmt: skip


class Gate(nn.Module):
    """Attention gate (Oktay et al. 2018, figure 2)."""

    def __init__(self, channels):
        super().__init__()
        self.lower, self.skip = nn.Conv2d(channels, 4, 1), nn.Conv2d(channels, 4, 1)
        self.psi = nn.Conv2d(4, 1, 1)

    def forward(self, lower, skip):
        return skip * self.psi((self.lower(lower) + self.skip(skip)).relu()).sigmoid()


class U(nn.Module):
    """Two levels down and up, whose skips are joined in several ways."""

    def __init__(self, way="concatenate", padding=1):
        super().__init__()
        self.way, wide = way, 1 if way == "add" else 2
        self.one, self.two = double(3, 8, padding), double(8, 16, padding)
        self.bottom = double(16, 32, padding)
        self.raise_two, self.raise_one = (
            nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2),
        )  # fmt: skip
        self.after_two, self.after_one = (
            double(16 * wide, 16, padding),
            double(8 * wide, 8, padding),
        )
        self.gates = nn.ModuleList([Gate(16), Gate(8)] if way == "gate" else [])
        self.beside = nn.Conv2d(16, 16, 1) if way == "layer" else nn.Identity()

    def joined(self, skip, x, number):
        begin = (skip.shape[2] - x.shape[2]) // 2
        skip = skip[:, :, begin : begin + x.shape[2], begin : begin + x.shape[3]]
        if self.gates:
            skip = self.gates[number](x, skip)
        return skip + x if self.way == "add" else torch.cat([skip, x], 1)

    def forward(self, x):
        one = self.one(x)
        two = self.two(nn.functional.max_pool2d(one, 2))
        x = self.raise_two(self.bottom(nn.functional.max_pool2d(two, 2)))
        x = self.after_two(self.joined(self.beside(two), x, 0))
        return self.after_one(self.joined(one, self.raise_one(x), 1))


@pytest.mark.parametrize("way", ["concatenate", "add", "gate", "layer", "crop"])
def test_an_encoder_decoder_is_a_u(way):
    made = of(U(way, padding=0 if way == "crop" else 1), (1, 3, 92, 92))
    assert (made.style, made.contents.chosen) == ("unet", "an encoder-decoder with skips")
    holds(made)
    (shape, _), (flow,) = made.contents.shapes[0], made.contents.flows
    # input, two convolutions, pool, two, pool, two, up, join, two, up, join, two
    assert shape.levels == (0, 0, 0, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0)
    ends = [(flow.steps[skip.source].path, flow.steps[skip.target].channels)
            for skip in shape.skips]  # fmt: skip
    wide = 1 if way == "add" else 2
    assert ends == [("two.2", 16 * wide), ("one.2", 8 * wide)]
    assert [skip.gated for skip in shape.skips] == [way == "gate"] * 2
    assert [skip.cropped for skip in shape.skips] == [way == "crop"] * 2
    assert shape.skips[0].through == {"layer": 1, "gate": 3}.get(way, 0)


def test_the_u_net_has_the_sizes_of_its_paper():
    # Ronneberger et al. 2015, figure 1, from the input to the bottom and up to the output
    sizes = "572 570 568 284 282 280 140 138 136 68 66 64 32 30 28 56 54 52 104 102 100 200 198 196"
    sizes += " 392 390 388"
    shown = [t.removesuffix("\N{SUPERSCRIPT TWO}") for t in written(figure("classic:unet"))
             if t.endswith("\N{SUPERSCRIPT TWO}")]  # fmt: skip
    assert shown == sizes.split()


class Nested(nn.Module):
    """A map between encoder and decoder, as UNet++ has (Zhou et al. 2018)."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.between = double(3, 8), double(8, 16), double(24, 8)
        self.last = double(8 + 8 + 8, 8)
        self.up, self.other = nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)

    def forward(self, x):
        one = self.one(x)
        two = self.two(nn.functional.max_pool2d(one, 2))
        between = self.between(torch.cat([one, self.up(two)], 1))
        return self.last(torch.cat([one, between, self.other(two)], 1))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Nested(), "joins paths that are no skips of a U"),
        (nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 3, 2, 2)), "no map of its enc"),
        (nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 3)), "never grows again"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 3, 2, 2)), "never grows again"),
    ],
)
def test_what_is_no_u_is_refused_with_a_reason_and_a_remedy(net, reason):
    with pytest.raises(RequestError, match=f"{reason}.*--style graph"):
        of(net, (1, 3, 16, 16), style="unet")
    assert of(net, (1, 3, 16, 16)).style != "unet"


# ---------------------------------------------------------------------------------- refusals


def test_sheets_are_refused_for_paths_that_join():
    with pytest.raises(
        RequestError, match=r"part and join again.*--style blocks and --style graph"
    ):
        of(Padded(), (1, 4, 8, 8), style="lenet")


def test_a_network_without_layers_is_refused():
    with pytest.raises(RequestError, match="nothing to draw"):
        of(nn.ReLU(), (1, 4, 8, 8))


@pytest.mark.parametrize("style", ["lenet", "blocks", "graph"])
def test_layers_that_no_output_depends_on_are_named_and_not_drawn(style):
    class Aside(nn.Sequential):
        def forward(self, x):
            self[1](x)
            return self[0](x)

    made = of(Aside(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 9, 5)), (1, 3, 8, 8), style=style)
    assert made.contents.notes == ("Aside: 1 layers are not drawn, as no output depends on them",)
    assert not any(f"5{TIMES}5" in text for text in written(made))


@pytest.mark.parametrize("given", ["0", "wide", "3furlong", "1e9in", "0.1in", "-5cm", ""])
def test_a_width_that_is_none_is_refused(given):
    with pytest.raises(RequestError, match="--max-width"):
        cnnscope.figure(traced("classic:lenet5"), max_width=given)


def test_widths_have_units():
    made = {w: cnnscope.figure(traced("classic:lenet5"), max_width=w).max_width
            for w in ("10cm", "100mm", "5in", "480px", 360)}  # fmt: skip
    # 10 cm = 10/2.54*72 points; 480 px of 1/96 inch = 360
    assert made == {
        "10cm": pytest.approx(283.46, abs=0.01), "100mm": pytest.approx(283.46, abs=0.01),
        "5in": 360, "480px": 360, 360: 360,
    }  # fmt: skip


def test_a_font_that_is_not_there_is_refused():
    with pytest.raises(RequestError, match=r"no font 'Comic'.*sans or serif"):
        cnnscope.figure(traced("classic:lenet5"), font="Comic")


# ----------------------------------------------------------------------------- many networks

MANY = {
    "lenet": """classic:lenet5 classic:lenet5_paper classic:lenet1989 alexnet classic:alexnet_paper
        classic:zfnet vgg11 vgg16 classic:network_in_network classic:all_cnn_c classic:darknet19
        classic:vgg13_bn_cifar resnet18 mobilenet_v2""",
    "blocks": """vgg16 vgg19_bn alexnet resnet18 resnet50 mobilenet_v2 googlenet inception_v3
        efficientnet_b0 densenet121 convnext_tiny vit_b_16 classic:unet classic:fcn32s_vgg16""",
    "graph": """resnet18 vgg19+classic:plain34+resnet34 googlenet densenet121 squeezenet1_0
        classic:unet inception_v3 mobilenet_v3_small shufflenet_v2_x1_0 vit_b_16 swin_t
        convnext_tiny deeplabv3_resnet50 vgg11+vgg13+vgg16+vgg19""",
}
EVERY = [(style, names) for style, several in MANY.items() for names in several.split()]


@pytest.mark.slow
@pytest.mark.zoo
@pytest.mark.parametrize(("style", "names"), EVERY)
def test_published_networks_are_drawn_without_overlaps(style, names):
    for max_width in (COLUMN, PAGE):
        for typeface in ("sans", "serif"):
            holds(figure(*names.split("+"), style=style, max_width=max_width, font=typeface))


# ------------------------------------------------------------------------------ file formats

HOSTILE = "</text><script>\\input{/etc/passwd}$^%_#&~{}\x1b[31m☃é"


@cache
def hostile():
    class Net(nn.Sequential):
        pass

    Net.__name__ = Net.__qualname__ = HOSTILE
    block = type(HOSTILE, (Repeats.Block,), {})
    net = Net(nn.Conv2d(3, 8, 1), block(), block())
    return of(net, (1, 3, 8, 8), style="blocks")


def test_names_are_text_in_svg():
    svg = hostile().svg()
    assert "<script" not in svg
    assert "\x1b" not in svg
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("</text><script>") for text in texts)


def test_names_are_text_in_latex():
    tex = hostile().tex()
    body = tex.partition(r"\begin{document}")[2]
    assert r"\input" not in tex
    assert r"\textbackslash{}input\{" in body
    assert "\x1b" not in tex
    assert tex.isascii()


def test_letters_in_latex():
    assert escaped(f"6@28{TIMES}28") == r"6@28$\times$28"
    assert escaped("a_b é ☃") == r"a\_b \'{e} U+2603"


def balanced(tex):
    depth = 0
    for mark in re.findall(r"\\.|[{}]", tex):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        assert depth >= 0
    return depth == 0


@pytest.mark.parametrize("style", [*PICTURES, "hostile"])
def test_latex_is_one_tikz_picture(style):
    made = hostile() if style == "hostile" else figure(*PICTURES[style], style=style)
    tex = made.tex()
    assert balanced(tex)
    opened = re.findall(r"\\begin\{(\w+)\}", tex)
    assert opened == ["document", "tikzpicture"]
    assert re.findall(r"\\end\{(\w+)\}", tex) == opened[::-1]
    drawn = tex.partition("{tikzpicture}")[2].count(";\n")
    assert drawn == len(scene(made).items) + 1  # and the bounding box
    named = set(re.findall(r"(?:fill|draw|text)=(\w+)", tex))
    assert named == set(re.findall(r"\\definecolor\{(\w+)\}", tex))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("style", [*PICTURES, "hostile"])
def test_latex_compiles(style, tmp_path):
    made = hostile() if style == "hostile" else figure(*PICTURES[style], style=style)
    made.save(tmp_path / "figure.tex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "figure.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:]


def test_png_has_the_size_of_the_figure():
    from io import BytesIO

    from PIL import Image

    made = figure("classic:lenet5", style="lenet")
    image = Image.open(BytesIO(made.png()))
    # 300 pixels an inch of 72 points
    assert image.size == tuple(round(side / 72 * 300) for side in made.size)
    colours = image.getcolors(2**20)
    assert {(255, 255, 255), tuple(bytes.fromhex(palette.CONVOLUTION.fill[1:]))} <= {
        colour for _, colour in colours
    }


def test_pdf_is_a_page_of_the_size_with_text():
    pytest.importorskip("fpdf")
    made = figure("classic:lenet5", style="lenet")
    pdf = made.pdf()
    assert pdf.startswith(b"%PDF-")
    width, height = made.size
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert [float(n) for n in box.groups()] == pytest.approx([width, height], abs=0.01)


def test_a_pdf_without_its_library_has_a_remedy(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(RequestError, match=r"pip install 'cnnscope\[figure\]'"):
        figure("classic:lenet5").pdf()


# ------------------------------------------------------------------------- the command line


def test_the_ending_chooses_the_format_and_the_style_is_said(tmp_path):
    for ending, begins in (("svg", b"<svg "), ("tex", b"% "), ("png", b"\x89PNG")):
        path = tmp_path / f"net.{ending}"
        result = run_cli("figure", "classic:lenet5", "--output", str(path))
        assert result.code == 0
        assert result.err.endswith(
            f"net.{ending}: style lenet (a short chain of feature maps), 6.19 x 1.74 in\n"
        )
        assert path.read_bytes().startswith(begins)


def test_a_figure_on_stdout_is_its_file():
    result = run_cli("figure", "classic:lenet5", "-o", "-", "--format", "tex")
    assert result.out == figure("classic:lenet5").tex()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "net.gif"), ".svg, .pdf, .tex, .png"),
        (("-o", "-", "--format", "png"), "name a file, as in --output figure.png"),
        (("--style", "cubist", "-o", "-"), "'cubist' is not one of 'lenet'"),
        (("--max-width", "2", "-o", "-"), "expected a length"),
    ],
)
def test_requests_that_cannot_be_carried_out(arguments, said):
    result = run_cli("figure", "classic:lenet5", *arguments)
    assert result.code == 2
    assert said in result.err


@pytest.mark.slow
def test_a_model_that_fails_has_no_figure(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3))\n"
    )
    result = run_cli("figure", f"{tmp_path}/net.py:Net", "--input", "3x8x8", "-o", "-")
    assert result.code == 3
    assert "<svg" not in result.out
    assert "takes 5 channels and was given 4" in result.err


def test_joins_have_a_legend_in_perspective():
    texts = written(of(U(), (1, 3, 92, 92), style="blocks"))
    assert texts.count("c") == 2 + 1  # two joins, and the legend
    assert "concat" in texts


def test_text_too_small_for_print_is_said():
    result = run_cli("figure", "googlenet", "--style", "blocks", "--max-width", "2in", "-o", "-")
    assert "its smallest text is" in result.err

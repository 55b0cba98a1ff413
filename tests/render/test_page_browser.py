"""The page of `cnnscope report` as a reader uses it, in Chromium without a network.

    pip install '.[test,page]' && apt-get install chromium && pytest -m browser

Every page that is opened here has to say nothing on the console and ask for nothing.
"""

import io
import json
import time

import numpy as np
import pictures
import pytest
from browser import Opened, chromium
from command_line import OVERWRITE
from paths import ROOT
from PIL import Image
from torch import nn

import cnnscope

pytestmark = pytest.mark.browser

SIZES = ((1280, 900), (400, 860))
SHARED = ("resnet18", "googlenet", "vgg11+vgg13")


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    """The file of a page, made once: of a name, of two with a plus, or of a module."""
    folder, made = tmp_path_factory.mktemp("pages"), {}

    def find(name, *models, **more):
        if name not in made:
            made[name] = folder / f"{len(made)}.html"
            cnnscope.report(*(models or name.split("+")), **more).save(made[name])
        return made[name]

    return find


@pytest.fixture
def show(browser, file_of):
    """Open the page of a model; all that were opened are closed and were silent."""
    opened = []

    def show(name, *models, size=(1280, 900), theme="light", **more):
        opened.append(Opened(browser, file_of(name, *models, **more), size=size, theme=theme))
        return opened[-1].page

    yield show
    for one in opened:
        one.close()


def row(page, path):
    """The row of a layer in the table."""
    return page.locator(f"#layers tr[data-id='{line_of(page, path)}']")


def line_of(page, path):
    data = "JSON.parse(document.getElementById('data').textContent)"
    rows = f"({data}.diff?.rows ?? {data}.models[0].rows)"
    return page.evaluate(f"path => {rows}.findIndex(row => row.path === path)", path)


def box(page, name):
    """The closed or open box whose spoken name begins so."""
    return page.locator(f"#graph [role=treeitem][aria-label^='{name}']").first


def settle(page):
    """Wait until what was chosen is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def within(page, inner, outer):
    """Return True if the middle of an element is inside the visible part of another."""
    a, b = page.locator(inner).first.bounding_box(), page.locator(outer).first.bounding_box()
    x, y = a["x"] + a["width"] / 2, a["y"] + min(a["height"] / 2, 12)
    return b["x"] <= x <= b["x"] + b["width"] and b["y"] <= y <= b["y"] + b["height"]


# --------------------------------------------------------------------------- opening, looking


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_page_opens_in_silence_and_fits(show, name, theme, size):
    page = show(name, size=size, theme=theme)
    assert page.locator("h1").inner_text().replace("\n", "").startswith(name.split("+")[0])
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen
    shot = Image.open(io.BytesIO(page.screenshot())).convert("L")
    bright = shot.resize((1, 1)).getpixel((0, 0))
    assert bright < 70 if theme == "dark" else bright > 200


# ------------------------------------------------------------------------- regions of colour

REGIONS = ROOT / "tests" / "golden" / "page_regions.json"
SECTIONS = ("header.page", "#graph", "#layers", "#costs", "#memory", "#growth", "#field", "#panel")
CELLS = (8, 6)  # of every section, across and down


def regions(page):
    """Mean colour of each cell of each section in a screenshot.

    Letters of other fonts make a cell a little lighter or darker; they do not change its colour.
    """
    found = {}
    whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    for section in SECTIONS:
        at = page.locator(section).bounding_box()
        edges = at["x"], at["y"], at["x"] + at["width"], at["y"] + at["height"]
        small = np.asarray(whole.crop(edges).resize(CELLS, Image.Resampling.BOX), dtype=int)
        found[section] = [[int(v) for v in cell] for cell in small.reshape(-1, 3)]
    return found


@pytest.mark.parametrize(("name", "theme"), [*zip(SHARED, ("light", "dark", "light"), strict=True)])
def test_regions_of_a_screenshot_have_the_colours_of_the_golden_one(show, name, theme):
    page = show(name, theme=theme)
    seen, key = regions(page), f"{name} {theme}"
    golden = json.loads(REGIONS.read_text()) if REGIONS.exists() else {}
    if OVERWRITE:
        REGIONS.write_text(json.dumps(golden | {key: seen}, separators=(",", ":")) + "\n")
        return
    for section, cells in golden[key].items():
        far = np.asarray(cells) - np.asarray(seen[section])
        assert np.abs(far).mean() < 6, section
        # Red less blue does not depend on letters: with another font it is at most 2 away; without
        # the heat of the graph, 36.
        assert np.abs(far[:, 0] - far[:, 2]).max() < 8, section


def colours(page, selector):
    """Colours in a screenshot at the right ends of closed boxes, where no letters are."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    ends = [box.bounding_box() for box in page.locator(f"{selector} > rect.shape").all()]
    seen = page.locator("#graph .viewport").bounding_box()
    bottom = min(seen["y"] + seen["height"], picture.height)
    return [
        picture.getpixel((round(at["x"] + at["width"] - 4), round(at["y"] + at["height"] / 2)))
        for at in ends
        if seen["y"] < at["y"] and at["y"] + at["height"] < bottom
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_added_is_green_in_a_screenshot_and_in_the_first_screen(show, theme):
    page = show("vgg11+vgg13", theme=theme)
    added = colours(page, "#graph .box.added")
    assert len(added) >= 3  # both convolutions and the first ReLU
    assert all(green > max(red, blue) + 5 for red, green, blue in added)
    assert all(max(same) - min(same) < 16 for same in colours(page, "#graph .box.same.layer"))


CONTRAST = """() => {
  const parse = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const ground = at => {
    for (; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const weak = [];
  for (const at of document.querySelectorAll("body *")) {
    const own = [...at.childNodes].some(one => one.nodeType === 3 && one.textContent.trim());
    if (!own || at.closest("svg, script, style, .sr") || !at.getClientRects().length) continue;
    const a = light(parse(getComputedStyle(at).color)), b = light(ground(at));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) weak.push([at.className, at.textContent.slice(0, 30), ratio]);
  }
  return weak;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["googlenet", "vgg11+vgg13"])
def test_text_has_the_contrast_of_wcag_aa(show, name, theme):
    page = show(name, theme=theme)
    assert page.evaluate(CONTRAST) == []


def test_everything_that_can_be_pressed_has_a_name(show):
    page = show("googlenet")
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, [role=img], [role=tree], meter')]"
        ".filter(at => !(at.ariaLabel || at.textContent.trim() || at.labels?.length))"
        ".map(at => at.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    assert page.locator("main, aside, h1, nav").count() >= 4


def test_nothing_can_be_sent_anywhere(browser, file_of):
    opened = Opened(browser, file_of("resnet18"))
    tried = opened.page.evaluate(
        """async () => {
          const stopped = [];
          addEventListener("securitypolicyviolation", at => stopped.push(at.effectiveDirective));
          await fetch("https://example.org/").catch(() => {});
          await new Promise(done => {
            const image = new Image();
            image.onerror = image.onload = done;
            image.src = "https://example.org/x.png";
          });
          const script = document.createElement("script");
          script.textContent = "document.title = 'run'";
          document.body.append(script);
          await new Promise(done => setTimeout(done, 100));
          return [stopped.sort(), document.title];
        }"""
    )
    assert tried == [["connect-src", "img-src", "script-src-elem"], "resnet18 \u00b7 cnnscope"]
    opened.context.close()


def test_the_picture_of_the_page_is_what_the_page_looks_like(browser, file_of):
    shown = Image.open(pictures.FOLDER / "report.png")
    assert shown.size == pictures.PAGE_SIZE
    drawn, other = (
        Image.open(io.BytesIO(pictures.page(browser, file_of(name))))
        for name in ("resnet18", "resnet34")
    )
    assert pictures.apart(shown, drawn) < 1.5  # 0.01 in the same fonts
    assert pictures.apart(shown, other) > 1.5  # 1.8: the page of another model is not it


# ------------------------------------------------------------------------------------ the table


def test_blocks_of_the_table_unfold_and_fold(show):
    page = show("resnet18")
    before = page.locator("#layers tbody tr").count()
    row(page, "layer1.0").get_by_role("button", name="Unfold").click()
    # conv1, bn1, relu, conv2, bn2, add, relu #2
    assert page.locator("#layers tbody tr").count() == before + 7
    row(page, "layer1.0").get_by_role("button", name="Fold").click()
    assert page.locator("#layers tbody tr").count() == before
    page.locator("#layers").get_by_role("button", name="Collapse").click()
    assert page.locator("#layers tbody tr").count() == 10
    page.locator("#layers").get_by_role("button", name="Expand all").click()
    assert page.locator("#layers tbody tr").count() > 70


def test_the_table_sorts_and_filters(show):
    page = show("resnet18")
    params = page.locator("#layers").get_by_role("button", name="Params")
    params.click()
    first = page.locator("#layers tbody tr").first
    # 512 * 512 * 9 weights
    assert "2,359,296" in first.inner_text()
    assert page.locator("#layers th[aria-sort=descending]").count() == 1
    params.click()
    assert page.locator("#layers th[aria-sort=ascending]").inner_text() == "Params"
    params.click()
    assert page.locator("#layers tbody tr th").first.inner_text().strip() == "conv1"
    page.get_by_placeholder("Filter layers").fill("layer3 conv2d 1x1")
    assert page.locator("#layers tbody tr th").all_inner_texts() == ["layer3.0.downsample.0"]
    page.get_by_placeholder("Filter layers").fill("layer3 downsample")
    assert page.locator("#layers tbody tr th").all_inner_texts() == [
        "layer3.0.downsample", "layer3.0.downsample.0", "layer3.0.downsample.1",
    ]  # fmt: skip


def test_the_table_is_a_tree_for_the_keyboard(show):
    page = show("resnet18")
    row(page, "conv1").click()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    settle(page)
    assert row(page, "layer1").get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert row(page, "layer1").get_attribute("aria-expanded") == "false"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.evaluate("document.activeElement.dataset.id") == str(line_of(page, "layer1.0"))


# ------------------------------------------------------------------------------------ the graph


def test_a_block_opens_in_place_and_closes(show):
    page = show("resnet18")
    closed = box(page, "0, BasicBlock, 2 times")
    page.locator("#graph .viewport").scroll_into_view_if_needed()
    count = page.locator("#graph [role=treeitem]").count()
    head = page.locator("#graph .area", has_text="layer1").first.locator(".head").first
    head.scroll_into_view_if_needed()
    before = head.bounding_box()
    head.click()
    assert page.locator("#graph [role=treeitem]").count() < count
    shut = box(page, "layer1, Sequential")
    assert shut.get_attribute("aria-expanded") == "false"
    after = shut.locator("rect").first.bounding_box()
    assert abs(after["y"] - before["y"]) < 2  # what is clicked stays where it is
    shut.dblclick()
    assert box(page, "layer1, Sequential").get_attribute("aria-expanded") == "true"
    assert closed.count() == 1


def test_a_repeat_shows_one_or_all(show):
    page = show("resnet18")
    all_of_them = page.locator("#graph text.all", has_text="show all 2").first
    count = page.locator("#graph .area, #graph .box").count()
    all_of_them.click()
    assert page.locator("#graph .area, #graph .box").count() > count
    page.locator("#graph text.all", has_text="show one").first.click()
    assert page.locator("#graph .area, #graph .box").count() == count


def test_the_graph_and_the_table_choose_for_each_other(show):
    page = show("resnet18")
    box(page, "maxpool, MaxPool2d").click()
    assert row(page, "maxpool").get_attribute("aria-selected") == "true"
    assert page.locator("#panel h2").inner_text() == "MaxPool2d 3\u00d73/2, p1"
    page.locator("#layers").get_by_role("button", name="Expand all").click()
    row(page, "layer4.1.conv2").click()
    assert page.locator("#panel .where code").inner_text() == "layer4.1.conv2"
    settle(page)
    chosen = page.locator("#graph .box.chosen")
    assert chosen.get_attribute("aria-label").startswith("conv2, Conv2d 3x3")
    page.locator("#graph").scroll_into_view_if_needed()
    assert within(page, "#graph .box.chosen", "#graph .viewport")


def test_what_is_under_the_pointer_is_marked_in_the_other_view(show):
    page = show("resnet18")
    row(page, "fc").hover()
    assert page.locator("#graph .box.warm").count() == 1
    box(page, "conv1, Conv2d 7x7").hover()
    assert row(page, "conv1").get_attribute("class").split()[-1] == "hovered"


def test_arrow_keys_follow_the_data(show):
    page = show("resnet18")
    box(page, "input").click()
    names = []
    for _ in range(8):
        page.keyboard.press("ArrowDown")
        settle(page)
        names.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    # the input, then the stem, then into the open block of layer1
    assert [name.partition(",")[0] for name in names] == [
        "conv1", "bn1", "relu", "maxpool", "conv1", "bn1", "relu", "conv2",
    ]  # fmt: skip
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    settle(page)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("input")


def test_enter_opens_and_keys_zoom(show):
    page = show("googlenet")
    box(page, "inception3a, Inception").click()
    page.keyboard.press("Enter")
    assert box(page, "inception3a, Inception").get_attribute("aria-expanded") == "true"
    wide = "document.querySelector('#graph .viewport > svg').getBoundingClientRect().width"
    before = page.evaluate(wide)
    page.keyboard.press("+")
    settle(page)
    assert page.evaluate(wide) == pytest.approx(1.25 * before, rel=0.01)
    page.keyboard.press("0")
    settle(page)
    assert page.evaluate(wide) < before


def test_a_slash_finds_a_layer(show):
    page = show("googlenet")
    page.keyboard.press("/")
    page.keyboard.type("5b branch3")
    assert page.locator("#found [role=option]").count() > 2
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#panel .where code").inner_text().startswith("inception5b.branch3.")
    settle(page)
    assert within(page, "#graph .chosen", "#graph .viewport")
    page.keyboard.press("Escape")  # out of the search
    page.locator("h1").click()
    page.keyboard.press("Escape")
    assert page.locator("#panel.chosen").count() == 0


def test_colours_follow_the_chosen_cost(show):
    page = show("resnet18")
    heat = """name => +[...document.querySelectorAll('#graph .box')]
      .find(at => at.ariaLabel.startsWith(name)).style.getPropertyValue('--heat')"""
    assert page.evaluate(heat, "fc, Linear") < 0.01
    page.get_by_label("Colour").select_option("params")
    # of closed boxes layer4 has most parameters or the largest layer in it; fc has 513,000
    assert page.evaluate(heat, "fc, Linear") > 0.05
    assert "Parameters of a box" in page.locator(".legend").inner_text()
    page.get_by_label("Colour").select_option("field")
    assert page.evaluate(heat, "fc, Linear") == 1  # it sees everything
    page.get_by_label("Colour").select_option("none")
    assert page.locator("#graph .box.hot").count() == 0


# ---------------------------------------------------------------------- charts, field, two models


def test_charts_read_out_what_is_under_the_cursor(show):
    page = show("resnet18")
    chart = page.locator("#costs .chart").nth(1)
    chart.scroll_into_view_if_needed()
    chart.hover(position={"x": 70, "y": 40})
    assert "conv1" in page.locator("#costs figcaption").nth(1).inner_text()
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#panel .where code").count() == 1
    memory = page.locator("#memory figcaption").first.inner_text()
    assert memory.startswith("Peak 6.7 MiB at bn1")
    assert page.locator("#memory .alive li").count() == 3  # conv1's, bn1's and the input


def test_a_training_step_has_its_kinds(show):
    page = show("step", "classic:lenet5", train={"optimizer": "adam"})
    assert "with adam" in page.locator("#memory figcaption").nth(1).inner_text()
    assert page.locator("#memory .keys", has_text="optimizer state").count() == 1


DROP = """async where => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 300, height: 200});
  canvas.getContext("2d").fillRect(0, 0, 300, 200);
  const blob = await new Promise(done => canvas.toBlob(done));
  const data = new DataTransfer();
  data.items.add(new File([blob], "cat.png", {type: "image/png"}));
  where.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


def test_the_field_is_drawn_over_a_picture_that_stays_here(show):
    page = show("resnet18")
    page.locator("#field select").select_option(label="layer2.0.conv1")
    units = page.locator("#field .units")
    units.scroll_into_view_if_needed()
    units.hover(position={"x": 2, "y": 2})
    # the field of 51 px starts 25 px before the first pixel: pixels 0 to 25 are seen
    assert "0\u201325" in page.locator("#field .said").inner_text()
    assert "51\u00d751 px" in page.locator("#field .said").inner_text()
    units.focus()
    page.keyboard.press("ArrowRight")
    assert "Unit (0, 1)" in page.locator("#field .said").inner_text()
    page.locator("#field .picture").evaluate(DROP)
    image = page.locator("#field image")
    image.wait_for(state="attached")
    assert image.get_attribute("href").startswith("blob:")
    page.get_by_role("button", name="Grid").click()
    assert image.count() == 0


def test_two_models_are_one_page(show):
    page = show("vgg11+vgg13")
    assert page.locator("h1").inner_text().split() == ["vgg11", "\u2192", "vgg13"]
    assert "+184,512" in page.locator(".totals").inner_text()
    added = page.locator("#layers tr.added")
    assert added.count() == 4  # two convolutions and their ReLU
    added.first.click()
    assert page.locator("#panel .status").inner_text() == "added"
    drawn = page.locator("#graph .box.added text").all_text_contents()
    # a mark beside the colour; the second convolutions of two stages, each with its ReLU
    assert sum(text.startswith("+ Conv2d 3\u00d73") for text in drawn) == 2
    assert sum(text.startswith("+ ReLU") for text in drawn) == 2


def test_what_was_removed_stands_where_it_was(show):
    page = show("vgg13+vgg11")
    removed = page.locator("#graph .box.removed")
    assert removed.count() == 4
    removed.first.click()
    # of the first model: 64 * 64 * 9 weights and 64 biases
    assert "36,928" in page.locator("#panel .costs").inner_text()
    assert page.locator("#panel .status").inner_text() == "removed"


# ---------------------------------------------------------------- paper, narrow screens, hostility


def test_paper_has_every_layer_and_no_buttons(show):
    page = show("resnet18")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#layers tbody tr").count() > 65
    assert not page.locator("#layers .tools").is_visible()
    assert not page.locator("#panel").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#layers tbody tr").count() < 30
    assert page.pdf().startswith(b"%PDF")


def test_on_a_telephone_the_panel_comes_from_below(show):
    page = show("resnet18", size=(400, 860))
    assert not page.locator("#panel").is_visible()
    box(page, "conv1, Conv2d").click()
    panel = page.locator("#panel").bounding_box()
    assert panel["y"] + panel["height"] == pytest.approx(860, abs=1)
    assert panel["y"] > 860 * 0.4
    page.locator("#panel").get_by_role("button", name="Close").click()
    assert not page.locator("#panel").is_visible()


def test_no_box_is_cut_by_the_end_of_a_sheet(show):
    page = show("resnet18")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    strips = page.locator("#graph .strip")
    assert strips.count() > 3
    cut = page.evaluate("""() => [...document.querySelectorAll("#graph .strip")].flatMap(strip => {
      const frame = strip.getBoundingClientRect();
      return [...strip.querySelectorAll(".box > rect.shape, .head > .hit")]
        .map(at => at.getBoundingClientRect())
        .filter(at => at.bottom > frame.top + 1 && at.top < frame.bottom - 1)
        .filter(at => at.top < frame.top - 1 || at.bottom > frame.bottom + 1).length;
    }).reduce((a, b) => a + b)""")
    assert cut == 0
    heights = [strip.bounding_box()["height"] for strip in strips.all()]
    assert max(heights) < 400  # a sheet of A4 has some 1000
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert strips.count() == 0


def test_an_effective_field_is_drawn_where_it_was_measured(show):
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 4, 5, stride=2), nn.Conv2d(4, 4, 9))
    page = show("effective", net, inputs="3x48x48", effective=True)
    assert page.locator("#growth circle.dot").count() == 3
    field = page.locator("#field")
    assert field.locator("image.heat").get_attribute("href").startswith("data:image/png")
    assert "Effective" in field.locator(".said").inner_text()
    field.locator(".units").focus()
    page.keyboard.press("ArrowRight")
    assert field.locator("image.heat").count() == 0
    field.get_by_role("button", name="Unit (").click()
    assert field.locator("image.heat").count() == 1


class Breaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(100, 10)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


def test_the_page_of_a_model_that_breaks_says_so_first(show):
    with pytest.raises(cnnscope.ModelError) as raised:
        cnnscope.summary(Breaks(), "3x8x8")
    page = show("breaks", raised.value.trace)
    assert "was given 288" in page.locator(".failed").inner_text()  # 8 channels of 6x6
    failing = page.locator("#graph .box.fails")
    assert failing.get_attribute("aria-label").startswith("fc, Linear")
    assert failing.locator("text").first.text_content().startswith("\u2715")


HOSTILE = (
    '</script><img src=x onerror="alert(1)">',
    "<b>bold",
    "a'b\"c",
    "\u202egnp",
    "\u65e5" * 180,
)


class Hostile(nn.Module):
    def __init__(self):
        super().__init__()
        for name in HOSTILE:
            self.add_module(name, nn.Sequential(nn.Conv2d(3, 3, 3)))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


def test_names_of_a_model_are_text(show):
    page = show("hostile", Hostile(), inputs="3x32x32")
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], r"\u202egnp"):
        found = page.locator("#layers tbody tr", has_text=name).first
        found.click()
        assert name in page.locator("#panel .where code").inner_text()
    assert page.locator("main img, main b:text-is('bold'), aside img").count() == 0


class Long(nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module("a" * 300, nn.Conv2d(3, 3, 1))

    def forward(self, x):
        return next(self.children())(x) * 2


ODD = {
    "nothing": (nn.Identity(), "3x8x8"),
    "one layer": (nn.Conv2d(3, 8, 3), "3x8x8"),
    "no picture": (nn.Sequential(nn.Linear(8, 4), nn.ReLU()), "8"),
    "a signal": (nn.Sequential(nn.Conv1d(1, 4, 9, stride=2), nn.ReLU()), "1x200"),
    "a volume": (nn.Sequential(nn.Conv3d(1, 4, 3), nn.MaxPool3d(2)), "1x9x20x30"),
    "a long name": (Long(), "3x8x8"),
}


@pytest.mark.parametrize("name", ODD)
def test_models_of_every_kind_fit_a_telephone(show, name):
    model, inputs = ODD[name]
    page = show(name, model, inputs=inputs, size=(400, 800))
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen
    assert page.locator("#graph [role=treeitem]").count() >= 2


# ---------------------------------------------------------------------------- by hand: -m slow


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet201", "swin_v2_b"])
def test_large_models_can_be_used_within_a_second(browser, file_of, name):
    opened = [Opened(browser, file_of(name)) for _ in range(3)]
    seconds = sorted(one.seconds for one in opened)[1]
    page = opened[0].page
    began = time.perf_counter()
    page.locator("#graph").get_by_role("button", name="Expand all").click()
    page.evaluate("new Promise(requestAnimationFrame)")
    print(f"{name}: {seconds:.2f} s, expanded in {time.perf_counter() - began:.2f} s")  # noqa: T201
    for one in opened:
        one.close()
    assert seconds < 1


@pytest.mark.slow
def test_every_model_of_torchvision_opens_in_silence(browser, tmp_path):
    names = [one.name for one in cnnscope.list_models("*", sources=["torchvision"]).record.models]
    for name in names:
        path = tmp_path / "page.html"
        cnnscope.report(name).save(path)
        opened = Opened(browser, path)
        assert opened.page.locator("#graph [role=treeitem]").count() > 1, name
        opened.page.locator("#graph").get_by_role("button", name="Expand all").click()
        opened.close()

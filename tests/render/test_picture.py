"""Pictures of receptive fields, drawn where they lie."""

from __future__ import annotations

import io

import pytest
from command_line import run_cli
from PIL import Image


def picture(path):
    return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def test_a_field_is_drawn_where_it_lies(tmp_path):
    # layer1.0 of resnet18 at unit 10,20: size 27, stride 4, padding 13: rows [27, 53], columns
    # [67, 93]. 224 pixels are drawn twice as large; the outline takes two of them
    out = tmp_path / "out.png"
    result = run_cli("rf", "resnet18", "layer1.0", "--unit", "10,20", "-o", str(out))
    assert result.code == 0
    assert "[27, 53]" in result.out
    drawn = picture(out)
    orange = (255, 140, 0)
    ys = [y for y in range(448) if drawn.getpixel((2 * 80, y)) == orange]
    xs = [x for x in range(448) if drawn.getpixel((x, 2 * 40)) == orange]
    assert ys == [54, 55, 106, 107]
    assert xs == [134, 135, 186, 187]


def test_what_lies_outside_the_input_is_shown(tmp_path):
    # layer4.1 at the centre: rows and columns [-121, 313] of 224: 121 + 224 + 90 pixels, twice
    out = tmp_path / "out.png"
    run_cli("rf", "resnet18", "layer4.1", "-o", str(out))
    assert picture(out).width == 2 * (121 + 224 + 90)


def test_a_picture_is_cut_to_the_input_and_that_is_said(tmp_path):
    photo, out = tmp_path / "photo.jpg", tmp_path / "out.PNG"
    Image.new("RGB", (640, 480), (10, 200, 30)).save(photo)
    result = run_cli("rf", "resnet18", "layer1.0", "--image", str(photo), "-o", str(out))
    # 480 to 224 pixels: 640 * 224 / 480 = 298.67
    assert "640x480 (width x height) to 299x224, its middle 224x224 shown" in result.err
    red, green, blue = picture(out).getpixel((224, 224))
    assert green > 180 > red + blue


@pytest.mark.broad
def test_heat_is_drawn_over_it(tmp_path):
    out = tmp_path / "out.png"
    arguments = ("rf", "squeezenet1_1", "features.4", "--effective", "--samples", "1")
    assert run_cli(*arguments, "-o", str(out)).code == 0
    colours = {picture(out).getpixel((x, 224)) for x in range(100, 340)}
    assert len(colours) > 20


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    fake = tmp_path / "cat.jpg"
    fake.write_text("no picture", encoding="utf-8")
    out = tmp_path / "x.png"
    result = run_cli("rf", "alexnet", "features.0", "--image", str(fake), "-o", str(out))
    assert (result.code, result.out) == (2, "")
    assert "cannot be read" not in result.out
    assert "no picture that can be read" in result.err
    assert not out.exists()

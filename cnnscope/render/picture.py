"""The field of one unit, drawn over a picture or over a plain grid."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cnnscope.errors import RequestError
from cnnscope.files import open_regular
from cnnscope.records.rf import UnitAxis, UnitReport
from cnnscope.render import units
from cnnscope.text import printable

# What is decoded here; for some others (EPS) Pillow would start a program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MOST = 2**26  # pixels of the picture that is drawn
_LEAST = 448  # pixels that the input's longer side is drawn with
_MOST_ROOM = 1.0  # of the input's size, shown on each side for a field that is larger
_OUTSIDE = (32, 34, 38)
_FIELD = (255, 140, 0)  # the theoretical box
_CLIPPED = (255, 255, 255)  # the part of it within the input
_EFFECTIVE = (0, 229, 255)
_HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # inferno


def draw(
    report: UnitReport,
    image: Image.Image,
    heat: Sequence[Sequence[float]] | None = None,
    box: Sequence[tuple[int, int]] = (),
) -> bytes:
    """The picture as a PNG file.

    The unit's theoretical field is outlined, what of it lies outside the input is shown as far as
    it is not more than the input's own size away, and pixels that the unit does not see are dark.

    Args:
        report: of the unit.
        image: as large as the model's input (see `fitted` and `grid`).
        heat: for each pixel its influence between 0 and 1.
        box: the extent of the effective field, per axis.

    Raises:
        RequestError: the input has not two axes, or the picture would be too large.
    """
    if len(report.axes) != 2:
        raise RequestError("a picture needs an input with two axes; name a table, as in field.md")
    scale = max(1, ceil(_LEAST / max(image.size)))
    rows, columns = report.axes
    top, below = _room(rows)
    left, right = _room(columns)
    size = (left + columns.input_size + right, top + rows.input_size + below)
    if scale * scale * size[0] * size[1] > _MOST:
        raise RequestError(
            f"a picture of {scale * size[0]:,} x {scale * size[1]:,} pixels is too large to draw: "
            "give a smaller --input"
        )
    canvas = Image.new("RGB", _times(scale, size), _OUTSIDE)
    shown = _heated(image, heat) if heat is not None else _dimmed(image, report)
    shown = shown.resize(_times(scale, shown.size), Image.Resampling.NEAREST)
    canvas.paste(shown, _times(scale, (left, top)))
    pen = ImageDraw.Draw(canvas)
    width = max(2, scale)

    def rectangle(ends: Sequence[tuple[int, int]], colour: tuple[int, int, int]) -> None:
        (y0, y1), (x0, x1) = ends
        if y0 <= y1 and x0 <= x1:
            pen.rectangle((scale * (left + x0), scale * (top + y0), scale * (left + x1 + 1) - 1,
                           scale * (top + y1 + 1) - 1), outline=colour, width=width)  # fmt: skip

    rectangle([a.unclipped for a in report.axes], _FIELD)
    if any(a.unclipped != a.clipped for a in report.axes):
        rectangle([a.clipped for a in report.axes], _CLIPPED)
    if box:
        rectangle(list(box), _EFFECTIVE)
    return _png(_captioned(canvas, report, effective=bool(box)))


def grid(height: int, width: int) -> Image.Image:
    """A plain grid: squares of 8 pixels, every fourth line stronger."""
    image = Image.new("RGB", (width, height), (236, 238, 240))
    pen = ImageDraw.Draw(image)
    for step, colour in ((8, (216, 219, 223)), (32, (176, 181, 188))):
        for x in range(0, width, step):
            pen.line((x, 0, x, height), fill=colour)
        for y in range(0, height, step):
            pen.line((0, y, width, y), fill=colour)
    return image


def fitted(path: Path, height: int, width: int) -> tuple[Image.Image, str]:
    """A picture scaled to cover the input and cut to its middle, and the sentence that says so.

    Raises:
        RequestError: there is no such picture, or it cannot be read.
    """
    image, (columns, rows) = _opened(path, height, width)
    ratio = max(width / columns, height / rows)
    size = max(width, round(columns * ratio)), max(height, round(rows * ratio))
    said = f"{path.name} scaled from {columns}x{rows} (width x height) to {size[0]}x{size[1]}"
    if size != (width, height):
        said += f", its middle {width}x{height} shown"
    return image, said


def _opened(path: Path, height: int, width: int) -> tuple[Image.Image, tuple[int, int]]:
    """The middle of a picture at the size asked for, and the size that the whole picture has.

    It is cut before it is scaled: a picture of one row would be scaled to gigabytes otherwise.
    """
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as opened:
                return _middle(opened, height, width), opened.size
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        reason = f"it has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels; give a smaller one"
        raise RequestError(f"--image {printable(str(path))}: {reason}") from error
    except Exception as error:  # decoders meet broken files with exceptions of every kind
        reason = (
            getattr(error, "strerror", None)
            or "it is no picture that can be read; give a PNG or JPEG"
        )
        raise RequestError(f"--image {printable(str(path))}: {reason}") from error


def _middle(opened: Image.Image, height: int, width: int) -> Image.Image:
    """The largest centred part of the same proportions as `height` x `width`, scaled to that."""
    ratio = max(width / opened.width, height / opened.height)
    half = width / ratio / 2, height / ratio / 2
    centre = opened.width / 2, opened.height / 2
    left, top = (max(int(c - h), 0) for c, h in zip(centre, half, strict=True))
    right, bottom = (min(ceil(c + h), n) for c, h, n in zip(centre, half, opened.size, strict=True))
    cut = opened.crop((left, top, right, bottom)).convert("RGB")
    box = (
        max(centre[0] - half[0] - left, 0),
        max(centre[1] - half[1] - top, 0),
        min(centre[0] + half[0] - left, cut.width),
        min(centre[1] + half[1] - top, cut.height),
    )
    return cut.resize((width, height), Image.Resampling.BICUBIC, box)


def _room(axis: UnitAxis) -> tuple[int, int]:
    """Pixels shown before and after the input."""
    most = int(_MOST_ROOM * axis.input_size)
    first, last = axis.unclipped
    return max(0, min(-first, most)), max(0, min(last + 1 - axis.input_size, most))


def _times(scale: int, size: tuple[int, int]) -> tuple[int, int]:
    return scale * size[0], scale * size[1]


def _dimmed(image: Image.Image, report: UnitReport) -> Image.Image:
    """Dark where the unit sees nothing."""
    dark = Image.blend(image, Image.new("RGB", image.size, _OUTSIDE), 0.6)
    (y0, y1), (x0, x1) = (a.clipped for a in report.axes)
    if y0 <= y1 and x0 <= x1:
        dark.paste(image.crop((x0, y0, x1 + 1, y1 + 1)), (x0, y0))
    return dark


def _heated(image: Image.Image, heat: Sequence[Sequence[float]]) -> Image.Image:
    """Coloured by influence; its square root, because it falls off as a Gaussian does."""
    levels = bytes(round(255 * min(max(v, 0.0), 1.0) ** 0.5) for row in heat for v in row)
    level = Image.frombytes("L", image.size, levels)
    palette = [_colour(i / 255) for i in range(256)]
    coloured = Image.merge("RGB", [level.point([c[k] for c in palette]) for k in range(3)])
    grey = image.convert("L").convert("RGB")
    return Image.composite(coloured, Image.blend(grey, Image.new("RGB", image.size), 0.5),
                           level.point([min(255, 40 + i * 2) for i in range(256)]))  # fmt: skip


def _colour(value: float) -> tuple[int, int, int]:
    place = value * (len(_HEAT) - 1)
    at = min(int(place), len(_HEAT) - 2)
    part = place - at
    red, green, blue = (
        round(a + (b - a) * part) for a, b in zip(_HEAT[at], _HEAT[at + 1], strict=True)
    )
    return red, green, blue


def _captioned(canvas: Image.Image, report: UnitReport, *, effective: bool) -> Image.Image:
    """Legend of the boxes."""
    unit = ",".join(str(a.unit) for a in report.axes)
    field = units.field(report.layer.field or ())
    lines = [
        (_FIELD, f"{report.source.name} {report.layer.path}, unit {unit}: field {field}"),
        (_CLIPPED, "within the input: " + " x ".join(units.interval(a.clipped)
                                                    for a in report.axes)),
    ]  # fmt: skip
    if effective:
        lines.append((_EFFECTIVE, "effective field"))
    font = ImageFont.load_default(14)
    below = Image.new("RGB", (canvas.width, 22 * len(lines) + 8), _OUTSIDE)
    pen = ImageDraw.Draw(below)
    for i, (colour, text) in enumerate(lines):
        pen.rectangle((8, 22 * i + 9, 20, 22 * i + 21), outline=colour, width=2)
        pen.text((28, 22 * i + 6), text, fill=(235, 235, 235), font=font)
    whole = Image.new("RGB", (canvas.width, canvas.height + below.height))
    whole.paste(canvas, (0, 0))
    whole.paste(below, (0, canvas.height))
    return whole


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()

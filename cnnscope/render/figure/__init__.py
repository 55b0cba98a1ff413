"""The architecture figure: from what it shows to a drawing, and to each file format."""

from cnnscope.render.figure.draw import draw, smallest
from cnnscope.render.figure.fonts import font
from cnnscope.render.figure.pdf import pdf
from cnnscope.render.figure.png import png
from cnnscope.render.figure.scene import Page, Scene
from cnnscope.render.figure.svg import svg
from cnnscope.render.figure.tex import tex

__all__ = ["Page", "Scene", "draw", "font", "pdf", "png", "smallest", "svg", "tex"]

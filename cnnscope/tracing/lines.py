"""The source line that calls a module: the innermost one that is neither torch's nor ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

import torch

from cnnscope.files import PACKAGE
from cnnscope.text import visible

TORCH = str(Path(torch.__file__).parent)  # the folder of torch's code
_TORCH = f"{TORCH}{os.sep}"
_OURS = f"{PACKAGE}{os.sep}"
_CLASSIC = f"{Path(PACKAGE, 'models', 'sources')}{os.sep}"  # models as any library has them
_STOP = "\0"  # whatever called this is no model


class Lines:
    """Lines of one run, during which folders of `sys.path` stay."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}

    def calling(self, frame: FrameType | None) -> str:
        """The line as "net.py:17"; "" where the model is called, or where only torch calls.

        Args:
            frame: where to begin; those around it are looked at from the inside out.
        """
        while frame is not None:
            name = frame.f_code.co_filename
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = _shown(name)
            if file:
                return "" if file is _STOP else f"{file}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


def _shown(file: str) -> str:
    """A file below the folder that it is imported from; "" for torch's and for made-up code."""
    if file.startswith(_CLASSIC):
        return f"{Path(PACKAGE).name}{os.sep}{file[len(_OURS) :]}"
    if file.startswith(_OURS):
        return _STOP
    if file.startswith((_TORCH, "<")):
        return file if file == "<stdin>" else ""
    folders = [f"{folder.rstrip(os.sep)}{os.sep}" for folder in (*sys.path, str(Path.cwd()))]
    above = max(
        (one for one in folders if one != os.sep and file.startswith(one)), key=len, default=""
    )
    return visible(file[len(above) :] if above else Path(file).name)

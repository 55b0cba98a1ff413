"""Make text of others safe to show: names, messages, whole pages."""

import re
from functools import cache


def printable(text: str, limit: int = 80) -> str:
    """Make a user's text safe to show: no control characters, `limit` characters at most."""
    shown = visible(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def ending(text: str, limit: int = 80) -> str:
    """Make the path of a file safe to show: of a long one the end, which tells files apart."""
    shown = visible(text[-limit - 1 :])
    return shown if len(shown) <= limit else f"...{shown[3 - limit :]}"


def visible(text: str) -> str:
    """Write out the control characters of a name from a file or a module; nothing is cut."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def harmless(text: str, kept: str = "\n") -> str:
    """Write out the control characters of lines of text, except the characters `kept`."""
    parts = re.split(f"([{re.escape(kept)}])", text)
    return "".join(part if part in kept else visible(part) for part in parts)


def said(error: BaseException, limit: int = 300) -> str:
    """Show an exception on one line, even if its own `__str__` raises."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  its __str__ is other people's code as well
        text = "its message cannot be shown"
    return f"{printable(type(error).__name__)}: {printable(text or 'no message', limit)}"


# Operations whose function of PyTorch no rule of `operation` finds.
_FUNCTIONS = {
    "native_multi_head_attention": "MultiheadAttention", "_fft_r2c": "fft.rfft",
    "_fft_c2r": "fft.irfft", "_fft_c2c": "fft.fft", "_to_copy": "to", "_unique2": "unique",
    "upsample_nearest1d": "interpolate", "upsample_nearest2d": "interpolate",
    "upsample_nearest3d": "interpolate", "upsample_linear1d": "interpolate",
    "upsample_bilinear2d": "interpolate", "upsample_bicubic2d": "interpolate",
    "upsample_trilinear3d": "interpolate", "reflection_pad1d": "pad", "reflection_pad2d": "pad",
    "reflection_pad3d": "pad", "replication_pad1d": "pad", "replication_pad2d": "pad",
    "replication_pad3d": "pad", "constant_pad_nd": "pad", "grid_sampler_2d": "grid_sample",
    "grid_sampler_3d": "grid_sample", "affine_grid_generator": "affine_grid", "im2col": "unfold",
    "col2im": "fold", "nll_loss2d_forward": "nll_loss", "_local_scalar_dense": "item",
}  # fmt: skip
_INSIDE = re.compile(r"^_(?!_)|^native_|_forward$|_with_indices$")
_GROUP = re.compile(r"^(linalg|special|fft)_")


@cache
def operation(name: str) -> str:
    """Name the function of PyTorch that an operation belongs to; other libraries keep theirs.

    aten.add.Tensor is `add`, aten._softmax.default `softmax`, aten.linalg_det.default `linalg.det`.
    """
    if not name.startswith("aten."):
        return name
    own = name.split(".")[1]
    return _FUNCTIONS.get(own) or _GROUP.sub(r"\1.", _INSIDE.sub("", own))

"""What other people wrote, safe to show: names, messages, whole pages of text."""

import re


def printable(text: str, limit: int = 80) -> str:
    """What a user typed, safe to show: no control characters, and not a page of it."""
    shown = visible(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def visible(text: str) -> str:
    """A name from a file or a module, whole, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def harmless(text: str, kept: str = "\n") -> str:
    """Lines of text, with nothing in them that a terminal would obey but the characters `kept`."""
    parts = re.split(f"([{re.escape(kept)}])", text)
    return "".join(part if part in kept else visible(part) for part in parts)


def said(error: BaseException, limit: int = 300) -> str:
    """What an exception says, on one line; other people's exceptions may not even say that."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  its __str__ is other people's code as well
        text = "its message cannot be shown"
    return f"{printable(type(error).__name__)}: {printable(text or 'no message', limit)}"


def operation(name: str) -> str:
    """An operation for a reader: `add` of aten.add.Tensor; other libraries keep their names."""
    return name.split(".")[1] if name.startswith("aten.") else name

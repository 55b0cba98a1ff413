"""Make text of others safe to show: names, messages, whole pages."""

import re


def printable(text: str, limit: int = 80) -> str:
    """Make a user's text safe to show: no control characters, `limit` characters at most."""
    shown = visible(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


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


def operation(name: str) -> str:
    """Shorten the name of an operation: aten.add.Tensor is `add`; other libraries keep theirs."""
    return name.split(".")[1] if name.startswith("aten.") else name

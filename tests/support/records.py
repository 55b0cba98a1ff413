"""The kinds of report."""

from importlib import import_module
from pkgutil import iter_modules

import msgspec

from cnnscope import records


def report_kinds() -> set[type[msgspec.Struct]]:
    """Return each record that answers a command."""
    return {
        kind
        for module in iter_modules(records.__path__, f"{records.__name__}.")
        for name, kind in vars(import_module(module.name)).items()
        if name.endswith("Report")
    }

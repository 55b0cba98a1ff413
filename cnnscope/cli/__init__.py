"""The command line: parse, call one function, render, exit code. Nothing else prints."""

from cnnscope.cli.start import INTERNAL, main, run

__all__ = ["INTERNAL", "main", "run"]

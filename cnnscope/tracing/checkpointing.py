"""Activation checkpointing: blocks of a network whose forward runs again in the backward pass.

`torch.utils.checkpoint` itself runs them, so that what is kept and what is computed twice are what
it keeps and computes (Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost).
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cnnscope.errors import NoBlocksError, RequestError
from cnnscope.records.step import AUTO
from cnnscope.text import printable, visible
from cnnscope.tracing.modules import children_of, modules_of
from cnnscope.tracing.storages import Storages

_HOLDERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # whose parts are blocks, and not they


class Block:
    """A module that is checkpointed.

    Attributes:
        path: of the module.
        calls: of its forward, the repeated ones left out.
        again: the operations of the repeated ones, as first and behind the last.
    """

    def __init__(self, path: str, module: nn.Module, book: Storages) -> None:
        self.path, self.calls = path, 0
        self.again: list[tuple[int, int]] = []
        self._forward, self._book = module.forward, book
        vars(module)["forward"] = self._checkpointed

    def _checkpointed(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        call, runs = self._book.call, 0

        def run(*args: Any, **kwargs: Any) -> Any:
            """The forward, whose operations belong to the call of the block both times."""
            nonlocal runs
            runs += 1
            outer, self._book.call = self._book.call, call
            begin = len(self._book.ops)
            try:
                return self._forward(*args, **kwargs)
            finally:
                self._book.call = outer
                if runs > 1:
                    self.again.append((begin, len(self._book.ops)))

        if not torch.is_grad_enabled():
            return run(*args, **kwargs)
        args = tuple(map(_own, args))
        return checkpoint(run, *args, use_reentrant=False, **kwargs)


def _own(value: Any) -> Any:
    """A copy of a list or dict, as the caller may change its own before the forward runs again."""
    return value.copy() if type(value) in (list, dict) else value


def wrap(model: nn.Module, asked: Sequence[str], book: Storages) -> tuple[Block, ...]:
    """Checkpoint modules of a model; `modules.replaced` puts them back.

    Args:
        model: whose modules they are.
        asked: their paths, patterns of paths, or "auto".
        book: where the operations are written down.

    Raises:
        RequestError: there is no such module, or a module of TorchScript.
        NoBlocksError: no block repeats.
    """
    if not asked:
        return ()
    chosen = _named(model, asked) if tuple(asked) != (AUTO,) else list(repeated(model))
    if not chosen:
        raise NoBlocksError(
            "--checkpoint auto: no block of the network repeats; name modules, as in "
            "--checkpoint layer1,layer2"
        )
    for path, module in chosen:
        if isinstance(module, torch.jit.ScriptModule):
            raise RequestError(f"--checkpoint {path}: a module of TorchScript cannot be wrapped")
    return tuple(Block(visible(path), module, book) for path, module in chosen)


def repeated(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The blocks that repeat: neighbours of one class, the outermost ones, with parts of their own.

    Layers are none, nor are modules that only hold others (stages).
    """
    waiting: list[tuple[str, nn.Module]] = [("", model)]
    while waiting:
        path, module = waiting.pop()
        before = f"{path}." if path else ""
        found: list[tuple[str, nn.Module]] = []
        for _, group in itertools.groupby(children_of(module), key=lambda child: type(child[1])):
            alike = [(f"{before}{name}", child) for name, child in group]
            if len(alike) > 1 and _is_block(alike[0][1]):
                yield from alike
            else:
                found += alike
        waiting += reversed(found)


def _is_block(module: nn.Module) -> bool:
    return type(module) not in _HOLDERS and any(True for _ in children_of(module))


def _named(model: nn.Module, asked: Sequence[str]) -> list[tuple[str, nn.Module]]:
    """The modules of these paths and patterns, the outermost ones.

    Raises:
        RequestError: a path or a pattern that no module has.
    """
    every = {path: module for path, module in modules_of(model) if path}
    chosen: dict[str, nn.Module] = {}
    for pattern in asked:
        found = [path for path in every if path == pattern or fnmatchcase(path, pattern)]
        if not found:
            close = difflib.get_close_matches(pattern, every, n=4, cutoff=0.5)
            hint = f"; did you mean {', '.join(map(printable, close))}?" if close else ""
            raise RequestError(f"--checkpoint {printable(pattern)!r}: no such module{hint}")
        chosen.update((path, every[path]) for path in found)
    waiting, outermost = sorted(chosen.items(), key=lambda one: one[0].count(".")), {}
    for path, module in waiting:
        parts = path.split(".")
        if not any(".".join(parts[:end]) in outermost for end in range(1, len(parts))):
            outermost[path] = module
    return [one for path, module in outermost.items() for one in _called(path, module)]


def _called(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The module, or where it has no forward of its own the parts that it holds."""
    if type(module) not in (nn.ModuleList, nn.ModuleDict):
        yield path, module
        return
    for name, child in children_of(module):
        yield from _called(f"{path}.{name}", child)

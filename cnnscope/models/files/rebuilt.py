"""A program of a file as modules that call each other as those that it was made from did.

Every operation of a graph comes with the stack of modules that it ran in. From these the calls are
made again: a module is called with the values that it reads, runs its operations and the calls
inside it, and returns what is read afterwards. A value is forgotten after its last use.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnnscope.errors import RequestError
from cnnscope.models.files import permitted
from cnnscope.text import printable

MAX_NODES = 10_000  # operations of a graph; the largest networks of timm have some 5,000
MAX_DEPTH = 64  # modules inside modules
LAYERS = "torch.nn.modules."
CLASS = re.compile(r"[\w.<>]+\w")


class Name(NamedTuple):
    """A value of the graph."""

    name: str


Made = str | tuple[str, ...] | None  # what becomes of a result: a value, a list of them, nothing


class Step(NamedTuple):
    """One operation: values are read by name, and forgotten after their last use."""

    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    outputs: tuple[Made, ...]
    dead: tuple[str, ...] = ()


class Call(NamedTuple):
    """One call of a module: which values go in, what it does, which come out."""

    module: Part
    inputs: tuple[str, ...]
    steps: tuple[Step | Call, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...] = ()
    root: bool = False


class Part(nn.Module):
    """A module of the original model. It has weights and children, and does as `call` says."""

    exported_call: Call
    exported_run: permitted.Limits  # of the run that is going on
    exported_limits: type[permitted.Limits] = permitted.Limits
    exported_computes = permitted.COMPUTES  # for whoever runs what was recorded of it with values

    def forward(self, *values: Any) -> Any:
        """Run the steps of the call that this is."""
        if not self.exported_call.root:
            return self._steps(values)
        _require_no_data(values)
        self.exported_run = self.exported_limits()
        with self.exported_run:
            return self._steps(values)

    def _steps(self, values: tuple[Any, ...]) -> Any:
        call, run = self.exported_call, self.exported_run
        known: dict[str, Any] = dict(zip(call.inputs, values, strict=True))
        for step in call.steps:
            if isinstance(step, Call):
                step.module.exported_call, step.module.exported_run = step, run
                result = step.module(*[known[name] for name in step.inputs])
            elif isinstance(step.function, torch._ops.OpOverload):
                named = sum(1 for _ in results(step))
                result = run.run(step.function, resolve(step.kwargs, known), named)
            else:
                result = step.function(*resolve(step.args, known))
            bind(step.outputs, result, known)
            del result
            for name in step.dead:
                known.pop(name, None)
        returned = tuple(known[name] for name in call.outputs)
        return returned[0] if len(returned) == 1 else returned


def _require_no_data(values: tuple[Any, ...]) -> None:
    """A run begins with tensors that have no data.

    Raises:
        RequestError: it was given tensors with data.
    """
    if any(isinstance(value, Tensor) and not value.is_meta for value in values):
        raise RequestError(
            "a program in a file runs on tensors without data alone: give the code that it was "
            "exported from, as path/net.py:Net"
        )


class State(NamedTuple):
    """A parameter, buffer or constant, where it is kept."""

    module: Part
    name: str


class Node(NamedTuple):
    """An operation of the flat graph, with the modules around it, outermost first."""

    step: Step
    stack: tuple[tuple[str, str, str], ...]  # (key of the call, path, class)


class Tree:
    """The modules of a program, by their paths."""

    def __init__(self, kind: str = "") -> None:
        self.parts: dict[str, Part] = {"": make_part(kind)}

    def add(self, path: str, kind: str) -> Part:
        """The module of a path, made with those around it if they are not there yet."""
        part = self.parts.get(path)
        if part is None:
            outer, _, name = path.rpartition(".")
            part = self.parts[path] = make_part(kind)
            around = self.add(outer, "")
            while hasattr(around, name) or name in Part.__annotations__:  # such as `forward`
                name += "_"
            around.add_module(name, part)
        elif kind and type(part) is Part:
            give_kind(part, kind)
        return part

    def call(
        self,
        module: Part,
        nodes: Sequence[Node],
        depth: int,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
    ) -> Call:
        """The call of a module: operations of its own, and calls of modules inside it."""
        groups = list(groups_of(nodes, depth))
        steps: list[Step | Call] = []
        later = set(outputs)
        for key, group in reversed(groups):
            read = dict.fromkeys(n for node in group for n in reads(node.step))
            made = dict.fromkeys(n for node in group for n in results(node.step))
            dead = tuple(n for n in (*read, *made) if n not in later)
            if key is None:
                steps.append(group[0].step._replace(dead=dead))
            else:
                part = self.parts[key]
                goes_in = tuple(n for n in read if n not in made)
                comes_out = tuple(n for n in made if n in later)
                inner = self.call(part, group, depth + 1, goes_in, comes_out)
                steps.append(inner._replace(dead=dead))
            later.difference_update(made)
            later.update(read)
        return Call(module, inputs, tuple(reversed(steps)), outputs)


def groups_of(nodes: Sequence[Node], depth: int) -> Iterator[tuple[str | None, Sequence[Node]]]:
    """Neighbouring operations that ran in one call of a module below `depth`; others alone."""
    begin = 0
    while begin < len(nodes):
        stack = nodes[begin].stack
        if len(stack) <= depth:
            yield None, nodes[begin : begin + 1]
            begin += 1
            continue
        end = begin + 1
        while end < len(nodes) and nodes[end].stack[: depth + 1] == stack[: depth + 1]:
            end += 1
        yield stack[depth][1], nodes[begin:end]
        begin = end


def require_no_arguments(name: str, kind: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments for the constructor of a model whose constructor has run.

    Args:
        name: of the file.
        kind: what is in it, with its article.
        arguments: that were given.

    Raises:
        RequestError: there are some.
    """
    if arguments:
        raise RequestError(
            f"{printable(name)} is {kind}, whose constructor has run: "
            f"{printable(', '.join(arguments))} cannot be set any more; export it with them"
        )


def require_order(inputs: Sequence[str], steps: Sequence[Step], outputs: Sequence[str]) -> None:
    """Every value is made once, before it is read.

    Raises:
        ValueError: one is not.
    """
    known = set(inputs)
    if len(known) < len(inputs):
        raise ValueError("an input twice")
    for step in steps:
        for name in reads(step):
            if name not in known:
                raise ValueError(f"{name} is read before it is made")
        for name in results(step):
            if name in known:
                raise ValueError(f"{name} is made twice")
            known.add(name)
    for name in outputs:
        if name not in known:
            raise ValueError(f"{name} is returned and never made")


def not_deep(path: str) -> str:
    """A path of modules.

    Raises:
        ValueError: it is deeper than that of any network.
    """
    if path.count(".") >= MAX_DEPTH:
        raise ValueError(f"modules that lie more than {MAX_DEPTH} deep")
    return path


def make_part(kind: str) -> Part:
    """A module of a class of that name, which holds nothing yet."""
    part = Part()
    give_kind(part, kind)
    return part


def give_kind(part: Part, kind: str) -> None:
    """Give a module the class name that the original had, and the file that it was in."""
    module, _, name = kind.rpartition(".")
    if not name:
        return
    members: dict[str, Any] = {"__module__": module}
    kept = original(kind)
    if kept is not None:  # never called: it tells the names of the hyper-parameters
        members["__init__"] = kept.__init__
    part.__class__ = type(name, (Part,), members)


def original(kind: str) -> Any:
    """The class of torch.nn of that name, if it is one."""
    module, _, name = kind.rpartition(".")
    found = getattr(sys.modules.get(module), name, None) if module.startswith(LAYERS) else None
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def note(part: Part, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Keep what the constructor of the original has a name for; what was told first is true."""
    for name in (found.keys() & wanted.keys()) - part._parameters.keys():
        vars(part).setdefault(name, found[name])


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """A template with the values that are known."""
    if isinstance(template, Name):
        return values.get(template.name, template)
    if isinstance(template, list):
        return [filled(item, values) for item in template]
    if isinstance(template, dict):
        return {key: filled(item, values) for key, item in template.items()}
    return template


def resolve(template: Any, known: Mapping[str, Any]) -> Any:
    """A template with every value in its place."""
    if isinstance(template, Name):
        return known[template.name]
    if isinstance(template, State):
        return getattr(template.module, template.name)
    if isinstance(template, list):
        return [resolve(item, known) for item in template]
    if isinstance(template, dict):
        return {key: resolve(item, known) for key, item in template.items()}
    return template


def bind(outputs: tuple[Made, ...], result: Any, known: dict[str, Any]) -> None:
    """Keep the results of an operation or call under their names."""
    results = (result,) if len(outputs) == 1 else result
    for output, value in zip(outputs, results if outputs else (), strict=True):
        if isinstance(output, str):
            known[output] = value
        elif output is not None:
            known.update(zip(output, value, strict=True))


def names(template: Any) -> Iterator[str]:
    """Every value that a template reads."""
    if isinstance(template, Name):
        yield template.name
    elif isinstance(template, (list, dict)):
        for item in template.values() if isinstance(template, dict) else template:
            yield from names(item)


def reads(step: Step) -> Iterator[str]:
    """Every value that an operation reads."""
    yield from names(step.args)
    yield from names(step.kwargs)


def results(step: Step) -> Iterator[str]:
    """Every value that an operation makes."""
    for output in step.outputs:
        yield from (output,) if isinstance(output, str) else output or ()

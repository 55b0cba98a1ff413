"""What the inputs of a forward are made for, from its source: the layers that read them.

A list that a forward goes through beside its layers (`zip(self.convs, xs)`) has an item for each of
them, and a dict that it reads by the names of a `ModuleDict` an entry for each. Nothing is run.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import nn

from cnnscope.models import keys, spelling
from cnnscope.models.syntax import is_name, tree_of
from cnnscope.records.trace import Inputs, TensorSpec
from cnnscope.text import printable
from cnnscope.tracing.modules import modules_of

_DEEPEST = 6  # modules and methods that an input is followed into
_LISTS = re.compile(r"\b(list|List|Sequence|Iterable)\b")
_JOINS = ("cat", "concat", "concatenate", "stack", "hstack", "vstack")
_WIDE = (
    *(nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag),
    *(nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.LayerNorm, nn.GroupNorm),
    *(nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm),
)

Path = tuple[str | int, ...]


class Taken(NamedTuple):
    """What one parameter of a forward is made for.

    Attributes:
        name: of the parameter.
        layers: that read it: one for a tensor, one for each item of a list; None where unknown.
        keys: of a dict, one for each layer.
        is_list: it is a list, or several arguments where `starred`.
        starred: it is `*name`.
        beside: the layers that a list goes along with, "convs": a tensor would be taken apart.
    """

    name: str
    layers: tuple[nn.Module | None, ...]
    keys: tuple[str, ...] = ()
    is_list: bool = False
    starred: bool = False
    beside: str = ""


def taken(model: nn.Module) -> list[Taken]:
    """What each input that a forward needs is made for, in order.

    Where a source is not there, its layers are unknown.
    """
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    source = _Source(model, model.forward)
    return [_taken(source, parameter) for parameter in needed]


def _taken(source: _Source, parameter: inspect.Parameter) -> Taken:
    name, starred = parameter.name, parameter.kind is parameter.VAR_POSITIONAL
    found = _beside(source, name, 0)
    if found is not None:
        return found._replace(name=name, starred=starred)
    found = _by_place(source, name)
    if found is not None:
        return found._replace(starred=starred)
    layers = (first_reader(source, (name,), 0),)
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else str(annotation)
    listed = parameter.annotation is not parameter.empty and bool(_LISTS.search(text))
    if source.joins(name) or listed or starred:
        return Taken(name, layers * 2, is_list=True, starred=starred)
    return Taken(name, layers)


class _Source:
    """The source of one function of a module."""

    def __init__(self, owner: nn.Module, function: Callable[..., Any]) -> None:
        self.owner, self.function = owner, function
        tree = tree_of(function)
        self.nodes: list[Any] = [*ast.walk(tree)] if tree is not None else []
        first = next((n for n in self.nodes if isinstance(n, (ast.FunctionDef, ast.Lambda))), None)
        self.itself = first.args.args[0].arg if first is not None and first.args.args else "self"

    def calls(self) -> list[ast.Call]:
        """Calls in the order in which they are made."""
        calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        return sorted(calls, key=lambda n: (n.end_lineno or 0, n.end_col_offset or 0))

    def called(self, name: str) -> list[ast.Call]:
        """Calls of a function of this name, such as `zip`."""
        return [n for n in self.calls() if isinstance(n.func, ast.Name) and n.func.id == name]

    def module(self, node: ast.AST) -> Any:
        """What `self.a.b[0]` is; None where it is no module."""
        if isinstance(node, ast.Name):
            return self.owner if node.id == self.itself else None
        if isinstance(node, ast.Attribute):
            held = self.module(node.value)
            found = keys.children(held).get(node.attr)
            return found if isinstance(found, nn.Module) else None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return _item(self.module(node.value), node.slice.value)
        return None

    def method(self, node: ast.AST) -> Callable[..., Any] | None:
        """The method of the module itself that `self.features` is."""
        if not isinstance(node, ast.Attribute) or self.module(node.value) is not self.owner:
            return None
        method = getattr(type(self.owner), node.attr, None)
        return method.__get__(self.owner) if inspect.isfunction(method) else None

    def inside(self, call: ast.Call) -> _Source | None:
        """The source of the method or module of one's own that a call runs."""
        method = self.method(call.func)
        if method is not None:
            return _Source(self.owner, method)
        module = self.module(call.func)
        own = module is not None and not type(module).__module__.startswith("torch.nn.")
        return _Source(module, module.forward) if own else None

    def parameter(self, place: int | str | None) -> str:
        """The name of the parameter that an argument fills; "" where there is none."""
        names = keys.parameters_of(self.function)
        if isinstance(place, int):
            return names[place] if place < len(names) else ""
        return place if place in names else ""

    def is_made_before(self, name: str, node: ast.AST) -> bool:
        """Return True if a name is assigned to in a statement above."""
        line = getattr(node, "lineno", 0)
        stored = (n for n in self.nodes if isinstance(n, ast.Assign) and (n.end_lineno or 0) < line)
        return any(
            isinstance(part, ast.Name) and part.id == name
            for statement in stored
            for target in statement.targets
            for part in ast.walk(target)
        )

    def joins(self, name: str) -> bool:
        """Return True if the input is handed to torch.cat or torch.stack as it is."""
        return any(
            isinstance(call.func, ast.Attribute)
            and call.func.attr in _JOINS
            and bool(call.args)
            and is_name(call.args[0], name)
            and not self.is_made_before(name, call)
            for call in self.calls()
        )


def _item(held: Any, index: Any) -> Any:
    """A layer of a container."""
    if isinstance(held, nn.ModuleDict):
        return keys.children(held).get(index)
    items = [*keys.children(held).values()]
    inside = isinstance(index, int) and -len(items) <= index < len(items)
    return items[index] if inside else None


def _path(node: ast.AST) -> Path:
    """`("batch", "image", 0)` of `batch["image"][0]`; () of what is none."""
    if isinstance(node, ast.Name):
        return (node.id,)
    key: Any = None
    inner: ast.AST | None = None
    first: Any
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        key, inner = node.slice.value, node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        first = node.args[0]
        got = node.func.attr in ("get", "pop") and isinstance(first, ast.Constant)
        key, inner = (first.value, node.func.value) if got else (None, None)
    path = _path(inner) if inner is not None else ()
    return (*path, key) if path and isinstance(key, (str, int)) else ()


# ------------------------------------------------------------------- which layer reads a tensor


def first_reader(source: _Source, path: Path, depth: int) -> nn.Module | None:
    """The first layer of a fixed width that an argument, or a part of it, is handed to."""
    if depth > _DEEPEST:
        return None
    for call in source.calls():
        found = _reader_in(source, call, path, depth)
        if found is not None:
            return found
    return None


def _reader_in(source: _Source, call: ast.Call, path: Path, depth: int) -> nn.Module | None:
    """The layer that reads it in one call: of a layer, a module of one's own, or a method."""
    places: list[tuple[int | str | None, ast.AST]] = [*enumerate(call.args)]
    places += [(keyword.arg, keyword.value) for keyword in call.keywords]
    inside = source.inside(call)
    for place, argument in places:
        part = next((p for n in ast.walk(argument) if (p := _path(n)) and path[: len(p)] == p), ())
        name = inside.parameter(place) if inside is not None and part else ""
        if inside is not None and name:
            return first_reader(inside, (name, *path[len(part) :]), depth + 1)
        module = source.module(call.func) if part == path else None
        if module is not None:
            return _first_wide(module)
    return None


def _first_wide(module: nn.Module) -> nn.Module | None:
    """The first layer with a fixed width in a module that runs its parts in order."""
    if isinstance(module, _WIDE):
        return module
    own = not type(module).__module__.startswith("torch.nn.")
    if own:
        source = _Source(module, module.forward)
        names = keys.parameters_of(module.forward)
        return first_reader(source, (names[0],), 1) if names else None
    return next(
        (w for part in keys.children(module).values() if part and (w := _first_wide(part))), None
    )


# ------------------------------------------------------------------------------ lists and dicts


def _beside(source: _Source, name: str, depth: int) -> Taken | None:
    """A list or dict that is gone through beside the layers of a container."""
    if depth > _DEEPEST:
        return None
    found = _zipped(source, name) or _indexed(source, name) or _looked_up(source, name)
    for call in source.calls() if found is None else ():
        place = next((i for i, arg in enumerate(call.args) if is_name(arg, name)), None)
        inside = source.inside(call) if place is not None else None
        if inside is not None and not source.is_made_before(name, call):
            found = _beside(inside, inside.parameter(place), depth + 1)
            if found is not None:
                return found
    return found


def _zipped(source: _Source, name: str) -> Taken | None:
    """`zip(self.convs, xs)`, in any order."""
    for call in source.called("zip"):
        held = [(_text(arg), source.module(arg)) for arg in call.args]
        several = [one for one in held if isinstance(one[1], (nn.ModuleList, nn.Sequential))]
        along = any(is_name(arg, name) for arg in call.args)
        if along and several and not source.is_made_before(name, call):
            return _along(name, *several[0])
    return None


def _indexed(source: _Source, name: str) -> Taken | None:
    """`xs[i]` where i counts layers: `for i, conv in enumerate(self.convs)`, `self.convs[i]`."""
    read = {index for part, index in _by_names(source) if is_name(part, name)}
    for part, index in _by_names(source):
        held = source.module(part)
        if index in read and isinstance(held, (nn.ModuleList, nn.Sequential)):
            return _along(name, _text(part), held)
    return None


def _by_names(source: _Source) -> Iterator[tuple[ast.AST, str]]:
    """What is indexed or counted, and the name of the index."""
    for node in source.nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name):
            yield node.value, node.slice.id
        elif isinstance(node, (ast.For, ast.comprehension)):
            call: Any = node.iter
            target = node.target
            counted = isinstance(call, ast.Call) and is_name(call.func, "enumerate")
            if counted and isinstance(target, ast.Tuple) and isinstance(target.elts[0], ast.Name):
                yield from ((arg, target.elts[0].id) for arg in call.args[:1])


def _looked_up(source: _Source, name: str) -> Taken | None:
    """`batch[k]` where k names layers of a `ModuleDict`: `for k, m in self.heads.items()`."""
    read = {key for part, key in _keyed(source) if is_name(part, name)}
    for part, key in _keyed(source):
        held = source.module(part)
        if key in read and isinstance(held, nn.ModuleDict) and len(held):
            return Taken(
                name, tuple(map(_first_wide, held.values())), tuple(held), beside=_text(part)
            )
    return None


def _keyed(source: _Source) -> Iterator[tuple[ast.AST, str]]:
    """What is read by a key, or gone through by its keys, and the name of the key."""
    for node in source.nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name):
            yield node.value, node.slice.id
        elif isinstance(node, (ast.For, ast.comprehension)):
            held: Any = node.iter
            target = node.target
            if isinstance(held, ast.Call) and isinstance(held.func, ast.Attribute):
                held = held.func.value if held.func.attr in ("items", "keys") else held
            first = target.elts[0] if isinstance(target, ast.Tuple) else target
            if isinstance(first, ast.Name):
                yield held, first.id


def _along(name: str, text: str, held: nn.Module) -> Taken | None:
    layers = tuple(_first_wide(one) for one in keys.children(held).values() if one is not None)
    return Taken(name, layers, is_list=True, beside=text) if layers else None


def _text(node: ast.AST) -> str:
    """`convs` of `self.convs`."""
    return printable(ast.unparse(node).partition(".")[2] or ast.unparse(node), 40)


def _by_place(source: _Source, name: str) -> Taken | None:
    """`a, b = xs`, and `xs[0]`, `xs[1]`; a tensor may be meant as well."""
    for node in source.nodes:
        unpacked = isinstance(node, ast.Assign) and is_name(node.value, name)
        target = node.targets[0] if unpacked else None
        if isinstance(target, (ast.Tuple, ast.List)) and len(target.elts) > 1:
            names = [one.id if isinstance(one, ast.Name) else "" for one in target.elts]
            layers = tuple(first_reader(source, (one,), 0) for one in names)
            return Taken(name, layers, is_list=True)
    read = {_path(node) for node in source.nodes if isinstance(node, ast.Subscript)}
    places = {p[1] for p in read if len(p) == 2 and p[0] == name and type(p[1]) is int}
    if not places or max(places) < 1 or min(places) < 0:
        return None
    layers = tuple(first_reader(source, (name, i), 0) for i in range(max(places) + 1))
    return Taken(name, layers, is_list=True)


# ------------------------------------------------------------------------------- what to give


class Size(NamedTuple):
    """What may be written for a tensor: as short as it is understood, and with its batch of one."""

    text: str
    whole: str


def examples(model: nn.Module, *, whole: bool = False) -> Iterator[tuple[str, ...]]:
    """What may be written after each --input, likeliest first.

    Args:
        model: the network.
        whole: with the batch of one.
    """
    found = [_known(model, one, first=not n) for n, one in enumerate(taken(model))]
    by_name = _by_name_alone(model)
    read = keys.keys_of(model)
    every = [_texts(model, one, read.get(one.name), whole) for one in found]
    if every and found[0].layers == (None,) and not found[0].keys:
        every[0].reverse()  # an image, most likely
    for number in range(max(map(len, every), default=0)):
        texts: list[str] = []
        for one, choices in zip(found, every, strict=True):
            chosen = choices[min(number, len(choices) - 1)]
            prefix = f"{one.name}=" if one.name in by_name else ""
            texts += chosen if one.starred else [prefix + chosen[0]]
        yield tuple(texts)


def inputs(model: nn.Module) -> Iterator[Inputs]:
    """The inputs of the examples, with a batch of one."""
    for texts in examples(model, whole=True):
        form, tensors, _ = spelling.asked(list(texts))
        specs = tuple(TensorSpec(t.sizes, t.dtype or "float32") for t in tensors)
        yield Inputs(specs, None if form.by_place else form)


class Structure(NamedTuple):
    """A list, a dict or several arguments that a forward takes for its one input.

    Attributes:
        because: what speaks for it, in words.
        sure: a tensor is not meant.
    """

    because: str
    sure: bool


def structure(model: nn.Module) -> Structure | None:
    """What is no tensor among the inputs of a forward that needs one; None where one is meant."""
    found = taken(model)
    if len(found) != 1:
        return None
    one, name = found[0], printable(found[0].name)
    if one.beside:
        what = "a dict" if one.keys else "several inputs" if one.starred else "a list"
        return Structure(f"{name} is {what}, one for each layer of {one.beside}", sure=True)
    if one.is_list:
        return Structure(f"{name} may be a list", sure=False)
    tree = keys.keys_of(model).get(one.name)
    known = tree and all(_readers(_Source(model, model.forward), (one.name,), tree))
    return Structure(f"{name} is read by keys", sure=True) if known else None


def _readers(source: _Source, path: Path, tree: keys.Tree) -> Iterator[nn.Module | None]:
    """The layer that reads each entry of a dict."""
    for key, inner in tree.items():
        at = (*path, key)
        yield from _readers(source, at, inner) if inner else (first_reader(source, at, 0),)


def _known(model: nn.Module, one: Taken, *, first: bool) -> Taken:
    """The first input is the first layer's where the source does not tell whose it is."""
    alone = first and not one.is_list and one.layers == (None,)
    return one._replace(layers=(_first_of(model),)) if alone else one


def _first_of(model: nn.Module) -> nn.Module | None:
    return next((layer for _, layer in modules_of(model) if isinstance(layer, _WIDE)), None)


def _by_name_alone(model: nn.Module) -> set[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def _texts(
    model: nn.Module,
    one: Taken,
    tree: keys.Tree | None,
    whole: bool,
) -> list[list[str]]:
    """The choices for one parameter; several texts of one choice where it is starred."""
    if tree and not one.keys:
        return [[_dict(_Source(model, model.forward), (one.name,), tree, whole)]]
    if not one.is_list and not one.keys:
        return [[size.whole if whole else size.text] for size in sizes(one.layers[0])]
    rows = [[size.whole if whole else size.text for size in row] for row in _rows(one.layers)]
    if one.starred:
        return rows
    if one.keys:
        return [[keys.text_of(dict(zip(one.keys, row, strict=True)))] for row in rows]
    return [[f"[{', '.join(row)}]"] for row in rows]


def _rows(layers: Iterable[nn.Module | None]) -> Iterator[list[Size]]:
    """Sizes of the items of a list: all alike, then each half of the one before, as in pyramids."""
    each = [sizes(layer) for layer in layers]
    yield [choices[0] for choices in each]
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    if len(convs) == len(each):
        yield [_image(conv.in_channels, max(64 >> n, 1)) for n, conv in enumerate(convs)]


def _dict(source: _Source, path: Path, tree: Mapping[str, Any], whole: bool) -> str:
    """A dict with the sizes that the layers which read it take."""
    entries: dict[str, str] = {}
    for key, inner in tree.items():
        at = (*path, key)
        size = sizes(first_reader(source, at, 0))[0]
        leaf = size.whole if whole else size.text
        entries[key] = _dict(source, at, inner, whole) if inner else leaf
    return keys.text_of(entries)


def size_of(model: nn.Module, path: Path) -> str:
    """What may be written for a part of an input, ("batch", "ids"); "" where no layer reads it."""
    layer = first_reader(_Source(model, model.forward), path, 0)
    return sizes(layer)[0].text if layer is not None else ""


def sizes(layer: nn.Module | None) -> list[Size]:
    """What the input of a layer may be, likeliest first."""
    made = next((write(layer) for kinds, write in _SIZES if isinstance(layer, kinds)), None)
    if made is not None:
        return made
    axes = re.search(r"Norm([123])d", type(layer).__name__) if layer is not None else None
    channels = getattr(layer, "num_features", 3) or 3
    if axes is None:
        return [*_UNKNOWN]
    if axes[1] == "1":
        return [_sample(channels, 1000), _whole(1, channels)]
    return [_image(channels, 224) if axes[1] == "2" else _sample(channels, *_CLIP)]


def _sample(*sizes: int, dtype: str = "") -> Size:
    """A sample, to which a batch is added."""
    text = "x".join(map(str, sizes)) + (f":{dtype}" if dtype else "")
    return Size(text, f"1x{text}")


def _whole(*sizes: int, dtype: str = "") -> Size:
    """A tensor as it is."""
    text = "x".join(map(str, sizes)) + (f":{dtype}" if dtype else "")
    return Size(text, text)


def _image(channels: int, side: int) -> Size:
    return _sample(channels, side, side)


def _of_convolution(layer: nn.modules.conv._ConvNd) -> list[Size]:
    channels, axes = layer.in_channels or 3, len(layer.kernel_size)
    if axes == 1:
        return [_sample(channels, 1000)]
    if axes == len(_CLIP):
        return [_sample(channels, *_CLIP)]
    return [_image(channels, side) for side in ((8,) if layer.transposed else _SIDES)]


def _of_norm(layer: nn.LayerNorm) -> list[Size]:
    shape = layer.normalized_shape
    return [_whole(1, *shape) if len(shape) > 1 else _whole(1, _LENGTH, *shape)]


def _of_features(width: int) -> list[Size]:
    return [_whole(1, width or _LENGTH), _whole(1, _LENGTH, width or _LENGTH)]


_SIDES = (224, 32, 28, 64, 96, 128, 256)
_CLIP = (16, 112, 112)
_LENGTH = 16  # of a sequence
_UNKNOWN = (_whole(1), _whole(1, _LENGTH), _whole(1, _LENGTH, _LENGTH), _image(3, 224))
_SIZES: tuple[tuple[type[nn.Module], Callable[[Any], list[Size]]], ...] = (
    (nn.modules.conv._ConvNd, _of_convolution),
    (nn.Embedding, lambda _: [_sample(_LENGTH, dtype="int64")]),
    (nn.EmbeddingBag, lambda _: [_whole(1, _LENGTH, dtype="int64")]),
    (nn.Linear, lambda layer: _of_features(layer.in_features)),
    (nn.Bilinear, lambda layer: _of_features(layer.in1_features)),
    (nn.RNNBase, lambda layer: [_whole(1, _LENGTH, layer.input_size)]),
    (nn.RNNCellBase, lambda layer: [_whole(1, layer.input_size)]),
    (nn.MultiheadAttention, lambda layer: [_whole(1, _LENGTH, layer.embed_dim)]),
    (nn.LayerNorm, _of_norm),
)

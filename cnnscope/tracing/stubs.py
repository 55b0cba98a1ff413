"""Keeps torch from importing its compiler, and sympy with it.

Meta kernels and torchvision ask these modules for a few functions that do next to nothing where
nothing is compiled and every size is an int. The modules cost seconds and 150 MB. While `light()`
lasts, stand-ins offer these functions; whatever else is asked for, or asked of a symbol, is the
real module's, which takes its place.
"""

from __future__ import annotations

import functools
import importlib
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

_DYNAMO = "torch._dynamo"
_UTILS = "torch._dynamo.utils"
_SHAPES = "torch.fx.experimental.symbolic_shapes"
_SYMPY = "sympy"


@contextmanager
def light() -> Iterator[None]:
    """Stand in for the modules that are not there yet."""
    missing = [name for name in _OFFERS if name not in sys.modules]
    for name in missing:
        _enter(name)
    sys.meta_path.insert(0, _FINDER)
    try:
        yield
    finally:
        sys.meta_path.remove(_FINDER)
        _leave(missing)


def _enter(name: str) -> None:
    """Be where an import of the real one would put it: in `sys.modules` and in its package."""
    module = sys.modules[name] = _StandIn(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    parent, _, leaf = name.rpartition(".")
    package = sys.modules.get(parent)
    if package is not None and not isinstance(package, _StandIn):
        setattr(package, leaf, module)


class _StandIn(ModuleType):
    """Offers some names of a module, and has the module imported for any other.

    Who has kept it gets everything from the module, once that is there.
    """

    __path__: list[str] = []  # noqa: RUF012  what lies inside is for `_Finder`

    def __getattr__(self, name: str) -> Any:
        own = self.__name__
        if name.startswith("__") and name != "__version__":  # any module is asked for `__file__`
            raise AttributeError(name)
        if sys.modules.get(own) is self and name in _OFFERS[own]:
            return _OFFERS[own][name]
        return getattr(_real(own), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(_real(self.__name__), name, value)


class _Finder:
    """Finds and loads what lies inside a module that something stands in for."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Import the real one first, and then there is nothing left to load."""
        parent = name.rpartition(".")[0]
        if not isinstance(sys.modules.get(parent), _StandIn):
            return None
        _real(parent)
        importlib.import_module(name)
        return ModuleSpec(name, self)  # type: ignore[arg-type]  # it has what a loader needs

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module that is there, which the import is about to give another spec."""
        module = sys.modules[spec.name]
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: Any) -> None:
        """Give it back its spec."""
        module.__spec__ = module.__spec__.loader_state


_FINDER = _Finder()


def _real(name: str) -> ModuleType:
    """The real module, from now on for everyone; the compiler needs the others as well."""
    _leave(list(_OFFERS) if name in {_DYNAMO, _UTILS} else [_SHAPES, _SYMPY])
    return importlib.import_module(name)


def _leave(names: list[str]) -> None:
    for name in names:
        module = sys.modules.get(name)
        if isinstance(module, _StandIn):
            del sys.modules[name]
            parent, _, leaf = name.rpartition(".")
            package: Any = sys.modules.get(parent)
            if vars(package or object).get(leaf) is module:
                delattr(package, leaf)


def imported(name: str) -> ModuleType | None:
    """The real module; None where it has not been imported, or something stands in for it."""
    module = sys.modules.get(name)
    return None if isinstance(module, _StandIn) else module


# ------------------------------------------------------------------- the compiler


def _disable(function: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Keep a function from being compiled: a matter for the compiler, once there is one.

    `torch._disable_dynamo` keeps what it is given here, and so do decorators, beyond `light()`.
    """
    if type(function) is not FunctionType:
        return _real(_DYNAMO).disable(function, *args, **kwargs)

    @functools.cache
    def in_earnest() -> Any:
        return sys.modules[_DYNAMO].disable(function, *args, **kwargs)

    @functools.wraps(function)
    def disabled(*inputs: Any, **keywords: Any) -> Any:
        run = in_earnest() if hasattr(imported(_DYNAMO), "disable") else function
        return run(*inputs, **keywords)

    disabled._torchdynamo_disable = True  # type: ignore[attr-defined]
    disabled._torchdynamo_orig_callable = function  # type: ignore[attr-defined]
    return disabled


def _is_compile_supported(device: Any) -> Any:
    """For torchvision's `roi_align`, which imports it long before it asks, if ever."""
    return _real(_UTILS).is_compile_supported(device)


_is_compile_supported._dynamo_marked_constant = True  # type: ignore[attr-defined]


# ------------------------------------------------------------------- symbolic shapes


class _Basic:
    """`sympy.Basic`: nothing is an instance of it before sympy is there."""

    def __instancecheck__(self, value: Any) -> bool:
        sympy: Any = imported(_SYMPY)
        return sympy is not None and isinstance(value, sympy.Basic)

    def __subclasscheck__(self, kind: type) -> bool:
        sympy: Any = imported(_SYMPY)
        return sympy is not None and issubclass(kind, sympy.Basic)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _real(_SYMPY).Basic(*args, **kwargs)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_real(_SYMPY).Basic,)

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(_SYMPY).Basic, name)


def _is_plain(value: Any) -> bool:
    """No symbol, nor anything that may hold one."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return type(value) in {bool, int, float}


def _of_plain(name: str, plain: Callable[..., Any], kind: type = object) -> Callable[..., Any]:
    """Answer a function for plain arguments (of a type); others go to the real one."""

    def function(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and all(_is_plain(arg) and isinstance(arg, kind) for arg in args):
            return plain(*args)
        return getattr(_real(_SHAPES), name)(*args, **kwargs)

    return function


def _itself(value: Any) -> Any:
    return value


def _all(*terms: bool) -> bool:
    return all(terms)


def _any(*terms: bool) -> bool:
    return any(terms)


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, (tuple, list)) and isinstance(y, (tuple, list)):
        return len(x) == len(y) and all(map(_equal, x, y))
    return bool(x == y)


def _free_unbacked_symbols(value: Any) -> Any:
    """None in a tensor whose sizes are ints."""
    import torch

    sizes = value
    if isinstance(value, torch.Tensor) and value.layout is torch.strided:
        sizes = [*value.shape, *value.stride(), value.storage_offset()]
    return set() if _is_plain(sizes) else _real(_SHAPES).free_unbacked_symbols(value)


_OF_BOOLS: dict[str, Callable[..., Any]] = {
    "expect_true": lambda value, _skip=0: value,
    "guard_bool": _itself,
    "guard_or_false": _itself,
    "guard_or_true": _itself,
    "guard_size_oblivious": _itself,
    "statically_known_false": operator.not_,
    "statically_known_true": _itself,
    "sym_and": _all,
    "sym_or": _any,
}
_OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "_advise_is_bounded": lambda *_: None,
    "_advise_is_size": lambda _: None,
    "guard_int": _itself,
    "guarding_hint_or_throw": _itself,
    "has_guarding_hint": lambda _: True,
    "has_hint": lambda _: True,  # this and size_hint: torch to 2.11
    "is_nested_int": lambda _: False,
    "size_hint": lambda value, *_: value,
    "sym_eq": _equal,
}
_OFFERS: dict[str, dict[str, Any]] = {
    _DYNAMO: {"disable": _disable},
    _UTILS: {"is_compile_supported": _is_compile_supported},
    _SHAPES: {
        **{name: _of_plain(name, plain, bool) for name, plain in _OF_BOOLS.items()},
        **{name: _of_plain(name, plain) for name, plain in _OF_NUMBERS.items()},
        "free_unbacked_symbols": _free_unbacked_symbols,
    },
    _SYMPY: {"Basic": _Basic()},
}

"""Load the user's own files: where their neighbours and packages are found, and forget them after.

A file runs as `python net.py` would run it. If it imports its own package, by dots or by name, it
is that package's module instead: the package is imported first, as Python does, and a file that the
package imported is not run again (registries refuse what is registered twice). What neither finds
is looked for last in the folders above, up to the project's root, and in the working folder, so
that a file works from wherever its path is typed.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from cnnscope.errors import RequestError
from cnnscope.files import is_file, is_folder, open_regular, read_regular
from cnnscope.text import printable, said

_LIBRARY_FOLDERS = frozenset(("site-packages", "dist-packages"))
_LONGEST_FILE = 64 * 2**20  # bytes of Python
_MARKERS = (".git", ".hg", "pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")
_SOURCES = ("src", "lib", "python")  # folders of a project that packages lie in
_PROGRAM = str(Path(__file__).parents[2])


class Home(NamedTuple):
    """Position of a file in the package that it imports: the folder above that, its dotted name."""

    root: Path
    name: str

    @property
    def package(self) -> str:
        """The package that the file is in."""
        return self.name.rpartition(".")[0]


def existing(place: str) -> Path:
    """The file that a specification names.

    Raises:
        RequestError: there is none, or it is no regular file.
    """
    try:
        path = Path(place).expanduser()
        open_regular(path).close()
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _python_files(path.parent), n=3)
        hint = f"; did you mean {', '.join(map(printable, near))}?" if near else ""
        raise RequestError(f"{printable(place)}: there is no such file{hint}") from None
    except IsADirectoryError:
        raise RequestError(f"{printable(place)}: is a folder; name a Python file in it") from None
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, or ~nobody
        reason = getattr(error, "strerror", None) or said(error)
        raise RequestError(f"{printable(place)}: {reason}") from None
    return path.resolve()


def _python_files(folder: Path) -> list[str]:
    return [p.name for p in folder.glob("*.py")] if is_folder(folder) else []


def project(path: Path) -> Path:
    """The widest folder that a file's imports may mean.

    The folder above its packages, its project's root, or the working folder if that is above both;
    but neither the user's home nor the file system's root.
    """
    top = _above_packages(path.parent)
    unlikely = {Path.home(), Path(path.anchor)}
    above = [folder for folder in path.parents if folder not in unlikely]
    marked = [one for one in above if any((one / marker).exists() for marker in _MARKERS)]
    here = [one for one in above if one == Path.cwd()]
    return min((top, *marked[:1], *here), key=lambda one: len(one.parts))


def _above_packages(folder: Path) -> Path:
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder


_recorders: list[set[str]] = []


@contextmanager
def recorded() -> Iterator[set[str]]:
    """Yield the Python files of the user's that are read meanwhile."""
    files: set[str] = set()
    _recorders.append(files)
    try:
        yield files
    finally:
        _recorders.remove(files)


def _record(files: Iterable[str]) -> None:
    found = [file for file in files if file.endswith(".py")]
    for one in _recorders:
        one.update(found)


def run_file(path: Path, undo: ExitStack, here: Path) -> ModuleType:
    """Execute a file as a module; `undo` forgets it and its neighbours.

    Args:
        path: of the file.
        undo: closed when the module is not needed any more.
        here: the working folder, or the same one at a revision.

    `sys.path` is left changed, for imports that a forward makes: `isolation.keep` puts it back.

    Raises:
        Exception: whatever it raises.
    """
    _record([str(path)])
    source = importlib.util.decode_source(read_regular(path, _LONGEST_FILE))
    code = compile(source, str(path), "exec", dont_inherit=True)
    root, before = project(path), set(sys.modules)
    undo.callback(forget, before, root)
    home = _home(path, ast.parse(source), root)
    _prepare_path(path, home, root, here)
    if home is None:
        return _executed(code, _alone(path), path, undo)
    importlib.import_module(home.package)
    ready = sys.modules.get(home.name) if home.name not in before else None
    if ready is not None and _is_file_of(ready, path):
        return ready
    return _executed(code, home.name, path, undo)


def _executed(code: object, name: str, path: Path, undo: ExitStack) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ImportError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    register(name, module, undo)
    argv, sys.argv = sys.argv, [str(path)]
    try:
        exec(code, vars(module))  # type: ignore[arg-type]  # noqa: S102  named to be run
    finally:
        sys.argv = argv
    return module


def _alone(path: Path) -> str:
    """The name of a file in no package: its stem, unless that is another module's (`copy.py`)."""
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    return f"_own_{path.stem}" if taken else path.stem


def _is_file_of(module: ModuleType, path: Path) -> bool:
    try:
        return Path(getattr(module, "__file__", None) or "").resolve() == path
    except (OSError, ValueError):
        return False


# ------------------------------------------------------------------------------------ packages


def _home(path: Path, tree: ast.Module, root: Path) -> Home | None:
    """The package of a file that imports it; None for one that stands alone."""
    level = max((n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)), default=0)
    roots = [_above_packages(path.parents[min(level, len(path.parents) - 1)])] if level else []
    named = set(_imported(tree))
    below = [folder for folder in path.parents if root in folder.parents]
    roots += [folder.parent for folder in below if _means(folder, named)]
    if not roots:
        return None
    above = min(roots, key=lambda one: len(one.parts))
    parts = path.relative_to(above).with_suffix("").parts
    return Home(above, ".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def _means(folder: Path, named: set[tuple[str, str]]) -> bool:
    """Return True if what a file imports by an absolute name is this folder, by what is in it."""
    inside = {second for top, second in named if top == folder.name}
    if (folder.parent / "__init__.py").is_file() or not inside:
        return False
    ready = (folder / "__init__.py").is_file()
    return ready or any(_has_module([folder], x) for x in inside if x)


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """First and second part of what a file imports by an absolute name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            top, _, rest = node.module.partition(".")
            yield from ((top, rest.partition(".")[0] or one.name) for one in node.names)
        elif isinstance(node, ast.Import):
            for one in node.names:
                top, _, rest = one.name.partition(".")
                yield top, rest.partition(".")[0]


# ------------------------------------------------------------------------------- sys.path, after


def _prepare_path(path: Path, home: Home | None, root: Path, here: Path) -> None:
    """Let a file find its package and its neighbours first, and what its project holds last."""
    sys.path.insert(0, str(path.parent if home is None else home.root))
    importlib.invalidate_caches()
    top = home.name.partition(".")[0] if home is not None else ""
    if home is not None and not (home.root / top / "__init__.py").is_file():
        importlib.import_module(top)  # a namespace, which a file `top.py` below it would hide
    above = [folder for folder in path.parents if folder == root or root in folder.parents]
    last = [path.parent, *above, *(root / name for name in _SOURCES), here]
    added = [str(folder) for folder in last if folder.is_dir()]
    sys.path += [one for one in dict.fromkeys(added) if one not in sys.path]
    importlib.invalidate_caches()


def with_working_folder() -> Path:
    """Let imports find what lies in the working folder; the folder."""
    here = Path.cwd()
    if str(here) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(here))
    importlib.invalidate_caches()
    return here


def register(name: str, module: ModuleType, undo: ExitStack) -> None:
    """Let a module be imported by its name, as long as `undo` is open."""
    undo.callback(_restore_module, name, sys.modules.get(name))
    sys.modules[name] = module


def _restore_module(name: str, before: ModuleType | None) -> None:
    if before is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = before


def forget(before: set[str], folder: Path) -> None:
    """Drop the modules that came from a folder since.

    What is installed, belongs to a package that was there before, or to this program, stays.
    """
    new = [name for name in set(sys.modules) - before if name.partition(".")[0] not in before]
    gone = [
        name
        for name in new
        if name.partition(".")[0] not in sys.stdlib_module_names
        and any(within(file, folder) for file in _files_of(sys.modules[name]))
    ]
    _record(file for name in gone for file in _files_of(sys.modules[name]))
    for name in gone:
        del sys.modules[name]
    importlib.invalidate_caches()


def _files_of(module: ModuleType) -> list[str]:
    """The file of a module; the folders of a package without one."""
    try:
        file = getattr(module, "__file__", None)
        return [file] if file else list(getattr(module, "__path__", ()))
    except (TypeError, KeyError):
        return []


def within(filename: str, folder: Path) -> bool:
    """Return True for a file of the user's: in the folder, not installed below it or ours."""
    if filename.startswith(("<", _PROGRAM)):
        return False
    try:
        parts = Path(filename).resolve().relative_to(folder).parts
    except (OSError, ValueError):
        return False
    return bool(filename) and not _LIBRARY_FOLDERS & set(parts)


def importable(place: str) -> bool:
    """Return True if there is such a module; this imports the packages that it is in.

    Raises:
        ModuleNotFoundError: one of these packages lacks another module.
    """
    try:
        return importlib.util.find_spec(place) is not None
    except ModuleNotFoundError as error:
        if f"{place}.".startswith(f"{error.name}."):
            return False
        raise
    except ValueError:  # a module that was made by hand has no spec
        return place in sys.modules


def longest_module(parts: Sequence[str]) -> str:
    """The longest beginning of a dotted name that is a module of the user's or an installed one.

    By files alone: nothing is imported.

    Returns:
        Its name; "" if not even the first part is one.
    """
    folders = [Path.cwd()]
    if not _has_module(folders, parts[0]):
        if not importable(parts[0]):
            return ""
        found = importlib.util.find_spec(parts[0])
        folders = [Path(one) for one in (found and found.submodule_search_locations) or ()]
        count = 1
    else:
        count = 0
    while count < len(parts) and _has_module(folders, parts[count]):
        folders = [folder / parts[count] for folder in folders]
        count += 1
    return ".".join(parts[:count])


def _has_module(folders: Sequence[Path], name: str) -> bool:
    return any(is_folder(one / name) or is_file(one / f"{name}.py") for one in folders)

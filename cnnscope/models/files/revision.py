"""Files as they were at a revision of git: `HEAD~1:net.py`, `main:models/yolo.py`.

The repository is only read. Its tree is listed and its blobs are written, byte for byte, into a
temporary folder: no checkout, index or working tree is touched, and no hook, filter (of LFS, say)
or attribute of the repository runs, which `git archive` would not promise. Submodules that are
checked out are read likewise, at the commit that the revision names.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import NamedTuple, NoReturn

from cnnscope.errors import RequestError
from cnnscope.files import exists, is_file, is_folder
from cnnscope.models.names import ModelSpec
from cnnscope.text import ending, printable

_LARGEST = 4 * 2**20  # bytes of a file that is no Python: weights and data are left out
_AT_ONCE = 64 * 2**20  # bytes that git is asked for at once
_SECONDS = 120
_SHORT = 7  # digits of a commit
# A repository that is meant by these variables is another than the one that the file lies in; a
# hook of git has them.
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
# Nothing that the repository configures is run, and nothing is fetched.
_QUIET = {"LC_ALL": "C", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
_OPTIONS = (
    "--no-optional-locks", "--literal-pathspecs",
    "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}",
)  # fmt: skip
_FILE, _LINK, _MODULE = "10", "12", "16"  # how the mode of an entry begins
_HIDDEN = re.compile(r"\.git[ .]*|git~\d+", re.IGNORECASE)  # no name that git would write


class Tree(NamedTuple):
    """Files of a repository at a revision, in a temporary folder.

    Attributes:
        file: the Python file that was named.
        folder: where the repository's root is.
        here: where the working folder is.
        working: root of the repository's working tree; None of a bare one.
        commit: the whole name of the commit.
        absent: submodules whose files are not here.
    """

    file: Path
    folder: Path
    here: Path
    working: Path | None
    commit: str
    absent: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """Name of the commit as people write it."""
        return self.commit[:_SHORT]

    def is_named(self, revision: str) -> bool:
        """Return True if a revision is the commit's own name, or the beginning of it."""
        return len(revision) >= _SHORT and self.commit.startswith(revision.lower())

    def lacks(self) -> str:
        """Why a file may not be there, in a sentence."""
        if self.absent:
            return f"{printable(self.absent[0])} is a submodule that is not checked out here"
        return "what git does not track, or has since, is not at that revision"

    def of(self, path: str | Path) -> Path | None:
        """Where a file or folder of the working tree lies here; None of any other path."""
        try:
            inside = Path(path).expanduser().resolve().relative_to(self.working or "")
        except (OSError, ValueError, RuntimeError):
            return None
        return self.folder / inside if self.working else None


class _Entry(NamedTuple):
    """A line of `git ls-tree`."""

    mode: str
    blob: str
    size: int
    path: str


class _Repository(NamedTuple):
    """A repository, and the folder in it that paths are relative to ("models/")."""

    folder: Path
    prefix: str
    working: Path | None
    shallow: bool


def extracted(spec: ModelSpec, undo: ExitStack) -> Tree:
    """Write the files of a revision into a temporary folder, which `undo` removes.

    Args:
        spec: its `place` is relative to the working folder, as of any file, and the repository is
            the one that it lies in.
        undo: closed when the files are not needed any more.

    Raises:
        RequestError: there is no git, no repository, no such revision, or no such file in it.
    """
    path = Path(spec.place).expanduser()
    repository = _repository(spec, path)
    commit = _commit(spec, repository)
    entries = list(_entries(spec, repository, commit))
    inside = _inside(spec, repository, path)
    _check_there(spec, repository, inside, entries)
    root = Path(undo.enter_context(TemporaryDirectory("", "cnnscope-", ignore_cleanup_errors=True)))
    root = root.resolve()
    _write(spec, repository, entries, root)
    absent = tuple(_absent_submodules(spec, repository, entries, root))
    if not is_file(root / inside):
        _refuse(spec, f"{printable(inside)} is a link that leads out of the repository")
    (root / ".git").mkdir(exist_ok=True)  # what programs know a project's root by; git does not
    made = Tree(root / inside, root, root, repository.working, commit, absent)
    return made._replace(here=made.of(Path.cwd()) or root)


# -------------------------------------------------------------------------------- which it is


def _repository(spec: ModelSpec, path: Path) -> _Repository:
    """The repository that a path lies in.

    Raises:
        RequestError: it lies in none that may be read.
    """
    if spec.revision.startswith("-"):
        _refuse(spec, "a revision does not begin with a dash; name a branch, a tag or a commit")
    folder = next((one for one in Path.cwd().joinpath(path).parents if is_folder(one)), Path.cwd())
    asked = ("--is-shallow-repository", "--show-prefix", "--show-toplevel")
    done = _git(spec, folder, "rev-parse", *asked)
    lines = os.fsdecode(done.stdout).split("\n")
    if len(lines) < 3:
        _refuse(spec, _unreadable(_said(done), folder))
    working = Path(lines[2]) if done.returncode == 0 else None
    return _Repository(folder, lines[1], working, lines[0] == "true")


def _unreadable(said: str, folder: Path) -> str:
    if "dubious ownership" in said:
        found = re.search(r"repository at '(.*?)'", said, re.DOTALL)
        where = printable(found[1] if found else str(folder))
        return (
            f"git does not read a repository of another user ({where}); if you trust it: "
            f"git config --global --add safe.directory {where}"
        )
    if "not a git repository" in said:
        return (
            f"{ending(os.path.normpath(folder))} is in no git repository; name the file without "
            "a revision, or one in a repository"
        )
    return f"git cannot read the repository ({_first_line(said)})"


def _commit(spec: ModelSpec, repository: _Repository) -> str:
    """The commit that a revision means.

    Raises:
        RequestError: it means none; with the branches of a like name, or what has to be fetched.
    """
    wanted = f"{spec.revision}^{{commit}}"
    done = _git(spec, repository.folder, "rev-parse", "--verify", "--end-of-options", wanted)
    if done.returncode == 0:
        return done.stdout.decode().strip()
    revision, said = printable(spec.revision), _first_line(_said(done))
    if ".." in spec.revision:
        _refuse(spec, f"{revision} is a range; name one revision, such as main or HEAD~1")
    if repository.shallow:
        _refuse(spec, f"no revision {revision}: {_fetch_more(spec.revision)}")
    if _git(spec, repository.folder, "rev-list", "-n1", "--all").stdout == b"":
        _refuse(spec, f"no revision {revision}: the repository has no commit yet")
    if "upstream" in said or "log for" in said or "ambiguous" in said:
        _refuse(spec, f"no revision {revision}: {said}; name a branch, a tag or a commit")
    base, ancestor, _ = re.split(r"([~^].*)", f"{spec.revision}~", maxsplit=1, flags=re.DOTALL)
    given = _git(spec, repository.folder, "rev-parse", "--verify", "-q", f"{base}^{{commit}}")
    if ancestor != "~" and given.returncode == 0:
        _refuse(spec, f"no revision {revision}: the history of {printable(base)} ends before it")
    near = _near_names(spec, repository)
    hint = f"did you mean {' or '.join(near)}?" if near else _fetch(spec.revision)
    return _refuse(spec, f"no revision {revision}; {hint}")


def _fetch_more(revision: str) -> str:
    """What a shallow clone lacks."""
    command = "git fetch --unshallow"
    if "/" in revision and not re.search(r"[~^@]", revision):
        remote, _, branch = revision.partition("/")
        command = f"git fetch --depth=1 {printable(remote)} {printable(branch)}"
    return f"the clone is shallow; {command} (in a workflow of GitHub: checkout, fetch-depth: 0)"


def _fetch(revision: str) -> str:
    remote, _, branch = revision.partition("/")
    if branch:
        return f"a branch of a remote is there after git fetch {printable(remote)}"
    return "git branch --all and git tag list the names there are"


def _near_names(spec: ModelSpec, repository: _Repository) -> list[str]:
    """Branches and tags of a like name, those of remotes included."""
    done = _git(spec, repository.folder, "for-each-ref", "--format=%(refname:short)")
    names = os.fsdecode(done.stdout).split("\n")
    name = re.split(r"[~^@]", spec.revision)[0]
    remote = [one for one in names if one.endswith(f"/{name}")]
    near = remote or difflib.get_close_matches(name, names, n=2)
    return [printable(one + spec.revision[len(name) :]) for one in near[:2]]


# -------------------------------------------------------------------------------- its files


def _entries(spec: ModelSpec, repository: _Repository, commit: str) -> Iterator[_Entry]:
    """Every file, link and submodule of a commit whose name a file may have.

    Raises:
        RequestError: the tree is not whole.
    """
    command = ("ls-tree", "-r", "-l", "-z", "--full-tree", commit)
    done = _git(spec, repository.folder, *command)
    if done.returncode:
        _refuse(spec, _incomplete(_said(done)))
    for line in done.stdout.split(b"\0"):
        facts, tab, name = line.partition(b"\t")
        if not tab:
            continue
        mode, _, blob, size = facts.decode().split()
        path = os.fsdecode(name)
        if _is_safe(path):
            yield _Entry(mode, blob, int(size) if size.isdigit() else 0, path)


def _is_safe(path: str) -> bool:
    """Return True unless a crafted tree leads a path out of its folder, or into `.git`."""
    parts = path.split("/")
    bad = any(part in ("", ".", "..") or _HIDDEN.fullmatch(part) for part in parts)
    return not bad and (os.sep == "/" or not set(path) & set('\\:*?"<>|'))


def _incomplete(said: str) -> str:
    return (
        f"the clone lacks files of that revision ({_first_line(said)}); a clone that was made with "
        "--filter has them after git checkout or git fetch --refetch"
    )


def _inside(spec: ModelSpec, repository: _Repository, path: Path) -> str:
    """The path from the repository's root.

    Raises:
        RequestError: it is outside.
    """
    whole = Path.cwd().joinpath(path)
    rest = whole.relative_to(repository.folder).as_posix()
    inside = posixpath.normpath(repository.prefix + rest)
    if inside.startswith(".."):
        _refuse(spec, f"{printable(spec.place)} is outside of the repository")
    return inside


def _check_there(
    spec: ModelSpec, repository: _Repository, inside: str, entries: Sequence[_Entry]
) -> None:
    """Check that a file is there.

    Raises:
        RequestError: it is not; with the files that may have been meant.
    """
    modes = {entry.path: entry.mode for entry in entries}
    if modes.get(inside, "").startswith((_FILE, _LINK)):
        return
    outer = [str(one) for one in PurePosixPath(inside).parents]
    module = next((one for one in outer if modes.get(one, "").startswith(_MODULE)), "")
    if module:
        _refuse(spec, f"{printable(module)} is a submodule, whose files are in another repository")
    near = [_from_here(repository, one) for one in _near_files(inside, list(modes))]
    hint = f"did you mean {' or '.join(near)}?" if near else "git log -- FILE says where it is"
    where = f"there is no file {printable(inside)} at {printable(spec.revision)}"
    _refuse(spec, f"{where}; {hint}")


def _near_files(inside: str, paths: Sequence[str]) -> list[str]:
    """Python files of that name elsewhere, or of a like one."""
    files = [path for path in paths if path.lower().endswith(".py")]
    name = posixpath.basename(inside)
    same = [path for path in files if posixpath.basename(path) == name]
    return (same or difflib.get_close_matches(inside, files, n=2, cutoff=0.5))[:2]


def _from_here(repository: _Repository, path: str) -> str:
    """A path of the repository as it is typed in the working folder."""
    start = repository.prefix
    if repository.working is not None:
        start = os.path.relpath(Path.cwd().resolve(), repository.working.resolve())
    return printable(posixpath.relpath(path, start or "."))


def _write(spec: ModelSpec, repository: _Repository, entries: Sequence[_Entry], root: Path) -> None:
    """Write files and links, without what is too large to be code.

    Links are made last, so that no file is written through one.

    Raises:
        RequestError: a file of the revision is not in the clone.
    """
    files = [entry for entry in entries if entry.mode.startswith(_FILE)]
    code = [entry for entry in files if entry.path.endswith(".py") or entry.size <= _LARGEST]
    links = [entry for entry in entries if entry.mode.startswith(_LINK)]
    for folder in {root / posixpath.dirname(entry.path) for entry in (*code, *links)}:
        folder.mkdir(parents=True, exist_ok=True)
    for some in _batches(code):
        for entry, content in zip(some, _contents(spec, repository, some), strict=True):
            (root / entry.path).write_bytes(content)
    for some in _batches(links):
        for entry, content in zip(some, _contents(spec, repository, some), strict=True):
            _link(root, entry.path, os.fsdecode(content))


def _absent_submodules(
    spec: ModelSpec, repository: _Repository, entries: Sequence[_Entry], root: Path
) -> Iterator[str]:
    """Write the files of submodules; the paths of those that are not checked out or fetched."""
    for entry in entries:
        if not entry.mode.startswith(_MODULE):
            continue
        folder = (repository.working or Path(os.devnull)) / entry.path
        inner = _Repository(folder, "", folder, shallow=False)
        try:
            inside = list(_entries(spec, inner, entry.blob)) if exists(folder / ".git") else None
            _write(spec, inner, inside or (), root / entry.path)
        except RequestError:
            inside = None
        if inside is None:
            yield entry.path
        else:
            yield from _absent_submodules(spec, inner, inside, root / entry.path)


def _link(root: Path, path: str, target: str) -> None:
    """Make a link, unless it leads out of the folder or the system has none."""
    meant = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if target.startswith("/") or meant.startswith("..") or not _is_safe(meant):
        return
    try:
        (root / path).symlink_to(target)
    except OSError:  # a system without links, or two entries of one name
        return


def _batches(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Entries in parts whose content fits in memory."""
    some: list[_Entry] = []
    size = 0
    for entry in entries:
        if some and size + entry.size > _AT_ONCE:
            yield some
            some, size = [], 0
        some.append(entry)
        size += entry.size
    if some:
        yield some


def _contents(
    spec: ModelSpec, repository: _Repository, entries: Sequence[_Entry]
) -> Iterator[bytes]:
    """Contents of blobs, unfiltered.

    Raises:
        RequestError: one is not in the clone.
    """
    asked = "".join(f"{entry.blob}\n" for entry in entries).encode()
    done = _git(spec, repository.folder, "cat-file", "--batch", given=asked)
    out, at = done.stdout, 0
    for entry in entries:
        end = out.find(b"\n", at)
        words = out[at:end].split()
        if end < 0 or len(words) != 3:
            _refuse(spec, _incomplete(_said(done) or f"{entry.path} is missing"))
        size = int(words[2])
        yield out[end + 1 : end + 1 + size]
        at = end + 1 + size + 1


# -------------------------------------------------------------------------------- git


def _git(
    spec: ModelSpec, folder: Path, *words: str, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run git on a list of arguments, without a shell.

    Raises:
        RequestError: it is not installed, or does not come to an end.
    """
    kept = {name: held for name, held in os.environ.items() if name not in _OF_A_HOOK}
    try:
        return subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *_OPTIONS, *words],  # noqa: S607
            input=given,
            capture_output=True,
            env=kept | _QUIET,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        _refuse(spec, "git is not installed, or not in PATH; install it, or name two files")
    except subprocess.TimeoutExpired:
        _refuse(spec, f"git does not answer within {_SECONDS} s ({words[0]})")
    except (OSError, ValueError) as error:  # a null byte in the name
        _refuse(spec, f"git cannot be asked ({error})")


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode("utf-8", "replace").strip()


def _first_line(said: str) -> str:
    lines = said.splitlines()
    line = next((line for line in lines if not line.startswith("warning:")), "it says nothing")
    return printable(re.sub(r"^(fatal|error): ", "", line), 120)


def _refuse(spec: ModelSpec, why: str) -> NoReturn:
    raise RequestError(f"{spec.shown}: {why}")


# -------------------------------------------------------------------------------- Python


def prefer(tree: Tree, undo: ExitStack) -> None:
    """Have imports find the revision's modules where they would find the working tree's.

    `sys.path` is put back by `isolation.keep`, the modules by `undo`.
    """
    if tree.working is None:
        return
    sys.path[:] = [str(_moved(tree, one) or one) for one in sys.path]
    names = [name for name, module in sys.modules.items() if _is_of(tree, name, module)]
    held = {name: sys.modules.pop(name) for name in names}
    undo.callback(sys.modules.update, held)


def _moved(tree: Tree, entry: str) -> Path | None:
    return None if _is_installed(tree, entry) else tree.of(entry or Path.cwd())


def _is_installed(tree: Tree, path: str) -> bool:
    """Return True for what an environment holds, which may lie in the working tree."""
    if {"site-packages", "dist-packages"} & set(Path(path).parts):
        return True
    prefixes = {Path(one).resolve() for one in (sys.prefix, sys.base_prefix)}
    working = (tree.working or Path()).resolve()
    return any(
        one != working and working in one.parents and one in Path(path).resolve().parents
        for one in prefixes
    )


def _is_of(tree: Tree, name: str, module: object) -> bool:
    """Return True for a module of the working tree, this program's own left out."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or name == "__main__":
        return False
    if name.partition(".")[0] in {"cnnscope", *sys.stdlib_module_names}:
        return False
    return tree.of(file) is not None and not _is_installed(tree, file)

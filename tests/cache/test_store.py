"""The store: right answers or none, whatever happens to its files and its processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import msgspec
import pytest
from command_line import run_cli

from cnnscope import cli
from cnnscope.cache import libraries
from cnnscope.cache import requests as stored
from cnnscope.cache import store as store_file
from cnnscope.cache.store import Store, default_root
from cnnscope.models import run
from cnnscope.models.installed import version
from cnnscope.models.request import Request
from cnnscope.records.trace import CallRecord, ModuleRecord, Source, Trace

KEY = {"what": "trace", "source": "torchvision", "name": "resnet18"}


class Note(msgspec.Struct, frozen=True):
    text: str


@pytest.fixture
def store(tmp_path):
    warnings = []
    made = Store(tmp_path / "store", warnings.append)
    made.warnings = warnings
    return made


def only_file(store):
    (path,) = store.root.iterdir()
    return path


# ------------------------------------------------------------------------------- entries


def test_what_was_written_is_read(store):
    assert store.read(KEY, Note) is None
    store.write(KEY, Note("a"))
    assert store.read(KEY, Note) == Note("a")
    store.write(KEY, Note("b"))
    assert store.read(KEY, Note) == Note("b")
    assert store.warnings == []


@pytest.mark.parametrize("changed", ["what", "source", "name"])
def test_another_key_is_another_entry(store, changed):
    store.write(KEY, Note("a"))
    assert store.read({**KEY, changed: "other"}, Note) is None


def test_key_does_not_depend_on_the_order_of_its_parts(store):
    store.write(KEY, Note("a"))
    assert store.read(dict(reversed(KEY.items())), Note) == Note("a")


def test_file_name_is_readable_and_stays_in_the_folder(store):
    store.write({**KEY, "name": "../../../etc/\x1b[31m passwd"}, Note("a"))
    path = only_file(store)
    assert path.parent == store.root
    assert path.name.startswith("trace-torchvision-etc-31m-passwd-")


@pytest.mark.parametrize("where", [0, 4, 12, 20, 40, -30, -1])
def test_a_flipped_bit_anywhere_is_noticed_once_and_the_entry_replaced(store, where):
    store.write(KEY, Note("a" * 100))
    path = only_file(store)
    content = bytearray(path.read_bytes())
    content[where] ^= 4
    path.write_bytes(content)
    assert store.read(KEY, Note) is None
    assert len(store.warnings) == 1
    assert str(path) in store.warnings[0]
    store.write(KEY, Note("b"))
    assert store.read(KEY, Note) == Note("b")
    assert len(store.warnings) == 1


@pytest.mark.parametrize("content", [b"", b"cnnscope\x01", b"#!/bin/sh\n" * 50, b"\0" * 1000])
def test_a_foreign_or_truncated_file_is_ignored(store, content):
    store.write(KEY, Note("a"))
    only_file(store).write_bytes(content)
    assert store.read(KEY, Note) is None
    assert len(store.warnings) == 1


def test_another_entry_under_this_name_is_not_taken_for_it(store):
    store.write({**KEY, "name": "resnet34"}, Note("34"))
    other = only_file(store)
    store.write(KEY, Note("18"))
    mine = next(path for path in store.root.iterdir() if path != other)
    mine.write_bytes(other.read_bytes())
    assert store.read(KEY, Note) is None


def test_a_record_of_another_kind_is_not_an_answer(store):
    store.write(KEY, Note("a"))
    assert store.read(KEY, Trace) is None


def test_content_that_swells_is_not_decompressed(store, monkeypatch):
    monkeypatch.setattr("cnnscope.cache.store.MAX_ENTRY", 1000)
    store.write(KEY, Note("a" * 2000))
    assert store.read(KEY, Note) is None


def _sparse(path, start=b""):
    with path.open("wb") as file:
        file.write(start)
        file.truncate(2**40)


IN_ITS_PLACE = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "loop": lambda path: path.symlink_to(path.name),
    "sparse": _sparse,
    "sparse entry": lambda path: _sparse(path, b"cnnscope\x01"),
}


@pytest.mark.parametrize("what", IN_ITS_PLACE)
def test_what_lies_in_an_entrys_place_is_removed(store, what):
    """A pipe would be waited for at every run, a device read for ever."""
    store.write(KEY, Note("a"))
    path = only_file(store)
    path.unlink()
    IN_ITS_PLACE[what](path)
    assert store.read(KEY, Note) is None
    assert len(store.warnings) == 1
    assert list(store.root.iterdir()) == []
    store.write(KEY, Note("b"))
    assert store.read(KEY, Note) == Note("b")


def test_a_folder_with_something_in_it_is_left_alone(store):
    store.write(KEY, Note("a"))
    path = only_file(store)
    path.unlink()
    path.mkdir()
    (path / "thesis.txt").touch()
    assert store.read(KEY, Note) is None
    store.write(KEY, Note("b"))
    assert (path / "thesis.txt").exists()


@pytest.mark.parametrize("error", [MemoryError, RecursionError, AttributeError, OverflowError])
def test_whatever_decoding_raises_is_damage(store, monkeypatch, error):
    store.write(KEY, Note("a"))

    def fails(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("cnnscope.cache.store._decode", fails)
        assert store.read(KEY, Note) is None
    assert list(store.root.iterdir()) == []


# ------------------------------------------------------------------------- disk and limits


def test_a_store_that_is_a_loop_of_links_costs_only_the_speed(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    warnings = []
    store = Store(tmp_path / "loop", warnings.append)
    store.write(KEY, Note("a"))
    assert store.read(KEY, Note) is None
    assert (store.info().entries, warnings) == (0, [])


@pytest.mark.parametrize("limit", [0, 100])
def test_a_file_that_may_not_grow_costs_only_the_speed(store, limit):
    """As on a full disk, or with a quota; SIGXFSZ is ignored by Python."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        store.write(KEY, Note(os.urandom(4000).hex()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.read(KEY, Note) is None
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("place", ["/proc/nothing", "/dev/null/store"])
def test_a_disk_that_cannot_be_written_costs_only_the_speed(place):
    store = Store(Path(place))
    store.write(KEY, Note("a"))
    assert store.read(KEY, Note) is None
    assert store.info().entries == 0


def test_a_full_disk_leaves_nothing_behind(store, monkeypatch):
    class Full:
        def __init__(self, handle):
            self.handle = handle

        def __enter__(self):
            return self

        def __exit__(self, *_):
            os.close(self.handle)

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdopen", lambda handle, _: Full(handle))
    store.write(KEY, Note("a"))
    assert list(store.root.iterdir()) == []


def test_least_recently_used_entries_go_first(tmp_path):
    store = Store(tmp_path)
    for name in "abc":
        store.write({"name": name}, Note(os.urandom(4000).hex()))
    size = store.info().nbytes // 3
    for age, name in enumerate("cab"):  # b was used last, c longest ago
        path = next(tmp_path.glob(f"{name}-*"))
        os.utime(path, (1_000_000, 1_000_000 + age))
    Store(tmp_path, limit=int(size * 3.5)).write({"name": "d"}, Note(os.urandom(4000).hex()))
    left = sorted(path.name[0] for path in tmp_path.iterdir())
    assert left == ["a", "b", "d"]


def test_reading_counts_as_use(tmp_path):
    store = Store(tmp_path)
    store.write(KEY, Note("a"))
    path = only_file(store)
    os.utime(path, (1_000_000, 1_000_000))
    store.read(KEY, Note)
    assert time.time() - path.stat().st_mtime < 60


def test_what_a_killed_writer_left_is_removed_later(store):
    store.write(KEY, Note("a"))
    old, new = store.root / "x.part", store.root / "y.part"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1_000_000, 1_000_000))
    store.write(KEY, Note("b"))
    assert not old.exists()
    assert new.exists()  # somebody may be writing it


def test_clear_removes_entries_and_nothing_else(store):
    store.write(KEY, Note("a"))
    kept = store.root / "thesis.txt"
    kept.write_text("mine")
    assert store.clear().entries == 1
    assert [path.name for path in store.root.iterdir()] == ["thesis.txt"]


def test_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path / "here"))
    assert default_root() == tmp_path / "here"
    monkeypatch.delenv("CNNSCOPE_CACHE_DIR")
    assert default_root().name == "cnnscope"


@pytest.mark.parametrize("named", [None, "~nobody_of_this_name/store"])
def test_a_user_without_a_home_has_no_store(monkeypatch, named):
    import pwd

    def unknown(*_):
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CNNSCOPE_CACHE_DIR")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    if named:
        monkeypatch.setenv("CNNSCOPE_CACHE_DIR", named)
    assert default_root() is None
    assert run_cli("summary", "lenet5").code == 0
    for command in ("info", "path", "clear"):
        result = run_cli("cache", command)
        assert (result.code, result.out) == (2, "")
        assert "no home folder; CNNSCOPE_CACHE_DIR names one" in result.err


def test_version_is_that_of_the_metadata():
    from importlib import metadata

    assert version("torchvision") == metadata.version("torchvision")
    assert version("no-such-package") is None


# ------------------------------------------------------------------------------- requests


def small_trace(spec):
    name = spec.rpartition(":")[2]
    source = Source(spec, "torchvision", name)
    return Trace(source, (), (), (ModuleRecord("", "Net"),), (CallRecord(0, -1),), (), (), (), ())


@pytest.fixture
def made(monkeypatch):
    """Requests that had to be carried out, each answered with a small trace."""
    requests = []

    def trace(request):
        requests.append(request)
        return small_trace(request.model.text)

    monkeypatch.setattr(run, "trace_spec", trace)
    monkeypatch.setattr(libraries, "ask_names", lambda source: (f"{source}_a", "resnet18"))
    return requests


def test_second_request_is_answered_from_the_store(store, made):
    first = stored.trace(Request.of("torchvision:resnet18"), store)
    second = stored.trace(Request.of("torchvision:resnet18"), store)
    assert first == second
    assert len(made) == 1


def test_bare_and_qualified_name_share_an_entry_and_keep_what_was_typed(store, made):
    stored.trace(Request.of("torchvision:resnet18"), store)
    found = stored.trace(Request.of("resnet18"), store)
    assert len(made) == 1
    assert found.source.spec == "resnet18"


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": ("3x64x64",)},
        {"arguments": {"width": 2}},
        {"arguments": {"width": "2"}},
        {"num_classes": 10},
        {"batch_size": 2},
        {"dtype": "float16"},
    ],
)
def test_every_part_of_a_request_counts(store, made, other):
    stored.trace(Request.of("torchvision:resnet18"), store)
    stored.trace(Request.of("torchvision:resnet18", **other), store)
    assert len(made) == 2


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_another_version_is_another_answer(store, made, monkeypatch, package):
    stored.trace(Request.of("torchvision:resnet18"), store)
    installed = libraries.version
    monkeypatch.setattr(
        libraries, "version", lambda name: "99.0" if name == package else installed(name)
    )
    stored.trace(Request.of("torchvision:resnet18"), store)
    assert len(made) == 2


def test_other_code_of_ours_is_another_answer(store, made, monkeypatch):
    stored.trace(Request.of("torchvision:resnet18"), store)
    monkeypatch.setattr(libraries, "code", lambda: "changed")
    stored.trace(Request.of("torchvision:resnet18"), store)
    assert len(made) == 2


def test_a_model_that_is_no_librarys_is_not_kept(store, made, monkeypatch):
    own = msgspec.structs.replace(small_trace("x"), source=Source("net.py", "file", "net.py"))
    monkeypatch.setattr(run, "trace_spec", lambda _: made.append(1) or own)
    stored.trace(Request.of("net.py"), store)
    stored.trace(Request.of("net.py"), store)
    assert len(made) == 2
    assert store.info().entries == 0


def test_without_a_store_nothing_is_kept(made):
    stored.trace(Request.of("torchvision:resnet18"), None)
    stored.trace(Request.of("torchvision:resnet18"), None)
    assert len(made) == 2


@pytest.fixture
def offered(monkeypatch, made):
    """The models of each library, by its own list and by its files."""
    found = {"torchvision": ["a", "both"], "classic": ["b", "both"], "timm": ["c"]}
    monkeypatch.setattr("cnnscope.models.registered.names", lambda source: found[source])
    monkeypatch.setattr(libraries, "ask_names", lambda source: tuple(found[source]))
    monkeypatch.setattr(libraries, "version", lambda package: "1.0")  # installed or not
    return found


@pytest.mark.parametrize("name", ["torchvision:a", "classic:b", "timm:c"])
def test_a_bare_name_is_found_though_no_library_was_asked(store, made, offered, name, monkeypatch):
    def trace(request):
        made.append(request)
        source = Source(request.model.text, *name.split(":"))
        return msgspec.structs.replace(small_trace(name), source=source)

    monkeypatch.setattr(run, "trace_spec", trace)
    bare = name.partition(":")[2]
    stored.trace(Request.of(bare), store)
    monkeypatch.setattr("cnnscope.models.registered.names", None)  # nor are its files read again
    assert stored.trace(Request.of(bare), store).source.spec == bare
    assert len(made) == 1


def test_a_bare_name_means_the_first_library_that_has_it(store, made, offered):
    stored.trace(Request.of("torchvision:both"), store)
    assert stored.trace(Request.of("both"), store).source.source == "torchvision"
    assert len(made) == 1


def test_a_library_whose_names_cannot_be_read_leaves_it_open(store, made, offered):
    offered["torchvision"] = []
    stored.trace(Request.of("classic:b"), store)
    stored.trace(Request.of("b"), store)
    assert len(made) == 2


def test_completion_prefers_names_that_are_stored_to_those_in_files(store, made):
    assert "resnet34" in libraries.complete("res", store)
    stored.trace(Request.of("torchvision:resnet18"), store)
    assert "resnet18" in libraries.complete("res", store)
    assert "resnet34" not in libraries.complete("res", store)
    assert libraries.complete("torchvision:res", store) == ["torchvision:resnet18"]


def test_what_cannot_be_written_is_no_mistake_of_the_store(store, made):
    stored.trace(Request.of("torchvision:resnet18"), store)  # names are known from now on
    stored.trace(Request.of("torchvision:resnet18", (), {"\ud800": "\ud800"}), store)
    assert len(made) == 2


# --------------------------------------------------------------------------- command line


def test_warm_answer_is_the_cold_one_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    cold = run_cli("summary", "alexnet").out
    assert len(list(tmp_path.iterdir())) == 2  # the trace, and the names of torchvision
    monkeypatch.setattr("cnnscope.models.run.trace_spec", None)
    assert run_cli("summary", "alexnet").out == cold
    assert run_cli("summary", "alexnet", "--no-cache").code == cli.INTERNAL  # None cannot trace


def test_what_a_diff_needs_of_a_model_is_kept_beside_its_trace(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    models = "classic:lenet1989", "lenet5"
    cold = run_cli("diff", *models).out
    assert len(list(tmp_path.glob("comparable-*"))) == 2
    monkeypatch.setattr("cnnscope.reports.comparable.comparable", None)
    monkeypatch.setattr(stored, "trace", None)
    assert run_cli("diff", *models).out == cold
    warm = run_cli("diff", "lenet1989", "classic:lenet5", "--format", "json").out
    assert [json.loads(warm)[side]["source"]["spec"] for side in ("before", "after")] == [
        "lenet1989",
        "classic:lenet5",
    ]


def test_no_cache_neither_reads_nor_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    run_cli("summary", "alexnet", "--no-cache")
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told_on_stderr_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    cold = run_cli("summary", "alexnet")
    path = next(tmp_path.glob("trace-*"))
    path.write_bytes(b"nonsense")
    hurt = run_cli("summary", "alexnet")
    assert hurt.out == cold.out
    assert hurt.err.startswith("cnnscope: a damaged file in the store is ignored")
    assert hurt.err.count("\n") == 1
    assert run_cli("summary", "alexnet").err == ""


def _forged(path, change):
    """An entry with a valid checksum and a record of the right type, whose content is nonsense."""
    content = path.read_bytes()
    length = int.from_bytes(content[store_file._HEADER - 4 : store_file._HEADER], "big")
    key = content[store_file._HEADER : store_file._HEADER + length]
    record = msgspec.msgpack.decode(zlib.decompress(content[store_file._HEADER + length :]))
    raw = msgspec.msgpack.encode(change(record))
    packed = zlib.compress(raw)
    path.write_bytes(store_file._header(packed, len(raw), key) + packed)


def _leaves(value, path=()):
    """Paths of all that can be changed in nested lists and dicts."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from _leaves(item, (*path, key))


def _nonsense(chance):
    """Change one to three values of a record to others of the same type."""

    def change(record):
        for _ in range(chance.choice([1, 1, 3])):
            *way, last = chance.choice(list(_leaves(record)))
            at = record
            for key in way:
                at = at[key]
            old = at[last]
            choices = {int: [0, -1, 10**4, 2**62, -old if isinstance(old, int) else 0],
                       float: [float("nan"), -1.0], str: ["", "\x1b[31m", "aten.nope", "a\nb"],
                       bool: [True, False]}  # fmt: skip
            if isinstance(old, list):
                at[last] = chance.choice([[], old[:-1], old[1:], old + old[:1], old[::-1]])
            elif type(old) in choices:
                at[last] = chance.choice(choices[type(old)])
        return record

    return change


@pytest.mark.broad
@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=pytest.mark.slow)])
def test_entries_that_are_whole_and_nonsense_are_no_internal_error(tmp_path, monkeypatch, count):
    """They are removed, and the answer is computed afresh; where nothing fails, it may be wrong."""
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    commands = [
        [*command.split(), *more]
        for command in (
            "summary {}",
            "rf {}",
            "explain {}",
            "stages {}",
            "explain {} c3",
            "diff {} --batch-size-b 2",
        )
        for more in ([], ["-f", "json"])
    ]
    commands = [[part.format("classic:lenet5") for part in command] for command in commands]
    right = {tuple(command): run_cli(*command) for command in commands}
    kinds = ("trace-*", "comparable-*")
    whole = {path: path.read_bytes() for kind in kinds for path in sorted(tmp_path.glob(kind))}
    assert len(whole) == 4
    chance = random.Random(0)
    removed = 0
    for _ in range(count):
        for path, content in whole.items():
            path.write_bytes(content)
        _forged(chance.choice(list(whole)), _nonsense(chance))
        command = tuple(chance.choice(commands))
        result = run_cli(*command)
        assert result.code != cli.INTERNAL, (command, result.err)
        if result.err.startswith("cnnscope: a"):
            removed += 1
            assert result.out == right[command].out
    assert removed


def test_an_entry_that_later_code_trips_over_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    cold = run_cli("summary", "classic:lenet5")
    (path,) = tmp_path.glob("trace-*")
    _forged(path, lambda record: {**record, "calls": record["calls"][::-1], "tensors": []})
    result = run_cli("summary", "classic:lenet5")
    assert (result.code, result.out) == (0, cold.out)
    assert result.err.startswith("cnnscope: an unusable file in the store is ignored")
    assert run_cli("summary", "classic:lenet5") == cold


def test_of_many_entries_the_one_that_is_nonsense_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    cold = run_cli("list", "classic:lenet*")
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (bad,) = tmp_path.glob("card-classic-lenet1989-*")
    _forged(bad, lambda record: {**record, "inputs": []})
    result = run_cli("list", "classic:lenet*")
    assert (result.code, result.out) == (0, cold.out)
    notes = [line for line in result.err.splitlines() if "an unusable file" in line]
    assert [bad.name in note for note in notes] == [True]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_where_no_entry_fails_alone_all_are_dropped(tmp_path):
    store = Store(tmp_path)
    for number in range(3):
        store.write({"number": number}, number)
        store.read({"number": number}, int)
    assert store.distrust(lambda number: 1 / (number - 1))
    assert [store.read({"number": n}, int) for n in range(3)] == [0, None, 2]
    assert store.distrust(lambda number: 1 / (number - 1))
    assert [store.read({"number": n}, int) for n in range(3)] == [None] * 3
    assert not store.distrust()


def test_a_mistake_of_ours_is_told_after_one_more_try(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path))
    run_cli("summary", "classic:lenet5")

    def fails(*_, **__):
        raise LookupError("ours")

    monkeypatch.setattr("cnnscope.cli.out.write_report", fails)
    result = run_cli("summary", "classic:lenet5")
    assert result.code == cli.INTERNAL
    assert "LookupError: ours" in result.err


def test_the_commands_of_the_cache_name_count_and_empty_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNSCOPE_CACHE_DIR", str(tmp_path / "s"))
    assert run_cli("cache", "path").out == f"{tmp_path / 's'}\n"
    assert "0 entries" in run_cli("cache", "info").out
    run_cli("summary", "alexnet")
    assert "2 entries" in run_cli("cache", "info").out
    assert run_cli("cache", "clear").out.startswith("removed 2 entries")
    assert run_cli("cache", "info").code == 0


# ------------------------------------------------------------------------- many processes


def test_an_entry_written_just_after_it_was_not_found_is_not_called_damaged(store, monkeypatch):
    def written_by_another(path):
        store.write(KEY, Note("theirs"))
        raise FileNotFoundError(path)

    monkeypatch.setattr(store_file, "_content", written_by_another)
    assert store.read(KEY, Note) is None
    monkeypatch.undo()
    assert store.warnings == []
    assert store.read(KEY, Note) == Note("theirs")


WORKER = """
import os, random, sys
from pathlib import Path
import msgspec
from cnnscope.cache.store import Store

class Note(msgspec.Struct):
    name: str
    text: str

def wrong(message):
    sys.stderr.write(message)
    os._exit(9)

store = Store(Path(sys.argv[1]), wrong, limit=300_000)
random.seed(os.getpid())
while True:
    name = str(random.randrange(40))
    found = store.read({"name": name}, Note)
    if found is None:
        store.write({"name": name}, Note(name, name * random.randrange(1, 20_000)))
    elif found.name != name or set(found.text) - set(name):
        wrong("another's answer")
"""


@pytest.mark.broad
@pytest.mark.parametrize(
    ("processes", "seconds"), [(4, 2), pytest.param(20, 60, marks=pytest.mark.slow)]
)
def test_processes_killed_at_random_leave_no_wrong_answer(tmp_path, processes, seconds):
    """Writers, readers and evictions at once; each process is killed and replaced at any time."""
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    running, ended = [], []
    latest = time.monotonic() + 300
    try:
        running += [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(processes)]
        while not any(tmp_path.glob("*.entry")) and time.monotonic() < latest:
            time.sleep(0.02)  # a busy machine starts them late, and all would be killed before
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while len(running) < processes:
                running.append(subprocess.Popen(command, stderr=subprocess.PIPE))
            time.sleep(0.05 + 0.01 * (len(ended) % 7))
            ended.append(running.pop(len(ended) % len(running)))
            ended[-1].send_signal(signal.SIGKILL)
    finally:
        for process in running:
            process.kill()
    codes = [process.wait() for process in (*ended, *running)]
    assert set(codes) == {-signal.SIGKILL}, [
        p.stderr.read() for p in (*ended, *running) if p.returncode == 9
    ]
    warnings = []
    store = Store(tmp_path, warnings.append)
    for number in range(40):
        store.read({"name": str(number)}, Note)
    assert warnings == []
    assert store.info().entries > 0

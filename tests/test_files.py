"""Files that others name: regular ones are read, and only so much of them as there is room for."""

import contextlib
import io
import os
import resource
import signal
import socket
from pathlib import Path

import pytest
from command_line import run_cli
from PIL import Image

from cnnscope.errors import RequestError
from cnnscope.files import open_regular, read_regular
from cnnscope.render import picture


@pytest.fixture(autouse=True)
def _never_waits():
    """Whoever opens a pipe without a writer waits for ever: the test fails instead."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _bound(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


NO_FILES = {
    "pipe": os.mkfifo,
    "socket": _bound,
    "folder": os.mkdir,
    "device": lambda path: Path(path).symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_only_regular_files_are_opened(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    NO_FILES[kind]("one")
    with pytest.raises(OSError, match=kind):
        open_regular("one")


def test_what_takes_the_place_of_a_file_is_refused_by_its_descriptor(tmp_path, monkeypatch):
    path = tmp_path / "exchanged"
    os.mkfifo(path)
    (tmp_path / "regular").touch()
    status = (tmp_path / "regular").stat()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", lambda _: status)  # as it was when it was looked at
        with pytest.raises(OSError, match="pipe"):
            open_regular(path)


def test_links_to_files_are_files(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 7) == b"content"


def test_no_more_is_read_than_there_is_room_for(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match=r"larger than 1,000 bytes"):
        read_regular(path, 1000)


def test_descriptors_are_closed_where_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        with contextlib.suppress(OSError):
            open_regular(tmp_path / "pipe")
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["summary", "{}"], "a.pt2"),
        (["summary", "{}"], "a.pth"),
        (["summary", "{}"], "a.safetensors"),
        (["summary", "{}"], "no_ending"),
        (["summary", "{}:Net"], "net.py"),
        (["diff", "lenet5", "{}"], "a.pt2"),
        (["bench", "lenet5", "--against", "{}"], "run.json"),
        (["rf", "lenet5", "c1", "--image", "{}", "--output", "out.png"], "image.png"),
    ],
)
def test_pipes_and_devices_are_refused_wherever_a_file_is_read(
    command, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / name)
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / name).symlink_to("/dev/zero")
    for path, kind in ((name, "pipe"), (f"devices/{name}", "device")):
        if name != "no_ending" or "/" in path:
            result = run_cli(*[part.format(path) for part in command])
            assert (result.code, result.out) == (2, ""), result
            assert f"is a {kind}, not a file" in result.err
    assert not (tmp_path / "out.png").exists()


def picture_file(path, size, **options):
    Image.new("RGB", size, (200, 10, 10)).save(path, **options)
    return path


def test_a_picture_is_cut_before_it_is_scaled(tmp_path):
    """Scaled whole, one row of 100,000 pixels would become 224 x 22,400,000: 13 GB."""
    path = picture_file(tmp_path / "row.png", (100_000, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image, said = picture.fitted(path, 224, 224)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 1024  # KiB
    assert image.size == (224, 224)
    assert image.getpixel((112, 112)) == (200, 10, 10)
    assert "from 100000x1 (width x height) to 22400000x224" in said


def test_the_middle_of_a_picture_is_shown(tmp_path):
    """Black, red and black thirds, 300x100: the middle 100x100 are the red third."""
    whole = Image.new("RGB", (300, 100))
    whole.paste((255, 0, 0), (100, 0, 200, 100))
    whole.save(tmp_path / "thirds.png")
    image, said = picture.fitted(tmp_path / "thirds.png", 50, 50)
    assert image.getcolors() == [(2500, (255, 0, 0))]
    assert said.endswith("to 150x50, its middle 50x50 shown")
    whole, _ = picture.fitted(tmp_path / "thirds.png", 100, 300)
    assert [whole.getpixel((x, 50)) for x in (0, 99, 100, 199, 200)] == [
        (0, 0, 0), (0, 0, 0), (255, 0, 0), (255, 0, 0), (0, 0, 0),
    ]  # fmt: skip


def _bomb(path):
    """20,000 x 20,000 pixels in some 50 kB."""
    Image.new("1", (20_000, 20_000)).save(path, "PNG")


def _postscript(path):
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")


def _cut_off(path):
    out = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(out, "PNG")
    path.write_bytes(out.getvalue()[:5000])


@pytest.mark.broad
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_bomb, "more than 89,478,485 pixels"),
        (_postscript, "no picture that can be read"),
        (_cut_off, "no picture that can be read"),
        (lambda path: path.write_bytes(b""), "no picture that can be read"),
        (lambda path: None, "No such file"),
    ],
)
def test_pictures_that_cannot_be_read_are_refused(make, message, tmp_path):
    make(tmp_path / "image.png")
    with pytest.raises(RequestError, match=message):
        picture.fitted(tmp_path / "image.png", 32, 32)

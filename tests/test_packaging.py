"""The wheel and the sdist, built here and installed where nothing else of the project is.

Building needs the `dev` extra: `pytest -m slow tests/test_packaging.py`. The environment has no
network; it finds the dependencies in the folders in which this Python has them.
"""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from pages import NAMED, PAGES
from paths import ROOT

import cnnscope

pytestmark = pytest.mark.slow

USER = """
import cnnscope

reveal_type(cnnscope.summary("resnet18").record.totals.params)
"""


def run(*command, folder, **more):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=folder, **more
    )
    return done.returncode, done.stdout + done.stderr


def build(source, kind, folder):
    command = (sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder)
    code, out = run(*command, folder=source)
    assert code == 0, out


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with a wheel and an sdist; the wheel is made from the sdist."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    assert (
        run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, folder=ROOT)[0]
        == 0
    )
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    assert (
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=source)[
            0
        ]
        == 0
    )
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The folder of an environment with the wheel, and the dependencies of this Python."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True, symlinks=True)
    (wheel,) = built.glob("*.whl")
    python = folder / "bin" / "python"
    code, out = run(python, "-m", "pip", "install", "--no-index", "--no-deps", wheel, folder=folder)
    assert code == 0, out
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(shared))
    return folder


@pytest.fixture(scope="module")
def package(installed):
    (found,) = installed.glob("lib/python*/site-packages/cnnscope")
    return found


def test_the_wheel_holds_the_package_alone(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"cnnscope/py.typed", "cnnscope/summary.schema.json"} <= set(names)
    own = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "cnnscope").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    own |= {
        f"cnnscope/{path.relative_to(ROOT)}"
        for path in (ROOT / "docs").rglob("*")
        if path.is_file()
    }
    about = f"cnnscope-{cnnscope.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(about)} == own


def test_the_metadata_says_where_the_project_is(installed):
    code = (
        "from importlib.metadata import metadata\n"
        "print(*metadata('cnnscope').get_all('Project-URL'), sep='\\n')"
    )
    _, out = run(installed / "bin" / "python", "-c", code, folder=installed)
    labels = {line.partition(",")[0]: line.partition(", ")[2] for line in out.splitlines()}
    assert {"Repository", "Documentation", "Changelog", "Issues"} == set(labels)
    assert all(address.startswith("https://") for address in labels.values())


def test_the_installed_command_runs(installed, package):
    command = installed / "bin" / "cnnscope"
    environment = {"PATH": "/usr/bin:/bin", "CNNSCOPE_CACHE_DIR": str(installed / "store")}
    code, out = run(command, "--version", folder=installed, env=environment)
    assert (code, out.split()[:2]) == (0, ["cnnscope", cnnscope.__version__])
    code, out = run(command, "summary", "classic:lenet5", folder=installed, env=environment)
    assert code == 0, out
    assert "61,706" in out  # LeNet-5 with full connections in its second layer and 10 outputs
    code, out = run(command, "help", "rf", folder=installed, env=environment)
    assert (code, out) == (0, (ROOT / "docs/rf.md").read_text(encoding="utf-8"))
    where = "import cnnscope; print(cnnscope.__file__)"
    _, out = run(installed / "bin" / "python", "-c", where, folder=installed, env=environment)
    assert Path(out.strip()).parent == package


def checked(installed):
    pytest.importorskip("mypy")
    (installed / "user.py").write_text(USER)
    (installed / "mypy.ini").write_text(
        "[mypy]\nstrict = True\n[mypy-torch.*]\nfollow_imports = skip\n"
    )
    python = f"--python-executable={installed / 'bin' / 'python'}"
    command = ("-c", "from mypy.__main__ import console_entry; console_entry()")
    return run(
        sys.executable, *command, python, "--config-file=mypy.ini", "user.py", folder=installed
    )


def test_a_type_checker_sees_the_types(installed, package):
    code, out = checked(installed)
    assert code == 0, out
    assert 'Revealed type is "int"' in out.replace("builtins.", "")
    marker = package / "py.typed"
    marker.rename(package / "untyped")  # without the marker it does not: this test can fail
    try:
        code, out = checked(installed)
    finally:
        (package / "untyped").rename(marker)
    assert code == 1
    assert "py.typed" in out


def test_the_sdist_has_what_its_pages_name(built):
    (source,) = (path for path in built.iterdir() if path.is_dir())
    for page in PAGES:
        text = (source / page).read_text(encoding="utf-8")
        for name in NAMED.findall(text):
            assert (source / name).exists(), (page, name)
    for name in ("LICENSE", "pyproject.toml", "tests/golden/resnet18-80.txt"):
        assert (source / name).is_file()

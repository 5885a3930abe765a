"""The wheel, built in the three ways it can come to be, holds pagesoak and runs.

The tree has symbolic links in two places: the wings at the root, and the recordings below the
scenarios. A build that follows them wrongly loses modules or ships top-level names silently.
"""

import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import pagesoak
from tests.treefiles import ROOT, copy_tree, environment_without_git, tree_files

BUILD_TIMEOUT_SECONDS = 300
HEAVY_MODULES = frozenset({"llvmlite", "numba", "numpy", "pydantic", "rich", "typer"})


class Built(NamedTuple):
    """A wheel, and the folder it was installed to by pip."""

    wheel: Path
    target: Path


def call(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Standard output of a command that has to succeed; `path` is where Python looks first."""
    environment = environment_without_git()
    environment.pop("PYTHONPATH", None)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(tree: Path, out: Path) -> Path:
    """Build with the installed, pinned setuptools; nothing is fetched."""
    call(sys.executable, "-m", "build", "--no-isolation", "--wheel", "-o", out, tree, cwd=out)
    (wheel,) = out.glob("*.whl")
    return wheel


def from_sdist(folder: Path, out: Path) -> Path:
    """A source distribution of a copy of the tree, unpacked and built by the same tool."""
    tree = copy_tree(folder / "tree")
    call(sys.executable, "-m", "build", "--no-isolation", "-o", out, tree, cwd=out)
    (wheel,) = out.glob("*.whl")
    return wheel


def from_zip(folder: Path, out: Path) -> Path:
    """An archive of the tree that keeps links as links, unpacked somewhere else."""
    archive = folder / "tree.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        for path in tree_files():
            pack_file(pack, path)
    tree = folder / "unpacked"
    with zipfile.ZipFile(archive) as pack:
        for info in pack.infolist():
            unpack_file(pack, info, tree)
    return build_wheel(tree, out)


def from_git(folder: Path, out: Path) -> Path:
    """A clone of a repository into which the tree was committed."""
    repository = copy_tree(folder / "repository")
    who = ("-c", "user.name=pagesoak", "-c", "user.email=pagesoak@example.invalid")
    call("git", "init", "-q", cwd=repository)
    call("git", "add", "--all", cwd=repository)
    call("git", *who, "commit", "-q", "-m", "the tree", cwd=repository)
    call("git", "clone", "-q", repository, folder / "clone", cwd=folder)
    return build_wheel(folder / "clone", out)


def pack_file(pack: zipfile.ZipFile, path: Path) -> None:
    """Add one file of the tree; of a link, where it points to."""
    source = ROOT / path
    if not source.is_symlink():
        pack.write(source, path)
        return
    info = zipfile.ZipInfo(str(path))
    info.create_system = 3  # Unix: the upper half of external_attr is the mode
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    pack.writestr(info, os.fsencode(source.readlink()))


def unpack_file(pack: zipfile.ZipFile, info: zipfile.ZipInfo, tree: Path) -> None:
    """Write one file as `unzip` does, a link as a link."""
    if not stat.S_ISLNK(info.external_attr >> 16):
        pack.extract(info, tree)
        return
    target = tree / info.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(os.fsdecode(pack.read(info)))


@pytest.fixture(scope="module", params=[from_sdist, from_zip, from_git])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel of each of the three ways, installed by pip into a folder of its own."""
    build: Callable[[Path, Path], Path] = request.param
    out = tmp_path_factory.mktemp("wheel")
    wheel = build(tmp_path_factory.mktemp("source"), out)
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    call(*pip, "--target", target, wheel, cwd=out)
    return Built(wheel, target)


def wanted_files() -> set[str]:
    """What of the tree belongs into a wheel, under the names it has there."""
    code = {str(path) for path in tree_files() if path.parts[0] == "pagesoak"}
    recordings = {
        str(Path("pagesoak/scenarios/recordings", *path.parts[2:]))
        for path in tree_files()
        if path.is_relative_to("tests/recordings/w2")
    }
    return {name for name in code if not (ROOT / name).is_symlink()} | recordings


@pytest.mark.slow
@pytest.mark.timeout(BUILD_TIMEOUT_SECONDS)
def test_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as pack:
        names = {name for name in pack.namelist() if not name.endswith("/")}
    info = f"pagesoak-{pagesoak.__version__}.dist-info/"
    wanted = wanted_files()
    assert {"pagesoak/py.typed", "pagesoak/scenarios/recordings/w2/trace.txt.gz"} <= wanted
    assert {name for name in names if not name.startswith(info)} == wanted
    assert f"{info}licenses/LICENSE" in names


@pytest.mark.slow
@pytest.mark.timeout(BUILD_TIMEOUT_SECONDS)
def test_installed_package_answers(built: Built, tmp_path: Path) -> None:
    where = "import pagesoak; print(pagesoak.__file__)"
    found = call(sys.executable, "-c", where, cwd=tmp_path, path=built.target)
    assert Path(found.strip()) == built.target / "pagesoak" / "__init__.py"

    version = call(sys.executable, "-m", "pagesoak", "--version", cwd=tmp_path, path=built.target)
    assert version == f"pagesoak {pagesoak.__version__}\n"
    script = call(built.target / "bin" / "pagesoak", "--version", cwd=tmp_path, path=built.target)
    assert script == version


@pytest.mark.slow
@pytest.mark.timeout(BUILD_TIMEOUT_SECONDS)
def test_installed_package_knows_its_scenarios(built: Built, tmp_path: Path) -> None:
    names = {path.stem for path in (ROOT / "pagesoak" / "scenarios").glob("*.toml")}
    assert "recorded-w2" in names
    listed = call(sys.executable, "-m", "pagesoak", "scenarios", cwd=tmp_path, path=built.target)
    assert {name for name in names if name not in listed} == set()


@pytest.mark.slow
@pytest.mark.timeout(BUILD_TIMEOUT_SECONDS)
def test_installed_metadata(built: Built) -> None:
    (distribution,) = metadata.distributions(path=[str(built.target)])
    assert distribution.metadata["License-Expression"] == "Apache-2.0"
    assert distribution.metadata["Requires-Python"] == ">=3.11"
    (script,) = distribution.entry_points
    assert (script.name, script.value) == ("pagesoak", "pagesoak.__main__:main")


def test_version_is_answered_without_anything_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pagesoak", "--version"],
        cwd=tmp_path,
        env=environment_without_git() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"pagesoak {pagesoak.__version__}\n"
    loaded = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "pagesoak" in loaded
    assert {name for name in loaded if name.split(".")[0] in HEAVY_MODULES} == set()

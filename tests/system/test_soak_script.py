"""`./soak` from outside: what it says when something is missing, and what it does when not.

The script runs on a small stand-in for the checkout: the real set-up, virtual environment and pip,
but a requirements.lock that asks for nothing and a project whose `pagesoak` tells how it was
called. So each set-up takes seconds and no network.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.treefiles import ROOT

# What the script calls besides Python; a machine without Python still has them.
TOOLS = ("cat", "ls", "mkdir", "mv", "readlink", "rm", "sha256sum")
SET_UP_SECONDS_MAX = 60

PROJECT = """
[build-system]
requires = []
build-backend = "stand_in_backend"
backend-path = ["."]
"""

# A build backend that makes the one wheel an editable installation needs.
BACKEND = """
import pathlib, sys, zipfile
INFO = "pagesoak-0.1.0.dist-info/"
FILES = {
    "stand_in.py": pathlib.Path("stand_in.py").read_text(),
    INFO + "METADATA": "Metadata-Version: 2.1\\nName: pagesoak\\nVersion: 0.1.0\\n",
    INFO + "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    INFO + "entry_points.txt": "[console_scripts]\\npagesoak = stand_in:main\\n",
}
def build_editable(folder, settings=None, metadata=None):
    if pathlib.Path("broken").exists():
        sys.exit("this build fails")
    name = "pagesoak-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
        record = "".join(f"{path},,\\n" for path in (*FILES, INFO + "RECORD"))
        wheel.writestr(INFO + "RECORD", record)
    return name
"""

STAND_IN = """
import json, os, sys
def main():
    print(json.dumps({"arguments": sys.argv[1:], "directory": os.getcwd(), "path": sys.path}))
    return int(os.environ.get("STAND_IN_CODE", "0"))
"""

# Stand-ins for the checkers and for pytest: they note how they were called and end as told.
CHECKER = """#!/bin/sh
name=${0##*/}
echo "$name $*" >>calls
case " $STAND_IN_FAILS " in *" $name "*) exit 1 ;; esac
"""
PYTEST = """
import os, sys
with open("calls", "a") as calls:
    print("pytest", *sys.argv[1:], file=calls)
sys.exit(int(os.environ["STAND_IN_SLOW" if "slow" in sys.argv else "STAND_IN_FAST"]))
"""


def make_checkout(root: Path) -> Path:
    """A stand-in for a fresh checkout at `root`."""
    root.mkdir(parents=True)
    shutil.copy2(ROOT / "soak", root / "soak")
    for name, text in (
        ("pyproject.toml", PROJECT),
        ("requirements.lock", "# nothing\n"),
        ("stand_in_backend.py", BACKEND),
        ("stand_in.py", STAND_IN),
    ):
        (root / name).write_text(text)
    return root


def environment(**changes: str) -> dict[str, str]:
    """The environment of a call; the Python that runs the tests is the one it finds."""
    return os.environ | {"PYTHON": sys.executable, "PIP_NO_INDEX": "1"} | changes


def soak(
    script: Path, *arguments: str, cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments],
        cwd=cwd or script.parent,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=SET_UP_SECONDS_MAX,
        check=False,
    )


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the stand-in's `pagesoak` told."""
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in that is set up, in a folder whose name has spaces."""
    root = make_checkout(tmp_path_factory.mktemp("a b") / "check  out")
    first = soak(root / "soak", "scenarios")
    assert answer(first)["arguments"] == ["scenarios"]
    assert first.stderr.count("setting up") == 1
    return root


# ---- something is missing ----


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A folder for PATH with the tools of any machine and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return folder


def pretender(path: Path, prelude: str) -> None:
    """A program that runs `-c PROGRAM` with this Python, after `prelude`."""
    program = f"import sys; {prelude}; exec(sys.argv.pop(1))"
    path.write_text(f"#!/bin/sh\nshift\nexec '{sys.executable}' -c '{program}' \"$@\"\n")
    path.chmod(0o755)


def test_without_python_it_says_what_it_needs(tmp_path: Path, bare_path: Path) -> None:
    root = make_checkout(tmp_path / "checkout")
    done = soak(root / "soak", "--version", PATH=str(bare_path), PYTHON="")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "needs Python 3.11 or newer with pip 22.3 or newer and finds none" in done.stderr
    assert not (root / ".venv").exists()


@pytest.mark.parametrize(
    ("prelude", "reason"),
    [
        ('sys.version_info = (3, 9, 2, "final", 0)', "is Python 3.9"),
        ('sys.modules["pip"] = None', "is without pip"),
        ('sys.modules["venv"] = None', "is without the module venv"),
        ('import pip; pip.__version__ = "22.2.1"', "has pip 22.2.1"),
        ("sys.exit(1)", "does not run"),
    ],
)
def test_an_unfit_python_is_named(
    tmp_path: Path, bare_path: Path, prelude: str, reason: str
) -> None:
    root = make_checkout(tmp_path / "checkout")
    pretender(bare_path / "python3.12", prelude)
    done = soak(root / "soak", "--version", PATH=str(bare_path), PYTHON="")
    assert done.returncode == 2
    assert f"(python3.12 {reason})" in done.stderr


def test_a_foreign_environment_is_left_alone(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "checkout")
    (root / ".venv").mkdir()
    (root / ".venv" / "mine").write_text("")
    done = soak(root / "soak", "--version")
    assert done.returncode == 2
    assert "was not made by soak" in done.stderr
    assert (root / ".venv" / "mine").exists()


# ---- set up, it is pagesoak ----


@pytest.mark.slow
def test_the_verb_runs_in_the_callers_directory(checkout: Path, tmp_path: Path) -> None:
    done = soak(checkout / "soak", "run", "a  b", "--seed", "*", cwd=tmp_path)
    assert answer(done)["arguments"] == ["run", "a  b", "--seed", "*"]
    assert answer(done)["directory"] == str(tmp_path)
    assert done.stderr == ""


@pytest.mark.slow
def test_the_exit_code_is_the_verbs(checkout: Path) -> None:
    assert [
        soak(checkout / "soak", STAND_IN_CODE=str(code)).returncode for code in (0, 1, 69, 130)
    ] == [0, 1, 69, 130]


@pytest.mark.slow
def test_a_link_to_the_script_works(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(checkout / "soak")
    (tmp_path / "second").symlink_to("first")
    done = soak(tmp_path / "second", "x", cwd=tmp_path)
    assert answer(done)["arguments"] == ["x"]
    assert done.stderr == ""


@pytest.mark.slow
def test_the_environment_cannot_mislead_it(checkout: Path, tmp_path: Path) -> None:
    for name in ("stand_in.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong one')")
    done = soak(
        checkout / "soak",
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
        PYTHONHOME=str(tmp_path),
        VIRTUAL_ENV=str(tmp_path),
        CDPATH=str(tmp_path),
    )
    assert str(tmp_path) not in answer(done)["path"]


@pytest.mark.slow
def test_each_change_of_what_is_asked_for_is_followed(checkout: Path) -> None:
    with (checkout / "pyproject.toml").open("a") as project:
        project.write("# more\n")
    again = soak(checkout / "soak")
    assert answer(again)
    assert "installing pagesoak again" in again.stderr

    os.utime(checkout / "pyproject.toml")
    os.utime(checkout / "requirements.lock")
    assert soak(checkout / "soak").stderr == ""

    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("# more\n")
    (checkout / ".venv" / "left-over").write_text("")
    anew = soak(checkout / "soak")
    assert answer(anew)
    assert "setting up" in anew.stderr
    assert not (checkout / ".venv" / "left-over").exists()


@pytest.mark.slow
def test_a_moved_checkout_is_set_up_again(checkout: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(checkout, moved, symlinks=True)
    done = soak(moved / "soak")
    assert "setting up" in done.stderr
    assert str(moved / ".venv" / "bin") in answer(done)["path"]


# ---- set-ups that do not go as planned ----


@pytest.mark.slow
def test_a_failed_set_up_is_done_again(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "checkout")
    (root / "broken").write_text("")
    failed = soak(root / "soak")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "could not install" in failed.stderr
    (root / "broken").unlink()
    assert answer(soak(root / "soak"))


@pytest.mark.slow
def test_a_killed_set_up_is_done_again(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "checkout")
    first = subprocess.Popen([root / "soak"], env=environment(), stderr=subprocess.DEVNULL)
    until = time.monotonic() + SET_UP_SECONDS_MAX
    while not (root / ".venv" / "made-by-soak").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not (root / ".venv" / "soak-project").exists()
    assert answer(soak(root / "soak"))


@pytest.mark.slow
def test_two_first_calls_make_one_environment(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "checkout")
    calls = [
        subprocess.Popen(
            [root / "soak", name],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    told = [call.communicate(timeout=SET_UP_SECONDS_MAX) for call in calls]
    assert [call.returncode for call in calls] == [0, 0]
    assert [json.loads(out)["arguments"] for out, _ in told] == [["one"], ["two"]]
    assert sum(err.count("setting up /") for _, err in told) == 1
    assert not any("installing pagesoak again" in err for _, err in told)


# ---- soak test ----


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in that is set up, with stand-ins for the checkers too."""
    root = make_checkout(tmp_path_factory.mktemp("checked") / "checkout")
    assert answer(soak(root / "soak"))
    for name in ("ruff", "mypy"):
        (root / ".venv" / "bin" / name).write_text(CHECKER)
        (root / ".venv" / "bin" / name).chmod(0o755)
    (site,) = (root / ".venv" / "lib").glob("python*/site-packages")
    (site / "pytest.py").write_text(PYTEST)
    return root


def soak_test(
    root: Path, *arguments: str, fails: str = "", fast: int = 0, slow: int = 0
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    (root / "calls").unlink(missing_ok=True)
    told = {"STAND_IN_FAILS": fails, "STAND_IN_FAST": str(fast), "STAND_IN_SLOW": str(slow)}
    done = soak(root / "soak", "test", *arguments, cwd=Path("/"), **told)
    return done, (root / "calls").read_text().splitlines()


@pytest.mark.slow
def test_soak_test_runs_everything(checked: Path) -> None:
    done, calls = soak_test(checked, "-x")
    assert calls == [
        "ruff check",
        "ruff format --check",
        "mypy ",
        "pytest -rs -n 2 -m not slow -x",
        "pytest -rs -m slow -x",
    ]
    assert done.returncode == 0
    assert done.stdout.endswith("== all passed\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("outcome", "named"),
    [
        ({"fails": "ruff"}, "ruff check, ruff format"),
        ({"fails": "mypy"}, "mypy"),
        ({"fast": 1}, "tests: fast"),
        ({"slow": 1}, "tests: slow"),
        ({"fails": "mypy", "slow": 3}, "mypy, tests: slow"),
        ({"fast": 5, "slow": 5}, "no test was selected"),
    ],
)
def test_soak_test_fails_when_one_part_does(
    checked: Path, outcome: dict[str, Any], named: str
) -> None:
    done, calls = soak_test(checked, **outcome)
    assert done.returncode == 1
    assert done.stdout.endswith(f"== FAILED: {named}\n")
    assert len(calls) == 5


@pytest.mark.slow
def test_soak_test_with_a_choice_of_tests(checked: Path) -> None:
    done, _ = soak_test(checked, "tests/unit", fast=0, slow=5)
    assert done.returncode == 0
    done, calls = soak_test(checked, "-m", "model")
    assert done.returncode == 0
    assert calls[3:] == ["pytest -rs -m model"]

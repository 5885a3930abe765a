"""`pagesoak fidelity` as it is called: exit codes, one JSON object, clear messages."""

import gzip
import shutil
from pathlib import Path

import pytest

from tests.live_helper import COMPILE_SECONDS_MAX, compile_core, pagesoak
from tests.treefiles import ROOT

pytestmark = pytest.mark.timeout(COMPILE_SECONDS_MAX)

RECORDINGS = ROOT / "tests" / "recordings"
IDLE = RECORDINGS / "idle_d0"


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


def copy_of(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    shutil.copytree(RECORDINGS / name, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def test_json_is_one_object_on_the_last_line() -> None:
    done = pagesoak("fidelity", IDLE, RECORDINGS / "bal_idle", "--json")
    assert done.code == 0
    assert done.out.count("\n") == 1
    timeline, balloon = done.summary["recordings"]
    assert (timeline["path"], timeline["kind"]) == (str(IDLE), "timeline")
    assert timeline["scatterlists"] == {"exact": 4, "total": 4, "not_checked": 0}
    assert timeline["pass_starts"]["within_wheel"] == timeline["pass_starts"]["total"] == 2
    assert balloon["kind"] == "balloon"
    assert balloon["holds"] is True
    progress = [line for line in done.messages if "compil" not in line]
    assert progress == [
        f"pagesoak: 1 of 2: {IDLE}",
        f"pagesoak: 2 of 2: {RECORDINGS / 'bal_idle'}",
    ]


def test_words_for_people() -> None:
    done = pagesoak("fidelity", IDLE)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == f"{IDLE}: timeline, kernel 6.1.0-56-amd64: holds"
    assert "  scatterlists  4 of 4 exact" in lines
    assert lines[-1] == "1 recording: all 2 demands hold"


def test_a_relative_path_and_a_folder_of_folders(tmp_path: Path) -> None:
    copy_of(tmp_path, "idle_d10")
    copy_of(tmp_path, "idle_d100")
    done = pagesoak("fidelity", "--json", ".", cwd=tmp_path)
    assert done.code == 0
    assert [found["path"] for found in done.summary["recordings"]] == ["idle_d10", "idle_d100"]


def test_a_demand_that_does_not_hold_is_exit_code_1(tmp_path: Path) -> None:
    folder = copy_of(tmp_path, "idle_d0")
    path = folder / "reports.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress(text.replace("dc00/10 d800/10", "d800/10 dc00/10").encode()))
    done = pagesoak("fidelity", folder)
    assert done.code == 1
    assert "  does not hold: every scatterlist exact, entries in order" in done.out
    assert f"  differs at {path}:3" in done.out
    assert done.out.splitlines()[-1] == "1 recording: 1 of 2 demands broken"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no such folder"),
        ("empty", "no recording: none of per_run.csv, reports.csv, atload.free"),
        ("file", "is a file; a recording is a folder"),
    ],
)
def test_no_recording_there(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    done = pagesoak("fidelity", IDLE, tmp_path / name, "--json")
    assert done.code == 2
    assert done.out == ""
    (said,) = [line for line in done.messages if "compil" not in line]
    assert said.startswith(f"pagesoak: {tmp_path / name}: {message}")


def test_a_page_that_cannot_be_written_is_said_before_anything_is_checked(tmp_path: Path) -> None:
    for page in (tmp_path, tmp_path / "gone" / "page.md"):
        done = pagesoak("fidelity", IDLE, "--document", page)
        assert (done.code, done.out) == (2, "")
        (said,) = done.messages
        assert said.startswith(f"pagesoak: {page}: cannot be written: ")


def test_the_findings_as_a_page(tmp_path: Path) -> None:
    done = pagesoak("fidelity", IDLE, "--json", "--document", "page.md", cwd=tmp_path)
    assert done.code == 0
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert f"    pagesoak fidelity {IDLE} --document page.md\n" in text
    assert "| scatterlists | 4 of 4 exact |" in text


def test_no_argument_at_all() -> None:
    done = pagesoak("fidelity")
    assert done.code == 2
    assert done.out == ""
    assert "Missing argument" in done.err


def test_a_damaged_recording_is_checked_as_far_as_it_goes_and_named(tmp_path: Path) -> None:
    folder = copy_of(tmp_path, "idle_m2048")
    path = folder / "reports.csv.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[: len(packed) // 2])
    done = pagesoak("fidelity", folder, IDLE, "--json")
    assert done.code == 2
    damaged, whole = done.summary["recordings"]
    assert whole["holds"] is True
    assert damaged["holds"] is False
    found = damaged["scatterlists"]
    assert found["exact"] == found["total"] < 15
    assert found["not_checked"] == 1
    faults = [line for line in done.messages if "gzip" in line]
    assert len(faults) == 1
    assert faults[0].startswith(f"pagesoak: {path}:")
    assert "Traceback" not in done.err


def test_it_is_in_the_help() -> None:
    assert "fidelity" in pagesoak("--help").out
    text = pagesoak("fidelity", "--help").out
    assert "--json" in text
    assert "Exit code 0" in text

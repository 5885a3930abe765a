"""A workload trace with something wrong in it: named with its place; the rest is still checked."""

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.live_helper import COMPILE_SECONDS_MAX, compile_core, pagesoak
from tests.treefiles import ROOT

pytestmark = [pytest.mark.timeout(COMPILE_SECONDS_MAX), pytest.mark.slow]

RECORDING = ROOT / "tests" / "recordings" / "w2thp"
ALLOCATIONS = 40_055
"""mm_page_alloc events in its trace."""
BEFORE_FIRST_SNAPSHOT = 3_849


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


class Checked(NamedTuple):
    """What came of a recording that was harmed."""

    found: dict[str, Any]
    faults: list[str]
    """The faults as told on stderr."""
    code: int

    @property
    def counted(self) -> int:
        """Allocations of which something is said."""
        allocations = self.found["allocations"]
        assert 0 <= allocations["exact"] <= allocations["total"]
        return int(allocations["total"] + allocations["not_checked"])


def harmed(tmp_path: Path, *names: str) -> Path:
    """A copy of the recording without some of its files; harm the rest."""
    folder = tmp_path / "harmed"
    shutil.copytree(RECORDING, folder, ignore=shutil.ignore_patterns(*names))
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    changed = change(list(lines))
    assert changed != lines
    text = "".join(f"{line}\n" for line in changed)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=1))


def check(folder: Path) -> Checked:
    done = pagesoak("fidelity", folder, "--json")
    assert "Traceback" not in done.err
    (found,) = done.summary["recordings"]
    assert found["kind"] == "trace"
    told = [f"{fault['place']}: {fault['message']}" for fault in found["faults"]]
    said = [line.removeprefix("pagesoak: ") for line in done.messages]
    assert [line for line in said if line in told] == told
    return Checked(found, told, done.code)


def test_a_trace_cut_off_inside_a_line(tmp_path: Path) -> None:
    folder = harmed(tmp_path)
    path = folder / "trace.txt.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    cut = len(text) // 2
    path.write_bytes(gzip.compress(text[:cut].encode(), compresslevel=1))
    checked = check(folder)
    assert checked.code == 2
    (fault,) = checked.faults
    assert fault.startswith(f"{path}:{text[:cut].count(chr(10)) + 1}: ")
    assert "cut off" in fault
    assert 1_000 < checked.found["allocations"]["exact"] < 36_205
    complete = len(re.findall(r": mm_page_alloc: .*\n", text[:cut]))
    assert complete <= checked.counted <= complete + 1


def test_gzip_data_that_is_cut_off(tmp_path: Path) -> None:
    folder = harmed(tmp_path)
    path = folder / "trace.txt.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[: len(packed) * 2 // 3])
    checked = check(folder)
    assert checked.code == 2
    (fault,) = checked.faults
    assert fault.startswith(f"{path}:")
    assert "gzip data is cut off" in fault
    assert 1_000 < checked.found["allocations"]["exact"] < 36_205


def test_lost_events(tmp_path: Path) -> None:
    folder = harmed(tmp_path)
    path = folder / "trace.txt.gz"
    rewrite(path, lambda lines: [*lines[:90_000], "CPU:0 [LOST 12 EVENTS]", *lines[90_000:]])
    checked = check(folder)
    assert checked.code == 2
    assert any(fault.startswith(f"{path}:90001: ") for fault in checked.faults)
    assert any("lost" in fault for fault in checked.faults)
    allocations = checked.found["allocations"]
    assert allocations["not_checked"] > BEFORE_FIRST_SNAPSHOT
    assert 1_000 < allocations["exact"] < 36_205
    assert checked.counted == ALLOCATIONS


def test_a_kernel_that_is_not_modelled(tmp_path: Path) -> None:
    folder = harmed(tmp_path, "dmesg*", "run.json")
    path = folder / "meta.txt"
    lines = path.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("Linux version"))
    lines[at] = "Linux version 5.4.0-100-generic (maker@host) #1 SMP"
    path.write_text("".join(f"{line}\n" for line in lines))
    checked = check(folder)
    assert checked.code == 2
    (fault,) = checked.faults
    assert fault.startswith(f"{path}")
    assert "5.4" in fault
    assert checked.found["allocations"] == {
        "exact": 0,
        "total": 0,
        "not_checked": ALLOCATIONS,
    }


def test_a_snapshot_that_contradicts_itself(tmp_path: Path) -> None:
    folder = harmed(tmp_path)
    path = folder / "snaps.txt.gz"

    def contradict(lines: list[str]) -> list[str]:
        places = [n for n, line in enumerate(lines) if line.startswith("z,DMA32,")]
        fields = lines[places[2]].split(",")
        fields[8] = str(int(fields[8]) + 100_000)  # nr_free
        lines[places[2]] = ",".join(fields)
        return lines

    rewrite(path, contradict)
    checked = check(folder)
    assert checked.code == 2
    assert any(fault.startswith(f"{path}:") for fault in checked.faults)
    assert checked.found["allocations"]["exact"] >= 1_000
    assert checked.counted == ALLOCATIONS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("trace.txt.gz",), "no trace.txt or trace.txt.gz in it"),
        (("snaps.txt.gz", "*.free.gz"), "no exact snapshot in it: no snaps.txt, no .free"),
    ],
)
def test_a_file_that_is_missing(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    folder = harmed(tmp_path, *names)
    checked = check(folder)
    assert checked.code == 2
    assert checked.faults == [f"{folder}: {message}"]
    assert checked.found.get("allocations", {"exact": 0})["exact"] == 0

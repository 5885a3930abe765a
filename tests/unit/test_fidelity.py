"""Which folder is which kind of recording, what a path stands for, and the words of the answer."""

import gzip
import shutil
from pathlib import Path

import pytest

from pagesoak.base.errors import InputError
from pagesoak.study.fidelity import check_recordings, kind_of, recordings_in
from pagesoak.study.fidelity_text import (
    closing_line,
    figure_text,
    recording_lines,
    report_lines,
)
from tests.treefiles import ROOT

RECORDINGS = ROOT / "tests" / "recordings"
KINDS = {
    "bal_idle": "balloon",
    "idle_d0": "timeline",
    "idle_d10": "timeline",
    "idle_d100": "timeline",
    "idle_m2048": "timeline",
    "idle_po5": "timeline",
    "oom": "oom",
    "realballoon/asis_s1": "balloon",
    "realballoon/slow_s1": "balloon",
    "w1": "trace",
    "w2": "trace",
    "w2thp": "trace",
    "w4p": "trace",
}


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_is_told_by_the_files(name: str) -> None:
    assert kind_of(RECORDINGS / name) == KINDS[name]


def test_a_folder_of_recordings_stands_for_all_of_them() -> None:
    found = [str(path.relative_to(RECORDINGS)) for path in recordings_in(RECORDINGS)]
    assert found == sorted(KINDS)
    found = [str(path.relative_to(RECORDINGS)) for path in recordings_in(ROOT / "tests")]
    assert found == sorted(KINDS)


def test_a_recording_named_twice_is_checked_once(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(RECORDINGS / "idle_d0")
    said: list[str] = []
    paths = [RECORDINGS / "idle_d0", tmp_path / "link", RECORDINGS / "idle_d0"]
    (result,) = check_recordings(paths, said.append)
    assert result.path == str(RECORDINGS / "idle_d0")
    assert said == [f"1 of 1: {RECORDINGS / 'idle_d0'}"]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ((), None),
        (("notes.txt",), None),
        (("run.json",), "unknown"),
        (("meta.version.gz",), "unknown"),
        (("per_run.csv", "reports.csv"), "oom"),
        (("reports.csv",), "timeline"),
        (("atload.free.gz", "trace.txt.gz"), "timeline"),
        (("snaps.txt.gz",), "trace"),
        (("reporting.csv", "run.json"), "balloon"),
    ],
)
def test_the_kind_of_a_folder_with_such_files(
    tmp_path: Path, files: tuple[str, ...], kind: str | None
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    assert kind_of(tmp_path) == kind


BEGIN_LINE = "  kworker/0:0-7  [000] .....   9.408465: process: (page_reporting_process+0x0/0x570)"
FREE_LINE = (
    "  wl-7  [000] d..1.   9.408812: mm_page_free: page=00000000c0ffee00 pfn=0x6200 order=9"
)


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ((BEGIN_LINE,), "balloon"),
        ((BEGIN_LINE, FREE_LINE), "trace"),
        ((BEGIN_LINE, "what is this"), "balloon"),
        (("what is this",), "trace"),
        ((), "trace"),
    ],
)
def test_a_trace_without_snapshots_by_its_events(
    tmp_path: Path, lines: tuple[str, ...], kind: str
) -> None:
    text = "".join(f"{line}\n" for line in lines)
    (tmp_path / "trace.txt.gz").write_bytes(gzip.compress(text.encode()))
    assert kind_of(tmp_path) == kind


def test_a_folder_with_nothing_to_check_is_a_fault(tmp_path: Path) -> None:
    shutil.copy(RECORDINGS / "idle_d0" / "run.json", tmp_path)
    (result,) = check_recordings([tmp_path], lambda _: None)
    assert result.kind == "unknown"
    (fault,) = result.faults
    assert str(fault).startswith(f"{tmp_path}: no recording: none of per_run.csv, reports.csv,")


def test_a_path_that_stands_for_nothing_is_refused_before_anything_is_checked(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    for path, message in (
        (tmp_path, "no recording: none of per_run.csv"),
        (tmp_path / "gone", "no such folder"),
        (RECORDINGS / "README.md", "is a file; a recording is a folder"),
    ):
        with pytest.raises(InputError, match=f"^{path}: {message}"):
            check_recordings([RECORDINGS / "idle_d0", path], said.append)
    assert said == []


# ---- words ----


def test_figures_in_words() -> None:
    assert figure_text({"exact": 15_051, "total": 15_053, "not_checked": 203}) == (
        "15,051 of 15,053 exact, 203 not checked"
    )
    assert figure_text({"exact": 0, "total": 0, "not_checked": 3}) == (
        "none checked, 3 not checked"
    )
    assert figure_text({"within_wheel": 2, "total": 2, "not_checked": 0}) == (
        "2 of 2 within the timer wheel"
    )
    assert figure_text({"late_us": [8_000, 31_000], "median": 3}) == (
        "late 8,000 to 31,000 µs, 3 median"
    )
    assert figure_text({"to_the_tick": {"exact": 7, "total": 7}}) == "7 of 7 to the very tick"
    assert figure_text({"to_the_tick": {"exact": 0, "total": 0}}) == ""
    assert figure_text(None) == "-"


def document(**changes: object) -> dict[str, object]:
    return {
        "path": "a/b",
        "kind": "trace",
        "kernel": "6.1",
        "allocations": {"exact": 2, "total": 3, "not_checked": 0},
        "holds": False,
        "demands": [{"text": "all of it", "holds": False}],
        "divergences": [
            {"where": f"t:{n}", "expected": "1", "got": "2", "doing": "a refill"} for n in range(5)
        ],
        "not_checked": [{"what": "frees", "where": "t:9", "reason": "no zone", "number": 4}],
        "faults": [],
        "notes": ["by hand"],
        **changes,
    }


def test_a_recording_in_words() -> None:
    assert list(recording_lines(document())) == [
        "a/b: trace, kernel 6.1: 1 of 1 demands broken",
        "  allocations  2 of 3 exact",
        "  does not hold: all of it",
        *(
            line
            for n in range(3)
            for line in (
                f"  differs at t:{n}",
                "    recorded  1",
                "    predicted 2",
                "    there: a refill",
            )
        ),
        "  and 2 more places, with --json",
        "  not checked: 4 frees, t:9: no zone",
        "  note: by hand",
    ]


def test_a_table_in_words() -> None:
    rows = [{"table": "A", "window_ms": 500, "consistent": True}, {"table": "C", "window_ms": 0}]
    rows[1]["consistent"] = False
    lines = list(recording_lines(document(kind="oom", allocations={}, oom=rows, divergences=[])))
    assert lines[1:5] == [
        "  oom",
        "    table  window (ms)  consistent",
        "    A      500          yes",
        "    C      0            no",
    ]


def test_the_answer_comes_last() -> None:
    good = document(demands=[{"text": "x", "holds": True}], divergences=[])
    assert closing_line([good]) == "1 recording: all 1 demands hold"
    assert closing_line([good, document()]) == "2 recordings: 1 of 2 demands broken"
    faulty = document(demands=[], faults=[{"place": "t:1", "message": "cut off"}])
    assert closing_line([faulty]) == "1 recording: nothing could be checked; 1 with faults"
    lines = list(report_lines([faulty]))
    assert "  fault: t:1: cut off" in lines
    assert lines[0] == "a/b: trace, kernel 6.1: the recording has faults"
    assert lines[-1] == closing_line([faulty])

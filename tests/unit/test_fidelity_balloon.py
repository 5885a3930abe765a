"""Recordings of the real balloon: what is checked, what is not, and what breaks the rules."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pagesoak.study.fidelity_balloon import check_balloon
from pagesoak.study.fidelity_result import CheckResult
from pagesoak.study.pass_rules import broken_rules
from pagesoak.study.pass_trace import TracedCall, TracedPass
from tests.treefiles import ROOT

RECORDINGS = ROOT / "tests" / "recordings"
IDLE = "bal_idle"
KILLING = "realballoon/slow_s1"
PAGE = 0xFFD4000000000000


def figures(result: CheckResult) -> dict[str, Any]:
    return dict(result.figures)


def copy_of(tmp_path: Path, name: str) -> Path:
    """A copy of a recording, to be harmed."""
    folder = tmp_path / "copy"
    shutil.copytree(RECORDINGS / name, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def change_trace(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of a trace; its heading no longer promises a number of events."""
    path = folder / "trace.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines = [line for line in lines if not line.startswith("# entries-in")]
    changed = change(list(lines))
    assert changed != lines
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in changed).encode(), mtime=0))


# ---- as recorded ----


def test_an_idle_guest_is_exact() -> None:
    result = check_balloon(RECORDINGS / IDLE)
    found = figures(result)
    assert found["scatterlists"] == {"exact": 4, "total": 4, "not_checked": 0}
    assert found["passes"] == {"predicted": 2, "recorded": 2}
    assert "free_pages" not in found
    assert found["calls_by_rule"] == {"kept": 4, "total": 4, "not_checked": 0}
    starts = found["pass_starts"]
    assert (starts["within_wheel"], starts["total"], starts["not_checked"]) == (1, 1, 1)
    assert [left_out.what for left_out in result.not_checked] == ["start of pass 1"]
    assert len(result.demands) == 3
    assert all(demand.holds for demand in result.demands)
    assert result.faults == ()


@pytest.mark.parametrize(
    ("name", "calls", "passes"), [("realballoon/asis_s1", 17, 18), (KILLING, 11, 16)]
)
def test_under_load_the_rules_and_the_starts_are_checked(
    name: str, calls: int, passes: int
) -> None:
    result = check_balloon(RECORDINGS / name)
    found = figures(result)
    assert found["calls_by_rule"]["kept"] == found["calls_by_rule"]["total"] == calls
    assert found["scatterlists"]["total"] == 0
    assert found["scatterlists"]["not_checked"] >= calls
    starts = found["pass_starts"]
    assert (starts["within_wheel"], starts["total"]) == (passes, passes)
    assert starts["to_the_tick"] == {"exact": passes, "total": passes}
    reasons = [left_out.reason for left_out in result.not_checked]
    assert "a load ran, and what it allocated and freed is not in the trace" in reasons
    assert all(demand.holds for demand in result.demands)


def test_the_table_stands_in_for_a_trace_that_is_missing(tmp_path: Path) -> None:
    folder = copy_of(tmp_path, IDLE)
    (folder / "trace.txt.gz").unlink()
    result = check_balloon(folder)
    assert figures(result)["scatterlists"] == {"exact": 4, "total": 4, "not_checked": 0}
    assert [str(fault) for fault in result.faults] == [f"{folder / 'trace.txt'}: is missing"]


# ---- what is wrong with a recording ----


def test_a_trace_that_is_cut_off_counts_for_what_it_holds(tmp_path: Path) -> None:
    folder = copy_of(tmp_path, IDLE)
    path = folder / "trace.txt.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    cut = text.index("report_ret", text.index(" 11.4")) + 8
    path.write_bytes(gzip.compress(text[:cut].encode(), mtime=0))
    result = check_balloon(folder)
    assert figures(result)["scatterlists"] == {"exact": 2, "total": 2, "not_checked": 1}
    assert figures(result)["calls_by_rule"] == {"kept": 2, "total": 2, "not_checked": 1}
    line = text[:cut].count("\n") + 1
    (fault,) = result.faults
    assert fault.place == f"{path}:{line}"
    assert "cut off" in fault.message


def test_lost_events_are_named_and_their_pass_is_not_checked(tmp_path: Path) -> None:
    folder = copy_of(tmp_path, IDLE)

    def lose(lines: list[str]) -> list[str]:
        at = next(n for n, line in enumerate(lines) if " 9.412" in line and "isolate:" in line)
        return [*lines[:at], "CPU:0 [LOST 7 EVENTS]", *lines[at + 7 :]]

    change_trace(folder, lose)
    result = check_balloon(folder)
    found = figures(result)
    assert found["scatterlists"] == {"exact": 2, "total": 2, "not_checked": 2}
    assert found["pass_starts"]["total"] == 0
    assert any(fault.message == "7 events were lost" for fault in result.faults)
    assert any("contradicts the trace" in fault.message for fault in result.faults)


def test_a_table_that_says_something_else_than_the_trace(tmp_path: Path) -> None:
    folder = copy_of(tmp_path, IDLE)
    path = folder / "reporting.csv"
    path.write_text(path.read_text().replace("6200/9 5a00/9", "5a00/9 6200/9"))
    (fault,) = check_balloon(folder).faults
    assert fault.place == f"{path}:2"
    assert fault.message.startswith("contradicts the trace (")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((",31744,", ",31745,"), "pages is 31745, the blocks have another number"),
        (("6200/9", "6201/9"), "'6201/9' is no block"),
        (("1,9.408465,1,", "1,9.408465,1,,"), "expected 12 fields, found 13"),
        (("1,9.408465", "x,9.408465"), "pass: 'x' is not a whole number"),
    ],
)
def test_a_line_of_the_table_that_cannot_be(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    folder = copy_of(tmp_path, IDLE)
    (folder / "trace.txt.gz").unlink()
    path = folder / "reporting.csv"
    path.write_text(path.read_text().replace(*change, 1))
    faults = [str(fault) for fault in check_balloon(folder).faults]
    assert any(fault.startswith(f"{path}:2: {message}") for fault in faults)


def test_an_unknown_kernel_leaves_the_starts(tmp_path: Path) -> None:
    folder = copy_of(tmp_path, IDLE)
    path = folder / "meta.txt"
    path.write_text(path.read_text().replace("6.1.0-56-amd64", "4.19.0").replace("6.1.192", "x"))
    result = check_balloon(folder)
    found = figures(result)
    assert found["scatterlists"] == {"exact": 0, "total": 0, "not_checked": 4}
    assert found["pass_starts"]["not_checked"] == 2
    assert any("4.19 is not modelled" in fault.message for fault in result.faults)


# ---- what no kernel does ----


def test_blocks_reported_in_another_order_than_predicted(tmp_path: Path) -> None:
    folder = copy_of(tmp_path, IDLE)
    (folder / "reporting.csv").unlink()
    first, second = (f"page={PAGE + pfn * 64:#x}" for pfn in (0x9000, 0x9400))

    def swap(lines: list[str]) -> list[str]:
        return [
            line.replace(first, "page=x").replace(second, first).replace("page=x", second)
            for line in lines
        ]

    change_trace(folder, swap)
    result = check_balloon(folder)
    assert figures(result)["scatterlists"] == {"exact": 3, "total": 4, "not_checked": 0}
    (divergence,) = result.divergences
    assert divergence.expected.endswith("is 9000/10")
    assert divergence.got.endswith("is 9400/10")


def block(pfn: int, order: int) -> tuple[int, int]:
    return pfn, order


def call_of(*isolated: tuple[int, int], at_ns: int = 10, **changes: Any) -> TracedCall:
    call = TracedCall(
        line=1,
        isolated=list(isolated),
        isolated_ns=at_ns,
        start_ns=at_ns + 1,
        end_ns=at_ns + 2,
        entries=len(isolated),
        put_back=list(reversed(isolated)),
        put_back_ns=at_ns + 3,
    )
    for name, value in changes.items():
        setattr(call, name, value)
    return call


def pass_of(*calls: TracedCall) -> TracedPass:
    return TracedPass(1, 1, 0, 1_000, list(calls))


FULL = [block(n << 10, 10) for n in range(1, 33)]
A, B = block(0x1000, 9), block(0x2000, 10)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (pass_of(call_of(A, B, entries=3)), "3 entries were reported, 2 blocks isolated"),
        (pass_of(call_of(*FULL, block(0x20000, 10))), "a scatterlist of 33 entries"),
        (pass_of(call_of(B, B)), "a block was isolated twice"),
        (pass_of(call_of(B, A)), "orders do not ascend"),
        (pass_of(call_of(block(0x80, 7), A)), "a block below page_reporting_order 9"),
        (pass_of(call_of(A, B, put_back=[A, B])), "blocks do not come back in scatterlist order"),
        (pass_of(call_of(A, B, put_back=[])), "blocks do not come back"),
    ],
)
def test_a_call_that_breaks_a_rule(made: TracedPass, complaint: str) -> None:
    assert broken_rules(made, 9, None) == [[complaint]]


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        (call_of(A, at_ns=20), "it goes back to an earlier zone or order"),
        (call_of(block(0x40000, 10), at_ns=11), "blocks were isolated while another call was"),
    ],
)
def test_a_call_that_cannot_follow(second: TracedCall, complaint: str) -> None:
    first, after = broken_rules(pass_of(call_of(*FULL), second), 9, None)
    assert first == []
    assert len(after) == 1
    assert after[0].startswith(complaint)


def test_a_call_after_one_that_was_not_full_or_failed() -> None:
    other = block(0x40000, 10)
    assert broken_rules(pass_of(call_of(A), call_of(other, at_ns=20)), 9, None) == [
        [],
        ["the call before it was not full, and its zone had more"],
    ]
    failed = call_of(*FULL, error=5)
    assert broken_rules(pass_of(failed, call_of(other, at_ns=20)), 9, None) == [
        [],
        ["the call before it failed: the pass should have ended"],
    ]


def test_a_pass_that_keeps_the_rules() -> None:
    made = pass_of(call_of(*FULL), call_of(block(0x40000, 10), at_ns=20))
    assert broken_rules(made, 9, None) == [[], []]

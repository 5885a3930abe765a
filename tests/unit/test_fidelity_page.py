"""The findings as a page."""

import os
from typing import Any

from pagesoak.study.fidelity_page import page_text

ARGUMENTS = ["tests/recordings", "--document", "docs/fidelity.md"]


def found(path: str, kind: str = "trace", **changes: Any) -> dict[str, Any]:
    return {
        "path": path,
        "kind": kind,
        "kernel": "6.1",
        "holds": True,
        "demands": [{"text": "all exact", "holds": True}],
        "divergences": [],
        "not_checked": [],
        "faults": [],
        "notes": [],
        "allocations": {"exact": 2, "total": 3, "not_checked": 1},
        **changes,
    }


def lines_of(*documents: dict[str, Any]) -> list[str]:
    text = page_text(documents, ARGUMENTS)
    assert text.endswith(".\n")
    return text.splitlines()


def test_how_it_was_made_and_the_answer_stand_first() -> None:
    lines = lines_of(found("recordings/w1"))
    assert lines[0] == "# How far the model predicts a real kernel"
    assert "    pagesoak fidelity tests/recordings --document docs/fidelity.md" in lines
    assert "1 recording: all 1 demands hold." in lines
    assert "| w1 | trace | 6.1 | holds |" in lines


def test_one_column_for_each_recording_of_a_kind() -> None:
    broken = found("r/x/w2", demands=[{"text": "all exact", "holds": False}])
    lines = lines_of(found("r/w1"), broken, found("r/idle", "timeline", allocations={}))
    assert "## Workload traces" in lines
    assert "## Timelines of an idle guest" in lines
    assert "## The real balloon" not in lines
    assert "|  | w1 | x/w2 |" in lines
    cell = "2 of 3 exact, 1 not checked"
    assert f"| allocations | {cell} | {cell} |" in lines
    assert "| all exact | **holds** | **does not hold** |" in lines
    assert "| x/w2 | trace | 6.1 | 1 of 1 demands broken |" in lines


def test_a_table_among_the_figures_is_a_table_of_its_own() -> None:
    rows = [{"table": "A", "window_ms": 500, "low": 12, "consistent": True}]
    lines = lines_of(found("oom", "oom", allocations={}, oom=rows))
    at = lines.index("| table | window (ms) | low | consistent |")
    assert lines[at + 2] == "| A | 500 | 12 | yes |"
    assert lines[at - 2] == "oom, oom:"


def test_remarks_that_are_alike_stand_together() -> None:
    note = "after a miss the model goes on"
    divergence = {"where": "r/w1/t.gz:9", "expected": "a", "got": "b", "doing": "a fork"}
    left_out = {"what": "calls", "where": "r/w1/t.gz:9", "reason": "no events", "number": 12}
    fault = {"place": "r/w2/t.gz:7", "message": "cut off"}
    lines = lines_of(
        found("r/w1", notes=[note], divergences=[divergence], not_checked=[left_out]),
        found("r/w2", notes=[note], faults=[fault]),
    )
    assert f"- w1, w2: {note}" in lines
    assert "- w1: difference at `t.gz:9`: recorded a, predicted b; a fork" in lines
    assert "- w1: not checked: 12 calls: no events" in lines
    assert "- w2: fault at `t.gz:7`: cut off" in lines
    assert "2 recordings: all 2 demands hold; 1 with faults." in lines


def test_paths_of_two_kinds_are_left_whole() -> None:
    lines = lines_of(found("r/w1"), found(f"{os.sep}x{os.sep}w2"))
    assert "| r/w1 | trace | 6.1 | holds |" in lines
    assert "| /x/w2 | trace | 6.1 | holds |" in lines


def test_a_kind_that_is_not_known_yet() -> None:
    assert "## Other recordings" in lines_of(found("r/w1", "unknown", kernel=""))

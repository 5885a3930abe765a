"""What the command line says to people: the headline, which rows are there, the failures, and how
it lies on pages of different widths.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pagesoak.allocator import gfp
from pagesoak.base.scenario import find_scenario, load_scenario
from pagesoak.base.statistics import CAUSES
from pagesoak.cli import scenarios
from pagesoak.cli.common import print_summary
from pagesoak.cli.failures import SHOWN_MAX, failure_lines
from pagesoak.cli.run import explained_by
from pagesoak.cli.summary_text import headline, summary_lines, summary_rows, verdict_words

STARTED_NS = 1_000_000_000_000
LIMIT_OOM = "oom_events_isolated_max = 0, found 13"
ISOLATED = "because pages were isolated"
FRAGMENTED = "because memory was fragmented"
EXHAUSTED = "because memory was exhausted"

SUMMARY: dict[str, Any] = {
    "verdict": "pass",
    "interrupted": False,
    "reason": None,
    "limits_broken": [],
    "scenario": "seed-512m",
    "policy": "mainline",
    "started_monotonic_ns": STARTED_NS,
    "directory": "somewhere/pagesoak-results/20260314T150926Z-seed-512m-mainline-1",
    "guest": {"memory_bytes": 1 << 29, "managed_pages": 126_000, "cpus": 1, "touch": True},
    "alloc_requests": 1_234_567,
    "frees": 1,
    "alloc_failures": {"isolated": 0, "fragmented": 0, "exhausted": 0},
    "fallbacks": 1_000,
    "oom_events": {"isolated": 0, "fragmented": 0, "exhausted": 0},
    "bursts": {"run": 34, "killed": 0},
    "oom_waits": {"count": 0, "seconds": 0.0},
    "reporter_waits": 0,
    "unseen_demands": 0,
    "replay": {"requests": 0, "made": 0},
    "free_pages_min": 5_120,
    "isolated_pages_max": 31_744,
    "watermark_margin_pages_min": {"min": 1_623, "low": 1, "high": -1_337},
    "report_calls": 7,
    "reported_pages": 512_000,
    "punched_bytes": 1_500 << 20,
    "window_seconds": {"count": 1_234, "p50": 0.0065, "p99": 1.5, "max": 2.0},
    "integrity": {"pages_verified": 65_020, "violations": 0},
    "audits": {"run": 61, "failed": 0},
    "zones": [
        {"zone": "DMA", "managed_pages": 3_840},
        {"zone": "DMA32", "managed_pages": 122_160},
    ],
}
FAILED = SUMMARY | {
    "verdict": "fail",
    "limits_broken": [LIMIT_OOM],
    "oom_events": {"isolated": 13, "fragmented": 0, "exhausted": 0},
    "bursts": {"run": 34, "killed": 13},
}


def row(summary: dict[str, Any], label: str) -> str | None:
    return dict(summary_rows(summary)).get(label)


# ---- the headline ----


def test_the_headline_of_a_failure_says_who_was_killed_and_why() -> None:
    assert headline(FAILED) == (
        "seed-512m, policy mainline: FAIL - 13 of 34 bursts killed because pages were isolated"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "pass"),
        ({"report_calls": 0}, "pass (nothing was reported)"),
        ({"report_calls": 0, "policy": "off"}, "pass"),
        ({"interrupted": True}, "pass (interrupted)"),
        ({"interrupted": True, "report_calls": 0}, "pass (nothing was reported, interrupted)"),
        ({"verdict": "broken", "reason": "zone 1 is dead"}, "BROKEN - zone 1 is dead"),
    ],
)
def test_a_verdict_that_is_no_failure(changes: dict[str, Any], words: str) -> None:
    assert verdict_words(SUMMARY | changes) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"oom_events": {"isolated": 10, "fragmented": 1, "exhausted": 2}},
            f"13 of 34 bursts killed: 10 {ISOLATED}, 1 {FRAGMENTED}, 2 {EXHAUSTED}",
        ),
        (
            {"bursts": {"run": 0, "killed": 0}},
            "13 OOM kills because pages were isolated",
        ),
        (
            {
                "limits_broken": ["alloc_failures_isolated_max = 0, found 1500"],
                "alloc_failures": {"isolated": 1_500, "fragmented": 3, "exhausted": 0},
            },
            "1,500 allocations failed because pages were isolated",
        ),
        (
            {
                "limits_broken": [LIMIT_OOM, "watermark_margin_min_pages = 0, found -26"],
                "watermark_margin_pages_min": {"min": -26, "low": -195, "high": -364},
            },
            "13 of 34 bursts killed because pages were isolated; 26 pages below the min watermark",
        ),
        (
            {
                "limits_broken": ["watermark_margin_min_pages = 5, found 1"],
                "watermark_margin_pages_min": {"min": 1, "low": -1, "high": -2},
            },
            "1 page above the min watermark",
        ),
        (
            {"interrupted": True},
            "13 of 34 bursts killed because pages were isolated (interrupted)",
        ),
        ({"limits_broken": ["a_new_limit = 1, found 2"]}, "a_new_limit = 1, found 2"),
    ],
)
def test_a_failure_gives_the_figures_that_break_the_limits(
    changes: dict[str, Any], words: str
) -> None:
    assert verdict_words(FAILED | changes) == f"FAIL - {words}"


# ---- the rows ----


def test_numbers_have_commas_and_nouns_their_number() -> None:
    assert row(SUMMARY, "requests") == "1,234,567 allocations, 1 free"
    assert row(SUMMARY, "failed allocations") == (
        "0 isolated, 0 fragmented, 0 exhausted; 1,000 fell back"
    )
    assert row(SUMMARY, "lowest free (all zones)") == "5,120 pages (20 MiB)"
    assert row(SUMMARY, "reported") == "2,000 MiB in 7 calls, 1,500 MiB given back to the host"
    assert row(SUMMARY, "report window") == (
        "1,234 windows, median 6.5 ms, 99 % at most 1,500.0 ms, longest 2,000.0 ms"
    )
    assert row(SUMMARY, "bursts") == "34, of which 0 killed"


def test_margins_are_in_words_and_name_the_largest_zone() -> None:
    assert row(SUMMARY, "closest to the watermarks") == (
        "1,623 pages above min, 1 above low, 1,337 below high (zone DMA32)"
    )


def test_what_a_floor_did_has_a_row_of_its_own() -> None:
    waited = SUMMARY | {"reporter_waits": 3, "unseen_demands": 1}
    said = "3 waits for more free pages; 1 window in which more was taken than was left for it"
    assert row(waited, "left alone") == said
    waited = SUMMARY | {"oom_waits": {"count": 2, "seconds": 0.25}}
    assert row(waited, "waited for a window") == "2 requests, 0.2 s in all"


def test_faults_on_purpose_are_in_the_verdict_and_have_a_row() -> None:
    faults = {"kill-guest": 1_200, "host-slow": 0, "host-error": 3}
    assert verdict_words(SUMMARY | {"faults": faults}) == "pass (with 1,203 faults on purpose)"
    assert (
        row(SUMMARY | {"faults": faults}, "faults on purpose") == "1,200 kill-guest, 3 host-error"
    )
    assert row(SUMMARY | {"faults": dict.fromkeys(faults, 0)}, "faults on purpose") is None


def test_workers_that_were_replaced_have_a_row_and_so_has_what_that_cost() -> None:
    replaced = SUMMARY | {"restarts": {"guest": 2, "reporter": 0, "host": 1}, "epochs": 1}
    assert row(replaced, "replaced") == "2 guest CPUs, 1 host"
    again = replaced | {"epochs": 3}
    assert row(again, "replaced").endswith("1 host; epoch 3, the limits hold for it alone")
    none = SUMMARY | {"restarts": dict.fromkeys(("guest", "reporter", "host"), 0), "epochs": 1}
    assert "replaced" not in {label for label, _ in summary_rows(none)}


def test_rows_without_content_are_left_out() -> None:
    quiet = SUMMARY | {
        "bursts": {"run": 0, "killed": 0},
        "window_seconds": {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0},
        "report_calls": 0,
    }
    labels = {label for label, _ in summary_rows(quiet)}
    assert {label for label, _ in summary_rows(SUMMARY)} - labels == {"bursts", "report window"}
    assert row(quiet, "reported") == "nothing"


def test_without_a_reporting_device_one_row_says_so() -> None:
    off = SUMMARY | {"policy": "off", "report_calls": 0}
    assert row(off, "reported") == "nothing (no reporting device)"
    assert row(off, "most isolated") is None
    assert row(off, "report window") is None


def test_on_metadata_alone_nothing_is_said_to_be_checked_or_given_back() -> None:
    untouched = SUMMARY | {"guest": SUMMARY["guest"] | {"touch": False}, "punched_bytes": 0}
    assert row(untouched, "integrity") == "not checked (touch = false)"
    assert row(untouched, "reported") == (
        "2,000 MiB in 7 calls, nothing given back (touch = false)"
    )
    assert row(SUMMARY, "integrity") == "65,020 page contents verified, 0 violations"


# ---- the failures ----


def write_failures(directory: Path, events: Sequence[tuple[str, float, str]]) -> None:
    """Events of a kind, at a second of the soak's clock, for a cause; another kind between."""
    with (directory / "events.jsonl").open("w") as out:
        for kind, second, cause in events:
            time_ns = STARTED_NS + round(second * 1e9)
            common = {"monotonic_ns": time_ns, "worker": 0}
            out.write(json.dumps(common | {"kind": "burst-begin", "load": 0}) + "\n")
            words = {
                "order": 0,
                "gfp": gfp.USER_MOVABLE,
                "cause": CAUSES.index(cause),
                "free_pages": 1_140,
                "isolated_pages": 31_744,
            }
            out.write(json.dumps(common | {"kind": kind} | words) + "\n")


def test_a_failure_is_told_by_the_soaks_clock(tmp_path: Path) -> None:
    write_failures(
        tmp_path,
        [
            ("oom", -0.5, "isolated"),
            ("oom", 4.54, "isolated"),
            ("allocation-failed", 1234.5, "exhausted"),
        ],
    )
    asked = "order 0 GFP_HIGHUSER_MOVABLE, 1,140 pages free, 31,744 isolated"
    assert failure_lines(tmp_path, STARTED_NS) == [
        f"before the start  killed because pages were isolated: {asked}",
        f"at   4.54 s  killed because pages were isolated: {asked}",
        f"at 1,234.50 s  failed because memory was exhausted: {asked}",
    ]
    never_started = failure_lines(tmp_path, None)
    assert [line.partition("  ")[0] for line in never_started] == ["before the start"] * 3


def test_isolated_failures_come_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    others = [("oom", float(second), "fragmented") for second in range(1_500)]
    write_failures(tmp_path, [*others, *[("oom", 2_000.0 + i, "isolated") for i in range(3)]])
    lines = failure_lines(tmp_path, STARTED_NS)
    assert len(lines) == SHOWN_MAX + 1
    assert ["isolated:" in line for line in lines[:SHOWN_MAX]] == [True] * 3 + [False] * 5
    assert lines[3].startswith("at   0.00 s  killed because memory was fragmented")
    assert lines[-1] == "and 1,495 more, in events.jsonl"


def test_a_run_without_events_has_no_failures(tmp_path: Path) -> None:
    assert failure_lines(tmp_path, STARTED_NS) == []


# ---- on the page ----

LONG = "at   4.54 s  killed because pages were isolated: order 0 GFP_HIGHUSER_MOVABLE, 1 page free"


class Terminal(io.StringIO):
    """A file that calls itself a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.mark.parametrize("width", [30, 48, 63, 64, 80, 160])
def test_on_a_terminal_nothing_but_the_path_is_wider_than_the_terminal(width: int) -> None:
    *lines, last = summary_lines(FAILED, [LONG], width)
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    assert last.endswith("  " + FAILED["directory"])


def test_a_narrow_terminal_has_the_labels_above_what_they_name() -> None:
    narrow, wide = summary_lines(FAILED, [], 48), summary_lines(FAILED, [], 80)
    assert narrow[:2] == ["requests", "  1,234,567 allocations, 1 free"]
    assert wide[0].split("  ")[0] == "requests"
    assert wide[0].endswith("  1,234,567 allocations, 1 free")


def printed(summary: dict[str, Any], capsys: pytest.CaptureFixture[str], **console: Any) -> str:
    print_summary(summary, Console(**console))
    return capsys.readouterr().out


def test_a_pipe_gets_whole_lines_without_trailing_blanks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_failures(tmp_path, [("oom", 4.54, "isolated")])
    text = printed(FAILED | {"directory": str(tmp_path)}, capsys, width=30)
    lines = text.splitlines()
    assert lines[0] == headline(FAILED)
    assert lines[1].split("  ")[0] == "requests"
    assert len(lines) == 1 + len(summary_rows(FAILED)) + 1 + 1  # a failure, and the place
    assert lines[-2].endswith("GFP_HIGHUSER_MOVABLE, 1,140 pages free, 31,744 isolated")
    assert lines[-1].split() == ["results", str(tmp_path)]
    assert all(line == line.rstrip() for line in lines)


def test_a_terminal_gets_the_headline_folded(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(FAILED, capsys, width=40, file=Terminal(), color_system=None)
    lines = text.splitlines()
    assert lines[:3] == [
        "seed-512m, policy mainline: FAIL - 13 of",
        "34 bursts killed because pages were",
        "isolated",
    ]
    assert max(map(len, lines[:-1])) <= 40


# ---- the list of scenarios ----

ROWS = [
    ("idle-512m", "512MiB, 1 vCPU", "mainline", "idle", "10s", "A guest that only reports"),
    ("two", "recording w2, 2 vCPUs", "off", "replay+idle", "1m30s", "Two " + "words " * 20),
]


def test_a_recorded_guest_is_named_by_its_recording() -> None:
    recorded = load_scenario(find_scenario("recorded-w2"))
    assert "recording w2, 1 vCPU" in scenarios.row(recorded)


def test_a_narrow_list_has_two_lines_for_a_scenario() -> None:
    lines = scenarios.stacked(ROWS, 48)
    assert lines[:3] == ["idle-512m  10s", "  A guest that only reports", "two  1m30s"]
    assert max(map(len, lines)) <= 48
    assert all(line.startswith("  words") for line in lines[4:])


def test_a_list_with_a_little_more_room_keeps_the_other_columns() -> None:
    lines = scenarios.stacked(ROWS, 80)
    assert lines[0].split() == ["idle-512m", "512MiB,", "1", "vCPU", "mainline", "idle", "10s"]
    assert lines[1] == "  A guest that only reports"
    assert max(map(len, lines)) <= 80


def test_a_replay_that_ran_out_of_time_is_said_to_be_incomplete() -> None:
    rows = dict(summary_rows(SUMMARY | {"replay": {"requests": 1000, "made": 10}}))
    assert rows["replay"] == "incomplete: 10 of 1,000 requests made"
    assert "replay" not in dict(summary_rows(SUMMARY))


# ---- where the story is ----


@pytest.mark.parametrize("counts", ["oom_events", "alloc_failures"])
def test_a_run_in_which_a_request_got_nothing_points_to_its_story(counts: str) -> None:
    summary = SUMMARY | {counts: {"isolated": 0, "fragmented": 0, "exhausted": 1}}
    assert list(explained_by(summary)) == [
        f"how it came about: pagesoak explain {SUMMARY['directory']}\n"
    ]


def test_a_run_without_a_failure_points_to_no_story() -> None:
    assert list(explained_by(SUMMARY)) == []

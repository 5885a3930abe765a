"""What must never happen to a page, done to it in a live run: each time the run is broken, and its
evidence names the page.

Some crimes are a host's or a reporter's that does its work wrongly: Python that is run in the
program before it starts. Others come from outside, through the run's memory as the test has it
mapped.
"""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pagesoak.allocator.stamp import STAMP_MAGIC
from pagesoak.base import layout
from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    Finished,
    LiveRun,
    await_true,
    compile_core,
    run_scenario_text,
    scenario_text,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

PAGE_BYTES = 4096
NOT_ZERO, OTHER_STAMP, NOT_TAKEN = 1, 2, 3
"""What a violation's `breach` says."""
ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}
BURSTS = {
    "kind": "bursts", "leave_free": "20MiB", "burst": "12MiB", "think": "10ms", "hold": "5ms",
}  # fmt: skip
BUSY = scenario_text([BURSTS], memory="64MiB", duration="5s", limits=ANY_OUTCOME)
"""Most of memory is in use, and what is free is taken, reported and punched again and again."""
QUIET = scenario_text(duration="5s", reporting={"delay": "1h"})
"""Nothing happens: whoever changes something is found."""


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


def assert_broken(finished: Finished) -> dict[str, Any]:
    """The run ended as broken, before its time, with evidence; its summary."""
    summary = finished.summary
    assert finished.code == 3, summary
    assert summary["verdict"] == "broken"
    assert summary["tainted_epochs"] == 1
    assert summary["limits_broken"] == []
    evidence = finished.directory / "evidence"
    assert (evidence / "message.txt").read_text() == summary["reason"] + "\n"
    with gzip.open(evidence / "segment.bin.gz") as segment:
        assert int.from_bytes(segment.read(8), "little") == layout.MAGIC
    assert (evidence / "events.jsonl").stat().st_size > 0
    return summary


def violations(finished: Finished) -> list[dict[str, Any]]:
    """The violations of a broken run, which both files of events must have."""
    found = finished.events("violation")
    lines = (finished.directory / "evidence" / "events.jsonl").read_text().splitlines()
    kept = [event for line in lines if (event := json.loads(line))["kind"] == "violation"]
    assert {event["pfn"] for event in kept} == {event["pfn"] for event in found}
    assert found
    assert finished.summary["integrity"]["violations"] >= len(found)
    return found


def pages_kept(finished: Finished) -> dict[int, bytes]:
    """The first bytes of each page that a violation names, by page frame number."""
    lines = (finished.directory / "evidence" / "pages.jsonl").read_text().splitlines()
    return {page["pfn"]: bytes.fromhex(page["bytes"]) for page in map(json.loads, lines)}


# ---- a host that punches wrongly ----

PUNCH = """
from pagesoak.host.ram import GuestRam
honest = GuestRam.punch
def punch(self, first_pfn, pages):
    {body}
GuestRam.punch = punch
"""
WRONG_PUNCHES = {
    "one page too many": ("return honest(self, first_pfn, pages + 1)", {OTHER_STAMP}),
    "one page too early": ("return honest(self, first_pfn - 1, pages)", {NOT_ZERO, OTHER_STAMP}),
    "the buddy": ("return honest(self, first_pfn ^ pages, pages)", {NOT_ZERO, OTHER_STAMP}),
    "only the first half": ("return honest(self, first_pfn, pages // 2)", {NOT_ZERO}),
    "nothing": ("return pages * 4096", {NOT_ZERO}),
    "a request late": (
        """late = self.__dict__.setdefault('late', [])
    late.append((first_pfn, pages))
    return honest(self, *late.pop(0)) if len(late) > 32 else 0""",
        {NOT_ZERO, OTHER_STAMP},
    ),
}


@pytest.mark.parametrize("name", WRONG_PUNCHES)
def test_a_host_that_punches_wrongly_is_found_out(name: str, tmp_path: Path) -> None:
    body, breaches = WRONG_PUNCHES[name]
    finished = run_scenario_text(tmp_path, BUSY, sabotage=PUNCH.format(body=body))
    summary = assert_broken(finished)
    assert "did not hold what they must" in summary["reason"]
    assert summary["duration_seconds"] < 5
    found = violations(finished)
    assert {event["breach"] for event in found} <= breaches
    kept = pages_kept(finished)
    assert kept.keys() <= {event["pfn"] for event in found}
    assert all(len(page) == 64 for page in kept.values())


def test_a_punch_that_the_system_refuses_breaks_the_run(tmp_path: Path) -> None:
    body = "raise OSError(28, 'No space left on device')"
    finished = run_scenario_text(tmp_path, BUSY, sabotage=PUNCH.format(body=body))
    reason = assert_broken(finished)["reason"]
    assert "soak-host" in reason
    assert "cannot punch" in reason
    assert "No space left on device" in reason
    assert (finished.directory / "soak-host.error").read_text().startswith("HarnessError: ")


def test_a_mistake_in_a_worker_breaks_the_run_without_a_traceback(tmp_path: Path) -> None:
    finished = run_scenario_text(tmp_path, BUSY, sabotage=PUNCH.format(body="return {}['gone']"))
    reason = assert_broken(finished)["reason"]
    assert "soak-host" in reason
    assert "KeyError" in reason
    assert finished.messages == []
    lines = (finished.directory / "worker.log.jsonl").read_text().splitlines()
    failed = [record for line in lines if (record := json.loads(line))["event"] == "worker.failed"]
    assert "KeyError" in json.dumps(failed)


# ---- a reporter that reports wrongly ----

SUBMIT = """
import ctypes
from pagesoak.base import layout
from pagesoak.reporter import passes
honest = passes.submit_report
def submit_report(base, reporter, until_ns):
    header = (ctypes.c_int64 * layout.HEADER_WORDS).from_address(base)
    at = base + header[layout.H_OFFSETS + layout.Section.REPORT]
    report = (ctypes.c_int64 * layout.REPORT_WORDS).from_address(at)
    start = report[layout.R_OFFSET]
    entry = layout.R_ENTRIES + start * layout.ENTRY_WORDS
    {body}
    return honest(base, reporter, until_ns)
passes.submit_report = submit_report
"""
WRONG_REPORTS = {
    "a block that is in use": (
        "report[entry + layout.E_PFN] = 1 << 12",
        "the first page is not an isolated block",
    ),
    "a block of another entry": (
        """for word in (layout.E_PFN, layout.E_ORDER, layout.E_PAGES):
        report[entry + word] = report[entry + layout.ENTRY_WORDS + word]""",
        "the block was isolated into another entry",
    ),
    "more pages than isolated": (
        "report[entry + layout.E_PAGES] *= 2",
        "the number of pages is not that of the order",
    ),
    "beyond memory": (
        "report[entry + layout.E_PFN] = 1 << 20",
        "the range is not inside one zone and guest RAM",
    ),
    "no end marker": (
        "report[layout.R_ENTRIES + 31 * layout.ENTRY_WORDS + layout.E_END] = 0",
        "the end marker is not on the last entry",
    ),
}


@pytest.mark.parametrize("name", WRONG_REPORTS)
def test_a_range_that_is_not_isolated_for_its_request_is_not_punched(
    name: str, tmp_path: Path
) -> None:
    body, message = WRONG_REPORTS[name]
    finished = run_scenario_text(tmp_path, BUSY, sabotage=SUBMIT.format(body=body))
    summary = assert_broken(finished)
    assert message in summary["reason"]
    assert "soak-host" in summary["reason"]
    assert summary["integrity"]["violations"] >= 1
    breaches = finished.events("ledger-breach")
    assert [event["request"] for event in breaches] == [1]
    named = {event["pfn"] for event in breaches}
    punched = {event["pfn"] for event in finished.events("host-punched")}
    assert not named & punched or name == "a block of another entry"


# ---- memory that somebody else writes to ----


def stamped_pages(run: LiveRun) -> list[int]:
    """Pages that carry a stamp now."""
    states = run.segment.pages[layout.STATE : run.segment.plan.max_pfn * layout.PAGE_WORDS]
    return [
        pfn for pfn, state in enumerate(states[:: layout.PAGE_WORDS]) if state & layout.STAMPED
    ]


def test_a_stamp_that_is_overwritten_is_found_at_the_end_at_the_latest(tmp_path: Path) -> None:
    """The hog keeps its pages up to the end of the run, where each is verified."""
    text = scenario_text([BURSTS | {"think": "1h"}], memory="64MiB", duration="700ms")
    with LiveRun(tmp_path, text) as run:
        run.await_started()
        pages = stamped_pages(run)
        assert len(pages) > 5000
        pfn = random.Random(1).choice(pages)  # noqa: S311 - any page will do
        at = pfn * PAGE_BYTES
        with run.guest_ram() as ram:
            stamp = bytes(ram[at : at + 16])
            ram[at + 8] ^= 1
        assert int.from_bytes(stamp[:8], "little") == STAMP_MAGIC << 32 | pfn
        finished = run.finish()
    assert_broken(finished)
    (found,) = violations(finished)
    assert (found["pfn"], found["breach"]) == (pfn, OTHER_STAMP)
    assert found["expected"] ^ found["found"] == 1
    (kept,) = pages_kept(finished).items()
    assert kept[0] == pfn
    assert kept[1][:16] == stamp[:8] + bytes([stamp[8] ^ 1]) + stamp[9:]


def test_the_last_byte_of_a_page_that_must_be_zero_is_looked_at(tmp_path: Path) -> None:
    """Pages nobody has touched yet, below what the bursts take."""
    with LiveRun(tmp_path, BUSY) as run:
        run.await_started()
        stamped = set(stamped_pages(run))
        clean = [pfn for pfn in range(4096, run.segment.plan.max_pfn) if pfn not in stamped]
        assert len(clean) > 1000
        with run.guest_ram() as ram:
            for pfn in clean:
                ram[(pfn + 1) * PAGE_BYTES - 1] = 1
        finished = run.finish()
    assert_broken(finished)
    found = violations(finished)
    assert {event["breach"] for event in found} == {NOT_ZERO}
    assert {event["pfn"] for event in found} <= set(clean)


def test_a_page_that_is_somebody_elses_when_it_is_freed(tmp_path: Path) -> None:
    """The records of all blocks that the burst holds change hands; it gives them back."""
    load = BURSTS | {"think": "1ms", "hold": "400ms"}
    text = scenario_text([load], memory="64MiB", duration="5s", limits=ANY_OUTCOME)
    with LiveRun(tmp_path, text) as run:
        run.await_started()
        segment = run.segment
        burst = layout.LOAD_WORDS
        pages = 12 << 20 >> 12
        await_true(lambda: segment.loads[burst + layout.L_HELD_PAGES] == pages, "a burst")
        table = segment.loads[burst + layout.L_TABLE]
        for pfn in segment.tables[table : table + 5]:
            segment.pages[pfn * layout.PAGE_WORDS + layout.PREVIOUS] = 77
        finished = run.finish()
    assert_broken(finished)
    found = violations(finished)
    assert [event["breach"] for event in found] == [NOT_TAKEN] * 5
    assert {event["owner"] for event in found} == {77}


# ---- state that somebody else changes ----


def first_free_block(run: LiveRun) -> int:
    """The first page of a free block of zone 1, as the index of its record's first word."""
    pages = run.segment.pages
    zone = layout.ZONE_WORDS
    for pfn in range(run.segment.zones[zone + layout.Z_START_PFN], run.segment.plan.max_pfn):
        if pages[pfn * layout.PAGE_WORDS + layout.STATE] & layout.KIND_MASK == layout.KIND_FREE:
            return pfn * layout.PAGE_WORDS
    raise AssertionError("no free block")


def lose_a_page(run: LiveRun) -> None:
    run.segment.zones[layout.ZONE_WORDS + layout.Z_FREE_PAGES] -= 1


def count_a_block_too_many(run: LiveRun) -> None:
    run.segment.zones[layout.ZONE_WORDS + layout.Z_NR_FREE + 3] += 1


def mark_a_free_block_as_taken(run: LiveRun) -> None:
    at = first_free_block(run) + layout.STATE
    pages = run.segment.pages
    pages[at] = pages[at] & ~layout.KIND_MASK | layout.KIND_ALLOCATED


def isolate_a_block_outside_any_list(run: LiveRun) -> None:
    at = first_free_block(run) + layout.STATE
    pages = run.segment.pages
    pages[at] = pages[at] & ~layout.KIND_MASK | layout.KIND_ISOLATED


def bend_a_link(run: LiveRun) -> None:
    run.segment.pages[first_free_block(run) + layout.PREVIOUS] ^= 1


def shrink_a_block(run: LiveRun) -> None:
    run.segment.pages[first_free_block(run) + layout.STATE] -= 1


def point_a_link_outside(run: LiveRun) -> None:
    run.segment.pages[first_free_block(run) + layout.NEXT] = (1 << 31) - 1


def report_a_block_unasked(run: LiveRun) -> None:
    run.segment.pages[first_free_block(run) + layout.STATE] |= layout.REPORTED


CRIMES: dict[str, tuple[Callable[[LiveRun], None], set[str]]] = {
    "a page is lost": (lose_a_page, {"conservation", "counted"}),
    "a block is counted twice": (count_a_block_too_many, {"list-length"}),
    "a free block is taken": (mark_a_free_block_as_taken, {"list-links", "flags"}),
    "a block is isolated": (isolate_a_block_outside_any_list, {"scatterlist", "list-links"}),
    "a link is bent": (bend_a_link, {"list-links"}),
    "a block shrinks": (shrink_a_block, {"tiling", "list-links"}),
    "a link leads outside": (point_a_link_outside, {"list-links"}),
    "a block is Reported": (report_a_block_unasked, {"counted"}),
}


@pytest.mark.parametrize("name", CRIMES)
def test_an_audit_finds_what_was_changed(name: str, tmp_path: Path) -> None:
    crime, checks = CRIMES[name]
    text = QUIET.replace('"5s"', '"200ms"')
    with LiveRun(tmp_path, text) as run:
        run.await_started()
        crime(run)
        finished = run.finish()
    summary = assert_broken(finished)
    assert summary["reason"].startswith("audit found ")
    assert summary["audits"]["failed"] == 1
    assert any(f"{check}: " in summary["reason"] for check in checks), summary["reason"]


def test_an_audit_in_mid_run_ends_the_run(tmp_path: Path) -> None:
    with LiveRun(tmp_path, QUIET) as run:
        run.await_started()
        lose_a_page(run)
        finished = run.finish()
    summary = assert_broken(finished)
    assert summary["audits"] == summary["audits"] | {"run": 1, "failed": 1}
    assert 0.9 < summary["duration_seconds"] < 4

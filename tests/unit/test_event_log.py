"""The events of a long run: bounded, and with what is around each failure."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagesoak.base.recorder import FIELDS
from pagesoak.engine.event_log import (
    AROUND_SHARE,
    CONTEXT_EVENTS,
    EVENTS_LOST,
    FAILURES,
    FOLLOWING_EVENTS,
    ROUTINE,
    EventLog,
)

ALL_BYTES = 1_000
BYTES_MAX = 400_000


def text(number: int, kind: str, worker: int = 0) -> str:
    """An event as a line."""
    return json.dumps({"monotonic_ns": number, "worker": worker, "kind": kind})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def log(path: Path) -> Iterator[EventLog]:
    made = EventLog(path, all_bytes_max=ALL_BYTES, bytes_max=BYTES_MAX)
    yield made
    made.close()


def tell(log: EventLog, number: int, kind: str = "steal", worker: int = 0) -> None:
    log.append(number, worker, kind, text(number, kind, worker))


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def fill(log: EventLog, path: Path) -> int:
    """Routine events until they are no longer written; how many were."""
    number = 0
    while not path.exists() or path.stat().st_size < ALL_BYTES:
        tell(log, number)
        number += 1
    return number


def test_a_short_run_has_all_its_events_at_once(log: EventLog, path: Path) -> None:
    for number, kind in enumerate(("notify", "oom", "drained")):
        tell(log, number, kind)
        assert told(path)[-1]["kind"] == kind
    assert (log.left_out, log.lost, log.pending) == (0, 0, 0)


def test_a_long_run_writes_routine_events_only_around_what_tells_something(
    log: EventLog, path: Path
) -> None:
    first = fill(log, path)
    for number in range(1000):
        tell(log, first + number, worker=number % 2)
    assert len(told(path)) == first
    assert log.left_out == 1000 - CONTEXT_EVENTS
    failed = first + 1000
    tell(log, failed, "allocation-failed")
    for number in range(1, 200):
        tell(log, failed + number)
    lines = told(path)[first:]
    gaps, rest = lines[:2], lines[2:]
    assert [(gap["worker"], gap["kind"], gap["events"]) for gap in gaps] == [
        (0, EVENTS_LOST, (1000 - CONTEXT_EVENTS) // 2),
        (1, EVENTS_LOST, (1000 - CONTEXT_EVENTS) // 2),
    ]
    assert {gap["monotonic_ns"] for gap in gaps} == {rest[0]["monotonic_ns"]}
    times = [line["monotonic_ns"] for line in rest]
    assert times == list(range(failed - CONTEXT_EVENTS, failed + FOLLOWING_EVENTS + 1))
    assert log.left_out == 1000 - CONTEXT_EVENTS


def test_how_a_long_run_ended_is_written_when_it_does(log: EventLog, path: Path) -> None:
    first = fill(log, path)
    for number in range(CONTEXT_EVENTS):
        tell(log, first + number, "drained")
    log.close()
    assert [line["monotonic_ns"] for line in told(path)] == list(range(first + CONTEXT_EVENTS))
    assert (log.left_out, log.lost, log.pending) == (0, 0, 0)


def test_failures_for_weeks_leave_room_for_what_the_run_does(log: EventLog, path: Path) -> None:
    kinds = ["steal"] * 100 + ["oom", "oom-kill"]
    for number in range(40_000):
        tell(log, number, kinds[number % len(kinds)], number % 3)
    assert path.stat().st_size < BYTES_MAX
    for number in range(40_000, 40_010):
        tell(log, number, "set", 3)
        assert told(path)[-1] == {"monotonic_ns": number, "worker": 3, "kind": "set"}
    tell(log, 40_010, "oom")
    tell(log, 40_011)
    log.close()
    assert path.stat().st_size <= BYTES_MAX
    lines = told(path)
    assert [line["kind"] for line in lines[-2:]] == ["oom", "steal"], "how it ended"
    events = [line for line in lines if line["kind"] != EVENTS_LOST]
    gaps = sum(line["events"] for line in lines if line["kind"] == EVENTS_LOST)
    assert len(events) + gaps == 40_012
    assert (log.left_out, log.lost) == (gaps, 0)
    times = [line["monotonic_ns"] for line in lines]
    assert times == sorted(times)


def test_the_fuller_the_less_is_around_a_failure(log: EventLog, path: Path) -> None:
    fill(log, path)
    number = 0
    while path.stat().st_size < ALL_BYTES + (BYTES_MAX - ALL_BYTES) * AROUND_SHARE:
        tell(log, number, "oom" if number % 1000 == 0 else "steal")
        number += 1
    for _ in range(FOLLOWING_EVENTS):
        tell(log, number)
    tell(log, number, "oom")
    size = path.stat().st_size
    for worker in (0, 1, 1):
        tell(log, number + 1, "steal", worker)
    tell(log, number + 2, "allocation-failed", 2)
    tell(log, number + 3, "oom", 2)
    tell(log, number + 4)
    added = [json.loads(line) for line in path.read_text()[size:].splitlines()]
    assert [(one["worker"], one["kind"], one.get("events")) for one in added[-4:]] == [
        (0, EVENTS_LOST, 1),
        (1, EVENTS_LOST, 2),
        (2, "allocation-failed", None),
        (2, "oom", None),
    ]
    assert len(added) == 4
    assert {one["monotonic_ns"] for one in added[:3]} == {number + 2}


@pytest.mark.parametrize("kind", ["allocation-failed", "violation", "set"])
def test_a_million_failures_do_not_exceed_the_bound(path: Path, kind: str) -> None:
    log = EventLog(path, all_bytes_max=ALL_BYTES, bytes_max=4 * ALL_BYTES)
    for number in range(500):
        tell(log, number, kind)
    log.close()
    assert path.stat().st_size <= 4 * ALL_BYTES
    lines = told(path)
    gaps = [line["events"] for line in lines if line["kind"] == EVENTS_LOST]
    assert len(lines) - len(gaps) + sum(gaps) + log.lost == 500


def test_nothing_is_lost_without_being_counted(log: EventLog, path: Path) -> None:
    kinds = ["steal"] * 900 + ["oom"] + ["report"] * 40
    for number in range(5_000):
        tell(log, number, kinds[number % len(kinds)], number % 3)
    log.close()
    lines = told(path)
    events = [line for line in lines if line["kind"] != EVENTS_LOST]
    gaps = sum(line["events"] for line in lines if line["kind"] == EVENTS_LOST)
    assert len(events) + gaps == 5_000
    assert log.left_out == gaps > 0
    assert [line["kind"] for line in lines].count("oom") == 5
    times = [line["monotonic_ns"] for line in lines]
    assert times == sorted(times)


def test_kinds_are_kinds_that_there_are() -> None:
    recorded = {kind for kind, _ in FIELDS.values()}
    assert {EVENTS_LOST} == ROUTINE - recorded
    assert recorded >= FAILURES
    assert {"violation", "ledger-breach", "lock-dead"} == recorded - ROUTINE - FAILURES
    assert ROUTINE.isdisjoint(FAILURES)

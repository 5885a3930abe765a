"""Stopped, dead, stuck and slow workers are told apart."""

import os
import signal
from collections.abc import Iterator

import pytest

from pagesoak.base import layout
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.daemon.health import How, Process, is_held_up, process, unwell

RUNNER = 100
NOW_NS = 1_000_000_000_000


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(
        SegmentPlan(
            zones=1, cpus=1, max_pfn=4096, workers=2, loads=1, table_words=8, replay_events=1
        )
    )
    made.workers[layout.W_PID] = 7
    made.workers[layout.WORKER_WORDS + layout.W_PID] = 8  # it never gave a sign of life
    yield made
    made.close()


@pytest.mark.parametrize(
    ("seen", "silent_seconds", "how"),
    [
        (Process("S", RUNNER), 0.3, None),
        (Process("R", RUNNER), 1.9, None),
        (Process("S", RUNNER), 2.5, How.SLOW),
        (Process("R", RUNNER), 11.0, How.STUCK),
        (Process("D", RUNNER), 11.0, How.STUCK),
        (Process("T", RUNNER), 0.0, How.STOPPED),
        (Process("t", RUNNER), 60.0, How.STOPPED),
        (Process("Z", RUNNER), 0.0, How.DEAD),
        (Process("S", 1), 0.0, How.DEAD),  # another process has its number
        (None, 0.0, How.DEAD),
    ],
)
def test_each_is_told_from_the_others(
    segment: Segment, seen: Process | None, silent_seconds: float, how: How | None
) -> None:
    segment.workers[layout.W_HEARTBEAT_NS] = NOW_NS - int(silent_seconds * NS_PER_SECOND)
    found = unwell("one", segment, RUNNER, NOW_NS, "w{}".format, lambda _: seen)
    assert [each.how for each in found] == ([] if how is None else [how])
    for each in found:
        assert (each.run, each.worker, each.pid) == ("one", "w0", 7)


def test_a_process_is_seen_as_it_is() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        assert process(child) == Process("T", os.getpid())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert process(child) is None


@pytest.mark.parametrize(
    ("state", "held_up"),
    [("R", False), ("S", False), ("D", False), ("T", True), ("t", True), ("Z", True), ("X", True)],
)
def test_who_is_stopped_or_gone_is_held_up(state: str, held_up: bool) -> None:
    assert is_held_up(Process(state, RUNNER)) is held_up
    assert is_held_up(None)

"""Stopped, dead, stuck and slow workers are told apart."""

import os
import signal

import pytest

from pagesoak.base.statistics import Statistics
from pagesoak.daemon.health import How, Process, process, unwell
from pagesoak.daemon.reading import Reading

RUNNER = 100
NOW_NS = 1_000_000_000_000


def reading(silent_seconds: float) -> Reading:
    heartbeat_ns = NOW_NS - int(silent_seconds * 1e9)
    empty = Statistics((), (), 0)
    return Reading(NOW_NS, empty, (), (), (), (heartbeat_ns, 0), (7, 8))


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
    seen: Process | None, silent_seconds: float, how: How | None
) -> None:
    found = unwell("one", reading(silent_seconds), RUNNER, "w{}".format, lambda _: seen)
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

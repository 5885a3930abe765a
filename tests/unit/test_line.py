"""The line between a runner and its daemon, from the runner's end."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pagesoak.engine.line import ORPHAN_SECONDS_MAX, Line, Unstored


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self) -> float:
        """What it shows."""
        return self.seconds


class Ends(NamedTuple):
    """Both ends of a line, and the runner's clock."""

    daemon: socket.socket
    line: Line
    clock: Clock


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    clock = Clock()
    yield Ends(ours, Line(theirs.detach(), clock.time), clock)
    ours.close()


def said(daemon: socket.socket) -> list[dict[str, object]]:
    found = []
    while True:
        try:
            found.append(json.loads(daemon.recv(1 << 16)))
        except BlockingIOError:
            return found


def test_the_last_news_come_before_the_end(ends: Ends) -> None:
    """What broke the run was not yet there when it said last that it lives."""
    failed = 0
    ends.line.news = lambda: {"audits": {"failed": failed}}
    ends.line.stopping()
    failed = 1
    ends.line.ended({"verdict": "broken"}, 3, "")
    told = said(ends.daemon)
    assert [each["say"] for each in told] == ["alive", "alive", "ended"]
    assert [each["audits"]["failed"] for each in told[:2]] == [0, 1]  # type: ignore[index]


def test_it_says_each_second_that_it_lives(ends: Ends) -> None:
    for seconds in (0.0, 0.4, 0.9, 1.0, 1.5, 3.0):
        ends.clock.seconds = seconds
        assert not ends.line.stopping()
    alive = {"say": "alive", "waiting_lines": 0, "lost_lines": 0}
    assert said(ends.daemon) == [alive] * 3


def test_it_says_with_that_what_the_disk_refuses(ends: Ends) -> None:
    ends.line.unstored = lambda: Unstored(5, 7)
    ends.line.stopping()
    assert said(ends.daemon) == [{"say": "alive", "waiting_lines": 5, "lost_lines": 7}]


def test_it_stops_when_the_daemon_says_so_and_for_good(ends: Ends) -> None:
    daemon, line, _ = ends
    daemon.send(b'{"do": "dance"}')
    assert not line.stopping()
    daemon.send(b'{"do": "stop"}')
    assert line.stopping()
    assert line.stopping()


def test_without_a_daemon_it_stops_and_an_alarm_runs(ends: Ends) -> None:
    daemon, line, _ = ends
    daemon.close()
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        assert line.stopping()
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left <= ORPHAN_SECONDS_MAX
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_segment_goes_with_the_message(ends: Ends, tmp_path: Path) -> None:
    daemon, line, _ = ends
    file = os.memfd_create("segment")
    os.write(file, b"content")
    line.prepared("one", tmp_path, file)
    text, (descriptor,), _, _ = socket.recv_fds(daemon, 1 << 16, 1)
    assert json.loads(text) == {"say": "prepared", "run": "one", "directory": str(tmp_path)}
    assert os.pread(descriptor, 7, 0) == b"content"
    os.close(descriptor)
    os.close(file)


def test_a_daemon_that_does_not_read_holds_nobody_up(ends: Ends) -> None:
    daemon, line, _ = ends
    for _ in range(10_000):
        line.refused("x" * 1000)
    assert len(said(daemon)) < 10_000

"""Silent runners are named, those that are at work are not."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from pagesoak.daemon.live_run import HEARD_SECONDS_MAX
from pagesoak.daemon.lookout import AWAY_SECONDS, Lookout
from pagesoak.daemon.record import State


class RecordOfRun(NamedTuple):
    """As much of one as is looked at."""

    state: State


class Run:
    """A run whose runner is a process of the test."""

    name = "one"

    def __init__(self, pid: int, state: State) -> None:
        self.pid = pid
        self.record = RecordOfRun(state)
        self.unheard_seconds = 0.0

    def unwell(self) -> list[Any]:
        """Nobody: a run that starts has no workers yet."""
        return []


@pytest.fixture
def child() -> Iterator[int]:
    """A process that does nothing; it is the test's to stop."""
    made = os.fork()
    if made == 0:
        signal.pause()
        os._exit(0)
    yield made
    os.kill(made, signal.SIGKILL)
    os.waitpid(made, 0)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)


def go_on(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, os.WCONTINUED)


def look(lookout: Lookout, run: Run) -> list[str]:
    """Who is silent after a look."""
    lookout.look([run])  # type: ignore[list-item] - as much of one as is needed
    return lookout.silent


def test_a_runner_that_compiles_is_not_named_and_one_that_is_stopped_meanwhile_is(
    child: int,
) -> None:
    lookout, run = Lookout(), Run(child, State.STARTING)
    with capture_logs() as said:
        run.unheard_seconds = 300.0
        assert look(lookout, run) == []
        stop(child)
        assert look(lookout, run) == ["one"]
        assert look(lookout, run) == ["one"]
        assert not lookout.gets_on
        go_on(child)
        assert look(lookout, run) == []
        assert lookout.gets_on
    assert [each["event"] for each in said] == ["runner.silent", "runner.heard_again"]
    assert (said[0]["run"], said[0]["pid"]) == ("one", child)


def test_one_that_has_just_started_is_given_its_time(child: int) -> None:
    lookout, run = Lookout(), Run(child, State.STARTING)
    stop(child)
    run.unheard_seconds = HEARD_SECONDS_MAX
    assert look(lookout, run) == []
    run.unheard_seconds = HEARD_SECONDS_MAX + 0.1
    assert look(lookout, run) == ["one"]


def test_one_that_is_gone_before_anything_was_said_is_named() -> None:
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitid(os.P_PID, gone, os.WEXITED | os.WNOWAIT)  # a corpse, until somebody buries it
    lookout, run = Lookout(), Run(gone, State.STARTING)
    run.unheard_seconds = 9.0
    assert look(lookout, run) == ["one"]
    os.waitpid(gone, 0)
    assert look(lookout, run) == ["one"]
    lookout.forget("one")
    assert lookout.silent == []


def test_one_that_runs_and_says_nothing_is_silent_whatever_it_does(child: int) -> None:
    lookout, run = Lookout(), Run(child, State.RUNNING)
    run.unheard_seconds = 9.0
    assert look(lookout, run) == ["one"]


def test_nobody_is_silent_while_the_daemon_was_not_served(
    child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookout, run = Lookout(), Run(child, State.RUNNING)
    run.unheard_seconds = 9.0
    later = time.monotonic() + AWAY_SECONDS + 1.0
    monkeypatch.setattr("pagesoak.daemon.lookout.time.monotonic", lambda: later)
    assert look(lookout, run) == []

"""The supervisor of runs that are not its own, and what it says of lines that were lost."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pagesoak.daemon.config import parse_config
from pagesoak.daemon.elsewhere import LOOK_SECONDS
from pagesoak.daemon.record import Record, State
from pagesoak.daemon.supervisor import Supervisor
from pagesoak.engine.line import Unstored
from tests.unit.test_daemon_index import SUMMARY, make_run


class Clock:
    """The monotonic clock, put forward by a test."""

    ahead = 0.0

    def __init__(self) -> None:
        self._now = time.monotonic

    def time(self) -> float:
        """What it shows."""
        return self._now() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("pagesoak.daemon.elsewhere.time.monotonic", made.time)
    return made


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def supervise(results: Path) -> Supervisor:
    text = f'[runs]\ndirectory = "{results}"\n[metrics]\nkeep_ended = "10m"\n'
    config = parse_config(text, None, {"XDG_STATE_HOME": str(results.parent)})
    return Supervisor(config, lambda: None)


@pytest.fixture
def supervisor(results: Path) -> Iterator[Supervisor]:
    made = supervise(results)
    yield made
    asyncio.run(made.close())


@pytest.mark.parametrize("summary", [None, SUMMARY])
def test_a_run_of_another_process_is_seen_to_end_without_a_restart(
    results: Path, clock: Clock, summary: dict[str, Any] | None
) -> None:
    directory = make_run(results, "one", summary=None)
    supervisor = supervise(results)
    clock.ahead += LOOK_SECONDS
    supervisor.look()
    assert supervisor.get("one").state is State.RUNNING
    if summary is not None:
        directory.write_summary(summary)
    directory.close()
    supervisor.look()
    assert supervisor.goes_on("one")  # it is no time for another look
    clock.ahead += LOOK_SECONDS
    with capture_logs() as said:
        supervisor.look()
    (record,) = supervisor.all()
    assert record == supervisor.get("one")
    assert not supervisor.goes_on("one")
    (told,) = said
    if summary is None:
        assert record.state is State.UNCLEAN
        assert supervisor.unclean == supervisor.unclean_lately == [record]
        assert told["event"] == "run.ended_uncleanly"
        clock.ahead += 601.0
        assert supervisor.unclean == [record]
        assert supervisor.unclean_lately == []
    else:
        assert (record.state, record.verdict) == (State.ENDED, "fail")
        assert supervisor.unclean == []
        assert (told["event"], told["verdict"]) == ("run.ended", "fail")
    asyncio.run(supervisor.close())


class LiveRun:
    """As much of a run as is asked."""

    name = "one"
    summary = None
    torn_and_stale = (0, 0)
    ended_at: float | None = None

    def __init__(self, results: Path) -> None:
        self.unstored = Unstored(3, 4)
        self.record = Record(
            run="one", state=State.RUNNING, scenario="small", policy="off", seed=1,
            duration_seconds=1.0, directory=str(results / "one"),
        )  # fmt: skip

    def unwell(self) -> list[Any]:
        """None of its workers."""
        return []

    def end(self) -> None:
        """Its end."""
        self.record = self.record.model_copy(update={"state": State.ENDED})


def test_what_waited_at_a_runs_end_is_lost_and_said(results: Path, supervisor: Supervisor) -> None:
    live: Any = LiveRun(results)
    supervisor._live["one"] = live
    assert (supervisor.not_stored, supervisor.lost) == (3, 4)
    live.end()
    with capture_logs() as said:
        supervisor._over(live)
    assert (supervisor.not_stored, supervisor.lost) == (0, 7)
    (told,) = [each for each in said if each["event"] == "results.lost"]
    assert (told["run"], told["lines"]) == ("one", 7)


def test_a_run_that_lost_nothing_says_nothing_of_it(results: Path, supervisor: Supervisor) -> None:
    live: Any = LiveRun(results)
    supervisor._live["one"] = live
    live.unstored = Unstored(0, 0)
    live.end()
    with capture_logs() as said:
        supervisor._over(live)
    assert said == []

"""The daemon's log: what a terminal is told, what is said of records that were left out, and how
loud an end is.
"""

import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from pagesoak.base.scenario import parse_scenario
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.daemon import live_run, log
from pagesoak.daemon.executed import End
from pagesoak.daemon.live_run import LiveRun
from pagesoak.engine.logs_limit import RECORDS_PER_NAME_PER_SECOND, RateLimit
from pagesoak.engine.logs_record import LineHandler, RecordChain, to_dated_text, to_line
from tests.live_helper import scenario_text

SENT = RECORDS_PER_NAME_PER_SECOND + 30
DATED = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    quiet = {name: logging.getLogger(name).level for name in log.QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def test_a_terminal_is_told_when_and_whose() -> None:
    screen = Screen()
    log.configure(screen, {})
    made = structlog.get_logger()
    made.warning("worker.stopped", how="stopped", pid=7, worker="guest-0", run="a\x1bb")
    made.info("run.executed", policy="off")
    first, second = screen.getvalue().splitlines()
    whose = r"run=a\\x1bb worker=guest-0 pid=7"
    assert re.fullmatch(f"{DATED}warning: worker.stopped {whose} how=stopped", first)
    assert re.fullmatch(f"{DATED}info: run.executed policy=off", second)


@pytest.mark.parametrize("stream", [Screen(), io.StringIO()], ids=["terminal", "file"])
def test_what_was_left_out_is_told_at_the_end(stream: io.StringIO) -> None:
    log.configure(stream, {})
    made = structlog.get_logger()
    for _ in range(SENT):
        made.info("order")
    log.report_drops()
    *orders, last = stream.getvalue().splitlines()
    assert len(orders) == RECORDS_PER_NAME_PER_SECOND
    if stream.isatty():
        told = "warning: log.dropped of=order reason=rate records=30"
        assert re.fullmatch(f"{DATED}{told}", last)
    else:
        assert (json.loads(last)["event"], json.loads(last)["records"]) == ("log.dropped", 30)
    log.report_drops()
    assert len(stream.getvalue().splitlines()) == len(orders) + 1


@pytest.mark.parametrize("last", [to_line, to_dated_text])
def test_what_was_left_out_is_due_when_its_second_is_over(last: Callable[..., str]) -> None:
    now_ns, lines = [0], list[str]()

    def send(line: str, _level: int) -> bool:
        lines.append(line)
        return True

    chain = RecordChain(RateLimit(1), lambda: now_ns[0])
    handler = LineHandler(chain, send, last)
    chain.configure([handler], logging.INFO)
    for _ in range(3):
        structlog.get_logger().info("order")
    now_ns[0] = NS_PER_SECOND - 1
    handler.report_due()
    assert len(lines) == 1
    now_ns[0] = NS_PER_SECOND
    handler.report_due()
    assert len(lines) == 2
    assert "log.dropped" in lines[1]


def test_each_line_of_an_error_has_its_priority_for_the_journal_alone(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as journal:
        status = os.fstat(journal.fileno())
        ours = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert log.as_error("one\ntwo", journal, ours) == "<3>one\n<3>two"
        assert log.as_error("one\ntwo", journal, {}) == "one\ntwo"


@pytest.mark.parametrize(
    ("verdict", "level"),
    [("pass", "info"), ("fail", "warning"), ("broken", "error"), (None, "warning")],
)
def test_an_end_is_as_loud_as_it_is_bad(
    verdict: str | None, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    def executed(_wanted: object, _hear: object, end: Callable[[End], None]) -> SimpleNamespace:
        ended.append(end)
        return SimpleNamespace(pid=1, say=lambda _message: True)

    monkeypatch.setattr(live_run, "Executed", executed)
    (tmp_path / "one").mkdir()
    scenario = parse_scenario(scenario_text(), file="planted.toml", folder=tmp_path)
    with capture_logs() as said:
        run = LiveRun("one", scenario, tmp_path, [], lambda _run: None, None)
        if verdict is not None:
            run.summary = summary(verdict)
        ended[0](End(0, ""))
    (last,) = [each for each in said if each["event"] in {"run.ended", "run.unclean"}]
    assert (last["verdict"], last["log_level"]) == (verdict, level)


def summary(verdict: str) -> dict[str, Any]:
    return {
        "verdict": verdict, "interrupted": False, "reason": None, "finished": "now",
        "duration_seconds": 1.0,
    }  # fmt: skip

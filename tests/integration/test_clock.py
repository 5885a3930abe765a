"""Clocks that jump: the wall clock's, set by somebody; the guest's, after a suspension; and a gap
in which nobody got on. None of them harms a run, or has anybody taken for hung.

The wall clock of a whole daemon is moved by a small library (`tests/wall_clock.c`), which leaves
the monotonic clock alone; without a C compiler these tests are skipped. libfaketime is not used:
with it a sleep fails with EINVAL every now and then.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from pagesoak.base import layout
from pagesoak.daemon.health import SLOW_SECONDS, STUCK_SECONDS
from tests.c_compiler import COMPILER, needs_compiler
from tests.daemon_helper import LONG, SLOW_TEST_SECONDS_MAX, Daemon, descendants, wait_until
from tests.live_helper import LiveRun, all_names, await_true, compile_core, scenario_text
from tests.treefiles import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

DAYS = 400
DAY_SECONDS = 86_400
CHAOS = "chaos = true\n"
RETENTION = 'keep_for = "30d"\n'
BURSTS = {
    "kind": "bursts", "leave_free": "12MiB", "burst": "6MiB", "think": "10ms", "hold": "5ms",
}  # fmt: skip
ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}


@pytest.fixture
def set_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the wall clock of a daemon that is started from here off by so many seconds."""
    library, offset = tmp_path / "wall_clock.so", tmp_path / "offset"
    source = ROOT / "tests" / "wall_clock.c"
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    offset.write_bytes(bytes(8))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("WALL_CLOCK_OFFSET", str(offset))

    def set_off(seconds: int) -> None:
        with offset.open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))

    return set_off


def says_now(daemon: Daemon) -> float:
    """The daemon's wall clock, by the last record of its log."""
    daemon.scrape()
    daemon.client.post("/v1/runs/one/pause", {})
    daemon.client.post("/v1/runs/one/resume", {})
    return datetime.fromisoformat(daemon.said("order")[-1]["time"]).timestamp()


@needs_compiler
@pytest.mark.parametrize("days", [DAYS, -DAYS])
def test_a_wall_clock_that_is_set_changes_no_run_and_removes_no_result(
    days: int, set_wall_clock: Callable[[int], None], tmp_path: Path
) -> None:
    with Daemon(tmp_path, RETENTION) as daemon:
        short = scenario_text(duration="1s", reporting={"delay": "100ms"})
        daemon.client.post("/v1/runs", {"run": "before", "scenario_toml": short})
        wait_until(lambda: daemon.record("before")["state"] == "ended")
        daemon.run("one", LONG)
        began, elapsed = time.monotonic(), daemon.record("one")["elapsed_seconds"]
        assert abs(says_now(daemon) - time.time()) < DAY_SECONDS
        set_wall_clock(days * DAY_SECONDS)
        wait_until(lambda: abs(says_now(daemon) - time.time() - days * DAY_SECONDS) < DAY_SECONDS)
        calls = daemon.record("one")["figures"]["report_calls"]
        wait_until(lambda: daemon.record("one")["figures"]["report_calls"] > calls + 1)
        wait_until(lambda: _unwell(daemon) == [])  # one may be slow for a moment
        blamed = daemon.said("worker.stuck") + daemon.said("worker.dead")
        assert [said for said in blamed if said["run"] == "one"] == []
        record = daemon.record("one")
        assert record["state"] == "running"
        took = time.monotonic() - began
        assert 0 < record["elapsed_seconds"] - elapsed < took + 1
        daemon.process.send_signal(signal.SIGHUP)  # looks at everything anew
        wait_until(lambda: daemon.said("config.reloaded"))
        daemon.client.post("/v1/runs", {"run": "after", "scenario_toml": short})
        wait_until(lambda: daemon.record("after")["state"] == "ended")
        assert daemon.record("before")["state"] == "ended"
        assert (daemon.results / "before" / "summary.json").is_file()
        ended = daemon.cli("stop", "one", "--json").summary
        assert ended["verdict"] == "pass"
        summary = json.loads((daemon.results / "one" / "summary.json").read_text())
        assert summary["audits"]["failed"] == 0
        assert sum(summary["restarts"].values()) == 0
        assert 0 < summary["duration_seconds"] < time.monotonic() - began + elapsed + 1
    assert "Traceback" not in daemon.log_text


def test_a_jump_of_the_guests_clock_is_one_gap(tmp_path: Path) -> None:
    with Daemon(tmp_path, CHAOS) as daemon:
        daemon.run("one", LONG)
        asked = daemon.cli("chaos", "one", "clock-jump", "--for", "3s")
        assert asked.code == 0, asked.err
        wait_until(lambda: "stopped" in str(daemon.client.get("/v1/status")["unwell"]))
        assert daemon.record("one")["state"] == "running"
        calls = daemon.record("one")["figures"]["report_calls"]
        wait_until(lambda: daemon.client.get("/v1/status")["unwell"] == [])
        wait_until(lambda: daemon.record("one")["figures"]["report_calls"] > calls)
        assert daemon.cli("stop", "one", "--json").summary["verdict"] == "pass"
        summary = json.loads((daemon.results / "one" / "summary.json").read_text())
        assert summary["faults"]["clock-jump"] == 1
        assert sum(summary["restarts"].values()) == summary["recoveries"]["hosts_fenced"] == 0
        assert summary["integrity"]["violations"] == 0
        told = [
            json.loads(line)
            for line in (daemon.results / "one" / "events.jsonl").read_text().splitlines()
        ]
        (jump,) = [event for event in told if event["kind"] == "fault"]
        assert jump["seconds"] == 3.0
        guest = [event["monotonic_ns"] for event in told if event["worker"] <= 1]
        gaps = [after - before for before, after in itertools.pairwise(guest)]
        assert sum(gap > 2_500_000_000 for gap in gaps) == 1


STOPPED_SECONDS = 8.0
FROZEN_SECONDS = STUCK_SECONDS + 1.5


def _unwell(daemon: Daemon) -> list[str]:
    return [each["worker"] for each in daemon.client.get("/v1/status")["unwell"]]


def test_a_worker_that_is_stopped_twice_goes_on_after_the_later(tmp_path: Path) -> None:
    with Daemon(tmp_path, CHAOS) as daemon:
        daemon.run("one", LONG)
        for fault, seconds in (("stop-guest", STOPPED_SECONDS), ("clock-jump", 0.5)):
            daemon.client.post("/v1/runs/one/chaos", {"fault": fault, "seconds": seconds})
        began = time.monotonic()
        wait_until(lambda: _unwell(daemon) == ["guest-0"])
        wait_until(lambda: _unwell(daemon) == [])
        assert time.monotonic() - began > STOPPED_SECONDS - 1.0
        assert daemon.cli("stop", "one", "--json").summary["verdict"] == "pass"


def test_a_run_that_was_frozen_as_a_whole_takes_nobody_for_hung(tmp_path: Path) -> None:
    compile_core()
    soon = "import pagesoak.engine.recovery as r; r.FENCE_SECONDS = 1.0"
    away = "import pagesoak.engine.silence as s; s.AWAY_SECONDS = 0.5"
    text = scenario_text(
        [BURSTS], duration="60s", limits=ANY_OUTCOME, host={"latency_per_call": "500ms"}
    )
    with LiveRun(tmp_path, text, sabotage=f"{soon}\n{away}") as run:
        workers = run.await_workers(*all_names(1))
        run.await_started()
        report = run.segment.report
        await_true(lambda: report[layout.R_REQUEST] > report[layout.R_SERVED], "a report")
        everybody = (run.pid, *workers.values())
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2.0)
        for pid in everybody:  # the runner sees the others before they go on
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.2)
        served = report[layout.R_SERVED]
        await_true(lambda: report[layout.R_SERVED] > served, "another report")
        assert run.workers() == workers
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert finished.summary["verdict"] == "pass", (finished.summary["reason"], finished.err)
    assert finished.summary["recoveries"]["hosts_fenced"] == 0
    assert sum(finished.summary["restarts"].values()) == 0


def test_a_daemon_that_was_frozen_with_its_runs_takes_nobody_for_hung(tmp_path: Path) -> None:
    with Daemon(tmp_path, CHAOS) as daemon:
        daemon.run("one", LONG)
        everybody = [daemon.process.pid, *descendants(daemon.process.pid)]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        for pid in everybody:  # the daemon sees the others before they go on
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.1)
        calls = daemon.record("one")["figures"]["report_calls"]
        wait_until(lambda: daemon.record("one")["figures"]["report_calls"] > calls)
        time.sleep(2 * SLOW_SECONDS)
        assert daemon.cli("stop", "one", "--json").summary["verdict"] == "pass"
    for said in ("worker.stuck", "worker.stopped", "runner.silent"):
        assert said not in daemon.log_text

"""Faults on purpose, in real runs: each does what it says, and the run survives it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pagesoak.base import layout
from pagesoak.base.fault_point import POINTS, fault_point_word
from pagesoak.base.faults import FAULTS, VIRTUAL_FAULTS
from pagesoak.base.layout_faults import H_FAULT_POINT, W_FAULT_POINT
from tests.daemon_helper import Daemon, wait_until
from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    Finished,
    LiveRun,
    all_names,
    await_true,
    compile_core,
    environment,
    run_scenario_text,
    scenario_text,
)
from tests.treefiles import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

BURSTS = {
    "kind": "bursts", "leave_free": "12MiB", "burst": "6MiB", "think": "10ms", "hold": "5ms",
}  # fmt: skip
STEADY = {"kind": "steady", "target": "4MiB", "cpu": 1}
ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}
KILLS, INSIDE_LOCK, STOP_SECONDS = 60, 20, 2.0
"""A short kill soak."""


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


def assert_unharmed(finished: Finished) -> None:
    summary = finished.summary
    assert summary["verdict"] == "pass", (summary["reason"], finished.err)
    assert summary["integrity"]["violations"] == summary["audits"]["failed"] == 0
    assert summary["recoveries"]["lost_pages"] == 0


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_a_scenario_happens_again_and_again_and_does_no_harm(
    kind: str, tmp_path: Path
) -> None:
    text = scenario_text(
        [BURSTS, STEADY],
        duration="6s",
        guest={"cpus": 2},
        limits=ANY_OUTCOME,
        faults={
            "every": "300ms", "kinds": [kind], "stopped_for": "150ms", "slower_by": "100ms",
        },
    )  # fmt: skip
    finished = run_scenario_text(tmp_path, text)
    assert_unharmed(finished)
    assert finished.summary["faults"][kind] >= 3
    assert len(finished.events("fault")) == sum(finished.summary["faults"].values())
    assert finished.summary["report_calls"] > 0
    if kind.startswith("kill") or kind == "host-dies":
        assert sum(finished.summary["restarts"].values()) >= 2


def test_faults_of_a_virtual_run_are_the_same_each_time(tmp_path: Path) -> None:
    text = scenario_text(
        [BURSTS],
        duration="8s",
        limits=ANY_OUTCOME,
        faults={"every": "200ms", "kinds": list(VIRTUAL_FAULTS)},
    )
    kept = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        finished = run_scenario_text(folder, text, "--virtual")
        assert_unharmed(finished)
        kept.append((finished.directory / "events.jsonl").read_bytes())
        faults = finished.summary["faults"]
        failed = faults["host-error"] + faults["host-punches-partly"]
        errors = finished.summary["report_errors"]
        assert errors <= failed <= errors + 1, "the last may not be back yet"
        assert faults["host-error"] >= 1
    assert kept[0] == kept[1]


def test_a_fault_that_only_a_live_run_can_have_is_refused_in_a_virtual_one(
    tmp_path: Path,
) -> None:
    text = scenario_text(faults={"every": "1s"})
    finished = run_scenario_text(tmp_path, text, "--virtual")
    assert finished.code == 2
    assert "kill-guest needs a live run" in finished.err
    assert "Traceback" not in finished.err
    assert not (tmp_path / "results").exists()


def test_a_stuck_host_is_fenced_before_its_pages_are_put_back(tmp_path: Path) -> None:
    fenced_early = "import pagesoak.engine.recovery as r; r.FENCE_SECONDS = 1.0"
    text = scenario_text([BURSTS], duration="60s", limits=ANY_OUTCOME)
    with LiveRun(tmp_path, text, sabotage=fenced_early) as run:
        host = run.await_workers(*all_names(1))["soak-host"]
        run.await_started()
        os.kill(host, signal.SIGSTOP)
        await_true(lambda: run.workers().get("soak-host", host) != host, "another host")
        served = run.segment.report[layout.R_SERVED]
        await_true(lambda: run.segment.report[layout.R_SERVED] > served + 1, "more reports")
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert_unharmed(finished)
    assert finished.summary["recoveries"]["hosts_fenced"] == 1
    (fenced,) = finished.events("host-fenced")
    (failed,) = [event for event in finished.events("answer") if event["error"]]
    assert failed["monotonic_ns"] > fenced["monotonic_ns"] - 100_000_000
    assert fenced["pid"] == host


def test_a_sleeping_host_is_not_fenced(tmp_path: Path) -> None:
    fenced_early = "import pagesoak.engine.recovery as r; r.FENCE_SECONDS = 1.0"
    text = scenario_text(duration="3s", host={"latency_per_call": "10s"})
    with LiveRun(tmp_path, text, sabotage=fenced_early) as run:
        finished = run.finish()
    assert_unharmed(finished)
    assert finished.summary["recoveries"]["hosts_fenced"] == 0
    assert finished.summary["restarts"]["host"] == 0


def test_a_worker_that_is_stopped_does_not_keep_the_others_from_recovering(
    tmp_path: Path,
) -> None:
    """It does not come to rest, and dies of that."""
    text = scenario_text([BURSTS, STEADY], duration="60s", guest={"cpus": 2}, limits=ANY_OUTCOME)
    with LiveRun(tmp_path, text) as run:
        workers = run.await_workers(*all_names(2))
        run.await_started()
        os.kill(workers["soak-guest-1"], signal.SIGSTOP)
        os.kill(workers["soak-guest-0"], signal.SIGKILL)
        began = time.monotonic()
        for name in ("soak-guest-0", "soak-guest-1"):
            await_true(
                lambda name=name: run.workers().get(name, 0) not in (0, workers[name]), name
            )
        assert time.monotonic() - began < 8.0
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert_unharmed(finished)
    assert finished.summary["restarts"] == {"guest": 2, "reporter": 0, "host": 0}


def test_a_worker_that_is_stopped_with_a_lock_held_is_told_to_go_on(tmp_path: Path) -> None:
    soon = "import pagesoak.engine.stuck as s; s.HOLDER_SECONDS, s.GOES_ON_SECONDS = 1.0, 10.0"
    text = scenario_text([BURSTS], duration="60s", limits=ANY_OUTCOME)
    with LiveRun(tmp_path, text, sabotage=soon) as run:
        guest = run.await_workers(*all_names(1))["soak-guest-0"]
        run.await_started()
        run.segment.header[H_FAULT_POINT] = fault_point_word(0, POINTS["lock-taken"])
        await_true(lambda: run.segment.workers[W_FAULT_POINT], "a hold")
        os.kill(guest, signal.SIGSTOP)
        before = run.segment.workers[layout.W_OPERATIONS]
        await_true(lambda: run.segment.workers[layout.W_OPERATIONS] > before, "its going on")
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert_unharmed(finished)
    assert finished.events("lock-stuck")[0]["pid"] == guest
    assert finished.summary["restarts"]["guest"] == 0


def test_a_short_kill_soak_loses_nothing() -> None:
    ran = subprocess.run(
        [
            sys.executable, ROOT / "bench" / "kill_soak.py", "--kills", str(KILLS),
            "--inside-lock", str(INSIDE_LOCK), "--stop-seconds", str(STOP_SECONDS), "--json",
        ],
        capture_output=True, text=True, check=False, env=environment(), timeout=400,
    )  # fmt: skip
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["verdict"] == "pass", found
    assert found["kills"] >= KILLS
    assert found["inside_lock"] >= INSIDE_LOCK
    assert found["locks_died"] >= INSIDE_LOCK
    assert found["stops"] == 3
    lost = ("wedged", "false_violations", "pages_lost", "audits_failed")
    assert {name: found[name] for name in lost} == dict.fromkeys(lost, 0)
    assert found["descriptors"][1] - found["descriptors"][0] <= 2  # some are being opened


# ---- by the daemon ----

CHAOS = "chaos = true\n"
LONG = scenario_text([BURSTS], duration="1h", limits=ANY_OUTCOME)


def test_chaos_reaches_a_run_of_the_daemon_and_is_shown(tmp_path: Path) -> None:
    with Daemon(tmp_path, CHAOS) as daemon:
        daemon.run("one", LONG)
        wait_until(lambda: daemon.record("one")["state"] == "running")
        asked = daemon.cli("chaos", "one", "kill-guest-locked", "--point", "refilling", "--json")
        assert asked.code == 0, asked.err
        assert asked.summary["run"] == "one"
        wait_until(lambda: daemon.record("one")["figures"]["restarts"]["guest"] == 1)
        wait_until(lambda: daemon.record("one")["figures"]["faults"]["kill-guest-locked"] == 1)
        status = daemon.cli("status", "one").out
        assert re.search(r"^faults on purpose +1 kill-guest-locked$", status, re.MULTILINE)
        assert re.search(r"^replaced +1 guest CPU", status, re.MULTILINE)
        assert "runs.chaos" in daemon.cli("status").out
        told = (daemon.results / "one" / "events.jsonl").read_text().splitlines()
        kinds = {json.loads(line)["kind"] for line in told}
        assert {"fault", "worker-died", "recovered", "worker-restarted"} <= kinds
        ended = daemon.cli("stop", "one", "--json").summary
        assert ended["verdict"] == "pass"
        summary = json.loads((daemon.results / "one" / "summary.json").read_text())
        assert summary["faults"]["kill-guest-locked"] == 1


def test_chaos_is_refused_where_it_is_not_allowed(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.run("one", LONG)
        refused = daemon.cli("chaos", "one", "kill-host")
        assert refused.code != 0
        assert "runs.chaos" in refused.err
        assert "Traceback" not in refused.err


def test_a_fault_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with Daemon(tmp_path, CHAOS) as daemon:
        daemon.run("one", LONG)
        refused = daemon.cli("chaos", "one", "kill-gest")
        assert refused.code == 2
        assert "did you mean 'kill-guest'" in refused.err
        nowhere = daemon.cli("chaos", "one", "kill-guest", "--cpu", "7")
        assert nowhere.code == 2
        assert "CPU 0 only" in nowhere.err
        useless = daemon.cli("chaos", "one", "kill-host", "--for", "3s")
        assert useless.code == 2
        assert "seconds: kill-host takes none" in useless.err
        unknown = daemon.cli("chaos", "two", "kill-host")
        assert unknown.code == 2
        assert "two" in unknown.err

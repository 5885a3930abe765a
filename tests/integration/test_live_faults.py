"""Runs that are ended early, lose a process, or lose what they stand on: each ends in order, says
what happened, and leaves nothing behind.
"""

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pagesoak.base import layout
from pagesoak.base.fault_point import POINTS, fault_point_word
from pagesoak.base.layout_faults import H_FAULT_POINT, STOP_FOR_GOOD, W_FAULT_POINT
from pagesoak.base.lock import HELD, take_zone_lock
from pagesoak.engine.restarts import RESTARTS_MAX
from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    Finished,
    LiveRun,
    all_names,
    await_true,
    compile_core,
    process_name,
    scenario_text,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

SHARED_MEMORY = Path("/dev", "shm")
"""Where named semaphores and shared memory would be left."""
STRANGER = 99
"""A worker number that nobody has, in a pageset's claim."""
LONG = "60s"
"""No run of these tests lasts so long: something ends it."""
IN_ORDER_SECONDS_MAX = 8.0
"""From a signal to the end: latency is taken for two more seconds, the rest is for a busy
machine.
"""
BURSTS = {
    "kind": "bursts", "leave_free": "12MiB", "burst": "6MiB", "think": "10ms", "hold": "5ms",
}  # fmt: skip
ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


def window_is_open(run: LiveRun) -> bool:
    """Whether the host has a request now."""
    report = run.segment.report
    return report[layout.R_REQUEST] != 0 and report[layout.R_SERVED] != report[layout.R_REQUEST]


def signals_taken(pid: int) -> int:
    """The signals for which a process has a handler, as a mask."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))


def assert_interrupted(finished: Finished) -> None:
    """The run ended in order, early, with its results."""
    summary = finished.summary
    assert finished.code == 130, (summary["reason"], finished.err)
    assert summary["interrupted"] is True
    assert summary["reason"] is None
    assert summary["verdict"] == "pass"
    assert summary["audits"]["run"] >= 1
    assert summary["audits"]["failed"] == summary["integrity"]["violations"] == 0
    assert all(zone["isolated_pages"] == 0 for zone in summary["zones"])
    assert json.loads((finished.directory / "summary.json").read_text()) == summary
    assert (finished.directory / "after.free").exists()
    assert not (finished.directory / "evidence").exists()
    assert finished.messages == []


# ---- signals ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_in_the_middle_ends_the_run_in_order(
    number: signal.Signals, tmp_path: Path
) -> None:
    with LiveRun(tmp_path, scenario_text([BURSTS], duration=LONG, limits=ANY_OUTCOME)) as run:
        run.await_workers(*all_names(1))
        await_true(lambda: run.segment.report[layout.R_SERVED] >= 3, "three reports")
        run.signal(number)
        began = time.monotonic()
        finished = run.finish()
    assert time.monotonic() - began < IN_ORDER_SECONDS_MAX
    assert_interrupted(finished)
    assert finished.summary["report_calls"] >= 3
    assert 0 < finished.summary["duration_seconds"] < 30


def test_a_signal_inside_a_long_window_lets_the_pages_come_back(tmp_path: Path) -> None:
    """The host would take an hour; what it has is still put back by the reporter, not lost."""
    text = scenario_text(duration=LONG, host={"latency_per_call": "1h"})
    with LiveRun(tmp_path, text) as run:
        run.await_started()
        await_true(lambda: window_is_open(run), "a window")
        run.signal(signal.SIGTERM)
        began = time.monotonic()
        finished = run.finish()
    assert time.monotonic() - began < IN_ORDER_SECONDS_MAX
    assert_interrupted(finished)
    assert finished.summary["isolated_pages_max"] > 0
    assert finished.summary["report_calls"] >= 1
    assert finished.events("answer")[0]["window_ns"] >= 1_000_000_000
    assert finished.summary["window_seconds"]["count"] == 0  # cut short, so none of the policy's


def test_the_end_of_the_time_inside_a_long_window_is_an_ordinary_end(tmp_path: Path) -> None:
    text = scenario_text(duration="500ms", host={"latency_per_call": "1h"})
    with LiveRun(tmp_path, text) as run:
        finished = run.finish()
    assert finished.code == 0, finished.summary["reason"]
    assert finished.summary["interrupted"] is False
    assert finished.summary["duration_seconds"] == pytest.approx(0.5)
    assert all(zone["isolated_pages"] == 0 for zone in finished.summary["zones"])


def test_many_signals_do_no_more_than_one(tmp_path: Path) -> None:
    text = scenario_text(duration=LONG, host={"latency_per_call": "700ms"})
    with LiveRun(tmp_path, text) as run:
        run.await_started()
        await_true(lambda: window_is_open(run), "a window")
        sent = 0
        while run.process.poll() is None:
            run.signal(signal.SIGTERM if sent % 3 else signal.SIGINT)
            sent += 1
            time.sleep(0.01)
        finished = run.finish()
    assert sent > 3
    assert_interrupted(finished)


def test_neither_guest_ram_nor_segment_can_be_cut_short(tmp_path: Path) -> None:
    """Whoever has them mapped would die of that."""
    with LiveRun(tmp_path, scenario_text(duration=LONG)) as run:
        run.await_started()
        for name in ("pagesoak-segment", "pagesoak-guest-ram"):
            descriptor = os.open(run.descriptor(name), os.O_RDWR | os.O_CLOEXEC)
            size = os.fstat(descriptor).st_size
            for other in (size // 2, size + 4096):
                with pytest.raises(PermissionError):
                    os.ftruncate(descriptor, other)
            assert os.fstat(descriptor).st_size == size
            os.close(descriptor)
        run.signal(signal.SIGTERM)
        assert_interrupted(run.finish())


def test_signals_to_the_whole_group_end_the_run_as_one_to_the_runner_does(tmp_path: Path) -> None:
    """What a terminal does on ^C."""
    with LiveRun(tmp_path, scenario_text(duration=LONG)) as run:
        run.await_started()
        for pid in (*run.workers().values(), run.pid):
            os.kill(pid, signal.SIGINT)
        assert_interrupted(run.finish())


def test_a_signal_while_the_guest_is_brought_into_its_starting_state(tmp_path: Path) -> None:
    """The hog of this guest is stopped while it takes its pages."""
    load = BURSTS | {"leave_free": "16MiB"}
    with LiveRun(tmp_path, scenario_text([load], memory="1GiB", duration=LONG)) as run:
        guest = run.await_workers(*all_names(1))["soak-guest-0"]
        await_true(lambda: run.segment.loads[layout.L_HELD_PAGES], "a page of the hog")
        os.kill(guest, signal.SIGSTOP)
        run.signal(signal.SIGTERM)
        time.sleep(0.1)
        os.kill(guest, signal.SIGCONT)
        finished = run.finish()
    assert_interrupted(finished)
    assert finished.summary["duration_seconds"] == 0.0
    assert 0 < finished.summary["alloc_requests"] < finished.summary["guest"]["managed_pages"]
    assert finished.summary["report_calls"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_before_there_is_a_run_leaves_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    text = scenario_text(duration=LONG)
    with LiveRun(tmp_path, text) as run:
        await_true(lambda: signals_taken(run.pid) >> (signal.SIGTERM - 1) & 1, "a handler")
        run.signal(number)
        out, err = run.process.communicate()
    assert run.process.returncode == 130
    assert (out, err) == ("", "")
    assert not run.results.exists()


# ---- deaths ----

OWNER_BITS = 0x3FFF_FFFF
"""Of the first 32 bits of a robust mutex: the thread that holds it."""


def lock_holders(run: LiveRun) -> set[int]:
    """The threads that hold a zone's lock now."""
    words = run.segment.zones[layout.Z_LOCK :: layout.ZONE_WORDS].tolist()
    return {word & OWNER_BITS for word in words}


DEATHS: dict[str, Callable[[LiveRun], object]] = {
    "soak-guest-0": lambda run: run.segment.report[layout.R_SERVED] >= 2,
    "soak-reporter": window_is_open,
    "soak-host": window_is_open,
}


def assert_recovered(finished: Finished) -> None:
    """The run was ended by a signal, and until then nothing that happened did any harm."""
    summary = finished.summary
    assert finished.code == 130, (summary["reason"], finished.err)
    assert summary["verdict"] == "pass"
    assert summary["integrity"]["violations"] == 0
    assert summary["audits"]["failed"] == 0
    assert summary["recoveries"]["lost_pages"] == 0
    assert all(zone["isolated_pages"] == 0 for zone in summary["zones"])
    assert not (finished.directory / "evidence").exists()


def killed(run: LiveRun, name: str) -> int:
    """Kill a worker and wait for the next of its name; its process."""
    before = run.workers()[name]
    os.kill(before, signal.SIGKILL)
    await_true(lambda: run.workers().get(name, before) != before, f"another {name}")
    return run.workers()[name]


@pytest.mark.parametrize("victim", DEATHS)
def test_the_run_goes_on_when_a_worker_is_killed(victim: str, tmp_path: Path) -> None:
    slow = {"latency_per_call": "300ms"} if victim != "soak-guest-0" else {}
    text = scenario_text([BURSTS], duration=LONG, host=slow, limits=ANY_OUTCOME)
    with LiveRun(tmp_path, text) as run:
        run.await_workers(*all_names(1))
        run.await_started()
        await_true(lambda: DEATHS[victim](run), "the moment to kill")
        killed(run, victim)
        served = run.segment.report[layout.R_SERVED]
        await_true(lambda: run.segment.report[layout.R_SERVED] >= served + 3, "three reports")
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert_recovered(finished)
    summary = finished.summary
    role = victim.removeprefix("soak-").removesuffix("-0")
    assert summary["restarts"] == {"guest": 0, "reporter": 0, "host": 0} | {role: 1}
    assert (summary["epochs"], summary["tainted_epochs"]) in {(1, 0), (2, 1)}
    assert [event["name"] for event in finished.events("worker-died")] == [victim]
    assert [event["name"] for event in finished.events("worker-restarted")] == [victim]


def test_a_dead_hosts_report_fails_and_its_pages_are_back(tmp_path: Path) -> None:
    text = scenario_text(duration=LONG, host={"latency_per_call": "10s"})
    with LiveRun(tmp_path, text) as run:
        run.await_started()
        await_true(lambda: window_is_open(run), "a window")
        request = run.segment.report[layout.R_REQUEST]
        killed(run, "soak-host")
        await_true(lambda: run.segment.report[layout.R_REQUEST] != request, "the put-back")
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert_recovered(finished)
    (answer, *_) = finished.events("answer")
    assert (answer["request"], answer["error"]) == (request, errno.EIO)
    (drained, *_) = finished.events("drained")
    assert drained["reported_pages"] == 0
    assert finished.summary["report_errors"] >= 1


def test_a_dead_reporters_pages_are_put_back_only_when_its_slow_host_is_dead(
    tmp_path: Path,
) -> None:
    text = scenario_text(duration=LONG, host={"latency_per_call": "1h"})
    with LiveRun(tmp_path, text) as run:
        run.await_started()
        await_true(lambda: window_is_open(run), "a window")
        host = run.workers()["soak-host"]
        killed(run, "soak-reporter")
        assert not process_name(host)
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert_recovered(finished)
    assert finished.summary["recoveries"]["hosts_fenced"] == 1
    assert finished.summary["restarts"] == {"guest": 0, "reporter": 1, "host": 1}
    assert finished.events("drained")[0]["reported_pages"] == 0


def test_a_worker_that_dies_again_and_again_ends_the_run(tmp_path: Path) -> None:
    """Without --json people are told, and the exit code is the same."""
    with LiveRun(tmp_path, scenario_text(duration=LONG), as_json=False) as run:
        run.await_started()
        for _ in range(RESTARTS_MAX):
            killed(run, "soak-host")
        os.kill(run.workers()["soak-host"], signal.SIGKILL)
        finished = run.finish()
    assert finished.code == 3
    assert "BROKEN" in finished.out
    words = " ".join(finished.out.split())
    assert f"the host died more than {RESTARTS_MAX} times within 60 s" in words
    (directory,) = run.results.iterdir()
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["tainted_epochs"] == 1
    evidence = directory / "evidence"
    assert (evidence / "message.txt").read_text() == summary["reason"] + "\n"
    assert (evidence / "segment.bin.gz").stat().st_size > 1_000


def test_a_host_that_dies_while_the_run_ends_is_not_waited_for(tmp_path: Path) -> None:
    """Stopped, so that it cannot answer; then the end is asked for, then it is killed."""
    text = scenario_text(duration=LONG, host={"latency_per_call": "300ms"})
    with LiveRun(tmp_path, text) as run:
        workers = run.await_workers(*all_names(1))
        await_true(lambda: window_is_open(run), "a window")
        os.kill(workers["soak-host"], signal.SIGSTOP)
        run.signal(signal.SIGTERM)
        await_true(lambda: run.segment.header[layout.H_STOP] == STOP_FOR_GOOD, "the end")
        os.kill(workers["soak-host"], signal.SIGKILL)
        began = time.monotonic()
        finished = run.finish()
    assert time.monotonic() - began < IN_ORDER_SECONDS_MAX
    assert finished.code == 3
    assert finished.summary["verdict"] == "broken"
    assert finished.summary["interrupted"] is True
    assert "soak-host was killed by SIGKILL" in finished.summary["reason"]


def test_workers_do_not_outlive_a_runner_that_is_killed(tmp_path: Path) -> None:
    shared = set(SHARED_MEMORY.iterdir())
    text = scenario_text([BURSTS | {"cpu": 1}], duration=LONG, guest={"cpus": 2})
    with LiveRun(tmp_path, text) as run:
        workers = run.await_workers(*all_names(2))
        run.await_started()
        os.kill(run.pid, signal.SIGKILL)
        run.process.wait()
        await_true(
            lambda: not any(map(process_name, workers.values())), "the end of all workers", 5.0
        )
    (directory,) = run.results.iterdir()
    assert not (directory / "summary.json").exists()
    assert (directory / "scenario.toml").exists()
    assert set(SHARED_MEMORY.iterdir()) <= shared


@pytest.mark.parametrize("point", ["lock-taken", "lock-kept", "refilling"])
def test_a_guest_that_dies_at_a_named_point_of_a_hold_costs_an_epoch_at_most(
    point: str, tmp_path: Path
) -> None:
    steady = {"kind": "steady", "target": "4MiB"}
    loads = [steady | {"cpu": cpu} for cpu in range(2)]
    text = scenario_text(loads, duration=LONG, guest={"cpus": 2}, limits=ANY_OUTCOME)
    with LiveRun(tmp_path, text) as run:
        run.await_workers(*all_names(2))
        run.await_started()
        held = layout.LOAD_WORDS + layout.L_HELD_PAGES
        await_true(lambda: run.segment.loads[held] > 0, "pages of the other guest")
        run.segment.header[H_FAULT_POINT] = fault_point_word(0, POINTS[point])
        place = 0 * layout.WORKER_WORDS + W_FAULT_POINT
        await_true(lambda: run.segment.workers[place] == POINTS[point], "the point")
        assert run.workers()["soak-guest-0"] in lock_holders(run)
        kept = run.segment.loads[held]
        killed(run, "soak-guest-0")
        operations = run.segment.workers[layout.WORKER_WORDS + layout.W_OPERATIONS]
        await_true(
            lambda: run.segment.workers[layout.WORKER_WORDS + layout.W_OPERATIONS] > operations,
            "the other guest's work",
        )
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert kept > 0
    assert_recovered(finished)
    recoveries = finished.summary["recoveries"]
    assert recoveries["recovered"] + recoveries["rebuilt"] == 1
    assert finished.summary["epochs"] == 1 + recoveries["rebuilt"]
    if point == "refilling":  # blocks between two places
        assert recoveries["rebuilt"] == 1
    assert finished.events("lock-dead") or finished.events("recovered")[0]["lock_died"]


def test_a_reporter_that_dies_while_it_puts_back_costs_an_epoch(tmp_path: Path) -> None:
    with LiveRun(tmp_path, scenario_text([BURSTS], duration=LONG, limits=ANY_OUTCOME)) as run:
        run.await_workers(*all_names(1))
        run.await_started()
        run.segment.header[H_FAULT_POINT] = fault_point_word(1, POINTS["putting-back"])
        place = layout.WORKER_WORDS + W_FAULT_POINT
        await_true(lambda: run.segment.workers[place], "the point")
        killed(run, "soak-reporter")
        served = run.segment.report[layout.R_SERVED]
        await_true(lambda: run.segment.report[layout.R_SERVED] >= served + 2, "two reports")
        run.signal(signal.SIGTERM)
        finished = run.finish()
    assert_recovered(finished)
    assert (finished.summary["epochs"], finished.summary["tainted_epochs"]) == (2, 1)
    assert [event["epoch"] for event in finished.events("epoch")] == [2]


def test_a_lock_holder_that_dies_kills_the_zone_and_the_run(tmp_path: Path) -> None:
    """The lock is shared and robust: a process that is no worker takes it and dies with it."""
    with LiveRun(tmp_path, scenario_text([BURSTS], duration=LONG)) as run:
        run.await_started()
        base = run.segment.base
        pid = os.fork()
        if pid == 0:
            held = all(take_zone_lock(base, zone, 0) == HELD for zone in range(2))
            os._exit(0 if held else 1)
        assert os.waitpid(pid, 0)[1] == 0
        finished = run.finish()
    assert finished.code == 3
    assert "is dead: a worker died holding its lock" in finished.summary["reason"]
    assert finished.events("lock-dead")


# ---- what a run stands on ----


def test_a_lock_that_is_never_let_go_puts_audits_off_and_is_logged(tmp_path: Path) -> None:
    """The state cannot be copied then. The guest goes around its pageset, and nothing is said on
    stdout but the summary.
    """
    steady = {"kind": "steady", "target": "4MiB", "rate": 1000}
    with LiveRun(tmp_path, scenario_text([steady], duration="1800ms")) as run:
        run.await_started()
        run.segment.pagesets[layout.P_CLAIM] = STRANGER
        time.sleep(1.4)
        run.segment.pagesets[layout.P_CLAIM] = 0
        finished = run.finish()
    assert finished.summary["verdict"] == "pass", finished.summary["reason"]
    log = (finished.directory / "worker.log.jsonl").read_text().splitlines()
    put_off = [record for line in log if (record := json.loads(line))["event"] == "audit.put_off"]
    assert put_off
    assert put_off[0]["worker"] == "runner"
    assert finished.messages == []


def test_results_that_vanish_cost_no_more_than_the_results(tmp_path: Path) -> None:
    """The summary is still said; one line tells that it could not be kept."""
    with LiveRun(tmp_path, scenario_text(duration="600ms")) as run:
        run.await_started()
        while run.results.exists():  # a file may come between its look and the end of a folder
            shutil.rmtree(run.results, ignore_errors=True)
        finished = run.finish()
    assert finished.summary["verdict"] == "pass"
    assert finished.code == 2
    (message,) = finished.messages
    assert message.startswith("pagesoak: results could not be kept:")
    assert "No such file or directory" in message

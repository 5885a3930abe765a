"""What the daemon sees by itself: runs of other processes that end, runners that never get on."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesoak.daemon.client import Client
from tests.daemon_helper import END_SECONDS_MAX, LONG, SLOW_TEST_SECONDS_MAX, Daemon, wait_until
from tests.live_helper import command, environment, scenario_text, write_scenario

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

SEEN_SECONDS_MAX = 20.0
"""Ten are promised; this machine does other things, too."""
IDLE_SECONDS = 3.0
"""A worker that is away is named at the first look, each second."""
LOOK_SECONDS = 0.2


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as started:
        yield started


def state(client: Client, run: str) -> str:
    found: str = client.get(f"/v1/runs/{run}")["state"]
    return found


@pytest.fixture
def another(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run in the foreground whose results go where those of a daemon do."""
    results = tmp_path / "runs"
    results.mkdir(mode=0o700)
    with subprocess.Popen(
        command("run", write_scenario(tmp_path, LONG), "--results", results),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(NUMBA_DISABLE_JIT="1"),
    ) as process:
        try:
            wait_until(lambda: list(results.glob("*/series.csv")))
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, "ended"), (signal.SIGKILL, "unclean")]
)
def test_a_run_of_another_process_that_ends_is_seen_without_a_restart(
    tmp_path: Path, another: subprocess.Popen[bytes], number: signal.Signals, expected: str
) -> None:
    with Daemon(tmp_path) as daemon:
        (name,) = [each["run"] for each in daemon.client.get("/v1/runs")["runs"]]
        assert state(daemon.client, name) == "running"
        another.send_signal(number)
        another.wait(END_SECONDS_MAX)
        wait_until(lambda: state(daemon.client, name) == expected, SEEN_SECONDS_MAX)
        assert " running " not in daemon.cli("list").out
        unclean = [name] if expected == "unclean" else []
        assert daemon.client.get("/v1/status")["ended_uncleanly"] == unclean


def test_a_runner_that_is_stopped_while_it_starts_is_named(daemon: Daemon) -> None:
    started = daemon.client.post("/v1/runs", {"run": "one", "scenario_toml": LONG})
    pid = started["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert state(daemon.client, "one") == "starting"
    wait_until(lambda: daemon.client.get("/v1/status")["silent"] == ["one"], SEEN_SECONDS_MAX)
    assert daemon.client.get("/healthz") == {"status": "degraded"}
    assert "not heard from" in daemon.cli("status").out
    (said,) = daemon.said("runner.silent")
    assert (said["run"], said["pid"]) == ("one", pid)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: state(daemon.client, "one") == "running")
    wait_until(lambda: daemon.client.get("/healthz") == {"status": "ok"})


def test_a_guest_that_has_nothing_to_do_is_well(tmp_path: Path) -> None:
    """Its loads are over at once, and there is nothing to report either."""
    with Daemon(tmp_path) as daemon:
        daemon.run("one", scenario_text(duration="1h", reporting={"policy": "off"}))
        began = time.monotonic()
        while time.monotonic() < began + IDLE_SECONDS:
            status = daemon.client.get("/v1/status")
            assert (status["unwell"], status["silent"]) == ([], [])
            time.sleep(LOOK_SECONDS)
        stopped = daemon.cli("stop", "one", "--json").summary
        assert (stopped["verdict"], stopped["interrupted"]) == ("pass", True)

"""Disks that refuse: full or read-only, at the start, in the middle and at the end. Real ones, of
memory; mounting them takes root.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_helper import LONG, SLOW_TEST_SECONDS_MAX, Daemon, wait_until
from tests.live_helper import scenario_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SLOW_TEST_SECONDS_MAX),
    pytest.mark.skipif(os.geteuid() != 0, reason="a file system is mounted by root only"),
    pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount"),
]

DISK_MIB = 4
BURSTS = {"kind": "bursts", "leave_free": "16MiB", "burst": "4MiB", "think": "5ms", "hold": "1ms"}
BUSY = scenario_text(loads=(BURSTS,), duration="1h")
"""Writes events all the time."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system for the results of the daemon below `tmp_path`."""
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o700)
    options = f"size={DISK_MIB}m,mode=0700"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "pagesoak-test", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def daemon(disk: Path) -> Iterator[Daemon]:
    with Daemon(disk.parent) as started:
        yield started


def fill(disk: Path) -> Path:
    """Take all that is left of the disk."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk is never full")


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def status(daemon: Daemon) -> dict[str, Any]:
    return daemon.client.get("/v1/status")


def healthy(daemon: Daemon) -> bool:
    found: str = daemon.client.get("/healthz")["status"]
    return found == "ok"


def test_a_disk_that_is_full_at_the_start_refuses_no_daemon(disk: Path) -> None:
    filler = fill(disk)
    with Daemon(disk.parent) as daemon:
        assert not healthy(daemon)
        assert "degraded" in daemon.cli("status").out
        assert status(daemon)["storage_problem"]
        daemon.client.post("/v1/runs", {"run": "one", "scenario_toml": LONG})
        wait_until(lambda: daemon.record("one")["state"] == "refused")
        assert "No space left" in daemon.record("one")["reason"]
        filler.unlink()
        wait_until(lambda: healthy(daemon))
        assert daemon.run("one")["state"] == "running"
        assert daemon.said("results.stored_again")


def test_a_disk_that_is_read_only_at_the_start_shows_what_it_has(disk: Path) -> None:
    with Daemon(disk.parent) as daemon:
        daemon.run("one")
        daemon.cli("stop", "one")
        daemon.terminate()
        remount(disk, "ro")
        daemon.start()
        assert not healthy(daemon)
        assert [run["run"] for run in daemon.client.get("/v1/runs")["runs"]] == ["one"]
        remount(disk, "rw")
        wait_until(lambda: healthy(daemon))
        assert daemon.record("one")["verdict"] == "pass"


def test_a_run_goes_on_while_the_disk_is_full_and_catches_up_afterwards(
    daemon: Daemon, disk: Path
) -> None:
    daemon.run("one", BUSY)
    events = disk / "one" / "events.jsonl"
    wait_until(events.exists)
    filler = fill(disk)
    degraded = wait_until(lambda: (now := status(daemon))["results_not_stored"] > 0 and now)
    assert "refuses" in degraded["storage_problem"]
    assert not healthy(daemon)
    assert "pagesoak_results_not_stored 0.0" not in daemon.scrape()
    assert "results not stored" in daemon.cli("status").out
    before = daemon.record("one")["figures"]["alloc_requests"]
    wait_until(lambda: daemon.record("one")["figures"]["alloc_requests"] > before)
    filler.unlink()
    wait_until(lambda: healthy(daemon))
    assert status(daemon)["results_not_stored"] == 0
    lines = events.read_text().splitlines()
    assert all(json.loads(line) for line in lines[:-1])


def test_a_summary_that_the_disk_refuses_is_written_later(daemon: Daemon, disk: Path) -> None:
    daemon.run("one")
    filler = fill(disk)
    stopped = daemon.cli("stop", "one", "--json").summary
    assert (stopped["state"], stopped["verdict"]) == ("ended", "pass")
    assert not (disk / "one" / "summary.json").exists()
    assert daemon.record("one")["summary"]["verdict"] == "pass"
    assert status(daemon)["results_not_stored"] > 0
    filler.unlink()
    wait_until(lambda: healthy(daemon))
    assert json.loads((disk / "one" / "summary.json").read_text())["verdict"] == "pass"


def test_results_beyond_what_is_kept_go_the_oldest_first(tmp_path: Path) -> None:
    with Daemon(tmp_path, 'keep_size = "1MiB"\n') as daemon:
        for name in ("one", "two", "three"):
            daemon.run(name)
            daemon.cli("stop", name)
            with (daemon.results / name / "worker.log.jsonl.1").open("wb") as older:
                older.write(b"x" * (500 << 10))
        daemon.terminate()
        daemon.start()
        wait_until(lambda: daemon.said("run.removed"))
        assert not (daemon.results / "one").exists()
        assert (daemon.results / "three").exists()
        assert "one" not in daemon.cli("list").out
        assert "pagesoak_runs_removed_total" in daemon.scrape()
        assert status(daemon)["results_removed"] >= 1

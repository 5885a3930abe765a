"""Disks that refuse: full or read-only, at the start, in the middle and at the end. Real ones, of
memory; mounting them takes root.
"""

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_helper import LOADS, LONG, SLOW_TEST_SECONDS_MAX, Daemon, wait_until
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
QUIET = scenario_text(loads=LOADS, duration="1h", reporting={"policy": "off"})
"""Writes none: only its series grows."""


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


ROWS_APART_SECONDS_MAX = 3.0
"""Of a series without a gap: half a second, on a machine that does nothing else."""


def start_on_a_disk_that_fills(daemon: Daemon, disk: Path) -> Path:
    """A run whose disk is full before its first row, for some seconds; what fills it.

    A file that has begun could go on to the end of its page.
    """
    daemon.client.post("/v1/runs", {"run": "one", "scenario_toml": QUIET})
    wait_until((disk / "one" / "run.json").exists)
    filler = fill(disk)
    wait_until(lambda: (daemon.record("one")["elapsed_seconds"] or 0) > 2 * ROWS_APART_SECONDS_MAX)
    assert times(disk / "one" / "series.csv") == []
    return filler


def times(series: Path) -> list[float]:
    """Of the rows that are there."""
    with series.open(newline="") as file:
        return [float(row["elapsed_seconds"]) for row in csv.DictReader(file)]


def test_a_series_has_no_gap_where_the_disk_was_full(daemon: Daemon, disk: Path) -> None:
    filler = start_on_a_disk_that_fills(daemon, disk)
    assert status(daemon)["results_not_stored"] > 0
    filler.unlink()
    series = disk / "one" / "series.csv"
    wait_until(lambda: times(series))  # while it goes on
    wait_until(lambda: healthy(daemon))
    daemon.cli("stop", "one")
    found = [0.0, *times(series)]
    apart = [later - earlier for earlier, later in pairwise(found)]
    assert max(apart) < ROWS_APART_SECONDS_MAX
    assert found[-1] > 2 * ROWS_APART_SECONDS_MAX
    assert status(daemon)["results_lost"] == 0
    assert not daemon.said("results.lost")


def test_what_a_full_disk_never_took_is_counted_as_lost(daemon: Daemon, disk: Path) -> None:
    filler = start_on_a_disk_that_fills(daemon, disk)
    daemon.cli("stop", "one")
    assert times(disk / "one" / "series.csv") == []
    (said,) = daemon.said("results.lost")
    assert (said["run"], said["lines"]) == ("one", status(daemon)["results_lost"])
    assert said["lines"] >= 2 * ROWS_APART_SECONDS_MAX
    filler.unlink()
    wait_until(lambda: healthy(daemon))


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

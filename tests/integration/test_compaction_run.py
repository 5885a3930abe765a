"""A virtual run whose guest compacts: pages move under load, and nobody misses one."""

from pathlib import Path

import pytest

from tests.live_helper import Finished, pagesoak, scenario_text, write_scenario


def virtual_run(folder: Path, *, kernel: str, compaction: bool) -> Finished:
    """64 MiB, of which two CPUs hold more than half, in blocks of all orders and types."""
    load = {
        "kind": "steady",
        "target": "36MiB",
        "rate": 60_000,
        "orders": [70, 4, 4, 6, 6, 4, 2, 1, 1, 2, 1],
        "types": {"unmovable": 25, "movable": 70, "reclaimable": 5},
        "atomic_percent": 20,
        "cpus": "all",
    }
    text = scenario_text(
        [load],
        duration="700ms",
        guest={"memory": "64MiB", "cpus": 2, "kernel": kernel, "compaction": compaction},
        limits={"oom_events_isolated_max": 1_000_000, "alloc_failures_isolated_max": 1_000_000},
    )
    path = write_scenario(folder, text)
    arguments = ("run", path, "--virtual", "--json", "--results", folder / "results")
    return pagesoak(*arguments, NUMBA_DISABLE_JIT="1")


def moved_pages(run: Finished) -> int:
    """Pages that compaction moved."""
    return sum(event["moved_pages"] for event in run.events("compacted"))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_pages_move_and_nobody_misses_one(tmp_path: Path, kernel: str) -> None:
    """Every page is verified before it is given back: what moved carries what was written."""
    run = virtual_run(tmp_path, kernel=kernel, compaction=True)
    assert run.code == 0, run.err
    assert run.summary["integrity"]["violations"] == 0
    assert run.summary["integrity"]["pages_verified"] > 100_000
    assert moved_pages(run) > 1000


@pytest.mark.slow
def test_without_compaction_nothing_moves(tmp_path: Path) -> None:
    run = virtual_run(tmp_path, kernel="6.1", compaction=False)
    assert run.code == 0, run.err
    assert run.events("compacted") == []

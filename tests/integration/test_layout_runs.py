"""Soaks of guests that no recording shows: two nodes, a Normal and a Movable zone, 8 GiB.

Live and on the virtual clock: every audit clean, every page as it was left, every zone reported.
"""

from pathlib import Path
from typing import Any

import pytest

from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.procfs import read_buddyinfo
from pagesoak.allocator.zoneinfo import read_zoneinfo
from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    Finished,
    compile_core,
    run_scenario_text,
    scenario_text,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

STEADY = {"kind": "steady", "atomic_percent": 2, "cpus": "all", "rate": 200_000}
BURSTS = {
    "kind": "bursts", "burst": "60MiB", "jitter": 25, "think": "50ms", "hold": "30ms", "cpu": 1,
}  # fmt: skip
ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}

TWO_NODES = ("1GiB", {"cpus": 2, "nodes": 2}, "100MiB", "700MiB")
LARGE = ("8GiB", {"cpus": 2, "touch": False}, "100MiB", "4GiB")
ALL_ZONES = ("6GiB", {"cpus": 3, "nodes": 2, "movable": "1GiB", "touch": False}, "100MiB", "4GiB")

PLACES = {
    "two nodes": [(0, "DMA"), (0, "DMA32"), (1, "DMA32")],
    "8 GiB": [(0, "DMA"), (0, "DMA32"), (0, "Normal")],
    "all zones": [(0, "DMA"), (0, "DMA32"), (1, "Normal"), (1, "Movable")],
}


def soak(folder: Path, case: tuple[Any, ...], *options: str) -> Finished:
    """A soak of a second, with a pass every tenth of it and reports that take 5 ms."""
    memory, guest, target, leave_free = case
    text = scenario_text(
        [{**STEADY, "target": target}, {**BURSTS, "leave_free": leave_free}],
        memory=memory,
        duration="1.2s",
        seed=3,
        guest=guest,
        reporting={"order": 9, "delay": "100ms"},
        host={"latency_per_call": "5ms"},
        limits=ANY_OUTCOME,
    )
    return run_scenario_text(folder, text, *options)


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


@pytest.mark.parametrize("options", [(), ("--virtual",)], ids=["live", "virtual"])
@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param("two nodes", TWO_NODES, id="two nodes"),
        pytest.param("8 GiB", LARGE, id="8 GiB"),
        pytest.param("all zones", ALL_ZONES, id="all zones"),
    ],
)
def test_audits_are_clean_and_every_zone_reports(
    tmp_path: Path, name: str, case: tuple[Any, ...], options: tuple[str, ...]
) -> None:
    done = soak(tmp_path, case, *options)
    summary = done.summary
    assert done.code == 0, done.err
    assert summary["verdict"] == "pass"
    assert summary["audits"]["run"] > 0
    assert summary["audits"]["failed"] == 0
    assert summary["integrity"]["violations"] == 0
    assert (summary["integrity"]["pages_verified"] > 0) == summary["guest"]["touch"]
    assert summary["alloc_requests"] > 10_000
    zones = summary["zones"]
    assert [(zone["node"], zone["zone"]) for zone in zones] == PLACES[name]
    for zone in zones:
        assert zone["isolated_pages"] == 0
        assert (zone["isolated_pages_max"] > 0) == (zone["zone"] != "DMA"), "DMA's gate is closed"
    buddies = read_buddyinfo(done.directory / "after.buddyinfo")
    assert [(zone.node, zone.zone) for zone in buddies] == PLACES[name]
    populated = [zone for zone in read_zoneinfo(done.directory / "after.zoneinfo") if zone.present]
    assert [(zone.node, zone.zone) for zone in populated] == PLACES[name]
    lists = read_free_lists(done.directory / "after.free")
    assert [(zone.node, zone.name) for zone in lists.zones] == PLACES[name]


def test_a_guest_of_two_nodes_goes_on_from_its_own_end(tmp_path: Path) -> None:
    """What one soak leaves, the same each time, starts the next: the free lists of both nodes."""
    first, again = (soak(tmp_path, TWO_NODES, "--virtual") for _ in range(2))
    for name in ("events.jsonl", "after.free"):
        assert (first.directory / name).read_bytes() == (again.directory / name).read_bytes()
    text = scenario_text(
        [{"kind": "idle"}],
        memory=None,
        duration="500ms",
        guest={"snapshot": str(first.directory / "after.free"), "cpus": 2, "touch": False},
        reporting={"order": 9, "delay": "50ms"},
    )
    done = run_scenario_text(tmp_path, text, "--virtual")
    assert done.code == 0, done.err
    assert done.summary["audits"]["failed"] == 0
    for ended, begun in zip(first.summary["zones"], done.summary["zones"], strict=True):
        for figure in ("zone", "node", "managed_pages", "watermark_pages", "free_pages"):
            assert begun[figure] == ended[figure]
        assert begun["reported_pages"] >= ended["reported_pages"]

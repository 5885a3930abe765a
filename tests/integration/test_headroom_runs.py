"""`headroom` and `oom_waits_for_report` in whole soaks, beside the others on the same guest, load
and seed.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.live_helper import (
    COMPILE_SECONDS_MAX,
    Finished,
    compile_core,
    run_scenario_text,
    scenario_text,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}
LINUX = {"order": 9, "delay": "2s"}
BURSTS = {
    "kind": "bursts",
    "leave_free": "150MiB",
    "burst": "100MiB",
    "think": "1200ms",
    "hold": "150ms",
}
BURST_PAGES = 100 << 8


def soak(folder: Path, policy: str, *, duration: str = "10m", **guest: Any) -> Finished:
    """The bursts of `seed-512m` with report calls of 100 ms more, on a virtual clock."""
    text = scenario_text(
        [BURSTS],
        memory="512MiB",
        duration=duration,
        guest=guest,
        reporting=LINUX | {"policy": policy},
        host={"latency_per_call": "100ms"},
        limits=ANY_OUTCOME,
    )
    finished = run_scenario_text(folder, text, "--virtual")
    assert finished.code == 0, finished.messages
    return finished


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


@pytest.fixture(scope="module")
def mainline(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """What happens to this guest under Linux's own rule."""
    finished = soak(tmp_path_factory.mktemp("mainline"), "mainline")
    assert finished.summary["oom_events"]["isolated"] > 0
    return finished


@pytest.mark.parametrize("policy", ["headroom", "headroom:floor=27000"])
def test_headroom_kills_nobody_where_mainline_does(
    policy: str, mainline: Finished, tmp_path: Path
) -> None:
    summary = soak(tmp_path, policy).summary
    assert sum(summary["oom_events"].values()) == sum(summary["alloc_failures"].values()) == 0
    assert summary["stalls"] == 0
    assert summary["watermark_margin_pages_min"]["low"] > 0
    assert summary["bursts"]["run"] > 300
    assert summary["unseen_demands"] == 0
    assert 0 < summary["punched_bytes"] < mainline.summary["punched_bytes"]


def test_the_floor_is_what_was_taken_and_the_high_mark(tmp_path: Path) -> None:
    finished = soak(tmp_path, "headroom", duration="60s")
    zone = finished.summary["zones"][-1]
    floors = {event["floor_pages"] for event in finished.events("waiting")}
    taken = {floor - zone["watermark_pages"]["high"] for floor in floors}
    # a whole burst, what the pageset holds besides, and a second one that begins within the window
    assert all(BURST_PAGES <= pages <= 2 * BURST_PAGES for pages in taken if pages)


def test_a_burst_larger_than_any_before_is_put_on_record_and_remembered(tmp_path: Path) -> None:
    """A floor far too low for the bursts, with a window that meets them."""
    finished = soak(tmp_path, "headroom:floor=2000", duration="2m")
    summary = finished.summary
    assert summary["oom_events"]["isolated"] > 0
    unseen = finished.events("unseen-demand")
    assert summary["unseen_demands"] == len(unseen) > 0
    high = summary["zones"][-1]["watermark_pages"]["high"]
    assert {event["expected_pages"] for event in unseen} == {2000 - high}
    assert all(event["taken_pages"] > event["expected_pages"] for event in unseen)


def test_after_the_first_failure_headroom_has_learnt(tmp_path: Path) -> None:
    """Without a quarter to begin with, in a guest that is quiet until the bursts begin."""
    finished = soak(tmp_path, "headroom:initial_percent=0")
    kills = finished.events("oom")
    assert len(kills) <= 1
    assert finished.summary["unseen_demands"] >= len(kills)


def test_a_guest_that_waits_kills_nobody_and_stands_still_instead(
    mainline: Finished, tmp_path: Path
) -> None:
    finished = soak(tmp_path, "mainline", oom_waits_for_report=True)
    summary = finished.summary
    assert sum(summary["oom_events"].values()) == 0
    waits = finished.events("oom-wait")
    assert summary["oom_waits"]["count"] == len(waits) > 0
    assert all(event["isolated_pages"] > 0 for event in waits)
    longest = summary["window_seconds"]["max"]
    assert 0 < summary["oom_waits"]["seconds"] <= len(waits) * longest
    # as much is given back as without the repair, but for what killed bursts changed
    assert summary["punched_bytes"] > mainline.summary["punched_bytes"] // 2


def test_an_idle_guest_is_reported_as_fully_and_within_twice_the_time(tmp_path: Path) -> None:
    reported, ended = {}, {}
    for policy in ("mainline", "headroom"):
        text = scenario_text(memory="512MiB", duration="20s", reporting=LINUX | {"policy": policy})
        finished = run_scenario_text(tmp_path, text, "--virtual")
        summary = finished.summary
        began_ns = summary["started_monotonic_ns"]
        reported[policy] = sum(zone["reported_pages"] for zone in summary["zones"])
        ended[policy] = finished.events("drained")[-1]["monotonic_ns"] - began_ns
    assert reported["headroom"] == reported["mainline"] > 0
    assert ended["headroom"] <= 2 * ended["mainline"]

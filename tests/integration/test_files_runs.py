"""Soaks with files: reclaim lives on the page cache, live with several CPUs and virtually."""

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

FILES = {
    "kind": "files", "files": "96MiB", "write_percent": 20, "mlocked": "4MiB", "tmpfs": "4MiB",
    "cpu": 1,
}  # fmt: skip
SCAN = {"kind": "files", "files": "40MiB", "pattern": "sequential", "rate": 50_000, "cpu": 0}
BURSTS = {
    "kind": "bursts", "leave_free": "24MiB", "burst": "16MiB", "jitter": 25, "think": "20ms",
    "hold": "10ms", "cpu": 0,
}  # fmt: skip
ANY_OUTCOME = {"oom_events_isolated_max": 10**6, "alloc_failures_isolated_max": 10**6}


@pytest.fixture(scope="module", autouse=True)
def _core() -> None:
    compile_core()


def soak(
    folder: Path, loads: list[dict[str, Any]], *options: str, policy: str = "off"
) -> Finished:
    """A second and a half of a guest of 64 MiB and two CPUs, both of which reclaim."""
    text = scenario_text(
        loads,
        memory="64MiB",
        duration="1.5s",
        seed=5,
        guest={"cpus": 2, "writeback": "3ms"},
        reporting={"policy": policy, "delay": "50ms"},
        host={"latency_per_call": "5ms"},
        limits=ANY_OUTCOME,
    )
    return run_scenario_text(folder, text, *options)


@pytest.mark.parametrize("options", [(), ("--virtual",)], ids=["live", "virtual"])
@pytest.mark.parametrize("policy", ["off", "mainline"])
def test_the_cache_gives_way_to_bursts_and_fills_again(
    tmp_path: Path, options: tuple[str, ...], policy: str
) -> None:
    """The files do not fit beside the bursts: reclaim takes their pages, and no page is lost."""
    done = soak(tmp_path, [BURSTS, FILES, SCAN], *options, policy=policy)
    summary = done.summary
    assert done.code == 0, done.err
    assert summary["audits"]["run"] > 0
    assert summary["audits"]["failed"] == 0
    assert summary["integrity"]["violations"] == 0
    cache, reclaim = summary["page_cache"], summary["reclaim"]
    freed = sum(reclaim["freed_pages"].values())
    assert cache["unevictable_pages"] == 1024
    assert sum(reclaim["scanned_pages"].values()) >= freed
    if options:  # live, how far a run comes is the machine's doing
        assert cache["hits"] > 1000
        assert cache["misses"] > 64 << 8, "more than memory holds"
        assert cache["written_pages"] > 0
        assert cache["inactive_pages"] + cache["active_pages"] > 1000
        assert freed > 1000
        assert summary["bursts"]["run"] > 3
    kept = cache["inactive_pages"] + cache["active_pages"] + cache["unevictable_pages"]
    assert cache["misses"] + 1024 == freed + kept, "what came in was reclaimed or is there"


def test_the_same_seed_gives_the_same_run_with_files(tmp_path: Path) -> None:
    """Virtually, figure by figure."""
    runs = [soak(tmp_path, [BURSTS, FILES], "--virtual").summary for _ in range(2)]
    for figure in ("alloc_requests", "reclaim", "page_cache", "stalls", "bursts", "zones"):
        assert runs[0][figure] == runs[1][figure]


def test_locked_files_that_do_not_fit_end_the_run(tmp_path: Path) -> None:
    done = soak(tmp_path, [{**FILES, "mlocked": "60MiB"}], "--virtual")
    assert done.code == 2
    assert "mlocked" in done.err
    assert "Traceback" not in done.err

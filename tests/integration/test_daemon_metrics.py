"""What Prometheus gets from a live soak: clean to its own checker, there from the start, never a
step back, and the same as the run's own summary.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.statistics import bucket_bounds
from pagesoak.base.units import PAGE_SIZE_BYTES
from pagesoak.daemon.metrics_guest import VMSTAT_COUNTERS
from pagesoak.daemon.metrics_table import (
    BY_CAUSE,
    COUNTERS,
    LOCK_OCTAVES,
    RUN_GAUGES,
    SECONDS,
    STALL_OCTAVES,
    WINDOW_OCTAVES,
    ZONE_GAUGES,
    bounds,
)
from pagesoak.daemon.reading import Reading
from tests.daemon_helper import LONG, SLOW_TEST_SECONDS_MAX, Daemon, wait_until
from tests.live_helper import scenario_text
from tests.scrape_checks import Scrapes, doctored
from tests.treefiles import ROOT

pytestmark = pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)

PROMTOOL = shutil.which("promtool")
GUEST_NAMES_AS_THEY_ARE = re.compile(r"^node_memory_.* metric names should be written in 'snake_")
"""promtool's taste; these are node_exporter's own names."""


WINDOWS_MIN = 3
BETWEEN_SCRAPES_SECONDS = 5.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("metrics")) as started:
        started.run("one")
        yield started


def samples(text: str) -> dict[str, float]:
    """Series by name and labels, as they are written."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def after(seconds: float, what: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `what` gives so much later."""
    time.sleep(seconds)
    return what()


def check(text: str) -> list[str]:
    """What promtool has to say."""
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).splitlines()


# ---- bounds of histograms, without a daemon ----


@pytest.mark.parametrize("octaves", [WINDOW_OCTAVES, STALL_OCTAVES, LOCK_OCTAVES])
def test_every_bound_is_one_that_the_buckets_have_exactly(octaves: range) -> None:
    for bound, end in bounds(octaves):
        below = bucket_bounds(end)[0]
        assert round(bound * 1e9) == below - 1
        assert bucket_bounds(end - 1)[1] == below


def test_every_counter_of_the_core_is_exported_or_left_out_on_purpose() -> None:
    numbers = {
        name: value
        for name, value in vars(st).items()
        if name.isupper() and type(value) is int and 0 <= value < layout.COUNTERS
    }
    first = numbers["ALLOC_REQUESTS"]
    counters = {
        value: name
        for name, value in numbers.items()
        if name not in {"LOCK_WAIT", "LOCK_HOLD", "WINDOW", "STALL"}
        and not name.startswith(("HISTOGRAM", "READ", "PARTS"))
    }
    exported = {word for _, words in COUNTERS.values() for word in words}
    exported |= {word for _, word in SECONDS.values()}
    exported |= {start + cause for _, start in BY_CAUSE.values() for cause in range(3)}
    exported |= {word for words in VMSTAT_COUNTERS.values() for word in words}
    left_out = {counters[word] for word in counters.keys() - exported}
    assert first == 0
    assert left_out == {
        "PAGES_SCANNED_DIRECT",
        "PAGES_SCANNED_KSWAPD",
        "PAGES_ACTIVATED",
    }


@pytest.mark.parametrize(
    ("request_number", "served", "ranges"), [(0, 0, 0), (0, 6, 0), (7, 6, 31), (7, 7, 0)]
)
def test_ranges_wait_for_the_host_only_while_a_request_is_unanswered(
    request_number: int, served: int, ranges: int
) -> None:
    """A request's number is 0 once its blocks are back, its ranges stay where they were."""
    report = [0] * 64
    report[layout.R_REQUEST], report[layout.R_SERVED] = request_number, served
    report[layout.R_COUNT] = 31
    reading = cast("Reading", SimpleNamespace(report=report))
    assert RUN_GAUGES["host_queue_elements"][1](reading) == ranges


# ---- a live soak ----


@pytest.mark.slow
@pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is missing (Debian: apt install prometheus)"
)
def test_promtool_finds_nothing_wrong(daemon: Daemon) -> None:
    assert check(daemon.scrape()) == []
    said = check(daemon.scrape("/metrics/guest?run=one"))
    assert [line for line in said if not GUEST_NAMES_AS_THEY_ARE.match(line)] == []


@pytest.mark.slow
def test_every_cause_is_there_with_0_from_the_start(daemon: Daemon) -> None:
    begun = daemon.client.post("/v1/runs", {"run": "new", "scenario_toml": LONG})
    assert begun["state"] == "starting"
    found = samples(daemon.scrape())
    for run in ("one", "new"):
        for name in BY_CAUSE:
            for cause in st.CAUSES:
                assert found[f'pagesoak_{name}_total{{cause="{cause}",run="{run}"}}'] == 0
    daemon.cli("stop", "new")
    for order in range(layout.MAX_ORDER):
        labels = f'node="0",order="{order}",run="one",zone="DMA"'
        assert f"pagesoak_zone_free_blocks{{{labels}}}" in found


@pytest.mark.slow
def test_no_counter_goes_back_and_no_sample_is_torn(daemon: Daemon) -> None:
    before: dict[str, float] = {}
    for _ in range(100):
        now = samples(daemon.scrape())
        for series, value in now.items():
            if "_total" in series or "_bucket" in series or "_count" in series:
                assert value >= before.get(series, 0.0), series
            if series.startswith("pagesoak_isolation_window_seconds_count"):
                last = series.replace("_count{", '_bucket{le="+Inf",')
                assert now[last] == value
        before = now
    assert before['pagesoak_report_calls_total{run="one"}'] > 0
    assert before["pagesoak_scrape_stale_reads_total"] == 0


@pytest.mark.slow
def test_windows_far_shorter_than_the_time_between_scrapes_are_seen(daemon: Daemon) -> None:
    name = "pagesoak_isolation_window_seconds"
    began, before = time.monotonic(), samples(daemon.scrape())
    wait_until(lambda: daemon.record("one")["figures"]["window_seconds"]["count"] > WINDOWS_MIN)
    now = after(BETWEEN_SCRAPES_SECONDS, lambda: samples(daemon.scrape()))
    between = time.monotonic() - began
    count = now[f'{name}_count{{run="one"}}'] - before[f'{name}_count{{run="one"}}']
    seconds = now[f'{name}_sum{{run="one"}}'] - before[f'{name}_sum{{run="one"}}']
    assert count > 0
    assert seconds / count < between / 20
    assert now['pagesoak_isolated_pages_max{run="one"}'] > 0


@pytest.mark.slow
def test_the_guest_looks_as_node_exporter_would_show_it(daemon: Daemon) -> None:
    found = samples(daemon.scrape("/metrics/guest"))
    managed = found['node_zoneinfo_managed_pages{node="0",zone="DMA"}']
    assert managed == 3840
    blocks = [
        value * (1 << int(re.findall(r'size="(\d+)"', series)[0]))
        for series, value in found.items()
        if series.startswith("node_buddyinfo_blocks") and 'zone="DMA"' in series
    ]
    assert len(blocks) == 11
    assert 0 < sum(blocks) <= managed
    assert found['node_zoneinfo_spanned_pages{node="0",zone="DMA"}'] == 4095
    assert found["node_vmstat_oom_kill"] == found["node_vmstat_pgsteal_file"] == 0
    assert (
        found["node_vmstat_nr_free_pages"] * PAGE_SIZE_BYTES == found["node_memory_MemFree_bytes"]
    )
    assert 0 < found["node_memory_MemFree_bytes"] < found["node_memory_MemTotal_bytes"]
    assert not any(series.startswith("node_") for series in samples(daemon.scrape()))


@pytest.mark.slow
def test_the_guest_of_several_runs_must_be_named(daemon: Daemon) -> None:
    daemon.run("two", LONG)
    assert "say which run" in daemon.scrape("/metrics/guest")
    assert "no run named" in daemon.scrape("/metrics/guest?run=three")
    assert 'zone="DMA"' in daemon.scrape("/metrics/guest?run=two")
    daemon.cli("stop", "two")


@pytest.mark.slow
def test_the_last_figures_of_a_run_are_those_of_its_summary(daemon: Daemon) -> None:
    daemon.run("brief", LONG)
    daemon.cli("stop", "brief")
    record = wait_until(lambda: (run := daemon.record("brief"))["summary"] and run)
    summary, found = record["summary"], samples(daemon.scrape())
    labels = '{run="brief"}'
    assert found[f"pagesoak_alloc_requests_total{labels}"] == summary["alloc_requests"]
    assert found[f"pagesoak_report_calls_total{labels}"] == summary["report_calls"]
    assert found[f"pagesoak_punched_bytes_total{labels}"] == summary["punched_bytes"]
    assert found[f"pagesoak_isolated_pages_max{labels}"] == summary["isolated_pages_max"]
    windows = found[f"pagesoak_isolation_window_seconds_count{labels}"]
    assert windows == summary["window_seconds"]["count"]
    assert found['pagesoak_run_state{run="brief",state="ended"}'] == 1


@pytest.mark.slow
def test_vmstat_of_a_guest_is_what_its_summary_says(daemon: Daemon) -> None:
    """Files three times as large as the guest, read at random, so that reclaim has to work. The
    run is paused before the last look, and ended from there.
    """

    def vmstat() -> dict[str, float]:
        found = samples(daemon.scrape("/metrics/guest?run=files")).items()
        stem = "node_vmstat_"
        return {name.removeprefix(stem): value for name, value in found if stem in name}

    files = {"kind": "files", "files": "96MiB", "write_percent": 20, "mlocked": "1MiB"}
    daemon.run("files", scenario_text(loads=(files,), duration="1h"))
    wait_until(lambda: vmstat()["pgsteal_file"] > 0)
    seen: dict[str, float] = dict.fromkeys(VMSTAT_COUNTERS, 0)
    for _ in range(20):
        now = vmstat()
        assert all(now[name] >= seen[name] for name in seen), "a counter went back"
        seen = {name: now[name] for name in seen}
    daemon.cli("pause", "files")
    wait_until(lambda: daemon.record("files")["state"] == "paused")
    last = wait_until(lambda: (now := vmstat()) == after(0.5, vmstat) and now)
    daemon.cli("stop", "files")
    summary = wait_until(lambda: daemon.record("files")["summary"])
    reclaim, cache = summary["reclaim"], summary["page_cache"]
    said = {
        "nr_inactive_file": cache["inactive_pages"],
        "nr_active_file": cache["active_pages"],
        "nr_unevictable": cache["unevictable_pages"],
        "nr_written": cache["written_pages"],
        "pgdeactivate": cache["deactivated_pages"],
        "pgsteal_kswapd": reclaim["freed_pages"]["kswapd"],
        "pgsteal_direct": reclaim["freed_pages"]["direct"],
        "pgsteal_file": sum(reclaim["freed_pages"].values()),
        "pgscan_direct_throttle": reclaim["throttles"],
        "pageoutrun": reclaim["kswapd_runs"],
        "oom_kill": sum(summary["oom_events"].values()),
    }
    assert {name: last[name] for name in said} == said
    assert last["pgsteal_file"] >= seen["pgsteal_file"] > 0
    assert last["nr_unevictable"] == 256


@pytest.mark.slow
def test_stalls_are_counted_with_their_lengths(daemon: Daemon) -> None:
    """Bursts that do not fit: each kills, and has stalled before."""
    too_large = {
        "kind": "bursts", "leave_free": "2MiB", "burst": "4MiB", "jitter": 0, "think": "20ms",
        "hold": "5ms",
    }  # fmt: skip
    daemon.run("stalls", scenario_text([too_large], duration="1h"))
    wait_until(lambda: sum(daemon.record("stalls")["figures"]["oom_events"].values()) > 1)
    daemon.cli("stop", "stalls")
    summary = wait_until(lambda: daemon.record("stalls")["summary"])
    found, label = samples(daemon.scrape()), '{run="stalls"}'
    kills = sum(summary["oom_events"].values())
    assert found[f"pagesoak_alloc_stalls_total{label}"] == summary["stalls"]
    assert kills <= found[f"pagesoak_alloc_stall_seconds_count{label}"] <= summary["stalls"]
    assert 0 < found[f"pagesoak_alloc_stall_seconds_sum{label}"] < summary["wall_seconds"]


@pytest.mark.slow
def test_every_series_is_explained_and_none_that_does_not_exist(daemon: Daemon) -> None:
    text = daemon.scrape()
    exported = set(re.findall(r"^# TYPE (pagesoak_\w+)", text, re.MULTILINE))
    page = (ROOT / "docs" / "daemon.md").read_text().partition("### Series\n")[2]
    explained = set(re.findall(r"^\| `(pagesoak_\w+)`", page, re.MULTILINE))
    assert explained == exported
    assert {f"pagesoak_{name}" for name in RUN_GAUGES} <= exported
    assert {f"pagesoak_zone_{name}" for name in ZONE_GAUGES} <= exported


# ---- many scrapes of a busy soak ----

SCRAPES = 150
"""`bench/scrapes.py` makes ten thousand."""


@pytest.mark.slow
def test_nothing_that_is_scraped_of_a_busy_soak_is_ever_wrong(daemon: Daemon) -> None:
    busy = scenario_text(
        loads=({"kind": "steady", "target": "8MiB"},), duration="1h", guest={"cpus": 2}
    )
    daemon.run("busy", busy)
    wait_until(lambda: "pagesoak_zone_pages{" in daemon.scrape())
    scrapes = Scrapes()
    wanted = time.monotonic() + 4.0
    while scrapes.counts < 3 or time.monotonic() < wanted:
        scrapes.check(daemon.scrape())
    for _ in range(SCRAPES):
        scrapes.check(daemon.scrape())
    assert scrapes.complaints == []
    counted = [name for name in scrapes.last if name.startswith("pagesoak_zone_pages{")]
    assert len(counted) >= 8
    age = scrapes.last['pagesoak_zone_pages_age_seconds{run="busy"}']
    assert 0 <= age < SLOW_TEST_SECONDS_MAX
    daemon.client.post("/v1/runs/busy/stop")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("series", "change", "said"),
    [
        ('pagesoak_zone_pages{node="0",run="one",state="free",zone="DMA"}', 1, "managed"),
        ('pagesoak_alloc_requests_total{run="one"}', -1e9, "went back"),
        ('pagesoak_isolated_pages_max{run="one"}', -1e9, "became better"),
        ('pagesoak_free_pages_min{run="one"}', 1e9, "became better"),
    ],
)
def test_a_scrape_that_is_wrong_is_seen(
    daemon: Daemon, series: str, change: float, said: str
) -> None:
    wait_until(lambda: "pagesoak_zone_pages{" in daemon.scrape())
    scrapes, text = Scrapes(), daemon.scrape()
    scrapes.check(text)
    assert series in scrapes.last
    scrapes.check(doctored(text, series, change))
    assert any(said in complaint for complaint in scrapes.complaints)

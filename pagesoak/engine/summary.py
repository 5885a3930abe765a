"""The summary of a run: what was asked, what happened, and the verdict.

The figures come from the segment: counters and histograms that the workers published, the zones'
own lowest and highest marks. Nothing is estimated. Fields and their meaning: docs/summary.md.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.errors import (
    EXIT_HARNESS_BROKEN,
    EXIT_INTERRUPTED,
    EXIT_LIMITS_BROKEN,
    EXIT_PASS,
)
from pagesoak.base.layout_demand import Z_WAIT_FREE_PAGES
from pagesoak.base.layout_reclaim import Z_ACTIVE_FILE, Z_INACTIVE_FILE, Z_UNEVICTABLE
from pagesoak.base.layout_recovery import H_EPOCH, H_RESTARTS
from pagesoak.base.scenario import Limits
from pagesoak.base.segment_view import SegmentWords
from pagesoak.base.units import PAGE_SIZE_BYTES

ROLES = ("guest", "reporter", "host")
ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable")
NANOSECONDS_PER_SECOND = 1_000_000_000


class Audits(NamedTuple):
    """Audits of the core's state: how many, how many found something, and how far apart."""

    run: int
    failed: int
    interval_seconds: float
    hold_seconds_max: float


class Times(NamedTuple):
    """Wall-clock labels (ISO 8601, UTC) and measured lengths of a run."""

    started: str
    finished: str
    duration_seconds: float
    wall_seconds: float


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / NANOSECONDS_PER_SECOND


def _quantiles(histogram: st.HistogramView) -> dict[str, Any]:
    return {
        "count": histogram.observations,
        "p50": _seconds(histogram.quantile(50, 100)),
        "p99": _seconds(histogram.quantile(99, 100)),
        "max": _seconds(histogram.maximum),
    }


def _by_cause(counters: tuple[int, ...], first: int) -> dict[str, int]:
    return {cause: counters[first + number] for number, cause in enumerate(st.CAUSES)}


def zone_figures(segment: SegmentWords) -> list[dict[str, Any]]:
    """Each zone as it is now, with its lowest free count, least margins and most isolated pages of
    the run.
    """
    figures = []
    for zone in range(segment.plan.zones):
        z = segment.zones[zone * layout.ZONE_WORDS : (zone + 1) * layout.ZONE_WORDS].tolist()
        figures.append(
            {
                "zone": ZONE_NAMES[z[layout.Z_INDEX]],
                "node": z[layout.Z_NODE],
                "managed_pages": z[layout.Z_MANAGED],
                "free_pages": z[layout.Z_FREE_PAGES],
                "free_pages_min": z[layout.Z_FREE_PAGES_MIN],
                "isolated_pages": z[layout.Z_ISOLATED],
                "isolated_pages_max": z[layout.Z_ISOLATED_MAX],
                "reported_pages": z[layout.Z_REPORTED],
                "waiting_for_pages": z[Z_WAIT_FREE_PAGES] or None,
                "watermark_pages": {
                    "min": z[layout.Z_WMARK_MIN],
                    "low": z[layout.Z_WMARK_LOW],
                    "high": z[layout.Z_WMARK_HIGH],
                    "boost": z[layout.Z_BOOST],
                },
                "watermark_margin_pages_min": {
                    "min": z[layout.Z_MARGIN_MIN],
                    "low": z[layout.Z_MARGIN_LOW],
                    "high": z[layout.Z_MARGIN_HIGH],
                },
            }
        )
    return figures


def _margins(zones: list[dict[str, Any]]) -> dict[str, int]:
    """The margins of the zone that reporting can reach deepest into: the one with most managed
    pages.
    """
    largest = max(zones, key=lambda zone: zone["managed_pages"])
    return dict(largest["watermark_margin_pages_min"])


def _replay(segment: SegmentWords) -> dict[str, int]:
    """Recorded requests of all replays, and how many were made by the end."""
    records = range(0, segment.plan.loads * layout.LOAD_WORDS, layout.LOAD_WORDS)
    replays = [at for at in records if segment.loads[at + layout.L_EVENT_COUNT]]
    return {
        "requests": sum(segment.loads[at + layout.L_EVENT_COUNT] for at in replays),
        "made": sum(segment.loads[at + layout.L_CURSOR] for at in replays),
    }


def _reclaim(counters: tuple[int, ...]) -> dict[str, Any]:
    """What direct reclaim and kswapd did."""
    return {
        "kswapd_wakes": counters[st.KSWAPD_WAKES],
        "kswapd_runs": counters[st.KSWAPD_RUNS],
        "throttles": counters[st.THROTTLES],
        "scanned_pages": {
            "direct": counters[st.PAGES_SCANNED_DIRECT],
            "kswapd": counters[st.PAGES_SCANNED_KSWAPD],
        },
        "freed_pages": {
            "direct": counters[st.PAGES_STOLEN_DIRECT],
            "kswapd": counters[st.PAGES_STOLEN_KSWAPD],
        },
    }


def _page_cache(segment: SegmentWords, counters: tuple[int, ...]) -> dict[str, int]:
    """What the files' accesses found, and what is in memory at the end."""

    def pages(word: int) -> int:
        records = range(0, segment.plan.zones * layout.ZONE_WORDS, layout.ZONE_WORDS)
        return sum(segment.zones[z + word] for z in records)

    return {
        "hits": counters[st.CACHE_HITS],
        "misses": counters[st.CACHE_MISSES],
        "written_pages": counters[st.PAGES_WRITTEN],
        "activated_pages": counters[st.PAGES_ACTIVATED],
        "deactivated_pages": counters[st.PAGES_DEACTIVATED],
        "inactive_pages": pages(Z_INACTIVE_FILE),
        "active_pages": pages(Z_ACTIVE_FILE),
        "unevictable_pages": pages(Z_UNEVICTABLE),
    }


def figures(segment: SegmentWords, unmatched_frees: int) -> dict[str, Any]:
    """What happened, as far as the segment tells."""
    total = st.read_all_statistics(segment)
    counters = total.counters
    zones = zone_figures(segment)
    return {
        "alloc_requests": counters[st.ALLOC_REQUESTS],
        "frees": counters[st.FREES],
        "alloc_failures": _by_cause(counters, st.FAILURES_ISOLATED),
        "fallbacks": counters[st.FALLBACKS],
        "oom_events": _by_cause(counters, st.OOM_ISOLATED),
        "stalls": counters[st.STALLS],
        "oom_waits": {
            "count": counters[st.OOM_WAITS],
            "seconds": _seconds(counters[st.OOM_WAIT_NS]),
        },
        "reclaim": _reclaim(counters),
        "page_cache": _page_cache(segment, counters),
        "bursts": {"run": counters[st.BURSTS], "killed": counters[st.BURSTS_KILLED]},
        "isolated_pages_max": segment.header[layout.H_ISOLATED_PAGES_MAX],
        "free_pages_min": segment.header[layout.H_FREE_PAGES_MIN],
        "watermark_margin_pages_min": _margins(zones),
        "passes": counters[st.PASSES],
        "gates_closed": counters[st.GATES_CLOSED],
        "report_calls": counters[st.REPORT_CALLS],
        "report_errors": counters[st.REPORT_ERRORS],
        "reporter_waits": counters[st.REPORTER_WAITS],
        "unseen_demands": counters[st.DEMANDS_UNSEEN],
        "list_allocations_failed": counters[st.LIST_ALLOCATIONS_FAILED],
        "reported_pages": counters[st.REPORTED_PAGES],
        "punched_bytes": counters[st.PUNCHED_BYTES],
        "window_seconds": _quantiles(total.histograms[st.WINDOW]),
        "zone_lock": {
            "taken": counters[st.LOCKS_TAKEN],
            "waits": counters[st.LOCK_WAITS],
            "wait_seconds": _quantiles(total.histograms[st.LOCK_WAIT]),
            "hold_seconds": _quantiles(total.histograms[st.LOCK_HOLD]),
        },
        "integrity": {
            "pages_verified": counters[st.PAGES_VERIFIED],
            "violations": counters[st.VIOLATIONS] + counters[st.LEDGER_BREACHES],
        },
        "unmatched_frees": unmatched_frees + counters[st.UNMATCHED_FREES],
        "requests_dropped": counters[st.REQUESTS_DROPPED],
        "replay": _replay(segment),
        "zones": zones,
        "epochs": max(segment.header[H_EPOCH], 1),
        "restarts": {
            role: segment.header[H_RESTARTS + number] for number, role in enumerate(ROLES)
        },
    }


def broken_limits(limits: Limits, summary: Mapping[str, Any]) -> list[str]:
    """The limits of the scenario that the figures break, in words."""
    oom = summary["oom_events"]
    checks = (
        ("oom_events_isolated_max", limits.oom_events_isolated_max, oom["isolated"]),
        ("oom_events_max", limits.oom_events_max, sum(oom.values())),
        (
            "alloc_failures_isolated_max",
            limits.alloc_failures_isolated_max,
            summary["alloc_failures"]["isolated"],
        ),
    )
    broken = [
        f"{name} = {limit}, found {found}"
        for name, limit, found in checks
        if limit is not None and found > limit
    ]
    least = limits.watermark_margin_min_pages
    margin = summary["watermark_margin_pages_min"]["min"]
    if least is not None and margin < least:
        broken.append(f"watermark_margin_min_pages = {least}, found {margin}")
    return broken


def guest_figures(segment: SegmentWords, memory_bytes: int | None) -> dict[str, int | bool]:
    """What the guest is. Of a recorded one `memory_bytes` is not known: its memory is taken to go
    up to the end of its last zone (a large guest has a hole below 4 GiB).
    """
    managed = sum(
        segment.zones[zone * layout.ZONE_WORDS + layout.Z_MANAGED]
        for zone in range(segment.plan.zones)
    )
    return {
        "memory_bytes": memory_bytes or segment.plan.max_pfn * PAGE_SIZE_BYTES,
        "managed_pages": managed,
        "cpus": segment.plan.cpus,
        "touch": bool(segment.header[layout.H_TOUCH]),
    }


def exit_code(verdict: str, *, interrupted: bool) -> int:
    """What the process ends with."""
    if verdict == "broken":
        return EXIT_HARNESS_BROKEN
    if interrupted:
        return EXIT_INTERRUPTED
    return EXIT_PASS if verdict == "pass" else EXIT_LIMITS_BROKEN

"""The plain series by name: what each means, and where in a reading it stands.

Names follow Prometheus' conventions; what `collect` adds to a counter's name is `_total`.
"""

from collections.abc import Callable, Iterator

from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.layout_demand import Z_WAIT_FREE_PAGES
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.daemon.reading import Reading
from pagesoak.engine.soak_clock import elapsed_ns

COUNTERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "alloc_requests": ("Allocations asked for.", (st.ALLOC_REQUESTS,)),
    "frees": ("Blocks given back.", (st.FREES,)),
    "alloc_fallbacks": ("Optional requests that got nothing and fell back.", (st.FALLBACKS,)),
    "alloc_stalls": (
        "Times direct reclaim was entered, as allocstall: up to 17 for a request that kills.",
        (st.STALLS,),
    ),
    "bursts": ("Bursts of the loads.", (st.BURSTS,)),
    "bursts_killed": ("Bursts that the OOM killer took.", (st.BURSTS_KILLED,)),
    "replay_requests_dropped": ("Requests of a replay that got nothing.", (st.REQUESTS_DROPPED,)),
    "unmatched_frees": ("Frees of a replay that found no such page.", (st.UNMATCHED_FREES,)),
    "report_passes": ("Passes of the reporting work.", (st.PASSES,)),
    "report_gates_closed": ("Times a pass left a zone alone.", (st.GATES_CLOSED,)),
    "report_calls": ("Report calls to the host.", (st.REPORT_CALLS,)),
    "report_errors": ("Report calls that the host answered with an error.", (st.REPORT_ERRORS,)),
    "reported_pages": ("Pages that became Reported.", (st.REPORTED_PAGES,)),
    "isolations_refused": ("Blocks not isolated: too little was free.", (st.ISOLATIONS_REFUSED,)),
    "reporter_waits": ("Passes that a policy's floor ended.", (st.REPORTER_WAITS,)),
    "unseen_demands": (
        "Report windows in which more was taken than the policy had left for it.",
        (st.DEMANDS_UNSEEN,),
    ),
    "oom_waits": ("Requests that waited for a window instead of killing.", (st.OOM_WAITS,)),
    "list_allocations_failed": (
        "Passes that got no memory for their scatterlist.",
        (st.LIST_ALLOCATIONS_FAILED,),
    ),
    "host_calls": ("Report requests that the host has served.", (st.HOST_CALLS,)),
    "host_ranges": ("Ranges that the host has punched.", (st.HOST_RANGES,)),
    "host_requests_dropped": (
        "Report requests that were not pending, or answered already.",
        (st.HOST_REQUESTS_DROPPED,),
    ),
    "punched_bytes": ("Memory that went back to the machine.", (st.PUNCHED_BYTES,)),
    "pages_stamped": ("Pages written to by the guest.", (st.PAGES_STAMPED,)),
    "pages_verified": ("Pages whose contents were checked.", (st.PAGES_VERIFIED,)),
    "integrity_violations": (
        "Breaches of pagesoak's own invariants: lost contents, wrong punches.",
        (st.VIOLATIONS, st.LEDGER_BREACHES),
    ),
    "zone_locks_taken": ("Times a zone's lock was taken.", (st.LOCKS_TAKEN,)),
    "zone_lock_waits": ("Times somebody had to wait for it.", (st.LOCK_WAITS,)),
    "pageset_refills": ("Refills of the per-CPU lists.", (st.PAGESET_REFILLS,)),
    "pageset_drains": ("Drains of the per-CPU lists.", (st.PAGESET_DRAINS,)),
    "steals": ("Blocks taken from another migratetype.", (st.STEALS,)),
    "kswapd_wakes": ("Times kswapd was woken.", (st.KSWAPD_WAKES,)),
    "kswapd_runs": ("Runs of kswapd.", (st.KSWAPD_RUNS,)),
    "reclaim_throttles": ("Waits of direct reclaim for others.", (st.THROTTLES,)),
    "page_cache_hits": ("Accesses to files that found their page.", (st.CACHE_HITS,)),
    "page_cache_misses": ("Accesses to files that did not.", (st.CACHE_MISSES,)),
    "page_cache_written_pages": ("Pages of files written.", (st.PAGES_WRITTEN,)),
}
"""By name: the help, and the counters of `base.statistics` that are added up."""

SECONDS: dict[str, tuple[str, int]] = {
    "oom_wait_seconds": ("How long those requests waited together.", st.OOM_WAIT_NS),
}
"""By name: the help, and the counter, which is in ns."""

BY_CAUSE: dict[str, tuple[str, int]] = {
    "alloc_failures": ("Allocations that got nothing, by what kept it.", st.FAILURES_ISOLATED),
    "oom_events": ("Requests that killed, by what kept the memory.", st.OOM_ISOLATED),
}
"""By name: the help, and the first of three counters."""

WINDOW_OCTAVES = range(17, 34)
"""131 us to 8.6 s: a window is a host's answer."""
STALL_OCTAVES = range(10, 34)
"""1 us to 8.6 s: from rounds that find nothing to reclaim to a guest that thrashes."""
LOCK_OCTAVES = range(7, 31)
"""128 ns to 1.1 s: from a lock that nobody wants to a holder that is not run."""

HISTOGRAMS: dict[str, tuple[str, int, range]] = {
    "isolation_window_seconds": (
        "From the first isolation of a batch until it is back.",
        st.WINDOW,
        WINDOW_OCTAVES,
    ),
    "alloc_stall_seconds": (
        "How long a request that had to reclaim by itself took.",
        st.STALL,
        STALL_OCTAVES,
    ),
    "zone_lock_wait_seconds": ("Waits for a zone's lock.", st.LOCK_WAIT, LOCK_OCTAVES),
    "zone_lock_hold_seconds": ("How long a zone's lock was held.", st.LOCK_HOLD, LOCK_OCTAVES),
}
"""By name: the help, the histogram of `base.statistics`, and the powers of two to cut it at."""


def bounds(octaves: range) -> Iterator[tuple[float, int]]:
    """Upper bounds in seconds, inclusive, and the first bucket that lies above each.

    A segment's histogram counts whole nanoseconds in buckets that end at powers of two; so a bound
    is the last nanosecond below one, and every count is exact.
    """
    for octave in octaves:
        end = (octave - 2) * st.PARTS_PER_OCTAVE
        yield ((1 << octave) - 1) / NS_PER_SECOND, end


ZONE_GAUGES: dict[str, tuple[str, int]] = {
    "managed_pages": ("Pages that the zone manages.", layout.Z_MANAGED),
    "free_pages": ("Free pages (NR_FREE_PAGES).", layout.Z_FREE_PAGES),
    "free_pages_min": ("Fewest of the run.", layout.Z_FREE_PAGES_MIN),
    "isolated_pages": ("Pages on their way to the host.", layout.Z_ISOLATED),
    "isolated_pages_max": ("Most of the run.", layout.Z_ISOLATED_MAX),
    "reported_pages": ("Free pages that are Reported.", layout.Z_REPORTED),
    "waiting_for_pages": (
        "A free that leaves so many asks for a pass; 0: none.",
        Z_WAIT_FREE_PAGES,
    ),
    "watermark_boost_pages": ("What a fallback added to the watermarks.", layout.Z_BOOST),
}
"""By name: the help, and the word of the zone record."""


def _isolated(reading: Reading) -> float:
    return sum(zone[layout.Z_ISOLATED] for zone in reading.zones)


def _elapsed(reading: Reading) -> float:
    return (elapsed_ns(reading.header, reading.monotonic_ns) or 0) / NS_PER_SECOND


def _queued(reading: Reading) -> float:
    pending = reading.report[layout.R_REQUEST] not in (0, reading.report[layout.R_SERVED])
    return float(reading.report[layout.R_COUNT] if pending else 0)


RUN_GAUGES: dict[str, tuple[str, Callable[[Reading], float]]] = {
    "isolated_pages": ("Pages on their way to the host, of all zones.", _isolated),
    "isolated_pages_max": (
        "Most of the run at once.",
        lambda reading: reading.header[layout.H_ISOLATED_PAGES_MAX],
    ),
    "free_pages_min": (
        "Fewest free pages of the run, of all zones.",
        lambda reading: reading.header[layout.H_FREE_PAGES_MIN],
    ),
    "run_elapsed_seconds": ("How long the soak has gone on, pauses left out.", _elapsed),
    "host_queue_elements": ("Ranges that the host has not answered yet.", _queued),
}
"""By name: the help, and how it comes from a reading."""

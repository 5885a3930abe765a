"""Counters and log-bucketed histograms of a worker, readable by others without a lock.

Only the worker itself writes its figures, in compiled code, with plain stores. At the end of each
burst (some milliseconds at most) it publishes a copy under a sequence number that is odd while the
copy is being made (a seqlock); a reader copies and tries again when the number was odd or has
changed. So a reader gets figures that belong together, never waits for the zone lock, and never
holds a worker up.

A histogram has eight buckets to the octave, from 1 ns to 2**40 ns (18 minutes): a quantile read
from it is at most one eighth too high, never too low.

Here are the numbers of the figures and their readers, which need no compiler; the writers
(`base.counting`) come from here when they are first asked for.
"""

import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pagesoak.base.layout import (
    COUNTERS,
    HISTOGRAM_WORDS,
    HISTOGRAMS,
    STATISTICS_WORDS,
    W_PUBLISHED,
    W_PUBLISHED_SEQUENCE,
    WORKER_WORDS,
)
from pagesoak.base.segment_view import SegmentWords

if TYPE_CHECKING:
    from pagesoak.base.counting import bucket_of as bucket_of
    from pagesoak.base.counting import copy_to_published as copy_to_published
    from pagesoak.base.counting import count as count
    from pagesoak.base.counting import count_statistic as count_statistic
    from pagesoak.base.counting import observe as observe
    from pagesoak.base.counting import observe_statistic as observe_statistic
    from pagesoak.base.counting import publish as publish
    from pagesoak.base.counting import publish_all as publish_all
    from pagesoak.base.counting import publish_statistics as publish_statistics

ALLOC_REQUESTS = 0
FREES = 1
FAILURES_ISOLATED = 2
"""First of three, in the order of `CAUSES`."""
FAILURES_FRAGMENTED = 3
FAILURES_EXHAUSTED = 4
FALLBACKS = 5
OOM_ISOLATED = 6
"""First of three, in the order of `CAUSES`."""
OOM_FRAGMENTED = 7
OOM_EXHAUSTED = 8
STALLS = 9
PAGES_STAMPED = 10
PAGES_VERIFIED = 11
VIOLATIONS = 12
UNMATCHED_FREES = 13
PAGESET_REFILLS = 14
PAGESET_DRAINS = 15
STEALS = 16
LOCKS_TAKEN = 17
LOCK_WAITS = 18
REPORT_CALLS = 19
REPORTED_PAGES = 20
REPORT_ERRORS = 21
LIST_ALLOCATIONS_FAILED = 22
PASSES = 23
GATES_CLOSED = 24
ISOLATIONS_REFUSED = 25
HOST_CALLS = 26
HOST_RANGES = 27
PUNCHED_BYTES = 28
LEDGER_BREACHES = 29
BURSTS = 30
BURSTS_KILLED = 31
REQUESTS_DROPPED = 32
KSWAPD_RUNS = 33
HOST_REQUESTS_DROPPED = 34
"""Report requests that were not pending, or answered already."""
KSWAPD_WAKES = 35
PAGES_SCANNED_DIRECT = 36
"""Direct reclaim, then kswapd; the same with the pages freed (pgscan, pgsteal)."""
PAGES_SCANNED_KSWAPD = 37
PAGES_STOLEN_DIRECT = 38
PAGES_STOLEN_KSWAPD = 39
PAGES_ACTIVATED = 40
PAGES_DEACTIVATED = 41
PAGES_WRITTEN = 42
THROTTLES = 43
CACHE_HITS = 44
CACHE_MISSES = 45
REPORTER_WAITS = 46
"""Passes that ended because a policy's floor left no block to isolate."""
DEMANDS_UNSEEN = 47
"""Report windows in which more was taken than the policy had left for it."""
OOM_WAITS = 48
"""Requests that waited for a report window to close instead of killing, and the ns they waited."""
OOM_WAIT_NS = 49

CAUSES = ("isolated", "fragmented", "exhausted")

LOCK_WAIT = 0
LOCK_HOLD = 1
WINDOW = 2
STALL = 3

HISTOGRAM_COUNT = 0
HISTOGRAM_SUM = 1
HISTOGRAM_MAX = 2
HISTOGRAM_BUCKETS = 8
"""First bucket's word."""
BUCKETS = HISTOGRAM_WORDS - HISTOGRAM_BUCKETS
PARTS_PER_OCTAVE = 8
READ_ATTEMPTS_AT_ONCE = 100
READ_PAUSE_SECONDS = 0.001
"""A publication takes microseconds, but its writer may have to wait for a processor."""
READ_ATTEMPTS_MAX = 200
"""After a tenth of a second the writer is taken for dead in the middle of a publication."""


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """Smallest value of a bucket, and the smallest of the next."""
    if bucket < PARTS_PER_OCTAVE:
        return bucket, bucket + 1
    octave, part = bucket // 8 + 2, bucket % 8
    width = 1 << (octave - 3)
    return (8 + part) * width, (9 + part) * width


class HistogramView(NamedTuple):
    """One histogram as read: `buckets` maps a bucket's number to its count."""

    observations: int
    total: int
    maximum: int
    buckets: dict[int, int]

    def quantile(self, numerator: int, denominator: int) -> int:
        """An upper bound of the quantile: the end of the bucket it lies in, at most the maximum; 0
        when empty.
        """
        rank = -(-self.observations * numerator // denominator)
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return min(bucket_bounds(bucket)[1], self.maximum)
        return 0

    def merged(self, other: "HistogramView") -> "HistogramView":
        """Both together."""
        buckets = dict(self.buckets)
        for bucket, number in other.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + number
        return HistogramView(
            self.observations + other.observations,
            self.total + other.total,
            max(self.maximum, other.maximum),
            buckets,
        )


class Statistics(NamedTuple):
    """A worker's published figures; `counters` by the numbers above, four `histograms`."""

    counters: tuple[int, ...]
    histograms: tuple[HistogramView, ...]
    torn_reads: int


def copy_published(words: Any, worker: int) -> tuple[bytes | None, int]:
    """The figures a worker published last, as they lie in memory, and how many reads were torn;
    None when it died while publishing.
    """
    at = worker * WORKER_WORDS
    torn = 0
    for attempt in range(READ_ATTEMPTS_MAX):
        if attempt >= READ_ATTEMPTS_AT_ONCE:
            time.sleep(READ_PAUSE_SECONDS)
        before = words[at + W_PUBLISHED_SEQUENCE]
        copied = bytes(words[at + W_PUBLISHED : at + W_PUBLISHED + STATISTICS_WORDS])
        if before % 2 == 0 and words[at + W_PUBLISHED_SEQUENCE] == before:
            return copied, torn
        torn += 1
    return None, torn


def _copy_or_zeros(words: Any, worker: int) -> tuple[bytes, int]:
    copied, torn = copy_published(words, worker)
    return copied or bytes(STATISTICS_WORDS * 8), torn


def parse_statistics(copied: bytes, torn_reads: int = 0) -> "Statistics":
    """What `copy_published` has copied, by name."""
    values = struct.unpack(f"={STATISTICS_WORDS}q", copied)
    histograms = []
    for number in range(HISTOGRAMS):
        at = COUNTERS + number * HISTOGRAM_WORDS
        buckets = values[at + HISTOGRAM_BUCKETS : at + HISTOGRAM_WORDS]
        histograms.append(
            HistogramView(
                values[at + HISTOGRAM_COUNT],
                values[at + HISTOGRAM_SUM],
                values[at + HISTOGRAM_MAX],
                {bucket: number for bucket, number in enumerate(buckets) if number},
            )
        )
    return Statistics(values[:COUNTERS], tuple(histograms), torn_reads)


def read_statistics(segment: SegmentWords, worker: int) -> Statistics:
    """The figures a worker published last; all 0 (and `torn_reads` at its maximum) if it died
    while publishing.
    """
    return parse_statistics(*_copy_or_zeros(segment.workers, worker))


def read_all_counters(segment: SegmentWords) -> tuple[int, ...]:
    """The counters of all workers added up; a tenth of the work of reading the histograms too."""
    parts = [
        struct.unpack_from(f"={COUNTERS}q", _copy_or_zeros(segment.workers, worker)[0])
        for worker in range(segment.plan.workers)
    ]
    return tuple(map(sum, zip(*parts, strict=True)))


def read_all_statistics(segment: SegmentWords) -> Statistics:
    """The figures of all workers added up."""
    return added([read_statistics(segment, worker) for worker in range(segment.plan.workers)])


def added(parts: list[Statistics]) -> Statistics:
    """The figures of several workers added up."""
    counters = tuple(
        sum(values) for values in zip(*(part.counters for part in parts), strict=True)
    )
    histograms = list(parts[0].histograms)
    for part in parts[1:]:
        histograms = [a.merged(b) for a, b in zip(histograms, part.histograms, strict=True)]
    return Statistics(counters, tuple(histograms), sum(part.torn_reads for part in parts))


_WRITERS = frozenset(
    {
        "bucket_of",
        "copy_to_published",
        "count",
        "count_statistic",
        "observe",
        "observe_statistic",
        "publish",
        "publish_all",
        "publish_statistics",
    }
)


def __getattr__(name: str) -> Any:
    """The compiled writers, which compiled modules import from here with the numbers."""
    if name not in _WRITERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pagesoak.base import counting

    return getattr(counting, name)

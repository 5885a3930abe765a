"""What a running soak looks like at one moment: the input of the progress view and of the series.

Levels (free, isolated pages) are as they are now; everything that counts, counts since the start
of the run.
"""

from typing import NamedTuple


class CauseCounts(NamedTuple):
    """Events by what would have prevented them (the attribution of a failed allocation)."""

    isolated: int = 0
    fragmented: int = 0
    exhausted: int = 0


class ZoneSample(NamedTuple):
    """One zone, in pages. The watermarks are those of the allocator's tests, without boost. The
    name of a zone of another node than 0 ends with the node's number: `DMA32/1`.
    """

    name: str
    managed_pages: int
    free_pages: int
    free_pages_min: int
    wmark_min_pages: int
    wmark_low_pages: int

    @property
    def min_margin_pages(self) -> int:
        """Free pages above the min watermark; negative below it."""
        return self.free_pages - self.wmark_min_pages

    @property
    def low_margin_pages(self) -> int:
        """Free pages above the low watermark; negative below it."""
        return self.free_pages - self.wmark_low_pages


class RunSample(NamedTuple):
    """One moment of a run.

    `total_seconds` is None for a run that ends with its load; `alloc_requests_per_second` is the
    rate since the sample before; `reporter_state` is idle, requested or active.
    """

    title: str
    elapsed_seconds: float
    total_seconds: float | None
    zones: tuple[ZoneSample, ...]
    isolated_pages: int
    isolated_pages_max: int
    report_calls: int
    reported_pages: int
    punched_bytes: int
    alloc_requests: int
    alloc_requests_per_second: float
    alloc_failures: CauseCounts
    fallbacks: int
    oom_events: CauseCounts
    reporter_state: str

    @property
    def free_pages(self) -> int:
        """Free pages of all zones."""
        return sum(zone.free_pages for zone in self.zones)

    @property
    def largest_zone(self) -> ZoneSample:
        """The zone with most managed pages, whose margins the summary gives, too."""
        return max(self.zones, key=lambda zone: zone.managed_pages)

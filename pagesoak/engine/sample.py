"""What a running soak looks like now: read from the segment without any lock, for progress and
series.
"""

from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.segment_view import SegmentWords
from pagesoak.engine.run_sample import CauseCounts, RunSample, ZoneSample
from pagesoak.engine.summary import NANOSECONDS_PER_SECOND, ZONE_NAMES

STATES = {layout.IDLE: "idle", layout.REQUESTED: "requested", layout.ACTIVE: "active"}


def _zone_sample(segment: SegmentWords, zone: int) -> ZoneSample:
    words = segment.zones[zone * layout.ZONE_WORDS : (zone + 1) * layout.ZONE_WORDS]
    node = words[layout.Z_NODE]
    return ZoneSample(
        ZONE_NAMES[words[layout.Z_INDEX]] + (f"/{node}" if node else ""),
        words[layout.Z_MANAGED],
        words[layout.Z_FREE_PAGES],
        words[layout.Z_FREE_PAGES_MIN],
        words[layout.Z_WMARK_MIN],
        words[layout.Z_WMARK_LOW],
    )


class Sampler:
    """Takes samples of one run; remembers the last one for the rate."""

    def __init__(self, segment: SegmentWords, title: str, total_ns: int) -> None:
        self._segment = segment
        self._title = title
        self._total_seconds = total_ns / NANOSECONDS_PER_SECOND
        self._last_ns = 0
        self._last_requests = 0

    def take(self, elapsed_ns: int) -> RunSample:
        """The soak `elapsed_ns` after its clock started."""
        segment = self._segment
        counters = st.read_all_counters(segment)
        requests = counters[st.ALLOC_REQUESTS]
        since_ns = elapsed_ns - self._last_ns
        rate = (
            (requests - self._last_requests) * NANOSECONDS_PER_SECOND / since_ns
            if since_ns
            else 0.0
        )
        self._last_ns, self._last_requests = elapsed_ns, requests
        zones = range(segment.plan.zones)
        isolated = [layout.Z_ISOLATED + zone * layout.ZONE_WORDS for zone in zones]
        state = segment.report[layout.R_STATE]
        return RunSample(
            title=self._title,
            elapsed_seconds=elapsed_ns / NANOSECONDS_PER_SECOND,
            total_seconds=self._total_seconds,
            zones=tuple(_zone_sample(segment, zone) for zone in zones),
            isolated_pages=sum(segment.zones[word] for word in isolated),
            isolated_pages_max=segment.header[layout.H_ISOLATED_PAGES_MAX],
            report_calls=counters[st.REPORT_CALLS],
            reported_pages=counters[st.REPORTED_PAGES],
            punched_bytes=counters[st.PUNCHED_BYTES],
            alloc_requests=requests,
            alloc_requests_per_second=rate,
            alloc_failures=CauseCounts(*counters[st.FAILURES_ISOLATED : st.FAILURES_ISOLATED + 3]),
            fallbacks=counters[st.FALLBACKS],
            oom_events=CauseCounts(*counters[st.OOM_ISOLATED : st.OOM_ISOLATED + 3]),
            reporter_state=STATES.get(state, str(state)),
        )

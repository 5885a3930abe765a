"""How long a soak has gone on: monotonic time since its start, without its pauses."""

from collections.abc import Sequence

from pagesoak.base.layout import H_STARTED_AT_NS
from pagesoak.base.layout_steering import H_PAUSED_NS, H_PAUSED_SINCE_NS


def paused_ns(header: Sequence[int], now_ns: int) -> int:
    """How long the soak has been paused, by the header of its segment."""
    since_ns = header[H_PAUSED_SINCE_NS]
    return header[H_PAUSED_NS] + (max(now_ns - since_ns, 0) if since_ns else 0)


def elapsed_ns(header: Sequence[int], now_ns: int) -> int | None:
    """How long the soak has gone on; None before its start."""
    started_ns = header[H_STARTED_AT_NS]
    return now_ns - started_ns - paused_ns(header, now_ns) if started_ns else None

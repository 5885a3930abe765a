"""Where zone Movable begins in each node.

`movablecore=` says how much memory shall be Movable; what the kernel shares out is the rest: as
evenly as possible over the nodes, each from its lowest page frame up. Page frames below the
highest zone's range belong to the kernel anyway and count as such. A node too small for its share
leaves the others more; that is worked out in rounds, each with one node less to share among.

Models Linux 6.1 `mm/page_alloc.c`: `find_zone_movable_pfns_for_nodes`.
"""

from collections.abc import Sequence

Ranges = Sequence[tuple[int, int]]
"""Half-open pfn ranges, ascending."""


def movable_starts(
    memory: Sequence[Ranges], usable_pfn: int, movable_pages: int, align_pages: int
) -> tuple[int | None, ...]:
    """For each node the first page frame of its Movable zone, a multiple of `align_pages`; None
    where it has none.

    `memory` holds each node's present page frames, `usable_pfn` is where the highest zone begins.
    """
    total_pages = sum(end - start for ranges in memory for start, end in ranges)
    kernel_pages = total_pages - movable_pages
    starts = [0] * len(memory)
    for sharing in range(len(memory), 0, -1):
        share = kernel_pages // sharing
        for node, ranges in enumerate(memory):
            if kernel_pages < share:
                share = kernel_pages // sharing
            used, starts[node] = _give(ranges, starts[node], usable_pfn, share)
            kernel_pages -= min(used, kernel_pages)
        if kernel_pages < sharing:  # one less would share: what is left is less than a page each
            break
    aligned = [-(-start // align_pages) * align_pages for start in starts]
    return tuple(
        start if ranges and start < ranges[-1][1] else None
        for start, ranges in zip(aligned, memory, strict=True)
    )


def _give(ranges: Ranges, start_pfn: int, usable_pfn: int, share: int) -> tuple[int, int]:
    """Give a node's pages from `start_pfn` on to the kernel, up to its share, and all that lie too
    low to be Movable; the pages given, and where they end.
    """
    given = 0
    for range_start, end in ranges:
        start = max(range_start, start_pfn)
        if start >= end:
            continue
        low_pages = max(0, min(end, usable_pfn) - start)
        given += low_pages
        if end <= usable_pfn:
            start_pfn = end
            continue
        start += low_pages
        pages = min(end - start, max(0, share - given))
        start_pfn = start + pages
        given += pages
        if given >= share:
            break
    return given, start_pfn

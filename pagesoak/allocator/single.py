"""One operation of the allocator at a time, called from Python.

For tests, debuggers and tools that ask what would happen next. A soak calls bursts instead
(`guest`), which stay in compiled code; so the runner does not load these.
"""

from pagesoak.allocator.allocate import alloc_pages
from pagesoak.allocator.buddy import count_free_pages, rmqueue_smallest, set_block
from pagesoak.allocator.page_free import free_pages
from pagesoak.allocator.watermark import zone_watermark_fast
from pagesoak.base.layout import KIND_ALLOCATED, MOVABLE, open_core
from pagesoak.base.native import entry


@entry
def allocate_block(base: int, cpu: int, order: int, migratetype: int, gfp: int, owner: int) -> int:
    """`alloc_pages` for Python: a pfn, or FAILED, KILLED, ABORTED, WAITING."""
    return alloc_pages(open_core(base), cpu, order, migratetype, gfp, owner)


@entry
def free_block(base: int, cpu: int, pfn: int, order: int) -> int:
    """`free_pages` for Python: 0 or ABORTED."""
    return free_pages(open_core(base), cpu, pfn, order)


@entry
def watermark_passes(base: int, zone: int, order: int, highest_zone: int, alloc_flags: int) -> int:
    """1 when an attempt with these rights would pass in this zone now, else 0."""
    core = open_core(base)
    if zone_watermark_fast(core, zone, order, highest_zone, alloc_flags):
        return 1
    return 0


@entry
def take_free_pages(base: int, zone: int, pages: int) -> int:
    """Take single movable pages off the zone's lists, past pagesets and watermarks; how many.

    What the next so many requests of a user would get, whatever CPU they come from.
    """
    core = open_core(base)
    for number in range(pages):
        pfn = rmqueue_smallest(core, zone, 0, MOVABLE)
        if pfn < 0:
            return number
        count_free_pages(core, zone, -1)
        set_block(core.pages, pfn, KIND_ALLOCATED)
    return pages

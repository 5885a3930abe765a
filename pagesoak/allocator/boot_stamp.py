"""Stamping the pages in use at the start, and the last look at every page in use at the end.

Both walk all page records in compiled code, some milliseconds at a time: the caller goes on where
the last call stopped.
"""

from pagesoak.allocator.buddy import block_state
from pagesoak.allocator.stamp import stamp_page, verify_page
from pagesoak.base.external import monotonic_ns
from pagesoak.base.layout import (
    H_MAX_PFN,
    KIND_ALLOCATED,
    KIND_MASK,
    ORDER_MASK,
    OWNER_BOOT,
    PAGE_WORDS,
    PREVIOUS,
    open_core,
)
from pagesoak.base.native import entry
from pagesoak.base.statistics import publish

LOOK_PAGES = 256
"""Pages between two looks at the clock."""


@entry
def stamp_boot_pages(base: int, worker: int, first_pfn: int, until_ns: int) -> int:
    """Stamp every page in use since the start; returns where to go on, max_pfn at the end."""
    core = open_core(base)
    pfn = first_pfn
    while pfn < core.header[H_MAX_PFN]:
        state = block_state(core.pages, pfn)
        if (
            state & (KIND_MASK | ORDER_MASK) == KIND_ALLOCATED
            and core.pages[pfn * PAGE_WORDS + PREVIOUS] == OWNER_BOOT
        ):
            verify_page(core, worker, pfn)
            stamp_page(core, worker, pfn, OWNER_BOOT, 0)
        pfn += 1
        if pfn % LOOK_PAGES == 0 and monotonic_ns() >= until_ns:
            break
    publish(core, worker)
    return pfn


@entry
def verify_taken_pages(base: int, worker: int, first_pfn: int, until_ns: int) -> int:
    """Verify every page of every taken block; returns where to go on, max_pfn at the end."""
    core = open_core(base)
    pfn = first_pfn
    while pfn < core.header[H_MAX_PFN]:
        state = block_state(core.pages, pfn)
        if state & KIND_MASK == KIND_ALLOCATED:
            for page in range(pfn, pfn + (1 << (state & ORDER_MASK))):
                verify_page(core, worker, page)
        before = pfn
        pfn += 1 << (state & ORDER_MASK)
        if pfn // LOOK_PAGES != before // LOOK_PAGES and monotonic_ns() >= until_ns:
            break
    publish(core, worker)
    return pfn

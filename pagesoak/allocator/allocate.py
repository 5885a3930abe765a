"""An allocation: an attempt at the low watermark, and the slow path when it fails.

Where zone Normal is preferred the attempt is first made without mixing page blocks of different
types, over all zones of the node, then once more with.

Models `__alloc_pages` (Linux 6.1 `mm/page_alloc.c`).
"""

from pagesoak.allocator.buddy import NO_PAGE
from pagesoak.allocator.gfp import GFP_KSWAPD_RECLAIM
from pagesoak.allocator.page_alloc import WAITING, alloc_flags_nofragment, get_page_from_freelist
from pagesoak.allocator.slowpath import alloc_pages_slowpath
from pagesoak.allocator.watermark import ALLOC_KSWAPD, ALLOC_NOFRAGMENT, WMARK_LOW
from pagesoak.base.layout import Core
from pagesoak.base.native import hot
from pagesoak.base.statistics import ALLOC_REQUESTS, count


@hot
def attempt_at_low(
    core: Core, cpu: int, order: int, migratetype: int, gfp: int, owner: int
) -> int:
    """The attempts before the slow path: a block, or NO_PAGE."""
    flags = WMARK_LOW | alloc_flags_nofragment(core, cpu, gfp)
    if gfp & GFP_KSWAPD_RECLAIM:
        flags |= ALLOC_KSWAPD
    pfn = get_page_from_freelist(core, cpu, order, migratetype, gfp, flags, owner)
    if pfn == NO_PAGE and flags & ALLOC_NOFRAGMENT:
        flags &= ~ALLOC_NOFRAGMENT
        pfn = get_page_from_freelist(core, cpu, order, migratetype, gfp, flags, owner)
    return pfn


@hot
def alloc_pages(core: Core, cpu: int, order: int, migratetype: int, gfp: int, owner: int) -> int:
    """A block of 2**order pages for `owner`: its pfn, or FAILED, KILLED, ABORTED, WAITING.

    A request that waits is made again, and counts once.
    """
    count(core, cpu, ALLOC_REQUESTS, 1)
    pfn = attempt_at_low(core, cpu, order, migratetype, gfp, owner)
    if pfn != NO_PAGE:
        return pfn
    pfn = alloc_pages_slowpath(core, cpu, order, migratetype, gfp, owner)
    if pfn == WAITING:
        count(core, cpu, ALLOC_REQUESTS, -1)
    return pfn

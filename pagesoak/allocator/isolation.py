"""Taking a free block off its list for nobody: reporting does it, and compaction.

One test, for the raw *min* without boost plus the block itself, and one effect on page blocks:
from half a page block upwards they become MOVABLE.

Models Linux 6.1 and 6.12 `mm/page_alloc.c`: `__isolate_free_page`. Under the zone lock. Rules and
test IDs: docs/model.md, 7.3.
"""

from pagesoak.allocator.buddy import count_free_pages, del_page_from_free_list, pageblock_type
from pagesoak.allocator.pageblock import move_freepages, pageblock_start
from pagesoak.allocator.profile import TYPED_FREE_LISTS, kernel_has
from pagesoak.allocator.watermark import zone_watermark_ok
from pagesoak.base.layout import (
    MOVABLE,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PCPTYPES,
    Z_WMARK_MIN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.native import inner

HIGHEST_ZONE_NONE = 0
"""The test names zone 0 as the highest one allowed: its lowmem reserve is 0 in every zone."""
NO_RIGHTS = 0
"""No rights to reserves: the HIGHATOMIC reserve does not count as free."""


@inner
def isolation_leaves_enough(core: Core, zone: int, order: int) -> bool:
    """Whether a block of this order may be isolated: free pages > raw min + the block's pages."""
    mark = core.zones[zone * ZONE_WORDS + Z_WMARK_MIN] + (1 << order)
    return zone_watermark_ok(core, zone, 0, mark, HIGHEST_ZONE_NONE, NO_RIGHTS)


@inner
def make_movable(core: Core, zone: int, pfn: int, order: int) -> None:
    """Make the page block of an isolated block MOVABLE; where lists follow the page blocks' types
    (6.12), with what else is free in it.
    """
    if order < PAGEBLOCK_ORDER and kernel_has(core, TYPED_FREE_LISTS):
        start = pageblock_start(core, zone, pfn)
        if start < 0:
            return
        move_freepages(core, zone, start, MOVABLE)
    core.blocks[pfn >> PAGEBLOCK_ORDER] = MOVABLE


@inner
def isolate_from_list(core: Core, zone: int, pfn: int, order: int) -> bool:
    """Take a free block off its list, for nobody; False when that would leave too little.

    From half a page block upwards its page blocks become MOVABLE, unless their type must not be
    mixed (HIGHATOMIC, CMA, ISOLATE): reporting itself changes the grouping by mobility.
    """
    if not isolation_leaves_enough(core, zone, order):
        return False
    count_free_pages(core, zone, -(1 << order))
    del_page_from_free_list(core, zone, pfn, order)
    if order >= PAGEBLOCK_ORDER - 1:
        for page in range(pfn, pfn + (1 << order), PAGEBLOCK_PAGES):
            if pageblock_type(core, page) < PCPTYPES:
                make_movable(core, zone, page, order)
    return True

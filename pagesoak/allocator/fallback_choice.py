"""Taking from another type's lists: which type, which blocks may be claimed, and the boost.

Models Linux 6.1 `mm/page_alloc.c`: `find_suitable_fallback`, `can_steal_fallback`,
`boost_watermark`; the same in 6.12. What is then done with the block differs: `fallback` (6.1),
`fallback_typed` (6.12). HIGHATOMIC is never a fallback.
"""

from pagesoak.allocator.buddy import NO_PAGE, free_list
from pagesoak.allocator.watermark import ALLOC_KSWAPD, ALLOC_NOFRAGMENT
from pagesoak.base.layout import (
    H_KSWAPD_WAKE,
    MOVABLE,
    NEXT,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    RECLAIMABLE,
    UNMOVABLE,
    Z_BOOST,
    Z_BOOST_FACTOR,
    Z_BOOSTED,
    Z_MANAGED,
    Z_WMARK_HIGH,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.native import inner

STEAL_ORDER = PAGEBLOCK_ORDER // 2
"""From this order on any request may claim the whole page block."""
BOOST_PAGEBLOCKS_MIN = 4
"""A zone of fewer page blocks is never boosted: it would be all boost."""
BOOST_FACTOR_UNIT = 10_000


@inner
def fallback_type(migratetype: int, choice: int) -> int:
    """The first or second type to fall back on."""
    if migratetype == UNMOVABLE:
        return RECLAIMABLE if choice == 0 else MOVABLE
    if migratetype == MOVABLE:
        return RECLAIMABLE if choice == 0 else UNMOVABLE
    return UNMOVABLE if choice == 0 else MOVABLE


@inner
def find_fallback(core: Core, zone: int, order: int, migratetype: int) -> int:
    """The type whose list of exactly this order would be taken from, or NO_PAGE."""
    for choice in range(2):
        other = fallback_type(migratetype, choice)
        head = free_list(core, zone, order, other)
        if core.pages[head * PAGE_WORDS + NEXT] != head:
            return other
    return NO_PAGE


@inner
def can_steal(order: int, migratetype: int) -> bool:
    """Whether the request may claim the whole page block of a block of this order."""
    return order >= STEAL_ORDER or migratetype != MOVABLE


@inner
def boost_max_pages(high: int, factor: int) -> int:
    """Most a zone's watermarks are raised: `factor` ten-thousandths of high, at least one page
    block; 0 where that fraction is 0, and boosting off.
    """
    scaled = (
        high // BOOST_FACTOR_UNIT * factor + high % BOOST_FACTOR_UNIT * factor // BOOST_FACTOR_UNIT
    )
    return max(scaled, PAGEBLOCK_PAGES) if scaled > 0 else 0


@inner
def boost_watermark(core: Core, zone: int) -> bool:
    """Raise the zone's watermarks by one page block up to the cap; False where boosting is off."""
    z = zone * ZONE_WORDS
    cap = boost_max_pages(core.zones[z + Z_WMARK_HIGH], core.zones[z + Z_BOOST_FACTOR])
    if cap == 0 or core.zones[z + Z_MANAGED] < BOOST_PAGEBLOCKS_MIN * PAGEBLOCK_PAGES:
        return False
    core.zones[z + Z_BOOST] = min(core.zones[z + Z_BOOST] + PAGEBLOCK_PAGES, cap)
    return True


@inner
def boost_and_wake(core: Core, zone: int, alloc_flags: int) -> None:
    """Raise the watermarks because page blocks get mixed; kswapd is to be woken even if the node
    is balanced (ZONE_BOOSTED_WATERMARK).
    """
    if boost_watermark(core, zone) and alloc_flags & ALLOC_KSWAPD:
        core.zones[zone * ZONE_WORDS + Z_BOOSTED] = 1
        core.header[H_KSWAPD_WAKE] = 1


@inner
def fallback_order_min(order: int, alloc_flags: int) -> int:
    """Smallest blocks to look for: whole page blocks where types must not be mixed."""
    if order < PAGEBLOCK_ORDER and alloc_flags & ALLOC_NOFRAGMENT:
        return PAGEBLOCK_ORDER
    return order

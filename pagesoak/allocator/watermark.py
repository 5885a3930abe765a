"""The watermark tests: may this request take pages from this zone now?

Models Linux 6.1.119+ and 6.12 `mm/page_alloc.c`: `__zone_watermark_ok`, `zone_watermark_fast`,
`__zone_watermark_unusable_free`. Only NR_FREE_PAGES counts: pages in pagesets and pages isolated
for reporting do not. That is where the failure this project measures comes from. Table of
thresholds: docs/model.md, WO.
"""

from pagesoak.allocator.buddy import counted_free_pages, free_list
from pagesoak.allocator.gfp import (
    GFP_DIRECT_RECLAIM,
    GFP_HIGH,
    GFP_KSWAPD_RECLAIM,
    GFP_NOMEMALLOC,
)
from pagesoak.allocator.profile import RESERVE_BY_FREE_PAGES, kernel_has
from pagesoak.base.layout import (
    HIGHATOMIC,
    MAX_ORDER,
    MOVABLE,
    NEXT,
    PAGE_WORDS,
    PCPTYPES,
    Z_BOOST,
    Z_LOWMEM_RESERVE,
    Z_RESERVED_HIGHATOMIC,
    Z_WMARK_MIN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import Z_BELOW_HIGH, Z_FREE_HIGHATOMIC
from pagesoak.base.native import hot, inner

WMARK_MIN = 0
WMARK_LOW = 1
WMARK_HIGH = 2
WMARK_MASK = 3
ALLOC_NO_WATERMARKS = 4
ALLOC_MIN_RESERVE = 8
"""__GFP_HIGH: half of the min watermark may be used (ALLOC_HIGH before 6.1.119)."""
ALLOC_NON_BLOCK = 16
"""May not sleep: with ALLOC_MIN_RESERVE a further quarter."""
ALLOC_HIGHATOMIC = 32
"""May use the HIGHATOMIC blocks."""
ALLOC_OOM = 64
"""A victim on its way out: half."""
ALLOC_KSWAPD = 128
ALLOC_NOFRAGMENT = 256
"""No other type's blocks but whole page blocks."""
ALLOC_RESERVES = ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_HIGHATOMIC | ALLOC_OOM


@inner
def gfp_to_alloc_flags(gfp: int, order: int) -> int:
    """The slow path's rights: the min watermark, and reserves for those that may not wait."""
    flags = WMARK_MIN
    if gfp & GFP_KSWAPD_RECLAIM:
        flags |= ALLOC_KSWAPD
    if gfp & GFP_HIGH:
        flags |= ALLOC_MIN_RESERVE
    if gfp & GFP_DIRECT_RECLAIM == 0 and gfp & GFP_NOMEMALLOC == 0:
        flags |= ALLOC_NON_BLOCK
        if order > 0:
            flags |= ALLOC_HIGHATOMIC
    return flags


@hot
def wmark_pages(core: Core, zone: int, alloc_flags: int) -> int:
    """The watermark that the flags name, with the boost (`wmark_pages`)."""
    z = zone * ZONE_WORDS
    return core.zones[z + Z_WMARK_MIN + (alloc_flags & WMARK_MASK)] + core.zones[z + Z_BOOST]


@hot
def unusable_free_pages(core: Core, zone: int, order: int, alloc_flags: int) -> int:
    """Free pages that this request cannot use: the block's own rest, the HIGHATOMIC reserve."""
    unusable = (1 << order) - 1
    if not alloc_flags & ALLOC_RESERVES:
        reserved = core.zones[zone * ZONE_WORDS + Z_RESERVED_HIGHATOMIC]
        if reserved != 0 and kernel_has(core, RESERVE_BY_FREE_PAGES):
            reserved = core.zones[zone * ZONE_WORDS + Z_FREE_HIGHATOMIC]
        unusable += reserved
    return unusable


@inner
def zone_has_block(core: Core, zone: int, order: int, alloc_flags: int) -> bool:
    """Whether a block of the order or larger lies on a list that the request may use."""
    for current in range(order, MAX_ORDER):
        for migratetype in range(PCPTYPES):
            head = free_list(core, zone, current, migratetype)
            if core.pages[head * PAGE_WORDS + NEXT] != head:
                return True
        if alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM):
            head = free_list(core, zone, current, HIGHATOMIC)
            if core.pages[head * PAGE_WORDS + NEXT] != head:
                return True
    return False


@hot
def pages_suffice(
    core: Core, zone: int, order: int, mark: int, highest_zone: int, alloc_flags: int, free: int
) -> bool:
    """The part of `__zone_watermark_ok` that counts pages; `free` stands for NR_FREE_PAGES."""
    low = mark
    if alloc_flags & ALLOC_MIN_RESERVE:
        low -= low // 2
        if alloc_flags & ALLOC_NON_BLOCK:
            low -= low // 4
    if alloc_flags & ALLOC_OOM:
        low -= low // 2
    free -= unusable_free_pages(core, zone, order, alloc_flags)
    return free > low + core.zones[zone * ZONE_WORDS + Z_LOWMEM_RESERVE + highest_zone]


@inner
def zone_watermark_ok(
    core: Core, zone: int, order: int, mark: int, highest_zone: int, alloc_flags: int
) -> bool:
    """Pages suffice, and for order > 0 there is such a block."""
    free = counted_free_pages(core, zone)
    if not pages_suffice(core, zone, order, mark, highest_zone, alloc_flags, free):
        return False
    return order == 0 or zone_has_block(core, zone, order, alloc_flags)


@hot
def zone_watermark_fast(
    core: Core, zone: int, order: int, highest_zone: int, alloc_flags: int
) -> bool:
    """The test of every attempt, against the mark that its flags name."""
    mark = wmark_pages(core, zone, alloc_flags)
    return watermark_fast_at(core, zone, order, mark, highest_zone, alloc_flags)


@inner
def note_below_high(
    core: Core, zone: int, order: int, highest_zone: int, alloc_flags: int
) -> None:
    """Remember when an attempt would not pass the high mark: from then on tuned pagesets keep
    less, until a free finds the zone above it again (ZONE_BELOW_HIGH).
    """
    z = zone * ZONE_WORDS
    if core.zones[z + Z_BELOW_HIGH] == 0:
        mark = wmark_pages(core, zone, WMARK_HIGH)
        passes = watermark_fast_at(core, zone, order, mark, highest_zone, alloc_flags)
        core.zones[z + Z_BELOW_HIGH] = int(not passes)


@hot
def watermark_fast_at(
    core: Core, zone: int, order: int, mark: int, highest_zone: int, alloc_flags: int
) -> bool:
    """The same against any mark. With ample memory it passes at once: order 0 always, others when
    a block of the largest order is on the movable list, since that serves every order. Both are
    one test, so that no branch hangs on the order.

    An order-0 request of the reserves (GFP_ATOMIC) that fails at WMARK_MIN is tested again without
    the boost.
    """
    z = zone * ZONE_WORDS
    usable = counted_free_pages(core, zone) - unusable_free_pages(core, zone, order, alloc_flags)
    if usable > mark + core.zones[z + Z_LOWMEM_RESERVE + highest_zone]:
        largest = free_list(core, zone, MAX_ORDER - 1, MOVABLE)
        listed = core.pages[largest * PAGE_WORDS + NEXT] ^ largest
        if listed | int(order == 0) != 0:
            return True
    if zone_watermark_ok(core, zone, order, mark, highest_zone, alloc_flags):
        return True
    if (
        order == 0
        and alloc_flags & ALLOC_MIN_RESERVE
        and alloc_flags & WMARK_MASK == WMARK_MIN
        and core.zones[z + Z_BOOST] > 0
    ):
        mark = core.zones[z + Z_WMARK_MIN]
        return zone_watermark_ok(core, zone, order, mark, highest_zone, alloc_flags)
    return False

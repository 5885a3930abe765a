"""The buddy lists: free blocks by order and migratetype, splitting, merging, and where a freed
block goes.

Models Linux 6.1 `mm/page_alloc.c`: `add_to_free_list`, `del_page_from_free_list`,
`__free_one_page`, `expand`, `__rmqueue_smallest`, `move_to_free_list`; and of 6.12 what
TYPED_FREE_LISTS of `profile` says of merging. All under the zone lock. Rules and test IDs:
docs/model.md, "Buddy allocator".
"""

from pagesoak.allocator.notify import page_reporting_notify_free
from pagesoak.allocator.profile import TYPED_FREE_LISTS, kernel_has
from pagesoak.base.layout import (
    BLOCK_MASK,
    H_FREE_PAGES_MIN,
    H_ZONES,
    HIGHATOMIC,
    KIND_FREE,
    KIND_MASK,
    MAX_ORDER,
    MIGRATE_TYPES,
    NEXT,
    ORDER_MASK,
    PAGE_MASK,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PCPTYPES,
    PREVIOUS,
    REPORTED,
    STATE,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_BOOST,
    Z_COUNTER_DRIFT,
    Z_COUNTER_STEP,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_FREE_PAGES_MIN,
    Z_LIST_BASE,
    Z_MARGIN_HIGH,
    Z_MARGIN_LOW,
    Z_MARGIN_MIN,
    Z_NR_FREE,
    Z_REPORTED,
    Z_START_PFN,
    Z_WMARK_HIGH,
    Z_WMARK_LOW,
    Z_WMARK_MIN,
    ZONE_WORDS,
    Core,
)
from pagesoak.base.layout_kernel import Z_FREE_HIGHATOMIC, Z_REFAULTED
from pagesoak.base.native import Words, hot, inner, leaf

SKIP_REPORT_NOTIFY = 1
"""FPI_SKIP_REPORT_NOTIFY: the free is a put-back of the reporter's own."""
TO_TAIL = 2
"""FPI_TO_TAIL."""
NO_PAGE = -1


@leaf
def list_add(pages: Words, head: int, record: int) -> None:
    """Put a record behind `head`: first in the list."""
    first = pages[head * PAGE_WORDS + NEXT]
    pages[record * PAGE_WORDS + NEXT] = first
    pages[record * PAGE_WORDS + PREVIOUS] = head
    pages[first * PAGE_WORDS + PREVIOUS] = record
    pages[head * PAGE_WORDS + NEXT] = record


@leaf
def list_add_tail(pages: Words, head: int, record: int) -> None:
    """Put a record before `head`: last in the list."""
    last = pages[head * PAGE_WORDS + PREVIOUS]
    pages[record * PAGE_WORDS + NEXT] = head
    pages[record * PAGE_WORDS + PREVIOUS] = last
    pages[last * PAGE_WORDS + NEXT] = record
    pages[head * PAGE_WORDS + PREVIOUS] = record


@leaf
def list_delete(pages: Words, record: int) -> None:
    """Take a record out of whatever list it is in."""
    following = pages[record * PAGE_WORDS + NEXT]
    previous = pages[record * PAGE_WORDS + PREVIOUS]
    pages[previous * PAGE_WORDS + NEXT] = following
    pages[following * PAGE_WORDS + PREVIOUS] = previous


@inner
def list_rotate_to_front(pages: Words, head: int, record: int) -> None:
    """Make `record` the first of its list; what stood in front goes, in order, to the end."""
    list_delete(pages, head)
    list_add_tail(pages, record, head)


@leaf
def set_block(pages: Words, pfn: int, block: int) -> None:
    """Set kind, order, type and flags of a block's first page; what belongs to the page stays."""
    place = pfn * PAGE_WORDS + STATE
    pages[place] = (pages[place] & PAGE_MASK) | block


@leaf
def block_state(pages: Words, pfn: int) -> int:
    """Kind, order, type and flags of a block's first page."""
    return pages[pfn * PAGE_WORDS + STATE] & BLOCK_MASK


@leaf
def free_list(core: Core, zone: int, order: int, migratetype: int) -> int:
    """The record that heads a free list."""
    base = core.zones[zone * ZONE_WORDS + Z_LIST_BASE]
    return base + order * MIGRATE_TYPES + migratetype


@hot
def add_to_free_list(
    core: Core, zone: int, pfn: int, order: int, migratetype: int, tail: bool
) -> None:
    """Put a block on a free list, unreported; NR_FREE_PAGES is the caller's."""
    head = free_list(core, zone, order, migratetype)
    if tail:
        list_add_tail(core.pages, head, pfn)
    else:
        list_add(core.pages, head, pfn)
    set_block(core.pages, pfn, KIND_FREE | order | (migratetype << TYPE_SHIFT))
    core.zones[zone * ZONE_WORDS + Z_NR_FREE + order] += 1
    if migratetype == HIGHATOMIC:
        core.zones[zone * ZONE_WORDS + Z_FREE_HIGHATOMIC] += 1 << order


@hot
def del_page_from_free_list(core: Core, zone: int, pfn: int, order: int) -> None:
    """Take a block off its free list, whatever the reason; that ends its being Reported."""
    state = block_state(core.pages, pfn)
    if state & REPORTED:
        core.zones[zone * ZONE_WORDS + Z_REPORTED] -= 1 << order
        core.zones[zone * ZONE_WORDS + Z_REFAULTED] += 1 << order
    if state & TYPE_MASK == HIGHATOMIC << TYPE_SHIFT:
        core.zones[zone * ZONE_WORDS + Z_FREE_HIGHATOMIC] -= 1 << order
    list_delete(core.pages, pfn)
    set_block(core.pages, pfn, 0)
    core.zones[zone * ZONE_WORDS + Z_NR_FREE + order] -= 1


@inner
def move_to_free_list(core: Core, zone: int, pfn: int, order: int, migratetype: int) -> None:
    """Move a free block to the tail of another type's list; it stays Reported if it was."""
    list_delete(core.pages, pfn)
    list_add_tail(core.pages, free_list(core, zone, order, migratetype), pfn)
    state = block_state(core.pages, pfn)
    was_reserved = int(state & TYPE_MASK == HIGHATOMIC << TYPE_SHIFT)
    gained = int(migratetype == HIGHATOMIC) - was_reserved
    core.zones[zone * ZONE_WORDS + Z_FREE_HIGHATOMIC] += gained << order
    set_block(
        core.pages, pfn, KIND_FREE | order | (migratetype << TYPE_SHIFT) | (state & REPORTED)
    )


@leaf
def page_is_buddy(core: Core, zone: int, pfn: int, order: int) -> bool:
    """Whether a free block of exactly this order starts at `pfn`, in this zone."""
    z = zone * ZONE_WORDS
    return (
        core.zones[z + Z_START_PFN] <= pfn < core.zones[z + Z_END_PFN]
        and core.pages[pfn * PAGE_WORDS + STATE] & (KIND_MASK | ORDER_MASK) == KIND_FREE | order
    )


@leaf
def pageblock_type(core: Core, pfn: int) -> int:
    """The migratetype of the page block that holds `pfn`."""
    return core.blocks[pfn >> PAGEBLOCK_ORDER]


@leaf
def count_free_pages(core: Core, zone: int, pages: int) -> None:
    """Change NR_FREE_PAGES by `pages`. With a step set, a single CPU keeps its changes to itself
    until their sum is larger than the step (Linux 6.1 `mm/vmstat.c`: `mod_zone_state`).
    """
    z = zone * ZONE_WORDS
    core.zones[z + Z_FREE_PAGES] += pages
    step = core.zones[z + Z_COUNTER_STEP]
    if step != 0:
        drift = core.zones[z + Z_COUNTER_DRIFT] + pages
        if drift > step or drift < -step:
            drift = 0
        core.zones[z + Z_COUNTER_DRIFT] = drift


@leaf
def counted_free_pages(core: Core, zone: int) -> int:
    """NR_FREE_PAGES as the watermark tests read it: what the CPUs have told of."""
    z = zone * ZONE_WORDS
    return core.zones[z + Z_FREE_PAGES] - core.zones[z + Z_COUNTER_DRIFT]


@inner
def note_free_pages(core: Core, zone: int) -> None:
    """Keep the lowest free count, of the zone and of all together, and the least margins over the
    watermarks.
    """
    zones = core.zones
    z = zone * ZONE_WORDS
    free = zones[z + Z_FREE_PAGES]
    zones[z + Z_FREE_PAGES_MIN] = min(zones[z + Z_FREE_PAGES_MIN], free)
    free -= zones[z + Z_BOOST]
    zones[z + Z_MARGIN_MIN] = min(zones[z + Z_MARGIN_MIN], free - zones[z + Z_WMARK_MIN])
    zones[z + Z_MARGIN_LOW] = min(zones[z + Z_MARGIN_LOW], free - zones[z + Z_WMARK_LOW])
    zones[z + Z_MARGIN_HIGH] = min(zones[z + Z_MARGIN_HIGH], free - zones[z + Z_WMARK_HIGH])
    total = 0
    for other in range(core.header[H_ZONES]):
        total += zones[other * ZONE_WORDS + Z_FREE_PAGES]
    core.header[H_FREE_PAGES_MIN] = min(core.header[H_FREE_PAGES_MIN], total)


@hot
def free_one_page(
    core: Core, worker: int, zone: int, pfn: int, order: int, migratetype: int, flags: int
) -> int:
    """Give a block back to the buddy lists: merge upwards, place, notify. Returns the order it
    ended with.

    Source: `__free_one_page`. Merging at page block size and above stops only where the types
    differ and one of the two must not be mixed (HIGHATOMIC, CMA, ISOLATE).
    """
    count_free_pages(core, zone, 1 << order)
    while order < MAX_ORDER - 1:
        buddy = pfn ^ (1 << order)
        if not page_is_buddy(core, zone, buddy, order):
            break
        if order >= PAGEBLOCK_ORDER:
            buddy_type = pageblock_type(core, buddy)
            if buddy_type != migratetype:
                if migratetype >= PCPTYPES or buddy_type >= PCPTYPES:
                    break
                if kernel_has(core, TYPED_FREE_LISTS):
                    core.blocks[buddy >> PAGEBLOCK_ORDER] = migratetype
        del_page_from_free_list(core, zone, buddy, order)
        pfn &= buddy
        order += 1
    tail = (flags & TO_TAIL) != 0
    if not tail and order < PAGEBLOCK_ORDER:
        parent = pfn & ~(1 << order)
        tail = page_is_buddy(core, zone, parent ^ (1 << (order + 1)), order + 1)
    add_to_free_list(core, zone, pfn, order, migratetype, tail)
    if not flags & SKIP_REPORT_NOTIFY:
        page_reporting_notify_free(core, worker, zone, pfn, order)
    return order


@hot
def take_and_split(
    core: Core, zone: int, pfn: int, current: int, order: int, migratetype: int
) -> None:
    """Take a block of order `current` off its list and split it down to `order`: each upper half
    goes, unreported, to the head of the next lower list of a type (`expand`).
    """
    del_page_from_free_list(core, zone, pfn, current)
    while current > order:
        current -= 1
        add_to_free_list(core, zone, pfn + (1 << current), current, migratetype, False)


@hot
def rmqueue_smallest(core: Core, zone: int, order: int, migratetype: int) -> int:
    """Take the first block of the smallest fitting order of one type, split it, return its lowest
    part; else NO_PAGE (`__rmqueue_smallest`).
    """
    for current in range(order, MAX_ORDER):
        head = free_list(core, zone, current, migratetype)
        pfn = core.pages[head * PAGE_WORDS + NEXT]
        if pfn == head:
            continue
        take_and_split(core, zone, pfn, current, order, migratetype)
        return pfn
    return NO_PAGE

"""The audit's checks of migratetypes: the HIGHATOMIC reserve, and lists against page blocks.

Written from the rules, not from the code that keeps them.
"""

import numpy as np

from pagesoak.allocator.audit_blocks import Breach, ZoneBlocks, breaches_at
from pagesoak.allocator.profile import TYPED_FREE_LISTS
from pagesoak.allocator.state_arrays import Arrays
from pagesoak.base.layout import (
    HIGHATOMIC,
    KIND_FREE,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_RESERVED_HIGHATOMIC,
)
from pagesoak.base.layout_kernel import Z_FREE_HIGHATOMIC, Z_RESERVE_OVERWRITTEN


def check_types(arrays: Arrays, blocks: ZoneBlocks, kernel_rules: int) -> list[Breach]:
    """The reserve is the page blocks of its type and those whose type a steal has overwritten, and
    its free pages are those on its lists.

    Where the kernel keeps free lists by the types of page blocks, every free block is on the lists
    of its page block's type; a larger one, of all its page blocks' types.
    """
    record = arrays.zones[blocks.zone]
    free = blocks.of_kind(KIND_FREE)
    heads, pages = blocks.heads[free], blocks.pages[free]
    listed = (blocks.state_at(heads) & TYPE_MASK) >> TYPE_SHIFT
    first = blocks.start_pfn >> PAGEBLOCK_ORDER
    types = arrays.blocks[first : ((blocks.end_pfn - 1) >> PAGEBLOCK_ORDER) + 1]
    found = []
    for name, counter, counted in (
        (
            "reserved for atomic requests",
            int(record[Z_RESERVED_HIGHATOMIC]),
            int(np.count_nonzero(types == HIGHATOMIC)) * PAGEBLOCK_PAGES
            + int(record[Z_RESERVE_OVERWRITTEN]),
        ),
        (
            "free for atomic requests",
            int(record[Z_FREE_HIGHATOMIC]),
            int(pages[listed == HIGHATOMIC].sum()),
        ),
    ):
        if counter != counted:
            message = f"{name}: the counter says {counter} pages, the types {counted}"
            found.append(Breach("types", message, blocks.zone))
    if kernel_rules & TYPED_FREE_LISTS:
        last = (heads + pages - 1) >> PAGEBLOCK_ORDER
        apart = (arrays.blocks[heads >> PAGEBLOCK_ORDER] != listed) | (
            arrays.blocks[last] != listed
        )
        text = "the free block at {pfn} is on the lists of another type than its page block's"
        found += breaches_at("types", blocks.zone, heads[apart], text)
    return found

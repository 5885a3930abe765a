"""A request of a replay, packed into one 64-bit word beside its time.

A free names the recorded *allocation* it undoes, not a page frame: the model may have given that
allocation another page. Only pages in use since the start are named by their page frame.
"""

from pagesoak.base.native import leaf

ALLOC = 0
FREE = 1
FREE_BOOT = 2

ORDER_SHIFT = 2
TYPE_SHIFT = 6
IDENTITY_SHIFT = 9
IDENTITY_MASK = (1 << 32) - 1
DETAIL_SHIFT = 41
DETAIL_MASK = (1 << 18) - 1
"""Of an ALLOC, the packed GFP word of `allocator.gfp`, highest zone index included; of a FREE, the
pages between the allocation's start and what is freed of it (0, unless it is freed in parts).
"""


def pack_request(opcode: int, order: int, migratetype: int, identity: int, detail: int) -> int:
    """One word: what, how large, of which type, which allocation (or page frame), with which
    rights or from where.
    """
    return (
        opcode
        | order << ORDER_SHIFT
        | migratetype << TYPE_SHIFT
        | (identity & IDENTITY_MASK) << IDENTITY_SHIFT
        | (detail & DETAIL_MASK) << DETAIL_SHIFT
    )


@leaf
def request_opcode(word: int) -> int:
    """ALLOC, FREE or FREE_BOOT."""
    return word & 3


@leaf
def request_order(word: int) -> int:
    """Order of the block."""
    return (word >> ORDER_SHIFT) & 0xF


@leaf
def request_type(word: int) -> int:
    """Migratetype asked for."""
    return (word >> TYPE_SHIFT) & 7


@leaf
def request_identity(word: int) -> int:
    """Number of the recorded allocation, or the page frame of a boot page."""
    return (word >> IDENTITY_SHIFT) & IDENTITY_MASK


@leaf
def request_detail(word: int) -> int:
    """Packed GFP word of an ALLOC, offset of a FREE."""
    return (word >> DETAIL_SHIFT) & DETAIL_MASK

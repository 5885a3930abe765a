"""GFP flags: what an allocation may do to get its pages, as traces print it, as the core keeps it.

Sources: the flag names and numbers of Linux 5.0 to 6.12 (`include/linux/gfp*.h`, and the printing
table of `include/trace/events/mmflags.h`); zone and migratetype as `gfp_zone()` and
`gfp_migratetype()` give them on x86-64, where __GFP_HIGHMEM alone means zone NORMAL.

Three forms: the printed one (`GFP_NOFS|__GFP_NOWARN|0x8000000`), `GfpFlags` with one boolean per
right the allocator looks at, and one packed int for the core (the `GFP_*` bits below).
"""

import re
from typing import NamedTuple

from pagesoak.base.errors import InputError

# Packed form: one bit per right; the highest zone index in bits 16 and 17.
GFP_DIRECT_RECLAIM = 1 << 0
GFP_KSWAPD_RECLAIM = 1 << 1
GFP_HIGH = 1 << 2
GFP_ATOMIC = 1 << 3
GFP_NORETRY = 1 << 4
GFP_RETRY_MAYFAIL = 1 << 5
GFP_NOFAIL = 1 << 6
GFP_NOMEMALLOC = 1 << 7
GFP_THISNODE = 1 << 8
GFP_FS = 1 << 9
GFP_IO = 1 << 10
GFP_MOVABLE = 1 << 11
GFP_RECLAIMABLE = 1 << 12
GFP_ACCOUNT = 1 << 13
GFP_MEMALLOC = 1 << 14
GFP_HIGHMEM = 1 << 15
GFP_ZONE_SHIFT = 16
GFP_ZONE_MASK = 3 << GFP_ZONE_SHIFT

# Zone indices of x86-64.
ZONE_DMA = 0
ZONE_DMA32 = 1
ZONE_NORMAL = 2
ZONE_MOVABLE = 3

MIGRATE_UNMOVABLE = 0
MIGRATE_MOVABLE = 1
MIGRATE_RECLAIMABLE = 2

MAX_KERNEL_MASK = (1 << 32) - 1
"""gfp_t is an unsigned int: a larger number is no GFP mask."""


class GfpFlags(NamedTuple):
    """The rights of one request.

    `atomic` is __GFP_ATOMIC, which exists up to 6.2: there GFP_ATOMIC stands for high, atomic and
    kswapd together. Later kernels mean "high without direct reclaim" by it, and the *numbers*
    they print do not have the bit.
    """

    direct_reclaim: bool = False
    kswapd_reclaim: bool = False
    high: bool = False
    atomic: bool = False
    io: bool = False
    fs: bool = False
    noretry: bool = False
    retry_mayfail: bool = False
    nofail: bool = False
    nomemalloc: bool = False
    memalloc: bool = False
    thisnode: bool = False
    movable: bool = False
    reclaimable: bool = False
    highmem: bool = False
    dma: bool = False
    dma32: bool = False
    account: bool = False

    @property
    def highest_zoneidx(self) -> int:
        """The highest zone the request may be served from (`gfp_zone()`)."""
        if self.dma:
            return ZONE_DMA
        if self.dma32:
            return ZONE_DMA32
        return ZONE_MOVABLE if self.movable and self.highmem else ZONE_NORMAL

    @property
    def migratetype(self) -> int:
        """The free lists the request is served from first (`gfp_migratetype()`)."""
        if self.movable:
            return MIGRATE_MOVABLE
        return MIGRATE_RECLAIMABLE if self.reclaimable else MIGRATE_UNMOVABLE


# Numbers of single flags, the same from 5.0 to 6.12. Bits from 1 << 23 on moved between versions
# and concern KASAN and lock checking: they mean nothing here.
_RECLAIM = 0x400 | 0x800
_KERNEL_BITS = {
    "__GFP_DMA": 0x1,
    "__GFP_HIGHMEM": 0x2,
    "__GFP_DMA32": 0x4,
    "__GFP_MOVABLE": 0x8,
    "__GFP_RECLAIMABLE": 0x10,
    "__GFP_HIGH": 0x20,
    "__GFP_IO": 0x40,
    "__GFP_FS": 0x80,
    "__GFP_ZERO": 0x100,
    "__GFP_ATOMIC": 0x200,
    "__GFP_DIRECT_RECLAIM": 0x400,
    "__GFP_KSWAPD_RECLAIM": 0x800,
    "__GFP_WRITE": 0x1000,
    "__GFP_NOWARN": 0x2000,
    "__GFP_RETRY_MAYFAIL": 0x4000,
    "__GFP_NOFAIL": 0x8000,
    "__GFP_NORETRY": 0x10000,
    "__GFP_MEMALLOC": 0x20000,
    "__GFP_COMP": 0x40000,
    "__GFP_NOMEMALLOC": 0x80000,
    "__GFP_HARDWALL": 0x100000,
    "__GFP_THISNODE": 0x200000,
    "__GFP_ACCOUNT": 0x400000,
}

_GFP_KERNEL = _RECLAIM | _KERNEL_BITS["__GFP_IO"] | _KERNEL_BITS["__GFP_FS"]
_GFP_USER = _GFP_KERNEL | _KERNEL_BITS["__GFP_HARDWALL"]
_GFP_HIGHUSER = _GFP_USER | _KERNEL_BITS["__GFP_HIGHMEM"]
_GFP_HIGHUSER_MOVABLE = _GFP_HIGHUSER | _KERNEL_BITS["__GFP_MOVABLE"]
_GFP_TRANSHUGE_LIGHT = (
    (_GFP_HIGHUSER_MOVABLE & ~_RECLAIM)
    | _KERNEL_BITS["__GFP_COMP"]
    | _KERNEL_BITS["__GFP_NOMEMALLOC"]
    | _KERNEL_BITS["__GFP_NOWARN"]
)

_MASK_BY_NAME = {
    **_KERNEL_BITS,
    "none": 0,
    "GFP_ATOMIC": 0x20 | 0x200 | 0x800,
    "GFP_NOWAIT": 0x800,
    "GFP_NOIO": _RECLAIM,
    "GFP_NOFS": _RECLAIM | _KERNEL_BITS["__GFP_IO"],
    "GFP_KERNEL": _GFP_KERNEL,
    "GFP_KERNEL_ACCOUNT": _GFP_KERNEL | _KERNEL_BITS["__GFP_ACCOUNT"],
    "GFP_TEMPORARY": _GFP_KERNEL | _KERNEL_BITS["__GFP_RECLAIMABLE"],
    "GFP_USER": _GFP_USER,
    "GFP_HIGHUSER": _GFP_HIGHUSER,
    "GFP_HIGHUSER_MOVABLE": _GFP_HIGHUSER_MOVABLE,
    "GFP_TRANSHUGE_LIGHT": _GFP_TRANSHUGE_LIGHT,
    "GFP_TRANSHUGE": _GFP_TRANSHUGE_LIGHT | _KERNEL_BITS["__GFP_DIRECT_RECLAIM"],
    "GFP_DMA": _KERNEL_BITS["__GFP_DMA"],
    "GFP_DMA32": _KERNEL_BITS["__GFP_DMA32"],
    "__GFP_RECLAIM": _RECLAIM,
    "__GFP_REPEAT": _KERNEL_BITS["__GFP_RETRY_MAYFAIL"],
    # Flags that decide nothing in the page allocator's choice of pages.
    "__GFP_COLD": 0,
    "__GFP_NOTRACK": 0,
    "__GFP_OTHER_NODE": 0,
    "__GFP_NOLOCKDEP": 0,
    "__GFP_ZEROTAGS": 0,
    "__GFP_SKIP_ZERO": 0,
    "__GFP_SKIP_KASAN": 0,
    "__GFP_SKIP_KASAN_POISON": 0,
    "__GFP_SKIP_KASAN_UNPOISON": 0,
    "__GFP_NO_OBJ_EXT": 0,
}

_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,8}|[0-9]{1,10}")

_KERNEL_BIT_OF_FIELD = {
    field: _KERNEL_BITS["__GFP_" + field.upper()] for field in GfpFlags._fields
}

_PACKED_BIT_OF_FIELD = {
    "direct_reclaim": GFP_DIRECT_RECLAIM,
    "kswapd_reclaim": GFP_KSWAPD_RECLAIM,
    "high": GFP_HIGH,
    "atomic": GFP_ATOMIC,
    "io": GFP_IO,
    "fs": GFP_FS,
    "noretry": GFP_NORETRY,
    "retry_mayfail": GFP_RETRY_MAYFAIL,
    "nofail": GFP_NOFAIL,
    "nomemalloc": GFP_NOMEMALLOC,
    "memalloc": GFP_MEMALLOC,
    "thisnode": GFP_THISNODE,
    "movable": GFP_MOVABLE,
    "reclaimable": GFP_RECLAIMABLE,
    "highmem": GFP_HIGHMEM,
    "account": GFP_ACCOUNT,
}


def parse_gfp(text: str) -> GfpFlags:
    """The flags a kernel printed: names and numbers (0x… or decimal) joined by `|`.

    Raises `InputError` naming the flag that is not known (without a place: the caller knows it).
    """
    mask = 0
    for name in text.split("|"):
        known = _MASK_BY_NAME.get(name)
        mask |= _mask_of_number(name) if known is None else known
    return GfpFlags(*(mask & _KERNEL_BIT_OF_FIELD[field] != 0 for field in GfpFlags._fields))


def _mask_of_number(text: str) -> int:
    if _NUMBER.fullmatch(text):
        mask = int(text, 16) if text.startswith("0x") else int(text)
        if mask <= MAX_KERNEL_MASK:
            return mask
    raise InputError(f"unknown GFP flag {text[:40]!r}")


def pack_gfp(flags: GfpFlags) -> int:
    """One int for the core: the `GFP_*` bits and the highest zone index."""
    packed = flags.highest_zoneidx << GFP_ZONE_SHIFT
    for field, bit in _PACKED_BIT_OF_FIELD.items():
        if getattr(flags, field):
            packed |= bit
    return packed


def unpack_gfp(packed: int) -> GfpFlags:
    """The flags of a packed int.

    `unpack_gfp(pack_gfp(flags)) == flags`, unless both dma and dma32 were asked for.
    """
    fields = {field: packed & bit != 0 for field, bit in _PACKED_BIT_OF_FIELD.items()}
    zone = (packed & GFP_ZONE_MASK) >> GFP_ZONE_SHIFT
    return GfpFlags(**fields, dma=zone == ZONE_DMA, dma32=zone == ZONE_DMA32)


def parse_packed_gfp(text: str) -> int:
    """`pack_gfp(parse_gfp(text))`."""
    return pack_gfp(parse_gfp(text))


USER_MOVABLE = parse_packed_gfp("GFP_HIGHUSER_MOVABLE")
"""A page of a process's memory."""
KERNEL = parse_packed_gfp("GFP_KERNEL")
ATOMIC = parse_packed_gfp("GFP_ATOMIC")
NOWAIT = parse_packed_gfp("GFP_NOWAIT")
"""What is asked for without waiting: kswapd is woken, nothing else is done for it."""
NORETRY_KERNEL = parse_packed_gfp("GFP_KERNEL|__GFP_NORETRY")
THP = parse_packed_gfp("GFP_TRANSHUGE_LIGHT|__GFP_NORETRY|__GFP_THISNODE")
"""A huge page at a page fault under defrag=madvise, as the 6.1 recordings print it."""

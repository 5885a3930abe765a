"""GFP flags: what the kernel prints, what the core gets."""

import re

import pytest

from pagesoak.allocator import gfp
from pagesoak.allocator.gfp import GfpFlags, pack_gfp, parse_gfp, parse_packed_gfp, unpack_gfp
from pagesoak.base.errors import InputError

BOTH = {"direct_reclaim": True, "kswapd_reclaim": True}


@pytest.mark.parametrize(
    ("text", "flags", "zone", "migratetype"),
    [
        ("GFP_KERNEL", GfpFlags(**BOTH, io=True, fs=True), 2, 0),
        ("GFP_KERNEL_ACCOUNT|__GFP_ZERO", GfpFlags(**BOTH, io=True, fs=True, account=True), 2, 0),
        ("GFP_USER", GfpFlags(**BOTH, io=True, fs=True), 2, 0),
        ("GFP_HIGHUSER|__GFP_ACCOUNT",
         GfpFlags(**BOTH, io=True, fs=True, highmem=True, account=True), 2, 0),
        ("GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO",
         GfpFlags(**BOTH, io=True, fs=True, movable=True, highmem=True), 3, 1),
        (("GFP_NOFS|__GFP_HIGHMEM|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_HARDWALL"
         "|__GFP_MOVABLE"),
         GfpFlags(**BOTH, io=True, noretry=True, movable=True, highmem=True), 3, 1),
        ("GFP_NOFS|__GFP_NOFAIL|__GFP_COMP|__GFP_HARDWALL|__GFP_MOVABLE",
         GfpFlags(**BOTH, io=True, nofail=True, movable=True), 2, 1),
        ("GFP_NOIO", GfpFlags(**BOTH), 2, 0),
        ("GFP_NOWAIT|__GFP_NOWARN", GfpFlags(kswapd_reclaim=True), 2, 0),
        ("GFP_ATOMIC|__GFP_NORETRY|__GFP_RECLAIMABLE",
         GfpFlags(high=True, atomic=True, kswapd_reclaim=True, noretry=True, reclaimable=True),
         2, 2),
        ("__GFP_IO|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC|__GFP_RECLAIMABLE",
         GfpFlags(io=True, noretry=True, nomemalloc=True, reclaimable=True), 2, 2),
        ("GFP_TRANSHUGE_LIGHT|__GFP_NORETRY|__GFP_THISNODE",
         GfpFlags(io=True, fs=True, noretry=True, nomemalloc=True, thisnode=True, movable=True,
                  highmem=True), 3, 1),
        ("GFP_TRANSHUGE",
         GfpFlags(direct_reclaim=True, io=True, fs=True, nomemalloc=True, movable=True,
                  highmem=True), 3, 1),
        ("GFP_KERNEL|GFP_DMA", GfpFlags(**BOTH, io=True, fs=True, dma=True), 0, 0),
        ("GFP_KERNEL|GFP_DMA32|__GFP_MOVABLE",
         GfpFlags(**BOTH, io=True, fs=True, dma32=True, movable=True), 1, 1),
        ("__GFP_RECLAIM|__GFP_RETRY_MAYFAIL", GfpFlags(**BOTH, retry_mayfail=True), 2, 0),
        ("__GFP_DIRECT_RECLAIM", GfpFlags(direct_reclaim=True), 2, 0),
        ("__GFP_KSWAPD_RECLAIM|__GFP_MEMALLOC|__GFP_HIGH|__GFP_ATOMIC",
         GfpFlags(kswapd_reclaim=True, memalloc=True, high=True, atomic=True), 2, 0),
        ("none", GfpFlags(), 2, 0),
        ("0", GfpFlags(), 2, 0),
    ],
)  # fmt: skip
def test_printed_flags(text: str, flags: GfpFlags, zone: int, migratetype: int) -> None:
    parsed = parse_gfp(text)
    assert parsed == flags
    assert parsed.highest_zoneidx == zone
    assert parsed.migratetype == migratetype
    assert unpack_gfp(pack_gfp(parsed)) == parsed


# The same masks once as numbers (libtraceevent without the names), once as names.
@pytest.mark.parametrize(
    ("number", "names"),
    [
        ("0x152c4a", ("GFP_NOFS|__GFP_HIGHMEM|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP"
                     "|__GFP_HARDWALL|__GFP_MOVABLE")),
        ("0xcc0", "GFP_KERNEL"),
        ("3264", "GFP_KERNEL"),
        ("0xa20", "GFP_ATOMIC"),
        ("0x100cca", "GFP_HIGHUSER_MOVABLE"),
        ("0x400dc0", "GFP_KERNEL_ACCOUNT|__GFP_ZERO"),
        ("GFP_KERNEL|0x8000000", "GFP_KERNEL|__GFP_NOLOCKDEP"),
        ("0x1c20ca", "GFP_TRANSHUGE_LIGHT"),
    ],
)  # fmt: skip
def test_numbers_mean_what_the_names_mean(number: str, names: str) -> None:
    assert parse_gfp(number) == parse_gfp(names)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("GFP_KERNEL|__GFP_FANCY", "__GFP_FANCY"),
        ("", ""),
        ("GFP_KERNEL|", ""),
        ("0x", "0x"),
        ("0x1ffffffff", "0x1ffffffff"),
        ("4294967296", "4294967296"),
        ("-1", "-1"),
        ("1_0", "1_0"),
        ("٣", "٣"),
        (" GFP_KERNEL", " GFP_KERNEL"),
    ],
)
def test_unknown_flag_is_named(text: str, named: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"unknown GFP flag {named!r}")):
        parse_gfp(text)


def test_packed_bits() -> None:
    assert parse_packed_gfp("GFP_KERNEL") == (
        gfp.GFP_DIRECT_RECLAIM
        | gfp.GFP_KSWAPD_RECLAIM
        | gfp.GFP_IO
        | gfp.GFP_FS
        | gfp.ZONE_NORMAL << gfp.GFP_ZONE_SHIFT
    )
    assert gfp.KERNEL == 0x20603
    assert gfp.USER_MOVABLE == 0x38E03
    assert gfp.ATOMIC == 0x2000E
    assert gfp.NORETRY_KERNEL == gfp.KERNEL | gfp.GFP_NORETRY
    thp = unpack_gfp(gfp.THP)
    assert thp.thisnode
    assert not thp.direct_reclaim
    assert not thp.kswapd_reclaim
    assert thp.highest_zoneidx == gfp.ZONE_MOVABLE


def test_packed_bits_do_not_overlap() -> None:
    bits = list(gfp._PACKED_BIT_OF_FIELD.values())
    assert sum(bits) | gfp.GFP_ZONE_MASK == sum(bits) + gfp.GFP_ZONE_MASK
    assert len(set(bits)) == len(bits)

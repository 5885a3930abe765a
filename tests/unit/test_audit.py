"""The audit: clean guests pass, and each crime is seen by the check that is named after it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from pagesoak.allocator.audit import (
    CHECKS,
    CopyRefused,
    StateCopy,
    audit,
    audit_interval_ns,
    copy_bytes,
    copy_state,
    copy_unlocked,
)
from pagesoak.allocator.audit_blocks import BREACHES_PER_CHECK_MAX
from pagesoak.allocator.audit_lock import PAGESET_BUSY
from pagesoak.allocator.free_read import read_free_lists
from pagesoak.allocator.gfp import ATOMIC, KERNEL, USER_MOVABLE
from pagesoak.allocator.profile import PROFILES
from pagesoak.allocator.single import allocate_block, free_block
from pagesoak.base.layout import (
    E_END,
    E_ORDER,
    E_PAGES,
    E_PFN,
    H_STOP,
    HIGHATOMIC,
    KIND_ALLOCATED,
    KIND_FREE,
    KIND_RESERVED,
    MOVABLE,
    NEXT,
    ON_LRU,
    P_ALLOCATED,
    P_CLAIM,
    P_COUNT,
    P_LIST_BASE,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PREVIOUS,
    R_COUNT,
    R_OFFSET,
    R_ORDER,
    R_REGISTERED,
    R_REQUEST,
    R_START,
    RECLAIMABLE,
    REPORTED,
    SEQUENCE,
    STAMPED,
    STATE,
    TYPE_SHIFT,
    UNMOVABLE,
    Z_ALLOCATED_DIRECT,
    Z_BOOT_PAGES,
    Z_DEAD,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Z_LIST_BASE,
    Z_MANAGED,
    Z_NR_FREE,
    Z_REPORTED,
    Z_RESERVED,
    Z_RESERVED_HIGHATOMIC,
)
from pagesoak.base.layout_kernel import H_KERNEL, Z_FREE_HIGHATOMIC
from pagesoak.base.lock import STOPPED, ZONE_DEAD
from pagesoak.base.segment import Segment
from tests.guests import (
    DMA,
    DMA32,
    RECORDINGS,
    append,
    free_list_head,
    isolate,
    page,
    pageset,
    recorded_guest,
    scatterlist,
    small_snapshot,
    synthetic_guest,
    unlink,
    zone,
)

MIB = 1 << 20
GIB = 1 << 30
RUNNER = 4
"""Worker number of the runner in a guest of two CPUs."""

Crime = Callable[[Segment], None]


@pytest.fixture
def guest() -> Iterator[Segment]:
    """The small guest, with two blocks isolated for a report of order 9 that is not out yet."""
    with recorded_guest(small_snapshot(), cpus=2) as segment:
        segment.report[R_REGISTERED] = 1
        segment.report[R_ORDER] = PAGEBLOCK_ORDER
        isolate(segment, DMA32, 0x1400, 10)
        isolate(segment, DMA32, 0x1E00, 9)
        yield segment


def add_zone(word: int, amount: int, number: int = DMA32) -> Crime:
    def crime(segment: Segment) -> None:
        segment.zones[zone(number, word)] += amount

    return crime


def add_pageset(word: int, amount: int, cpu: int = 0) -> Crime:
    def crime(segment: Segment) -> None:
        segment.pagesets[pageset(segment, cpu, DMA32, word)] += amount

    return crime


def set_page(pfn: int, word: int, value: int) -> Crime:
    def crime(segment: Segment) -> None:
        assert segment.pages[page(pfn, word)] != value
        segment.pages[page(pfn, word)] = value

    return crime


def set_head(order: int, migratetype: int, word: int, value: int) -> Crime:
    def crime(segment: Segment) -> None:
        head = free_list_head(segment, DMA32, order, migratetype)
        assert segment.pages[page(head, word)] != value
        segment.pages[page(head, word)] = value

    return crime


def flip_state(pfn: int, bits: int) -> Crime:
    def crime(segment: Segment) -> None:
        segment.pages[page(pfn, STATE)] ^= bits

    return crime


def set_entry(index: int, word: int, value: int) -> Crime:
    def crime(segment: Segment) -> None:
        assert segment.report[scatterlist(index, word)] != value
        segment.report[scatterlist(index, word)] = value

    return crime


def set_report(word: int, value: int) -> Crime:
    def crime(segment: Segment) -> None:
        segment.report[word] = value

    return crime


def both(*crimes: Crime) -> Crime:
    def crime(segment: Segment) -> None:
        for one in crimes:
            one(segment)

    return crime


def take_off_list(pfn: int) -> Crime:
    def crime(segment: Segment) -> None:
        unlink(segment, pfn)

    return crime


def put_on_free_list(pfn: int, order: int, migratetype: int) -> Crime:
    def crime(segment: Segment) -> None:
        append(segment, free_list_head(segment, DMA32, order, migratetype), pfn)

    return crime


def put_on_pageset_list(pfn: int, index: int) -> Crime:
    def crime(segment: Segment) -> None:
        base = segment.pagesets[pageset(segment, 0, DMA32, P_LIST_BASE)]
        append(segment, base + index, pfn)

    return crime


def free_boot_page_without_merging(segment: Segment) -> None:
    """Page 0x1000 goes on a list beside its free buddy 0x1001; all counters are right."""
    append(segment, free_list_head(segment, DMA32, 0, MOVABLE), 0x1000)
    segment.pages[page(0x1000, STATE)] = KIND_FREE | (MOVABLE << TYPE_SHIFT)
    segment.zones[zone(DMA32, Z_NR_FREE)] += 1
    segment.zones[zone(DMA32, Z_FREE_PAGES)] += 1
    segment.zones[zone(DMA32, Z_ALLOCATED_DIRECT)] -= 1


def reserve(segment: Segment, number: int, pfn: int) -> None:
    """A page block becomes HIGHATOMIC, and is counted as such."""
    segment.blocks[pfn >> PAGEBLOCK_ORDER] = HIGHATOMIC
    segment.zones[zone(number, Z_RESERVED_HIGHATOMIC)] += PAGEBLOCK_PAGES


def set_block_type(pfn: int, migratetype: int) -> Crime:
    def crime(segment: Segment) -> None:
        assert segment.blocks[pfn >> PAGEBLOCK_ORDER] != migratetype
        segment.blocks[pfn >> PAGEBLOCK_ORDER] = migratetype

    return crime


def as_6_12(crime: Crime) -> Crime:
    """The same in a guest whose lists follow the types of page blocks."""

    def committed(segment: Segment) -> None:
        segment.header[H_KERNEL] = PROFILES["6.12"].rules
        assert checks_of(segment) == {"types"}, "page 0x1005 is unmovable in a movable page block"
        unlink(segment, 0x1005)
        append(segment, free_list_head(segment, DMA32, 0, MOVABLE), 0x1005)
        segment.pages[page(0x1005, STATE)] = KIND_FREE | (MOVABLE << TYPE_SHIFT)
        assert checks_of(segment) == set()
        crime(segment)

    return committed


def split_without_need(segment: Segment) -> None:
    """The free block of order 10 in DMA becomes two of order 9, as if they had not merged."""
    unlink(segment, 0x400)
    for pfn in (0x400, 0x600):
        append(segment, free_list_head(segment, 0, PAGEBLOCK_ORDER, MOVABLE), pfn)
        state = KIND_FREE | PAGEBLOCK_ORDER | (MOVABLE << TYPE_SHIFT)
        segment.pages[page(pfn, STATE)] = state
    segment.zones[zone(0, Z_NR_FREE + 10)] -= 1
    segment.zones[zone(0, Z_NR_FREE + 9)] += 2


FIRST = 31
"""Entry of the block isolated first: 0x1400, order 10."""
SECOND = 30
"""Entry of the one isolated second: 0x1e00, order 9."""

FREE_0 = KIND_FREE | (MOVABLE << TYPE_SHIFT)
BOOT_0 = KIND_ALLOCATED | (MOVABLE << TYPE_SHIFT) | ON_LRU

# What is done, and exactly which checks see it.
CRIMES: dict[str, tuple[set[str], Crime]] = {
    # types
    "a page block is reserved and not counted": ({"types"}, set_block_type(0x1400, HIGHATOMIC)),
    "a page block is counted as reserved": (
        {"types"},
        add_zone(Z_RESERVED_HIGHATOMIC, PAGEBLOCK_PAGES),
    ),
    "free pages of the reserve are miscounted": ({"types"}, add_zone(Z_FREE_HIGHATOMIC, 1)),
    "6.12: a free block is on another type's list": (
        {"types"},
        as_6_12(set_block_type(0x1200, UNMOVABLE)),
    ),
    "6.12: half of a large block is of another type": (
        {"types"},
        as_6_12(set_block_type(0x1A00, RECLAIMABLE)),
    ),
    # conservation
    "a managed page is lost": ({"conservation"}, add_zone(Z_MANAGED, -1)),
    "a reserved page is made": ({"conservation"}, add_zone(Z_RESERVED, 1)),
    "managed and reserved change sides with boot": (
        {"conservation", "counted"},
        both(add_zone(Z_RESERVED, 1), add_zone(Z_BOOT_PAGES, 1)),
    ),
    "a page taken directly is counted twice": (
        {"conservation", "counted"},
        add_zone(Z_ALLOCATED_DIRECT, 1),
    ),
    "a page taken from a pageset is not counted": (
        {"conservation", "counted"},
        add_pageset(P_ALLOCATED, -1),
    ),
    # tiling
    "a page belongs to no block": ({"tiling", "counted"}, set_page(0x1000, STATE, 0)),
    "the zone's last page belongs to no block": (
        {"tiling", "counted"},
        both(set_page(0x11FF, STATE, 0), set_page(0x11FE, STATE, 0)),
    ),
    "a block reaches over the next": (
        {"tiling", "counted"},
        flip_state(0x1000, 1),
    ),
    "a block is not aligned": (
        {"tiling"},
        both(flip_state(0x1041, 1), set_page(0x1042, STATE, 0)),
    ),
    "a block has an impossible order": (
        {"tiling", "counted", "list-links"},
        flip_state(0x1800, 10 ^ 11),
    ),
    "a block begins inside a block": (
        {"tiling", "counted", "flags"},
        set_page(0x1801, STATE, KIND_ALLOCATED),
    ),
    "a tail has a type": ({"tiling"}, set_page(0x1801, STATE, 1 << TYPE_SHIFT)),
    "a page outside the zones is free": ({"tiling"}, set_page(0, STATE, FREE_0)),
    "the zone ends early": ({"tiling", "conservation"}, add_zone(Z_END_PFN, -2)),
    "the zone reaches out of the guest": ({"tiling"}, add_zone(Z_END_PFN, 1)),
    # counted
    "free pages are counted one too many": (
        {"counted", "conservation"},
        add_zone(Z_FREE_PAGES, 1),
    ),
    "reported pages are not taken off": ({"counted"}, add_zone(Z_REPORTED, 512)),
    "isolated pages are forgotten": (
        {"counted", "conservation", "scatterlist"},
        add_zone(Z_ISOLATED, -512),
    ),
    "boot pages are counted as free": (
        {"counted"},
        both(add_zone(Z_FREE_PAGES, 1), add_zone(Z_BOOT_PAGES, -1)),
    ),
    "boot has more pages than at the start": (
        {"counted"},
        both(add_zone(Z_BOOT_PAGES, -1), add_zone(Z_ALLOCATED_DIRECT, 1)),
    ),
    # list-length
    "nr_free is one too many": ({"list-length"}, add_zone(Z_NR_FREE + 3, 1)),
    "nr_free of two orders is mixed up": (
        {"list-length"},
        both(add_zone(Z_NR_FREE, 2), add_zone(Z_NR_FREE + 1, -1)),
    ),
    "a pageset counts a page too many": (
        {"list-length", "counted", "conservation"},
        add_pageset(P_COUNT, 1),
    ),
    "two pagesets count for each other": (
        {"list-length"},
        both(add_pageset(P_COUNT, 1, cpu=0), add_pageset(P_COUNT, -1, cpu=1)),
    ),
    # list-links
    "a block does not link back": ({"list-links"}, set_page(0x1030, PREVIOUS, 0x1003)),
    "a list goes round behind its head": (
        {"list-links", "list-length"},
        set_page(0x1001, NEXT, 0x1003),
    ),
    "a list leads out of the guest": (
        {"list-links", "list-length"},
        set_page(0x1003, NEXT, 0x7FFF_FFFF),
    ),
    "a list leads below the guest": ({"list-links", "list-length"}, set_page(0x1003, NEXT, -5)),
    "a free block is on no list": ({"list-links", "list-length"}, take_off_list(0x1020)),
    "a free block is on no list and not counted": (
        {"list-links"},
        both(take_off_list(0x1020), add_zone(Z_NR_FREE + 3, -1)),
    ),
    "a taken block is on a free list": (
        {"list-links", "counted"},
        set_page(0x1001, STATE, BOOT_0),
    ),
    "a block is on another type's list": (
        {"list-links"},
        both(take_off_list(0x1003), put_on_free_list(0x1003, 0, UNMOVABLE)),
    ),
    "a block has another type than its list": (
        {"list-links"},
        flip_state(0x1003, 3 << TYPE_SHIFT),
    ),
    "a block of another zone is on a list": (
        {"list-links", "list-length"},
        both(take_off_list(0x200), put_on_free_list(0x200, 9, MOVABLE)),
    ),
    "a block is on two lists": (
        {"list-links", "list-length"},
        set_head(0, RECLAIMABLE, NEXT, 0x1005),
    ),
    "an empty list has a tail": (
        {"list-links"},
        set_head(0, RECLAIMABLE, PREVIOUS, 0x1005),
    ),
    "a list has another tail than its last": (
        {"list-links"},
        set_head(3, MOVABLE, PREVIOUS, 0x1020),
    ),
    "a pageset page has another order": (
        {"list-links", "list-length"},
        both(take_off_list(0x1010), put_on_pageset_list(0x1010, 7)),
    ),
    "a movable huge page is on the other list": (
        {"list-links", "list-length"},
        both(take_off_list(0x1C00), put_on_pageset_list(0x1C00, 12)),
    ),
    "list heads have moved": ({"list-links"}, add_zone(Z_LIST_BASE, 1)),
    "a pageset's heads have moved": ({"list-links"}, add_pageset(P_LIST_BASE, -1)),
    # buddies
    "two free pages side by side are not merged": ({"buddies"}, free_boot_page_without_merging),
    "two free page blocks side by side are not merged": ({"buddies"}, split_without_need),
    # flags
    "a taken block is Reported": ({"flags"}, flip_state(0x1000, REPORTED)),
    "a pageset page is Reported": ({"flags"}, flip_state(0x1007, REPORTED)),
    "an isolated block is Reported": ({"flags"}, flip_state(0x1400, REPORTED)),
    "a tail is Reported": ({"flags", "tiling"}, flip_state(0x1801, REPORTED)),
    "a small block is Reported": (
        {"flags"},
        both(flip_state(0x1020, REPORTED), add_zone(Z_REPORTED, 8)),
    ),
    "a block has an unknown kind": (
        {"flags", "counted"},
        set_page(0x1000, STATE, KIND_RESERVED + (1 << 4)),
    ),
    "a block has an unknown type": ({"flags"}, flip_state(0x1000, 7 << TYPE_SHIFT)),
    "a free block is on the LRU": ({"flags"}, flip_state(0x1003, ON_LRU)),
    "a block is taken by nobody": ({"flags"}, set_page(0x1000, PREVIOUS, 0)),
    # scatterlist
    "an entry is lost": ({"scatterlist"}, set_entry(SECOND, E_PFN, -1)),
    "an entry names another page": ({"scatterlist"}, set_entry(SECOND, E_PFN, 0x1C00)),
    "an entry names a page of no zone": ({"scatterlist"}, set_entry(SECOND, E_PFN, 0x9999)),
    "two entries name the same block": (
        {"scatterlist"},
        both(
            set_entry(SECOND, E_PFN, 0x1400),
            set_entry(SECOND, E_ORDER, 10),
            set_entry(SECOND, E_PAGES, 1024),
        ),
    ),
    "an entry has another order": ({"scatterlist"}, set_entry(FIRST, E_ORDER, 9)),
    "an entry has a negative order": ({"scatterlist"}, set_entry(FIRST, E_ORDER, -1)),
    "an entry has another length": ({"scatterlist"}, set_entry(FIRST, E_PAGES, 512)),
    "the end marker is lost": ({"scatterlist"}, set_entry(FIRST, E_END, 0)),
    "the end marker is there twice": ({"scatterlist"}, set_entry(SECOND, E_END, 1)),
    "an entry below the offset is left over": ({"scatterlist"}, set_entry(3, E_PFN, 0x1400)),
    "the offset forgets an entry": ({"scatterlist"}, set_report(R_OFFSET, FIRST)),
    "the offset is below the entries": ({"scatterlist"}, set_report(R_OFFSET, SECOND - 1)),
    "the offset is out of the list": ({"scatterlist"}, set_report(R_OFFSET, 33)),
    "a block names another entry": ({"scatterlist"}, set_page(0x1400, PREVIOUS, 7)),
    "a block is isolated outside the list": (
        {"scatterlist", "list-links", "counted"},
        set_page(0x1800, STATE, (4 << 4) | 10),
    ),
}


def checks_of(state: Segment | StateCopy) -> set[str]:
    return {breach.check for breach in audit(state).breaches}


def test_the_small_guest_is_clean(guest: Segment) -> None:
    result = audit(guest)
    assert result.breaches == ()
    assert result.clean
    assert result.pages == 4095 + 4096


@pytest.mark.parametrize("name", CRIMES)
def test_crime_is_seen_by_its_check(guest: Segment, name: str) -> None:
    expected, crime = CRIMES[name]
    crime(guest)
    assert checks_of(guest) == expected


def test_every_check_has_crimes() -> None:
    """Those against the page cache are in test_page_cache."""
    of_files = {"page-cache", "lru-lists"}
    assert set().union(*(checks for checks, _ in CRIMES.values())) == set(CHECKS) - of_files


def test_a_breach_says_where(guest: Segment) -> None:
    set_page(0x1000, PREVIOUS, 0)(guest)
    (breach,) = audit(guest).breaches
    assert breach.check == "flags"
    assert breach.zone == DMA32
    assert breach.pfn == 0x1000
    assert breach.message == "the block at 0x1000 is taken by nobody"


def test_many_breaches_of_one_kind_are_summed_up(guest: Segment) -> None:
    for pfn in range(0x1040, 0x1140):
        guest.pages[page(pfn, PREVIOUS)] = 0
    breaches = audit(guest).breaches
    assert len(breaches) == BREACHES_PER_CHECK_MAX
    assert breaches[-1].message.endswith("(256 such pages)")


def test_types_that_must_not_mix_stay_apart(guest: Segment) -> None:
    split_without_need(guest)
    assert checks_of(guest) == {"buddies"}
    reserve(guest, DMA, 0x600)
    assert checks_of(guest) == set()


def test_types_that_may_mix_do_not_excuse(guest: Segment) -> None:
    split_without_need(guest)
    guest.blocks[0x600 >> PAGEBLOCK_ORDER] = UNMOVABLE
    assert checks_of(guest) == {"buddies"}


def test_small_buddies_merge_whatever_their_types(guest: Segment) -> None:
    free_boot_page_without_merging(guest)
    reserve(guest, DMA32, 0x1000)
    assert checks_of(guest) == {"buddies"}


def test_the_request_that_is_out_is_in_use_too(guest: Segment) -> None:
    guest.report[R_REQUEST] = 1
    guest.report[R_START] = SECOND
    guest.report[R_COUNT] = 2
    assert checks_of(guest) == set()
    guest.report[R_OFFSET] = 32
    assert checks_of(guest) == set()
    guest.report[R_REQUEST] = 0
    assert checks_of(guest) == {"scatterlist"}


def test_an_empty_list_may_lack_its_end_marker() -> None:
    with recorded_guest(small_snapshot(), cpus=2) as segment:
        segment.report[scatterlist(FIRST, E_END)] = 0
        assert checks_of(segment) == set()


def test_small_blocks_may_be_reported_when_the_order_is_small(guest: Segment) -> None:
    flip_state(0x1020, REPORTED)(guest)
    add_zone(Z_REPORTED, 8)(guest)
    guest.report[R_ORDER] = 3
    assert checks_of(guest) == set()


def test_stamps_are_not_the_audits_business(guest: Segment) -> None:
    for pfn in (0x1000, 0x1001, 0x1007, 0x1400, 0x1401):
        guest.pages[page(pfn, STATE)] |= STAMPED | (17 << 16)
        guest.pages[page(pfn, SEQUENCE)] = 123
    assert checks_of(guest) == set()


def test_garbage_is_a_breach_and_no_error(guest: Segment) -> None:
    random = Random(20)  # noqa: S311  # a seed, not a secret
    before = guest.pages.tolist()
    for _ in range(150):
        at = random.randrange(len(before))
        word = random.randrange(-(1 << 31), 1 << 31)
        guest.pages[at] = word
        result = audit(guest)
        for breach in result.breaches:
            assert breach.check in CHECKS
        if at % PAGE_WORDS == STATE and at < 0x2000 * PAGE_WORDS and (word ^ before[at]) & 0x7F:
            assert not result.clean
        guest.pages[at] = before[at]
    assert audit(guest).clean


@pytest.mark.parametrize(
    ("memory_bytes", "movable_bytes", "cpus"),
    [
        (16 * MIB, 0, 1),
        (20 * MIB, 0, 16),
        (512 * MIB, 0, 1),
        (GIB, 64 * MIB, 2),
        (5 * GIB, GIB, 4),
    ],
)
def test_synthetic_guests_are_clean(memory_bytes: int, movable_bytes: int, cpus: int) -> None:
    with synthetic_guest(memory_bytes, movable_bytes=movable_bytes, cpus=cpus) as segment:
        assert audit(segment).breaches == ()


@pytest.mark.parametrize(
    "path",
    [*sorted(RECORDINGS.rglob("*before.free.gz")), RECORDINGS / "w4p/after.free.gz"],
    ids=lambda path: str(path.relative_to(RECORDINGS)),
)
def test_recorded_guests_are_clean(path: Path) -> None:
    with recorded_guest(read_free_lists(path)) as segment:
        assert audit(segment).breaches == ()


def test_a_guest_at_work_stays_clean() -> None:
    with synthetic_guest(64 * MIB, cpus=2) as segment:
        random = Random(7)  # noqa: S311  # a seed, not a secret
        held: list[tuple[int, int]] = []
        for _ in range(3000):
            cpu = random.randrange(2)
            if held and random.random() < 0.45:
                pfn, order = held.pop(random.randrange(len(held)))
                assert free_block(segment.base, cpu, pfn, order) == 0
                continue
            order = random.choice((0, 0, 0, 0, 1, 2, 3, 4, 6, 9))
            gfp, kind = random.choice(((USER_MOVABLE, 1), (KERNEL, 0), (KERNEL, 2), (ATOMIC, 0)))
            pfn = allocate_block(segment.base, cpu, order, kind, gfp, 16 + cpu)
            if pfn >= 0:
                held.append((pfn, order))
        assert len(held) > 100
        assert segment.zones[zone(DMA32, Z_ALLOCATED_DIRECT)] != 0
        assert audit(segment).breaches == ()
        for pfn, order in held:
            assert free_block(segment.base, 0, pfn, order) == 0
        assert audit(segment).breaches == ()


def test_boot_pages_given_back_stay_accounted_for() -> None:
    with recorded_guest(small_snapshot(), cpus=2) as segment:
        for pfn in (0x1000, 0x1002, 0x11FF, 0x1100):
            assert free_block(segment.base, 0, pfn, 0) == 0
        assert audit(segment).breaches == ()
        assert segment.zones[zone(DMA32, Z_BOOT_PAGES)] > 0


def test_a_copy_is_the_state(guest: Segment) -> None:
    copy = copy_state(guest, RUNNER)
    assert isinstance(copy, StateCopy)
    assert copy.hold_ns > 0
    for mine, theirs in (
        (copy.pages, guest.pages),
        (copy.blocks, guest.blocks),
        (copy.pagesets, guest.pagesets),
        (copy.report, guest.report),
    ):
        at_copy = theirs.tolist()
        if theirs is guest.pagesets:
            for number in range(4):
                at_copy[number * 16 + P_CLAIM] = RUNNER + 1  # they were held for it
        assert mine.tolist() == at_copy
    assert audit(copy).breaches == ()
    guest.zones[zone(DMA32, Z_FREE_PAGES)] += 1
    assert audit(copy).breaches == ()
    assert checks_of(guest) == {"conservation", "counted"}


def test_a_copy_is_used_again(guest: Segment) -> None:
    first = copy_state(guest, RUNNER)
    assert isinstance(first, StateCopy)
    guest.zones[zone(DMA32, Z_NR_FREE)] += 1
    assert copy_state(guest, RUNNER, first) is first
    assert checks_of(first) == {"list-length"}


def test_a_copy_takes_what_it_says(guest: Segment) -> None:
    copy = copy_unlocked(guest)
    views = (copy.zones, copy.pagesets, copy.report, copy.blocks, copy.pages, copy.cache)
    assert sum(view.nbytes for view in views) == copy_bytes(guest.plan)
    assert copy.hold_ns == 0


def test_a_copy_lets_every_lock_go(guest: Segment) -> None:
    for _ in range(2):
        assert isinstance(copy_state(guest, RUNNER), StateCopy)
    assert not any(guest.pagesets[number * 16 + P_CLAIM] for number in range(4))
    pfn = allocate_block(guest.base, 0, 0, MOVABLE, USER_MOVABLE, 16)
    assert pfn >= 0


def test_a_pageset_that_is_not_let_go_puts_the_audit_off(guest: Segment) -> None:
    held = pageset(guest, 1, DMA32, P_CLAIM)
    guest.pagesets[held] = 2
    refused = copy_state(guest, RUNNER)
    assert refused == CopyRefused(PAGESET_BUSY)
    assert isinstance(refused, CopyRefused)
    assert refused.reason == "a pageset's lock is not let go"
    assert [guest.pagesets[number * 16 + P_CLAIM] for number in range(4)] == [0, 0, 0, 2]
    guest.pagesets[held] = 0
    assert isinstance(copy_state(guest, RUNNER), StateCopy)


def test_a_dead_zone_is_copied_without_a_lock_only(guest: Segment) -> None:
    guest.zones[zone(DMA32, Z_DEAD)] = 1
    refused = copy_state(guest, RUNNER)
    assert refused == CopyRefused(ZONE_DEAD)
    guest.zones[zone(DMA32, Z_DEAD)] = 0
    assert isinstance(copy_state(guest, RUNNER), StateCopy)  # zone 0 and the pagesets were let go
    guest.zones[zone(DMA32, Z_DEAD)] = 1
    assert audit(copy_unlocked(guest)).breaches == ()


def test_a_run_that_ends_does_not_wait(guest: Segment) -> None:
    guest.pagesets[pageset(guest, 0, 0, P_CLAIM)] = 1
    guest.header[H_STOP] = 1
    assert copy_state(guest, RUNNER) == CopyRefused(STOPPED)
    guest.pagesets[pageset(guest, 0, 0, P_CLAIM)] = 0
    assert isinstance(copy_state(guest, RUNNER), StateCopy)


def test_the_interval_keeps_the_share_of_lock_time() -> None:
    assert audit_interval_ns(0, 0) == 1_000_000_000
    assert audit_interval_ns(900_000, 0) == 1_000_000_000
    assert audit_interval_ns(5_000_000, 0) == 5_000_000_000
    assert audit_interval_ns(5_000_000, 60_000_000_000) == 60_000_000_000


def test_no_term_of_conservation_follows_from_the_others(guest: Segment) -> None:
    terms = (Z_FREE_PAGES, Z_ISOLATED, Z_BOOT_PAGES, Z_ALLOCATED_DIRECT)
    for word in terms:
        guest.zones[zone(DMA32, word)] += 3
        assert "conservation" in checks_of(guest)
        guest.zones[zone(DMA32, word)] -= 3
    for word in (P_COUNT, P_ALLOCATED):
        guest.pagesets[pageset(guest, 1, DMA32, word)] += 3
        assert "conservation" in checks_of(guest)
        guest.pagesets[pageset(guest, 1, DMA32, word)] -= 3

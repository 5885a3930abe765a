"""The digest: equal states have one digest, and whatever it covers changes it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pagesoak.allocator.audit import audit, copy_unlocked
from pagesoak.allocator.digest import ZONE_STATE, state_digest
from pagesoak.allocator.gfp import KERNEL, USER_MOVABLE
from pagesoak.allocator.single import allocate_block, free_block
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout import (
    H_FREE_PAGES_MIN,
    KIND_ALLOCATED,
    NEXT,
    ON_LRU,
    OWNER_SHIFT,
    P_ALLOCATED,
    P_CLAIM,
    P_COUNT,
    P_FREE_FACTOR,
    PREVIOUS,
    R_CALLS,
    REPORTED,
    SEQUENCE,
    STAMPED,
    STATE,
    TYPE_SHIFT,
    Z_DEAD,
    Z_FREE_PAGES_MIN,
    Z_ISOLATED_MAX,
    Z_LOCK_SINCE_NS,
    Z_MARGIN_HIGH,
    Z_MARGIN_LOW,
    Z_MARGIN_MIN,
)
from pagesoak.base.segment import Segment
from tests.guests import (
    DMA32,
    append,
    free_list_head,
    page,
    pageset,
    recorded_guest,
    small_snapshot,
    synthetic_guest,
    unlink,
    zone,
)

MIB = 1 << 20
ROOT = Path(__file__).resolve().parent.parent.parent

Change = Callable[[Segment], None]


@pytest.fixture
def guest() -> Iterator[Segment]:
    with recorded_guest(small_snapshot(), cpus=2) as segment:
        yield segment


def rotate(order: int, migratetype: int) -> Change:
    """The first block of a free list goes to its end."""

    def change(segment: Segment) -> None:
        head = free_list_head(segment, DMA32, order, migratetype)
        first = segment.pages[page(head, NEXT)]
        unlink(segment, first)
        append(segment, head, first)

    return change


def rotate_pageset(segment: Segment) -> None:
    first = segment.pages[page(0x1007, PREVIOUS)]
    head = segment.pages[page(first, PREVIOUS)]
    unlink(segment, first)
    append(segment, head, first)


def add_zone(word: int) -> Change:
    def change(segment: Segment) -> None:
        segment.zones[zone(DMA32, word)] += 1

    return change


def add_pageset(word: int) -> Change:
    def change(segment: Segment) -> None:
        segment.pagesets[pageset(segment, 1, DMA32, word)] += 1

    return change


def flip_page(pfn: int, word: int, bits: int) -> Change:
    def change(segment: Segment) -> None:
        segment.pages[page(pfn, word)] ^= bits

    return change


def change_block_type(segment: Segment) -> None:
    segment.blocks[0x1200 >> 9] = 0


COVERED: dict[str, Change] = {
    **{f"zone word {word}": add_zone(word) for word in ZONE_STATE},
    "pageset count": add_pageset(P_COUNT),
    "pageset free_factor": add_pageset(P_FREE_FACTOR),
    "order of a free list": rotate(3, 1),
    "order of another free list": rotate(0, 1),
    "order of a pageset list": rotate_pageset,
    "type of a page block": change_block_type,
    "order of a block": flip_page(0x1000, STATE, 1),
    "kind of a block": flip_page(0x1000, STATE, KIND_ALLOCATED),
    "type of a block": flip_page(0x1000, STATE, 1 << TYPE_SHIFT),
    "reported": flip_page(0x1200, STATE, REPORTED),
    "on the LRU": flip_page(0x1000, STATE, ON_LRU),
    "owner of a taken block": flip_page(0x1000, PREVIOUS, 16),
    "sequence of a taken block": flip_page(0x1000, NEXT, 1),
}

NOT_COVERED: dict[str, Change] = {
    **{
        f"zone word {word}": add_zone(word)
        for word in (
            *(Z_DEAD, Z_FREE_PAGES_MIN, Z_MARGIN_MIN, Z_MARGIN_LOW, Z_MARGIN_HIGH),
            *(Z_ISOLATED_MAX, Z_LOCK_SINCE_NS),
        )
    },
    "which pageset a page came from": add_pageset(P_ALLOCATED),
    "a pageset's lock": add_pageset(P_CLAIM),
    "a stamp": flip_page(0x1000, STATE, STAMPED | (3 << OWNER_SHIFT)),
    "a stamp's sequence": flip_page(0x1000, SEQUENCE, 77),
    "links of a block's tail": flip_page(0x1801, NEXT, 5),
    "report calls": lambda segment: segment.report.__setitem__(R_CALLS, 3),
    "least free pages": lambda segment: segment.header.__setitem__(H_FREE_PAGES_MIN, 3),
}


@pytest.mark.parametrize("name", COVERED)
def test_what_is_covered_changes_it(guest: Segment, name: str) -> None:
    before = state_digest(guest)
    COVERED[name](guest)
    assert state_digest(guest) != before


@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_is_not_covered_does_not(guest: Segment, name: str) -> None:
    before = state_digest(guest)
    NOT_COVERED[name](guest)
    assert state_digest(guest) == before


def test_equal_states_have_one_digest(guest: Segment) -> None:
    with recorded_guest(small_snapshot(), cpus=2) as other:
        assert state_digest(other) == state_digest(guest)
    assert state_digest(copy_unlocked(guest)) == state_digest(guest)
    with recorded_guest(small_snapshot(), cpus=3) as other:
        assert state_digest(other) != state_digest(guest)


def test_it_is_the_same_on_every_machine(guest: Segment) -> None:
    assert state_digest(guest) == "8f87b33ba762e51b99b58b64ef6cbb2c"


def digest_after_work() -> str:
    """Some fifty operations of all kinds on a small guest, and what they end in."""
    with synthetic_guest(32 * MIB, cpus=2) as segment:
        held = [
            (allocate_block(segment.base, order & 1, order, kind, gfp, 16), order)
            for order in (0, 3, 0, 5, 1, 9, 0, 2)
            for kind, gfp in ((1, USER_MOVABLE), (0, KERNEL), (2, KERNEL))
        ]
        for pfn, order in held[::2]:
            assert free_block(segment.base, 0, pfn, order) == 0
        assert audit(segment).breaches == ()
        return state_digest(segment)


def test_compiled_and_plain_core_end_in_the_same() -> None:
    """The other process is plain; so compiled meets plain wherever this one is compiled."""
    code = "from tests.unit.test_digest import digest_after_work; print(digest_after_work())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    plain = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert plain.stdout.strip() == digest_after_work()


def test_a_list_without_end_has_no_digest(guest: Segment) -> None:
    guest.pages[page(0x1001, NEXT)] = 0x1003
    with pytest.raises(HarnessError, match="a list of order 0 does not come back"):
        state_digest(guest)

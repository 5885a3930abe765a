"""The page cache made anew: what its slots say is believed where the pages agree."""

from collections.abc import Callable

import pytest

from pagesoak.allocator.audit import audit
from pagesoak.allocator.audit_cache import check_cache
from pagesoak.allocator.cache_salvage import rebuild_cache
from pagesoak.allocator.claims import find_claims
from pagesoak.allocator.salvage import give_back, mended_claims
from pagesoak.base.layout_reclaim import (
    LRU_LIST_MASK,
    Q_DIRTY,
    Q_FIRST,
    Q_PAGES,
    S_NEXT,
    S_PFN,
    S_QUEUE_NEXT,
    S_STATE,
    Z_INACTIVE_FILE,
)
from tests.core_helper import guest_zones
from tests.files_guest import FilesGuest, files_guest

MIB = 1 << 20
PAGES = 64


def lose_a_link(guest: FilesGuest) -> None:
    guest.set_slot(3, S_NEXT, 0)


def lose_the_queue(guest: FilesGuest) -> None:
    guest.segment.cache[Q_DIRTY + Q_FIRST] = 0
    guest.set_slot(5, S_QUEUE_NEXT, 7)


def lose_the_counter(guest: FilesGuest) -> None:
    guest.segment.zones[Z_INACTIVE_FILE] += 5
    guest.segment.cache[Q_DIRTY + Q_PAGES] = 99


def leave_one_between_two_lists(guest: FilesGuest) -> None:
    guest.set_slot(4, S_STATE, guest.slot(4, S_STATE) & ~LRU_LIST_MASK)


CRIMES: tuple[Callable[[FilesGuest], None], ...] = (
    lose_a_link,
    lose_the_queue,
    lose_the_counter,
    leave_one_between_two_lists,
)


@pytest.mark.parametrize("crime", CRIMES)
def test_half_made_changes_of_lists_are_mended_and_every_page_stays(
    crime: Callable[[FilesGuest], None],
) -> None:
    with files_guest(*guest_zones(32 * MIB, 0), pages=PAGES) as guest:
        guest.read(*range(40))
        guest.write(5, 9, 7)
        guest.read(2)
        before = [guest.pfn(page) for page in range(PAGES)]
        crime(guest)
        assert check_cache(guest.segment)
        assert rebuild_cache(guest.segment) == 0
        assert [guest.pfn(page) for page in range(PAGES)] == before
        assert audit(guest.segment).breaches == ()
        guest.write(4, 50)
        guest.read(*range(60))


def test_a_slot_whose_page_is_somebody_elses_is_empty_then() -> None:
    with files_guest(*guest_zones(32 * MIB, 0), pages=PAGES) as guest:
        guest.read(*range(10))
        own, other = guest.pfn(3), guest.pfn(4)
        guest.set_slot(3, S_PFN, other)  # two slots with one page: neither is believed
        assert rebuild_cache(guest.segment) == 2
        assert (guest.pfn(3), guest.pfn(4)) == (-1, -1)
        claims = find_claims(guest.segment)
        assert not claims.claimed[own]
        assert not claims.claimed[other]
        give_back(guest.segment, (), mended_claims(guest.segment, ()), None)
        assert audit(guest.segment).breaches == ()

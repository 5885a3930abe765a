"""Where the pages are: a count that adds up, of terms that nobody worked out from each other."""

from collections.abc import Iterator

import pytest

from pagesoak.allocator.audit_copy import copy_unlocked
from pagesoak.allocator.census import ZoneCensus, census
from pagesoak.allocator.loads import SteadySettings, steady
from pagesoak.allocator.worker import guest_worker
from pagesoak.base import layout
from pagesoak.base.costs import Costs
from pagesoak.base.segment import Segment
from pagesoak.engine.virtual import VirtualDriver
from tests.unit.test_virtual_bursts import make_guest


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = make_guest(touch=False)
    workers = {0: guest_worker([steady(SteadySettings(0, 0, 20_000))])}
    driver = VirtualDriver(made, workers, costs=Costs())
    driver.start()
    driver.run(driver.started_ns + 50_000_000)
    driver.finish()
    yield made
    made.close()


def total(zone: ZoneCensus) -> int:
    return zone.free_pages + zone.pageset_pages + zone.isolated_pages + zone.in_use_pages


def test_every_zone_adds_up_to_what_it_manages(segment: Segment) -> None:
    found = census(segment)
    assert len(found) == segment.plan.zones
    for zone in found:
        assert total(zone) == zone.managed_pages
    assert sum(zone.pageset_pages for zone in found) > 0
    assert sum(zone.in_use_pages for zone in found) > 500
    assert census(copy_unlocked(segment)) == found


@pytest.mark.parametrize(
    ("section", "word", "field"),
    [
        ("zones", layout.Z_FREE_PAGES, "free_pages"),
        ("zones", layout.Z_ISOLATED, "isolated_pages"),
        ("zones", layout.Z_BOOT_PAGES, "in_use_pages"),
        ("zones", layout.Z_ALLOCATED_DIRECT, "in_use_pages"),
        ("pagesets", layout.P_COUNT, "pageset_pages"),
        ("pagesets", layout.P_ALLOCATED, "in_use_pages"),
        ("zones", layout.Z_MANAGED, "managed_pages"),
    ],
)
def test_each_term_is_a_counter_of_its_own(
    segment: Segment, section: str, word: int, field: str
) -> None:
    """One that is wrong shows: no other term makes up for it."""
    before = census(segment)[0]
    getattr(segment, section)[word] += 7
    after = census(segment)[0]
    assert getattr(after, field) == getattr(before, field) + 7
    assert abs(total(after) - after.managed_pages) == 7


def test_free_blocks_are_counted_where_they_stand(segment: Segment) -> None:
    for number, zone in enumerate(census(segment)):
        z = number * layout.ZONE_WORDS
        by_order = [sum(by_type) for by_type in zone.free_blocks]
        counted = segment.zones[z + layout.Z_NR_FREE :][: layout.MAX_ORDER].tolist()
        assert by_order == counted
        pages = sum(blocks << order for order, blocks in enumerate(by_order))
        assert pages == zone.free_pages
    kinds = [
        sum(by_type[kind] for zone in census(segment) for by_type in zone.free_blocks)
        for kind in (layout.UNMOVABLE, layout.MOVABLE, layout.RECLAIMABLE)
    ]
    assert all(kinds)

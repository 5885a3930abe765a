"""The OOM killer: whom it takes, and what comes back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pagesoak.allocator.geometry import ZoneGeometry
from pagesoak.allocator.guest import (
    AGAIN,
    DONE,
    NO_BLOCK,
    OUT_OF_MEMORY,
    WAITS,
    give_back,
    take,
)
from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.steady import steady
from pagesoak.base import layout
from pagesoak.base.layout import (
    L_CAPACITY,
    L_HELD_PAGES,
    L_OWNER,
    L_TABLE,
    LOAD_WORDS,
    OWNER_FIRST_LOAD,
    Z_FREE_PAGES,
)
from pagesoak.base.layout_reclaim import L_BUSY, L_OOM_SCORE_ADJ, L_VICTIM
from pagesoak.base.recorder import read_events
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import OOM_EXHAUSTED, STALLS, VIOLATIONS
from tests.core_helper import G512, CoreGuest

LOADS = 3
CAPACITY = 60_000
FOREVER_NS = 1 << 62
HOG, SMALL, LARGE = range(LOADS)


class LoadedGuest(CoreGuest):
    """DMA32 of G512 with three loads."""

    def __init__(self) -> None:
        zones: tuple[ZoneGeometry, ...] = (G512[1],)
        plan = plan_from_geometry(zones, cpus=2, loads=LOADS, table_words=LOADS * CAPACITY)
        self.segment = Segment.create(plan)
        populate_synthetic(self.segment, zones)
        self.segment.header[layout.H_THP_PAGESETS] = 1
        self.segment.report[layout.R_EVENTFD] = -1
        self.base = self.segment.base
        self.zones = 1
        self.set_marks(678, 847, 1016)
        for load in range(LOADS):
            self.set_load(load, L_OWNER, OWNER_FIRST_LOAD + load)
            self.set_load(load, L_TABLE, load * CAPACITY)
            self.set_load(load, L_CAPACITY, CAPACITY)
        self.set_load(HOG, L_OOM_SCORE_ADJ, -1000)

    def set_load(self, load: int, word: int, value: int) -> None:
        """Change a word of a load record."""
        self.segment.loads[load * LOAD_WORDS + word] = value

    def load(self, load: int, word: int) -> int:
        """A word of a load record."""
        return int(self.segment.loads[load * LOAD_WORDS + word])

    def take_pages(self, load: int, pages: int, cpu: int = 0) -> int:
        """A burst that takes until the load has so many pages; kswapd makes it come back now and
        then.
        """
        while (reason := take(self.base, cpu, load, pages, FOREVER_NS)) == AGAIN:
            pass
        return reason

    def give_all(self, load: int, cpu: int = 0) -> int:
        """A burst that gives all back."""
        while (reason := give_back(self.base, cpu, load, FOREVER_NS)) == AGAIN:
            pass
        return reason

    def kills(self) -> list[dict[str, int]]:
        """What the flight recorder has of kills."""
        return [
            event.fields for event in read_events(self.segment, 0)[0] if event.name == "oom-kill"
        ]


@contextmanager
def loaded() -> Iterator[LoadedGuest]:
    """A guest whose hog has left some 2000 pages above min, audited at the end."""
    guest = LoadedGuest()
    try:
        pages = guest.word(Z_FREE_PAGES)
        guest.set_load(HOG, L_HELD_PAGES, 0)
        hold = guest.take(10)
        while guest.word(Z_FREE_PAGES) > 42_000:
            hold = guest.take(10)
        assert hold >= 0
        assert pages > 42_000
        yield guest
        assert guest.counter(VIOLATIONS) == 0
        guest.check()
    finally:
        guest.segment.close()


def test_who_asks_is_killed_when_it_has_most() -> None:
    """It gets one more page, out of the reserves, and dies with what it has; 17 stalls."""
    with loaded() as guest:
        assert guest.take_pages(SMALL, 1000) == DONE
        assert guest.take_pages(LARGE, 50_000) == OUT_OF_MEMORY
        assert guest.load(LARGE, L_VICTIM) == 1
        assert guest.counter(OOM_EXHAUSTED) == 1
        assert guest.counter(STALLS) == 17
        assert [(kill["load"], kill["asking_load"]) for kill in guest.kills()] == [(LARGE, LARGE)]
        assert guest.give_all(LARGE) == OUT_OF_MEMORY, "killed, says the end of its process"
        assert guest.load(LARGE, L_VICTIM) == guest.load(LARGE, L_HELD_PAGES) == 0
        assert guest.take_pages(LARGE, 1000) == DONE, "and a new one begins"
        assert guest.give_all(LARGE) == DONE


def test_another_one_is_killed_when_it_has_more() -> None:
    """Its pages come back at once, and who asked goes on."""
    with loaded() as guest:
        assert guest.take_pages(LARGE, 30_000) == DONE
        assert guest.take_pages(SMALL, 15_000) == DONE
        assert guest.load(LARGE, L_VICTIM) == 2
        assert guest.load(LARGE, L_HELD_PAGES) == 0
        assert [(kill["load"], kill["pages"]) for kill in guest.kills()] == [(LARGE, 30_000)]
        assert guest.counter(OOM_EXHAUSTED) == 1
        assert guest.take_pages(LARGE, 10) == OUT_OF_MEMORY, "it notices when it goes on"
        assert guest.give_all(LARGE) == OUT_OF_MEMORY
        assert guest.take_pages(LARGE, 10) == DONE


def test_of_equals_the_last_is_killed() -> None:
    with loaded() as guest:
        assert guest.take_pages(LARGE, 20_000) == DONE
        assert guest.take_pages(SMALL, 20_000) == DONE
        assert guest.load(LARGE, L_VICTIM) == 0
        guest.set_load(HOG, L_OOM_SCORE_ADJ, 0)
        assert guest.take_pages(HOG, 5_000) == DONE
        assert guest.load(LARGE, L_VICTIM) == 2
        assert guest.load(SMALL, L_VICTIM) == 0


@pytest.mark.parametrize(
    ("adj", "victim"),
    [
        pytest.param(0, LARGE, id="the larger one"),
        pytest.param(100, SMALL, id="more to answer for"),
        pytest.param(-1000, LARGE, id="never"),
    ],
)
def test_the_adjustment_weighs_in_thousandths_of_memory(adj: int, victim: int) -> None:
    """118 pages a point: 100 points outweigh 10 000 pages."""
    with loaded() as guest:
        guest.set_load(SMALL, L_OOM_SCORE_ADJ, adj)
        assert guest.take_pages(SMALL, 10_000) == DONE
        assert guest.take_pages(LARGE, 20_000) == DONE
        guest.set_load(HOG, L_OOM_SCORE_ADJ, -999)
        assert guest.take_pages(HOG, 11_400) == DONE
        assert guest.load(victim, L_VICTIM) == 2
        assert guest.load(SMALL + LARGE - victim, L_VICTIM) == 0


def test_nobody_may_be_killed() -> None:
    """What asked cannot be killed and nobody else has anything: it is told."""
    with loaded() as guest:
        assert guest.take_pages(HOG, 50_000) == OUT_OF_MEMORY
        assert guest.load(HOG, L_VICTIM) == 0
        assert guest.kills() == []
        assert guest.counter(OOM_EXHAUSTED) == 1
        assert guest.give_all(HOG) == DONE


def test_a_victim_at_work_elsewhere_is_waited_for() -> None:
    """Another CPU is in a burst of the victim's: who asked waits, and nobody else is killed."""
    with loaded() as guest:
        assert guest.take_pages(LARGE, 30_000, cpu=1) == DONE
        guest.set_load(LARGE, L_BUSY, 2)
        assert guest.take_pages(SMALL, 15_000) == WAITS
        assert guest.load(LARGE, L_VICTIM) == 1
        assert guest.take_pages(SMALL, 15_000) == WAITS
        assert len(guest.kills()) == 1
        guest.set_load(LARGE, L_BUSY, 0)
        assert guest.give_all(LARGE, cpu=1) == OUT_OF_MEMORY
        assert guest.take_pages(SMALL, 15_000) == DONE


def test_a_victim_that_sleeps_meanwhile_is_reaped() -> None:
    with loaded() as guest:
        assert guest.take_pages(LARGE, 30_000, cpu=1) == DONE
        guest.set_load(LARGE, L_BUSY, 2)
        assert guest.take_pages(SMALL, 15_000) == WAITS
        guest.set_load(LARGE, L_BUSY, 0)
        assert guest.take_pages(SMALL, 15_000) == DONE
        assert guest.load(LARGE, L_VICTIM) == 2


def test_a_load_that_is_being_reaped_waits() -> None:
    with loaded() as guest:
        assert guest.take_pages(SMALL, 10) == DONE
        guest.set_load(SMALL, L_BUSY, 2)
        assert guest.take_pages(SMALL, 20) == WAITS
        assert guest.give_all(SMALL) == WAITS
        assert steady(guest.base, 0, SMALL, 10, FOREVER_NS) == WAITS
        guest.set_load(SMALL, L_BUSY, 0)
        assert guest.give_all(SMALL) == DONE


def test_a_steady_load_stops_when_it_is_killed() -> None:
    with loaded() as guest:
        guest.set_load(SMALL, layout.L_TARGET_PAGES, 1000)
        for word in range(layout.MAX_ORDER + 3):
            guest.set_load(SMALL, layout.L_WEIGHTS + word, 1000)
        guest.set_load(SMALL, layout.L_RANDOM, 1)
        assert steady(guest.base, 0, SMALL, 500, FOREVER_NS) == DONE
        held = guest.load(SMALL, L_HELD_PAGES)
        guest.set_load(SMALL, L_VICTIM, 1)
        assert steady(guest.base, 0, SMALL, 500, FOREVER_NS) == OUT_OF_MEMORY
        assert guest.load(SMALL, L_HELD_PAGES) == held > 0
        assert guest.load(SMALL, L_BUSY) == 0
        assert guest.give_all(SMALL) == OUT_OF_MEMORY
        assert NO_BLOCK < 0

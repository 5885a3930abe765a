"""Guests of any layout, with load and reporter in turns: zones of one or two nodes with holes in
them, CPUs, requests of every kind, reports answered late or with an error.

A `Mix` takes steps of its own choosing by numbers it is given, so that Hypothesis, or a seed,
decides. What it expects it works out from the rules (docs/model.md, 3 and 6), not from the core:
which zone serves a request, and that at the end all memory lies in the largest blocks again.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pagesoak.allocator.geometry import ZONE_NAMES, ZoneGeometry
from pagesoak.allocator.gfp import (
    ATOMIC,
    GFP_THISNODE,
    GFP_ZONE_SHIFT,
    KERNEL,
    NORETRY_KERNEL,
    THP,
    USER_MOVABLE,
    ZONE_NORMAL,
    parse_packed_gfp,
)
from pagesoak.allocator.profile import PROFILES
from pagesoak.base.layout import (
    ACTIVE,
    HIGHATOMIC,
    MAX_ORDER,
    MOVABLE,
    PCPTYPES,
    R_STATE,
    RECLAIMABLE,
    UNMOVABLE,
    Z_BOOST,
    Z_END_PFN,
    Z_FREE_PAGES,
    Z_ISOLATED,
    Z_LOWMEM_RESERVE,
    Z_MANAGED,
    Z_REPORTED,
    Z_RESERVED_HIGHATOMIC,
    Z_START_PFN,
    Z_WMARK_LOW,
)
from pagesoak.base.layout_kernel import H_KERNEL, Z_FREE_HIGHATOMIC
from pagesoak.base.wants import AwaitPass, Report, Run, Sleep, Want
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies.mainline import Mainline
from pagesoak.reporter.worker import reporter_worker
from tests.core_helper import CoreGuest, kswapd

LARGEST_PAGES = 1 << (MAX_ORDER - 1)
PAGEBLOCK_PAGES = 512
REPORTING_ORDER = 6
"""Small enough that small zones pass the gate."""
CAPACITY = 4

KINDS = (
    (MOVABLE, USER_MOVABLE),
    (UNMOVABLE, KERNEL),
    (RECLAIMABLE, KERNEL),
    (UNMOVABLE, ATOMIC),
    (UNMOVABLE, NORETRY_KERNEL),
    (MOVABLE, THP),
    (MOVABLE, parse_packed_gfp("GFP_HIGHUSER_MOVABLE|__GFP_THISNODE")),
    (UNMOVABLE, parse_packed_gfp("GFP_KERNEL|__GFP_DMA32")),
    (UNMOVABLE, parse_packed_gfp("GFP_KERNEL|__GFP_DMA")),
)
ORDERS = (0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 7, 8, 9, 10)

Step = tuple[int, int, int]
"""What, and two numbers to choose with."""
ALLOC, FREE, REPORT, DRAIN, KSWAPD = range(5)


class Chooser:
    """Numbers from a seed, asked for like Hypothesis's `draw`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a test's layout, no secret

    def below(self, limit: int) -> int:
        """0 to limit - 1."""
        return self._random.randrange(limit)


def any_layout(choose: Chooser) -> tuple[ZoneGeometry, ...]:
    """Zones of one or two nodes, each with up to three managed ranges, gaps between all of them.

    Zones begin on a page block, as a kernel's do, but for the first, which may begin at page 1.
    """
    zones: list[ZoneGeometry] = []
    at = choose.below(2)
    for node in range(1 + choose.below(2)):
        mask = 1 + choose.below(15)
        for index in range(4):
            if not mask >> index & 1:
                continue
            end = at + PAGEBLOCK_PAGES * (1 + choose.below(14)) + choose.below(3) * 100
            ranges = tuple(_managed(choose, at, end))
            zones.append(
                ZoneGeometry(ZONE_NAMES[index], index, at, end - at, end - at, ranges, node)
            )
            at = -(-end // PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES
            at += PAGEBLOCK_PAGES * choose.below(4)
    return tuple(zones)


def _managed(choose: Chooser, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Up to three ranges of at least a page, a hole of at least a page between any two."""
    pieces = 1 + choose.below(3)
    share = (end - start) // pieces
    for piece in range(pieces):
        first = start + piece * share + choose.below(2) * choose.below(share // 3)
        last = start + (piece + 1) * share - 1 - choose.below(2) * choose.below(share // 3)
        yield first, last


def random_steps(seed: int, count: int) -> list[Step]:
    """Filling and emptying in turns."""
    chance = random.Random(seed)  # noqa: S311 - a test's trace, no secret
    steps = []
    filling = 60
    for number in range(count):
        if number % 200 == 0:
            filling = chance.choice((30, 50, 65, 85))
        roll = chance.randrange(1000)
        what = ALLOC if roll < filling * 10 else FREE
        if roll % 10 == 0:
            what = REPORT
        elif roll in {1, 2}:
            what = DRAIN
        elif roll in {3, 4}:
            what = KSWAPD
        steps.append((what, chance.randrange(1 << 16), chance.randrange(1 << 16)))
    return steps


class Mix:
    """A guest, its reporter, and what is in use."""

    def __init__(
        self, guest: CoreGuest, zones: Sequence[ZoneGeometry], cpus: int, kernel: str
    ) -> None:
        self.guest = guest
        guest.segment.header[H_KERNEL] = PROFILES[kernel].rules
        self.reserve_word = Z_RESERVED_HIGHATOMIC if kernel == "6.1" else Z_FREE_HIGHATOMIC
        self.places = [(zone.node, zone.index) for zone in zones]
        self.nodes = 1 + zones[-1].node
        self.cpus = cpus
        self.held: list[tuple[int, int]] = []
        self.answers: list[int] = []
        self.reports: list[tuple[int, int]] = []
        """Zone and first entry of each report."""
        self.at_start = self._blocks()
        settings = ReporterSettings(len(zones), order=REPORTING_ORDER, capacity=CAPACITY)
        self._reporter = reporter_worker(guest.base, cpus, Mainline(), settings)
        self._want: Want = next(self._reporter)

    def take(self, step: Step) -> None:
        """One step."""
        what, first, second = step
        if what == ALLOC:
            self.alloc(first, second)
        elif what == FREE and self.held:
            pfn, order = self.held.pop(first % len(self.held))
            assert self.guest.free(pfn, order, second % self.cpus) == 0
        elif what == REPORT:
            for _ in range(1 + first % 8):
                self.report(5 if second % 16 == 0 else 0)
        elif what == DRAIN:
            self.guest.drain()
        elif what == KSWAPD:
            kswapd(self.guest.base)

    def alloc(self, first: int, second: int) -> None:
        """A request, and whether a zone that may serve it did."""
        order = ORDERS[first % len(ORDERS)]
        migratetype, gfp = KINDS[second % len(KINDS)]
        cpu = (first + second) % self.cpus
        allowed = self.zones_of(cpu, gfp)
        wanted = [zone for zone in allowed if self.passes(zone, order, gfp)]
        pfn = self.guest.alloc(order, migratetype, gfp, cpu)
        self.answers.append(pfn)
        if pfn < 0:
            assert not wanted, f"order {order} failed, zones {wanted} stand above low"
            return
        zone = self.guest.zone_of(pfn)
        self.held.append((pfn, order))
        assert pfn % (1 << order) == 0
        assert zone in allowed
        if wanted and self.places[allowed[0]][1] != ZONE_NORMAL:
            assert zone == wanted[0]

    def zones_of(self, cpu: int, gfp: int) -> list[int]:
        """Zones a request may use: its own node's from the highest down, then the other's."""
        own = cpu * self.nodes // self.cpus
        nodes = (own,) if gfp & GFP_THISNODE else (own, 1 - own)
        return [
            zone
            for node in nodes
            for zone, (zone_node, index) in reversed(list(enumerate(self.places)))
            if zone_node == node and index <= gfp >> GFP_ZONE_SHIFT
        ]

    def passes(self, zone: int, order: int, gfp: int) -> bool:
        """The low mark, boost and reserve lie below what is free, and there is such a block."""
        word = self.guest.word
        mark = word(Z_WMARK_LOW, zone) + word(Z_BOOST, zone)
        mark += word(Z_LOWMEM_RESERVE + (gfp >> GFP_ZONE_SHIFT), zone)
        free = word(Z_FREE_PAGES, zone) - word(self.reserve_word, zone)
        if free - (1 << order) + 1 <= mark:
            return False
        return order == 0 or any(
            self.guest.free_list(current, migratetype, zone)
            for current in range(order, MAX_ORDER)
            for migratetype in range(PCPTYPES)
        )

    def report(self, error: int = 0) -> None:
        """The reporter's next step; a report is answered at the step after it was made."""
        want = self._want
        answer: Any = None
        if isinstance(want, Run):
            answer = want.function(self.guest.base, *want.arguments, 0)
        elif isinstance(want, Sleep):
            answer = want.deadline_ns
        elif isinstance(want, AwaitPass):
            answer = 0
        elif isinstance(want, Report):
            answer = error
        self._want = self._reporter.send(answer)
        if isinstance(self._want, Report):
            zones = [zone for zone in range(self.guest.zones) if self.guest.word(Z_ISOLATED, zone)]
            assert len(zones) == 1, "a scatterlist holds blocks of one zone"
            self.reports.append((zones[0], self._want.start))

    def settle(self) -> None:
        """Give everything back, report until there is nothing to do, and look at the whole."""
        for pfn, order in self.held:
            assert self.guest.free(pfn, order, pfn % self.cpus) == 0
        self.held = []
        self.guest.drain()
        idle = False
        for _ in range(200_000):
            self.report()
            idle = isinstance(self._want, AwaitPass)
            if idle:
                break
        assert idle, "the reporter does not come to an end"
        assert self.guest.segment.report[R_STATE] != ACTIVE
        self.guest.check()
        for zone in range(self.guest.zones):
            word = self.guest.word
            assert word(Z_ISOLATED, zone) == 0
            assert word(Z_REPORTED, zone) <= word(Z_FREE_PAGES, zone) == word(Z_MANAGED, zone)
            assert word(Z_START_PFN, zone) < word(Z_END_PFN, zone)
        if not any(number == HIGHATOMIC for number in self.guest.segment.blocks):
            assert self._blocks() == self.at_start

    def _blocks(self) -> set[tuple[int, int]]:
        """First page and order of every free block."""
        return {
            (pfn, order)
            for zone in range(self.guest.zones)
            for (order, _), pfns in self.guest.free_lists(zone).items()
            for pfn in pfns
        }


@contextmanager
def mixed_guest(zones: Sequence[ZoneGeometry], cpus: int, kernel: str = "6.1") -> Iterator[Mix]:
    """A guest for the length of a test."""
    guest = CoreGuest(zones, cpus)
    try:
        yield Mix(guest, zones, cpus, kernel)
    finally:
        guest.segment.close()

"""An oracle for the allocator: docs/model.md, sections 3 to 6, once more on dicts, lists and sets.

It shares no code with pagesoak and is written from the rules, not from the core: a free list is a
Python list of first pages, head first; a taken block an entry of a dict. Slow and plain. No
reporting and no HIGHATOMIC reserve: nothing is ever isolated here, so a request that gets nothing
either fails or kills.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

UNMOVABLE, MOVABLE, RECLAIMABLE = 0, 1, 2
LARGEST = 10
BLOCK_ORDER = 9
BLOCK_PAGES = 512
FALLBACKS = {
    UNMOVABLE: (RECLAIMABLE, MOVABLE),
    MOVABLE: (RECLAIMABLE, UNMOVABLE),
    RECLAIMABLE: (UNMOVABLE, MOVABLE),
}
COSTLY = 3
FACTOR_MAX = 5

FAILED, KILLED = -1, -2


class Rights(NamedTuple):
    """What a request may do."""

    user: bool = False
    """A movable page of a process."""
    high: bool = False
    non_block: bool = False
    kswapd: bool = True
    may_kill: bool = True
    highest_zone: int = 2


REQUESTS = {
    "user": Rights(user=True, highest_zone=3),
    "kernel": Rights(),
    "atomic": Rights(high=True, non_block=True, may_kill=False),
    "noretry": Rights(may_kill=False),
    "huge": Rights(user=True, kswapd=False, may_kill=False, highest_zone=3),
    "dma32": Rights(may_kill=False, highest_zone=1),
}


@dataclass
class OraclePageset:
    """One CPU's pageset of a zone: (order, type) to first pages, head first."""

    high: int
    batch: int
    factor: int = 0
    lists: dict[int, list[int]] = field(default_factory=dict)

    @staticmethod
    def number(order: int, migratetype: int) -> int:
        """Which list."""
        if order == BLOCK_ORDER:
            return 13 if migratetype == MOVABLE else 12
        return 3 * order + migratetype

    @staticmethod
    def order(number: int) -> int:
        """Order of a list's blocks."""
        return BLOCK_ORDER if number >= 12 else number // 3

    @property
    def count(self) -> int:
        """Pages kept."""
        return sum(len(pfns) << self.order(number) for number, pfns in self.lists.items())


@dataclass
class OracleZone:
    """One zone."""

    index: int
    start: int
    end: int
    managed: int
    minimum: int
    low: int
    high: int
    reserve: tuple[int, ...]
    boost_factor: int
    pagesets: list[OraclePageset]
    lists: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    boost: int = 0
    kswapd_wanted: bool = False
    reclaiming: bool = False

    def listed(self, order: int, migratetype: int) -> list[int]:
        """A free list."""
        return self.lists.setdefault((order, migratetype), [])

    @property
    def free_pages(self) -> int:
        """Pages on the free lists."""
        return sum(len(pfns) << order for (order, _), pfns in self.lists.items())

    def free_block(self, pfn: int, order: int) -> int | None:
        """Type of the list that holds this very block."""
        for migratetype in (UNMOVABLE, MOVABLE, RECLAIMABLE):
            if pfn in self.listed(order, migratetype):
                return migratetype
        return None


@dataclass
class Oracle:
    """A guest. Zones ascend by address and index."""

    zones: list[OracleZone]
    types: dict[int, int] = field(default_factory=dict)
    """Page block number to type; MOVABLE unless named."""
    taken: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """First page to order and whether it is a user page."""
    kept_types: dict[int, int] = field(default_factory=dict)
    """First page of a block in a pageset to the type it goes back with."""

    def type_of(self, pfn: int) -> int:
        """The type of a page's page block."""
        return self.types.get(pfn // BLOCK_PAGES, MOVABLE)

    def zone_of(self, pfn: int) -> OracleZone:
        """The zone of a page."""
        return next(zone for zone in self.zones if zone.start <= pfn < zone.end)

    # -- watermarks ---------------------------------------------------------------------------

    def passes(self, zone: OracleZone, order: int, mark: str, rights: Rights) -> bool:
        """The test with a mark's name."""
        floor = {"min": zone.minimum, "low": zone.low, "high": zone.high}[mark]
        if self._above(zone, order, floor + zone.boost, mark, rights):
            return True
        atomic = order == 0 and mark == "min" and rights.high
        return atomic and self._above(zone, order, floor, mark, rights)

    def _above(self, zone: OracleZone, order: int, floor: int, mark: str, rights: Rights) -> bool:
        if mark == "min" and rights.high:
            floor -= floor // 2
            if rights.non_block:
                floor -= floor // 4
        free = zone.free_pages - ((1 << order) - 1)
        if free <= floor + zone.reserve[rights.highest_zone]:
            return False
        return order == 0 or any(
            pfns for (listed, _), pfns in zone.lists.items() if listed >= order
        )

    # -- the free lists -----------------------------------------------------------------------

    def give(self, zone: OracleZone, pfn: int, order: int, migratetype: int) -> None:
        """Merge upwards and place."""
        while order < LARGEST:
            buddy = pfn ^ (1 << order)
            found = zone.free_block(buddy, order)
            if found is None:
                break
            zone.listed(order, found).remove(buddy)
            pfn = min(pfn, buddy)
            order += 1
        target = zone.listed(order, migratetype)
        uncle = (pfn & ~(1 << order)) ^ (1 << (order + 1))
        if order < BLOCK_ORDER and zone.free_block(uncle, order + 1) is not None:
            target.append(pfn)
        else:
            target.insert(0, pfn)

    def _smallest(self, zone: OracleZone, order: int, migratetype: int) -> int | None:
        for found in range(order, LARGEST + 1):
            if zone.listed(found, migratetype):
                pfn = zone.listed(found, migratetype).pop(0)
                for half in reversed(range(order, found)):
                    zone.listed(half, migratetype).insert(0, pfn + (1 << half))
                return pfn
        return None

    def take(self, zone: OracleZone, order: int, migratetype: int, kswapd: bool) -> int | None:
        """From the type's own lists, or after stealing."""
        while (pfn := self._smallest(zone, order, migratetype)) is None:
            if not self._steal(zone, order, migratetype, kswapd):
                return None
        return pfn

    def _steal(self, zone: OracleZone, order: int, migratetype: int, kswapd: bool) -> bool:
        def first_of(found: int) -> int | None:
            return next((t for t in FALLBACKS[migratetype] if zone.listed(found, t)), None)

        orders = [found for found in range(LARGEST, order - 1, -1) if first_of(found) is not None]
        if not orders:
            return False
        found = orders[0]
        whole = found >= BLOCK_ORDER // 2 or migratetype != MOVABLE
        if not whole:
            found = orders[-1]
        other = first_of(found)
        assert other is not None
        pfn = zone.listed(found, other)[0]
        if found >= BLOCK_ORDER:
            for block in range(1 << (found - BLOCK_ORDER)):
                self.types[pfn // BLOCK_PAGES + block] = migratetype
            whole = False
        else:
            self._boost(zone, kswapd)
        first = pfn // BLOCK_PAGES * BLOCK_PAGES
        if not whole or first + BLOCK_PAGES > zone.end:
            self._move(zone, pfn, found, migratetype)
        else:
            self._claim(zone, max(first, pfn if first < zone.start else first), first, migratetype)
        return True

    def _move(self, zone: OracleZone, pfn: int, order: int, migratetype: int) -> None:
        held = zone.free_block(pfn, order)
        assert held is not None
        zone.listed(order, held).remove(pfn)
        zone.listed(order, migratetype).append(pfn)

    def _claim(self, zone: OracleZone, start: int, first: int, migratetype: int) -> None:
        end = first + BLOCK_PAGES
        blocks = sorted(
            (pfn, order)
            for (order, _), pfns in zone.lists.items()
            for pfn in pfns
            if start <= pfn < end
        )
        for pfn, order in blocks:
            self._move(zone, pfn, order, migratetype)
        free = sum(1 << order for _, order in blocks)
        user = sum(
            1 << order for pfn, (order, user) in self.taken.items() if user and start <= pfn < end
        )
        alike = 0
        if migratetype == MOVABLE:
            alike = user
        elif self.type_of(first) == MOVABLE:
            alike = BLOCK_PAGES - free - user
        if free + alike >= BLOCK_PAGES // 2:
            self.types[first // BLOCK_PAGES] = migratetype

    def _boost(self, zone: OracleZone, kswapd: bool) -> None:
        most = zone.high * zone.boost_factor // 10_000
        if not most or zone.managed < 4 * BLOCK_PAGES:
            return
        zone.boost = min(zone.boost + BLOCK_PAGES, max(most, BLOCK_PAGES))
        zone.kswapd_wanted = zone.kswapd_wanted or kswapd

    # -- pagesets -----------------------------------------------------------------------------

    def drain(self, zone: OracleZone, pageset: OraclePageset, pages: int, first: int) -> None:
        """Give pages back, round robin from list `first` on, each list from its tail."""
        pages = min(pages, pageset.count)
        number = first
        while pages > 0:
            kept = pageset.lists.setdefault(number, [])
            while pages > 0 and kept:
                pfn = kept.pop()
                pages -= 1 << pageset.order(number)
                self.give(zone, pfn, pageset.order(number), self.kept_types.pop(pfn))
            number = (number + 1) % 14

    def drain_all(self) -> None:
        """Empty every pageset, CPUs first."""
        for cpu in range(len(self.zones[0].pagesets)):
            for zone in self.zones:
                self.drain(zone, zone.pagesets[cpu], zone.pagesets[cpu].count, 0)

    def _through_pageset(
        self, zone: OracleZone, pageset: OraclePageset, order: int, migratetype: int, kswapd: bool
    ) -> int | None:
        pageset.factor //= 2
        kept = pageset.lists.setdefault(pageset.number(order, migratetype), [])
        if not kept:
            wanted = 1 if pageset.batch == 1 else max(pageset.batch >> order, 2)
            for _ in range(wanted):
                pfn = self.take(zone, order, migratetype, kswapd)
                if pfn is None:
                    break
                kept.append(pfn)
                self.kept_types[pfn] = migratetype
        if not kept:
            return None
        pfn = kept.pop(0)
        del self.kept_types[pfn]
        return pfn

    # -- requests -----------------------------------------------------------------------------

    def alloc(self, cpu: int, order: int, migratetype: int, kind: str) -> int:
        """A request: first page, FAILED or KILLED."""
        rights = REQUESTS[kind]
        marks = ["low", "min"]
        if rights.may_kill and order <= COSTLY:
            marks.append("high")
        for mark in marks:
            pfn = self._attempt(cpu, order, migratetype, rights, mark)
            if pfn is not None:
                self.taken[pfn] = (order, rights.user)
                return pfn
        return KILLED if rights.may_kill and order <= COSTLY else FAILED

    def _attempt(
        self, cpu: int, order: int, migratetype: int, rights: Rights, mark: str
    ) -> int | None:
        for zone in reversed(self.zones):
            if zone.index > rights.highest_zone or not self.passes(zone, order, mark, rights):
                continue
            if order <= COSTLY or order == BLOCK_ORDER:
                pageset = zone.pagesets[cpu]
                pfn = self._through_pageset(zone, pageset, order, migratetype, rights.kswapd)
            else:
                pfn = self.take(zone, order, migratetype, rights.kswapd)
            if pfn is not None:
                return pfn
        return None

    def free(self, cpu: int, pfn: int) -> None:
        """Give a taken block back."""
        order, _ = self.taken.pop(pfn)
        zone = self.zone_of(pfn)
        migratetype = self.type_of(pfn)
        if order > COSTLY and order != BLOCK_ORDER:
            self.give(zone, pfn, order, migratetype)
            return
        pageset = zone.pagesets[cpu]
        number = pageset.number(order, migratetype)
        pageset.lists.setdefault(number, []).insert(0, pfn)
        self.kept_types[pfn] = migratetype
        if pageset.factor and 1 <= order <= COSTLY:
            self.drain(zone, pageset, pageset.count, number)
            return
        high = pageset.high
        if zone.reclaiming:
            high = min(high, 4 * pageset.batch)
        if pageset.count >= high:
            self.drain(zone, pageset, self._quota(pageset, high), number)

    def _quota(self, pageset: OraclePageset, high: int) -> int:
        if high < pageset.batch:
            return 1
        most = high - pageset.batch
        wanted = pageset.batch << pageset.factor
        if wanted < most and pageset.factor < FACTOR_MAX:
            pageset.factor += 1
        return min(max(wanted, pageset.batch), most)

"""The model's guest of a trace check: made from an exact snapshot, compared with a later one."""

from collections.abc import Iterator, Sequence

from pagesoak.allocator.free_lists import FreeListSnapshot, ZoneSnapshot
from pagesoak.allocator.populate import plan_from_snapshot, populate_snapshot
from pagesoak.allocator.profile import Profile
from pagesoak.base.layout import (
    H_TIMED_LOCKS,
    H_TOUCH,
    ISOLATE,
    KIND_MASK,
    MAX_ORDER,
    MIGRATE_TYPES,
    NEXT,
    ORDER_MASK,
    P_BATCH,
    P_COUNT,
    P_FREE_FACTOR,
    P_HIGH,
    P_LIST_BASE,
    PAGE_WORDS,
    PAGEBLOCK_ORDER,
    PAGESET_WORDS,
    PCP_LISTS,
    R_EVENTFD,
    REPORTED,
    STATE,
    TYPE_MASK,
    TYPE_SHIFT,
    Z_BOOST,
    Z_COUNTER_DRIFT,
    Z_COUNTER_STEP,
    Z_FREE_PAGES,
    Z_LIST_BASE,
    Z_WMARK_MIN,
    ZONE_WORDS,
)
from pagesoak.base.segment import Segment

PCPU_DRIFT_PAGES_MAX = 125
"""A CPU keeps at most so many pages from a zone's counter (MAX of the stat thresholds)."""
NORMAL_STEP_SHIFT = 15
"""Memory in units of 128 MiB, as a shift of pages (`calculate_normal_threshold`)."""


def normal_step(managed_pages: int, cpus: int) -> int:
    """Pages a CPU may keep from NR_FREE_PAGES.

    The other threshold, while kswapd is awake, applies only to zones whose drift of all CPUs could
    reach from *low* to *min* (`percpu_drift_mark`); with one CPU that is none. Source: Linux 6.1
    `mm/vmstat.c`, `calculate_normal_threshold`, `set_pgdat_percpu_threshold`.
    """
    memory = managed_pages >> NORMAL_STEP_SHIFT
    step = 2 * cpus.bit_length() * (1 + memory.bit_length())
    return min(step, PCPU_DRIFT_PAGES_MAX)


class TraceGuest:
    """A segment with the snapshot's state; pages in use stand as single pages since boot."""

    def __init__(self, snapshot: FreeListSnapshot, profile: Profile, file: str) -> None:
        self.snapshot = snapshot
        plan = plan_from_snapshot(snapshot, cpus=1, loads=1, file=file)
        self.segment = Segment.create(plan)
        populate_snapshot(self.segment, snapshot, profile=profile)
        self.bytes = self.segment.file.view()
        self.base = self.segment.base
        self.header = self.segment.header
        self.header[H_TIMED_LOCKS] = 0
        self.header[H_TOUCH] = 0
        self.segment.report[R_EVENTFD] = -1
        for zone, recorded in enumerate(snapshot.zones):
            self.set_zone_word(zone, Z_COUNTER_DRIFT, recorded.listed_pages - recorded.nr_free)
            self.set_zone_word(zone, Z_COUNTER_STEP, normal_step(recorded.managed, 1))

    def close(self) -> None:
        """Give the memory back."""
        self.bytes.release()
        self.segment.close()

    def boosts(self) -> list[int]:
        """The zones' boosts, which a snapshot does not hold."""
        return [self.zone_word(zone, Z_BOOST) for zone in self.zone_numbers]

    def set_boosts(self, boosts: list[int]) -> None:
        """Take boosts over."""
        for zone, boost in zip(self.zone_numbers, boosts, strict=True):
            self.set_zone_word(zone, Z_BOOST, boost)

    def become(self, other: "TraceGuest") -> None:
        """Take over the whole state of a guest made from the same snapshot."""
        self.bytes[:] = other.bytes

    def look_at(self, pfn: int) -> tuple[int, int, int]:
        """Kind, order and type of the record of a page."""
        state = self.segment.pages[pfn * PAGE_WORDS + STATE]
        return state & KIND_MASK, state & ORDER_MASK, (state & TYPE_MASK) >> TYPE_SHIFT

    def zone_of(self, pfn: int) -> int:
        """The zone whose span holds a pfn; -1 when none does."""
        for number, zone in enumerate(self.snapshot.zones):
            if zone.start_pfn <= pfn < zone.end_pfn:
                return number
        return -1

    def zone_word(self, zone: int, word: int) -> int:
        """A word of a zone's record."""
        return int(self.segment.zones[zone * ZONE_WORDS + word])

    def holds(self, pfn: int, order: int) -> bool:
        """Whether an aligned block lies in a zone of the snapshot."""
        return (
            pfn & ((1 << order) - 1) == 0
            and self.zone_of(pfn) >= 0
            and self.zone_of(pfn) == self.zone_of(pfn + (1 << order) - 1)
        )

    @property
    def zone_numbers(self) -> range:
        """Numbers of the zone records."""
        return range(len(self.snapshot.zones))

    def set_zone_word(self, zone: int, word: int, value: int) -> None:
        """Write a word of a zone's record."""
        self.segment.zones[zone * ZONE_WORDS + word] = value

    def pageset_word(self, zone: int, word: int) -> int:
        """A word of the CPU's pageset of a zone."""
        return int(self.segment.pagesets[zone * PAGESET_WORDS + word])

    def set_pageset_word(self, zone: int, word: int, value: int) -> None:
        """Write a word of the CPU's pageset of a zone."""
        self.segment.pagesets[zone * PAGESET_WORDS + word] = value

    def fold_counters(self) -> None:
        """Let the CPU tell the zones' counters everything (`refresh_cpu_vm_stats`)."""
        for zone in self.zone_numbers:
            self.set_zone_word(zone, Z_COUNTER_DRIFT, 0)

    def walk(self, head: int) -> list[int]:
        """The records of a list from its head on."""
        pages = self.segment.pages
        found = []
        record = pages[head * PAGE_WORDS + NEXT]
        while record != head:
            found.append(record)
            record = pages[record * PAGE_WORDS + NEXT]
        return found

    def free_list(self, zone: int, order: int, migratetype: int) -> list[int]:
        """A free list in order."""
        return self.walk(self.zone_word(zone, Z_LIST_BASE) + order * MIGRATE_TYPES + migratetype)

    def pageset_list(self, zone: int, index: int) -> list[int]:
        """A list of the pageset in order."""
        return self.walk(self.pageset_word(zone, P_LIST_BASE) + index)

    def differences(self, snapshot: FreeListSnapshot) -> list[str]:
        """Everything in which the model differs from a snapshot; empty when it is exact."""
        found: list[str] = []
        for zone, recorded in enumerate(snapshot.zones):
            found += self._free_list_differences(zone, recorded, snapshot)
            found += self._pageset_differences(zone, recorded)
            found += self._zone_differences(zone, recorded)
        return found

    def _free_list_differences(
        self, zone: int, recorded: ZoneSnapshot, snapshot: FreeListSnapshot
    ) -> Iterator[str]:
        pages = self.segment.pages
        isolate = snapshot.migratetypes - 1
        for order in range(MAX_ORDER):
            for migratetype in range(MIGRATE_TYPES):
                listed = recorded_type(migratetype, isolate)
                got = [
                    (pfn, pages[pfn * PAGE_WORDS + STATE] & REPORTED != 0)
                    for pfn in self.free_list(zone, order, migratetype)
                ]
                expected = (
                    [
                        (block.pfn, block.reported)
                        for block in recorded.free_lists.get((order, listed), ())
                    ]
                    if listed >= 0
                    else []
                )
                if got != expected:
                    what = f"{recorded.name} free list of order {order}, type {migratetype}"
                    yield _list_difference(what, got, expected)

    def _pageset_differences(self, zone: int, recorded: ZoneSnapshot) -> Iterator[str]:
        for pageset in recorded.pagesets:
            for index in range(PCP_LISTS):
                got = self.pageset_list(zone, index)
                expected = list(pageset.lists.get(index, ()))
                if got != expected:
                    what = f"{recorded.name} pageset list {index}"
                    yield _list_difference(what, got, expected)
            words = (P_COUNT, P_HIGH, P_BATCH, P_FREE_FACTOR)
            counts = tuple(self.pageset_word(zone, word) for word in words)
            told = (pageset.count, pageset.high, pageset.batch, pageset.free_factor)
            if counts != told:
                yield (
                    f"{recorded.name} pageset's count, high, batch, free_factor are {counts}, "
                    f"recorded {told}"
                )

    def _zone_differences(self, zone: int, recorded: ZoneSnapshot) -> Iterator[str]:
        first = recorded.first_pageblock_pfn >> PAGEBLOCK_ORDER
        for number, expected in enumerate(recorded.pageblock_types):
            got = self.segment.blocks[first + number]
            if got != expected:
                pfn = (first + number) << PAGEBLOCK_ORDER
                yield f"{recorded.name} page block {pfn:#x} has type {got}, recorded {expected}"
        marks = tuple(self.zone_word(zone, Z_WMARK_MIN + mark) for mark in range(3))
        told = (recorded.wmark_min, recorded.wmark_low, recorded.wmark_high)
        if marks != told:
            yield f"{recorded.name} watermarks are {marks}, recorded {told}"
        free = self.zone_word(zone, Z_FREE_PAGES)
        if free != recorded.listed_pages:
            yield f"{recorded.name} has {free} free pages, recorded {recorded.listed_pages}"


def recorded_type(migratetype: int, isolate: int) -> int:
    """The number that the recorded kernel gives one of the model's types; -1 if it has none.

    Without CMA the isolated type is the last one.
    """
    if migratetype == ISOLATE:
        return isolate
    return migratetype if migratetype < isolate else -1


def _list_difference(what: str, got: Sequence[object], expected: Sequence[object]) -> str:
    """Where two lists part."""
    place = next(
        (i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b),
        min(len(got), len(expected)),
    )
    same = (
        "the same blocks in another order"
        if sorted(map(str, got)) == sorted(map(str, expected))
        else f"{len(got)} blocks, recorded {len(expected)}"
    )
    return f"{what}: {same}, first at place {place}"

"""An oracle for page reporting: docs/model.md 4.2, 7.2 and 7.3 once more, on dicts and lists.

It shares no code with pagesoak and is written from the rules, not from the core: a free list is a
Python list of first pages, a scatterlist the blocks in the order they were taken. Slow and plain,
for lists of some hundred blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

MAX_ORDER = 10
BLOCK_ORDER = 9
MOVABLE, HIGHATOMIC = 1, 3
REPORTED_TYPES = (0, 1, 2, 3, 4)

Block = tuple[int, int]
"""First page and order."""


@dataclass
class OracleCall:
    """One report: entries in scatterlist order, and free pages in its window."""

    entries: list[Block]
    free_pages: int


@dataclass
class Oracle:
    """One zone and its device; `answer(number of the call)` is the host, and the window."""

    min_pages: int
    low_pages: int
    boost_pages: int = 0
    highatomic_pages: int = 0
    capacity: int = 32
    order: int = BLOCK_ORDER
    lists: dict[Block, list[int]] = field(default_factory=dict)
    """(order, type) to first pages, head first."""
    block_types: dict[int, int] = field(default_factory=dict)
    reported: set[int] = field(default_factory=set)
    free_pages: int = 0
    requested: bool = False
    calls: list[OracleCall] = field(default_factory=list)
    answer: Callable[[int], int] = lambda _: 0
    pending: list[Block] = field(default_factory=list)

    # -- the free lists ---------------------------------------------------------------------

    def listed(self, order: int, migratetype: int) -> list[int]:
        """A free list, head first."""
        return self.lists.setdefault((order, migratetype), [])

    def _list_of(self, pfn: int, order: int) -> list[int] | None:
        """The list that holds this very block."""
        for (of_order, _), pfns in self.lists.items():
            if of_order == order and pfn in pfns:
                return pfns
        return None

    def _type_of(self, pfn: int) -> int:
        return self.block_types.get(pfn >> BLOCK_ORDER, MOVABLE)

    def put(self, pfn: int, order: int, migratetype: int, *, tail: bool) -> int:
        """Free a block of page block size or more: merge upwards, place. The final order."""
        self.free_pages += 2**order
        while order < MAX_ORDER:
            buddy = pfn - 2**order if pfn // 2**order % 2 else pfn + 2**order
            siblings = self._list_of(buddy, order)
            if siblings is None:
                break
            buddy_type = self._type_of(buddy)
            if buddy_type != migratetype and HIGHATOMIC in {buddy_type, migratetype}:
                break
            siblings.remove(buddy)
            self.reported.discard(buddy)
            pfn = min(pfn, buddy)
            order += 1
        pfns = self.listed(order, migratetype)
        pfns.insert(len(pfns) if tail else 0, pfn)
        return order

    def free(self, pfn: int, order: int, migratetype: int) -> None:
        """A free by the guest: at the head; a reportable result asks for a pass."""
        for page in range(pfn, pfn + 2**order, 2**BLOCK_ORDER):
            self.block_types[page >> BLOCK_ORDER] = migratetype
        if self.put(pfn, order, migratetype, tail=False) >= self.order:
            self.requested = True

    # -- reporting --------------------------------------------------------------------------

    def _usable(self) -> int:
        return self.free_pages - self.highatomic_pages

    def run_pass(self) -> None:
        """One pass over the zone; `requested` afterwards: another one is due."""
        self.requested = False
        if self._usable() <= self.low_pages + self.boost_pages + self.capacity * 2**self.order:
            return
        for order in range(self.order, MAX_ORDER + 1):
            for migratetype in REPORTED_TYPES:
                if self._visit(order, migratetype):
                    return
        if self.pending:
            self._report()

    def _visit(self, order: int, migratetype: int) -> int:
        """One list; the error that ended it, or 0."""
        pfns = self.listed(order, migratetype)
        free_blocks = sum(len(of) for (o, _), of in self.lists.items() if o == order)
        reports_left = -(-free_blocks // (16 * self.capacity)) + 1
        while True:
            first = next((pfn for pfn in pfns if pfn not in self.reported), None)
            if first is None:
                return 0
            if reports_left == 0:
                self.requested = True
            elif len(self.pending) < self.capacity and self._isolate(pfns, first, order):
                continue
            at = pfns.index(first)
            pfns[:] = pfns[at:] + pfns[:at]
            if reports_left == 0 or len(self.pending) < self.capacity:
                return 0
            reports_left -= 1
            error = self._report()
            if error:
                return error

    def _isolate(self, pfns: list[int], pfn: int, order: int) -> bool:
        if self._usable() <= self.min_pages + 2**order:
            return False
        pfns.remove(pfn)
        self.free_pages -= 2**order
        for page in range(pfn, pfn + 2**order, 2**BLOCK_ORDER):
            if self._type_of(page) != HIGHATOMIC:
                self.block_types[page >> BLOCK_ORDER] = MOVABLE
        self.pending.append((pfn, order))
        return True

    def _report(self) -> int:
        """Hand the pending blocks over, last taken first; put them back in that order."""
        batch = self.pending[::-1]
        self.calls.append(OracleCall(batch, self.free_pages))
        error = self.answer(len(self.calls) - 1)
        self.pending = []
        for pfn, order in batch:
            final = self.put(pfn, order, self._type_of(pfn), tail=True)
            if not error and final == order:
                self.reported.add(pfn)
        return error

"""A copy of the guest's state as of one instant, and how often one may be taken.

All locks are held for the time of a memory copy, nothing is computed meanwhile: about a
millisecond for 512 MiB of guest. The copy's memory is used again and again, so that the copying
meets no page fault.
"""

from typing import NamedTuple

from pagesoak.allocator.audit_lock import PAGESET_BUSY, turn_all_locks
from pagesoak.base.layout import Section
from pagesoak.base.layout_reclaim import SECTION_CACHE
from pagesoak.base.lock import HELD, STOPPED, ZONE_DEAD
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment

INTERVAL_NS_MIN = 1_000_000_000
"""Each second or rarer."""
INTERVAL_HOLDS_MIN = 1000
"""The locks are held for at most a thousandth of the time, so that an audit does not change what
it looks at."""
LOCK_ATTEMPTS = 25
"""Of some milliseconds each: a tenth of a second before an audit is put off."""

TAKE = 1
LET_GO = 0

_SECTIONS = (
    Section.ZONES,
    Section.PAGESETS,
    Section.REPORT,
    Section.BLOCKS,
    Section.PAGES,
    SECTION_CACHE,
)


class CopyRefused(NamedTuple):
    """No copy was made, nothing is held: `code` is ZONE_DEAD, STOPPED or PAGESET_BUSY."""

    code: int

    @property
    def reason(self) -> str:
        """For people."""
        return {
            ZONE_DEAD: "a zone's lock holder has died",
            STOPPED: "the run is ending",
            PAGESET_BUSY: "a pageset's lock is not let go",
        }[self.code]


class StateCopy:
    """The sections that make up the guest's state, as memoryviews like a `Segment`'s.

    `hold_ns` is how long the locks were held for the last copy; 0 if it was made without.
    """

    def __init__(self, plan: SegmentPlan) -> None:
        self.plan = plan
        self.hold_ns = 0
        self.kernel_rules = 0
        sizes = plan.section_bytes()

        def room(section: int) -> memoryview:
            return memoryview(bytearray(sizes[section]))

        self.zones = room(Section.ZONES).cast("q")
        self.pagesets = room(Section.PAGESETS).cast("q")
        self.report = room(Section.REPORT).cast("q")
        self.blocks = room(Section.BLOCKS).cast("b")
        self.pages = room(Section.PAGES).cast("i")
        self.cache = room(SECTION_CACHE).cast("i")

    def take_over(self, segment: Segment) -> None:
        """Copy the segment's present state; its locks are the caller's business."""
        self.kernel_rules = segment.kernel_rules
        self.zones[:] = segment.zones
        self.pagesets[:] = segment.pagesets
        self.report[:] = segment.report
        self.blocks[:] = segment.blocks
        self.pages[:] = segment.pages
        self.cache[:] = segment.cache


def copy_bytes(plan: SegmentPlan) -> int:
    """Memory that one copy takes."""
    sizes = plan.section_bytes()
    return sum(sizes[section] for section in _SECTIONS)


def copy_state(
    segment: Segment, worker: int, into: StateCopy | None = None
) -> StateCopy | CopyRefused:
    """Copy the state under all locks, into an older copy of the same plan where one is given.

    `worker` is the caller's own number (the runner's). Refused, the caller tries again at its next
    audit, and meanwhile looks at who died.
    """
    copy = StateCopy(segment.plan) if into is None else into
    for _ in range(LOCK_ATTEMPTS):
        code, since_ns = turn_all_locks(segment.base, worker, TAKE)
        if code != PAGESET_BUSY:
            break
    if code != HELD:
        return CopyRefused(code)
    try:
        copy.take_over(segment)
    finally:
        _, until_ns = turn_all_locks(segment.base, worker, LET_GO)
    copy.hold_ns = until_ns - since_ns
    return copy


def copy_unlocked(segment: Segment, into: StateCopy | None = None) -> StateCopy:
    """Copy the state without a lock: for when no worker lives, or a zone's lock is dead."""
    copy = StateCopy(segment.plan) if into is None else into
    copy.take_over(segment)
    copy.hold_ns = 0
    return copy


def audit_interval_ns(hold_ns: int, wanted_ns: int) -> int:
    """Time from start to start of two audits: as wanted, but within the limits."""
    return max(wanted_ns, INTERVAL_NS_MIN, hold_ns * INTERVAL_HOLDS_MIN)

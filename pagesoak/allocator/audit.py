"""The audit: is the guest's state, as of one instant, what its own rules allow?

It works on a copy, outside the locks (`audit_copy`), and shares no code with the allocator. Each
check has a name:

- `conservation`: per zone, the counters add up to its pages; no term is computed from the others
  (see `populate`).
- `tiling`: every page is in exactly one block, aligned, of a possible order; pages in no zone are
  reserved.
- `counted`: each counter is what the page records add up to.
- `list-length`: `nr_free` of each order, and the count of each pageset, is what is on the lists.
- `list-links`: links agree both ways; members are of the list's zone, kind, order, type; no free
  block is left out.
- `buddies`: no two free buddies are left unmerged.
- `types`: the HIGHATOMIC reserve is what the page blocks say; 6.12: lists follow page blocks.
- `flags`: known kinds and types; Reported only on free blocks, large enough; taken blocks have an
  owner.
- `page-cache`: each page in the cache is one page in use, in one slot; pages that are dirty or
  being written are in their queues.
- `lru-lists`: each page in the cache is on one list, its node's; links agree; counters as well.
- `scatterlist`: every isolated block is in exactly one entry, and every entry in use names one.

A breach is a bug of this program, never a result about a policy.
"""

from typing import NamedTuple

from pagesoak.allocator.audit_blocks import (
    Breach,
    check_outside,
    check_places,
    check_tiling,
    zone_blocks,
)
from pagesoak.allocator.audit_cache import check_cache
from pagesoak.allocator.audit_checks import (
    check_buddies,
    check_conservation,
    check_counted,
    check_flags,
    check_scatterlist,
)
from pagesoak.allocator.audit_copy import (
    CopyRefused,
    StateCopy,
    audit_interval_ns,
    copy_bytes,
    copy_state,
    copy_unlocked,
)
from pagesoak.allocator.audit_lists import check_lists
from pagesoak.allocator.audit_types import check_types
from pagesoak.allocator.state_arrays import GuestState, arrays_of

CHECKS = (
    "conservation",
    "tiling",
    "counted",
    "list-length",
    "list-links",
    "buddies",
    "types",
    "flags",
    "scatterlist",
    "page-cache",
    "lru-lists",
)


class AuditResult(NamedTuple):
    """What an audit found; `pages` is how many it looked at."""

    breaches: tuple[Breach, ...]
    pages: int

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not self.breaches


def audit(state: GuestState) -> AuditResult:
    """Check a state that nobody changes meanwhile: a copy, or the segment when no worker lives."""
    misplaced = check_places(state)
    if misplaced:
        return AuditResult(tuple(misplaced), 0)
    arrays = arrays_of(state)
    zones = [zone_blocks(arrays, zone) for zone in range(state.plan.zones)]
    found = check_outside(arrays, state.plan.max_pfn)
    for blocks in zones:
        found += check_tiling(blocks)
        found += check_conservation(arrays, blocks)
        found += check_counted(arrays, blocks)
        found += check_lists(state, blocks)
        found += check_buddies(arrays, blocks)
        found += check_types(arrays, blocks, state.kernel_rules)
        found += check_flags(arrays, blocks)
    found += check_scatterlist(arrays, zones)
    found += check_cache(state)
    return AuditResult(tuple(found), sum(len(blocks.state) for blocks in zones))


__all__ = [
    "CHECKS",
    "AuditResult",
    "Breach",
    "CopyRefused",
    "StateCopy",
    "audit",
    "audit_interval_ns",
    "copy_bytes",
    "copy_state",
    "copy_unlocked",
]

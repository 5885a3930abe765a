"""Words of the shared segment that kernel profiles need, beside those of `layout`.

They lie in places that `layout` leaves free; whoever adds a word looks at both. Which rules there
are: `pagesoak.allocator.profile`.
"""

from pagesoak.base.layout import P_FREE_FACTOR

H_KERNEL = 46
"""Header: the rules of the kernel profile, one bit each (`allocator.profile`)."""

Z_NOFRAGMENT = 39
"""Zone record: 1 when requests that prefer this zone first try without mixing page blocks."""
Z_BELOW_HIGH = 51
"""Zone record: free pages were seen below the high mark (ZONE_BELOW_HIGH); tuned pagesets shrink.
"""
Z_FREE_HIGHATOMIC = 52
"""Zone record: pages on the HIGHATOMIC free lists (`nr_free_highatomic`)."""
Z_REFAULTED = 53
"""Zone record: pages that lost Reported because their block was taken off its list, in this run.
"""

Z_RESERVE_RELEASED = 73
"""Zone record: free blocks of a page block or more that the HIGHATOMIC reserve gave back so far.
Each may lie unmerged beside its free buddy, with which it was not mixed before.
"""
Z_RESERVE_OVERWRITTEN = 63
"""Zone record: pages of page blocks that lost the type HIGHATOMIC when a larger block was stolen;
the reserve's counter still has them, as the 6.1 kernel's does.
"""

P_HIGH_MIN = 1
"""Pageset record: least `high` (pcp->high_min); P_HIGH is the present one."""
P_HIGH_MAX = 2
"""Pageset record: most `high`."""
P_ALLOC_FACTOR = 3
"""Pageset record: refills double so often."""
P_TUNED_FLAGS = 4
"""Pageset record: 1 when the last block freed was of order 1 to 3 (PCPF_PREV_FREE_HIGH_ORDER)."""
P_DECAY_DUE_NS = 5
"""Pageset record: when `high` decays next."""
P_FREE_COUNT = P_FREE_FACTOR
"""Pageset record: pages freed in a row, halved by each allocation. The tuned pagesets count pages
where the others count doublings, in the same word: both are halved in the same place.
"""

H_COMPACTION = 40
"""Header: 1 when the guest compacts (CONFIG_COMPACTION, and the scenario lets it)."""

Z_COMPACT_MIGRATE = 64
"""Zone record: where compaction's migrate scanner goes on, its free scanner in the next word;
first pages of page blocks, both 0 for the zone's ends.
"""
Z_COMPACT_FREE = 65
Z_COMPACT_CONSIDERED = 66
"""Zone record: how often compaction was put off, by how much it is (a power of two), and the least
order that failed.
"""
Z_COMPACT_DEFER_SHIFT = 67
Z_COMPACT_ORDER_FAILED = 68
Z_COMPACT_BUSY = 69
"""Zone record: who compacts the zone, worker + 1; 0 nobody."""
Z_COMPACT_TARGET = 70
"""Zone record: first of the single pages that the free scanner has taken for migration, + 1."""
Z_KCOMPACTD_ORDER = 71
"""Zone record: order that kcompactd was woken for, 0 asleep."""

OWNER_COMPACTION = 3
"""Of a page that the free scanner has taken."""

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

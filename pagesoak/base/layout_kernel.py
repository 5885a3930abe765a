"""Words of the shared segment that kernel profiles need, beside those of `layout`.

They lie in places that `layout` leaves free; whoever adds a word looks at both. Which rules there
are: `pagesoak.allocator.profile`.
"""

H_KERNEL = 46
"""Header: the rules of the kernel profile, one bit each (`allocator.profile`)."""

Z_BELOW_HIGH = 51
"""Zone record: free pages were seen below the high mark (ZONE_BELOW_HIGH); tuned pagesets shrink.
"""
Z_FREE_HIGHATOMIC = 52
"""Zone record: pages on the HIGHATOMIC free lists (`nr_free_highatomic`)."""
Z_REFAULTED = 53
"""Zone record: pages that lost Reported because their block was taken off its list, in this run.
"""

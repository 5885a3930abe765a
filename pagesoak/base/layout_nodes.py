"""Words of the shared segment that guests of several nodes need, beside those of `layout`.

They lie in places that `layout` and its other parts leave free; whoever adds a word looks at all.
What they are for: `allocator.vmstat`.
"""

P_SEEN_ALLOCATED = 6
"""Pageset record: its `P_ALLOCATED` and `P_COUNT` at the last look."""
P_SEEN_COUNT = 7
P_EXPIRE = 15
"""Pageset record: looks of the statistics' work until pages of another node go back."""

W_VMSTAT_NS = 12
"""Worker record: when the CPU's statistics were last looked at."""

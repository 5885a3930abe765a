"""Words of the shared segment that clocks need, most of them virtual ones, beside those of
`layout`.

They lie in places that `layout` and `layout_kernel` leave free; whoever adds a word looks at all
three. What they are for: `base.clock`, `base.contents`, `allocator.pace`.
"""

from pagesoak.base.layout import HEADER_WORDS

H_CONTENT_PAGES = 12
"""Header: pages with a content word: all of them in a virtual run with `touch`, else none."""
H_YIELD = 47
"""Header: set by what another worker must hear of at once; a burst comes back then."""
H_VIRTUAL = 54
"""Header: 1 when workers live on clock words of their own, in one process."""

H_COSTS = HEADER_WORDS - 16
"""Header: what things take, as `base.costs.Costs` lists them; all 0 in a live run."""
C_OPERATION = H_COSTS
C_PAGE_TOUCH = H_COSTS + 1
C_LOCK = H_COSTS + 2
C_LOCK_BLOCK = H_COSTS + 3
C_LIST_STEP = H_COSTS + 4
C_WAKE_UP = H_COSTS + 5
C_HOST_RANGE = H_COSTS + 6
C_HOST_MIB = H_COSTS + 7
C_RECLAIM_PAGE = H_COSTS + 8

Z_LOCK_UNTIL_NS = 38
"""Zone record: when the lock was last let go; `Z_LOCK_SINCE_NS` says since when it was held."""

W_CLOCK_NS = 11
"""Worker record: the worker's own clock."""

L_DUE_NS = 21
"""Load record: when the load's next slice of operations is due; of a replay, when its recording's
clock began.
"""
L_SLICE_NS = 22
"""Load record: from slice to slice; 0: the load goes on as fast as it can."""
L_SLICE_OPERATIONS = 23
L_SLICE_LEFT = 24
"""Load record: operations left of the slice that is due."""
L_SPEED_PPM = 25
"""Load record: how much faster than recorded a replay goes; 0: as fast as it can."""

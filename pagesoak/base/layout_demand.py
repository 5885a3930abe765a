"""Words of the shared segment that remember what a guest took, beside those of `layout`.

A section of its own, a record for each zone; and words in places that `layout` and its other parts
leave free: whoever adds one looks at all of them. What they are for: `allocator.demand`,
`allocator.notify`.
"""

H_DEMAND_SLOT_NS = 14
"""Header: a tenth of the time that demands are remembered; 0: nobody watches."""
H_OOM_WAITS = 15
"""Header: 1 when the slow path waits for an open report window before it kills."""

Z_WAIT_FREE_PAGES = 72
"""Zone record: a free that leaves so many pages free asks for a reporting pass; 0: none does."""

L_OOM_WAIT_SINCE_NS = 31
"""Load record: since when its request waits for a report window to close, 0: none does."""

SECTION_DEMAND = 11
"""Number of the section, behind the page cache's."""

SLOTS = 11
"""Tenths of the time that demands are remembered, with the one that is going on."""
PEAKS = 5
"""A quarter of a level's interval each: the one that is going on, and four before it."""
LEVEL_FIRST_BITS = 20
"""The shortest interval is 2**20 ns, a millisecond: a report of nothing takes about as long."""
LEVELS = 17
"""Each interval twice as long as the one before: the longest is 2**36 ns, 69 s."""

LEVEL_BUCKET = PEAKS
"""Of a level, after the peaks: the number of the quarter that is going on; then the slots."""
LEVEL_SLOTS = PEAKS + 1
LEVEL_WORDS = PEAKS + 1 + SLOTS

D_SINCE_NS = 0
"""When watching began."""
D_SLOT = 1
"""Number of the slot that is going on."""
D_TAKEN_PAGES = 2
"""Pages taken since watching began."""
D_WINDOW_PEAK = 3
"""Of the open report window: most that was free or isolated, and the most taken from it."""
D_WINDOW_TAKEN = 4
D_WINDOW_LEFT = 5
"""Pages that the window's fills were to leave free, the least of them."""
D_WINDOWS = 6
"""Windows that have closed."""
D_RECENT_NS = 8
"""Lengths of the last RECENT_WINDOWS, the newest at `D_WINDOWS` - 1, modulo their number."""
RECENT_WINDOWS = 8
D_LONGEST_NS = D_RECENT_NS + RECENT_WINDOWS
"""The longest window of each slot."""
D_LEVELS = D_LONGEST_NS + SLOTS + 5
DEMAND_WORDS = 328
"""D_LEVELS + LEVELS * LEVEL_WORDS, rounded up to a cache line."""

"""Words of the shared segment for what a user changes while a soak runs, beside those of `layout`.

They lie in places that `layout` and its other parts leave free; whoever adds a word looks at all.
What they are for: `allocator.pace`, `engine.live`.
"""

W_STOOD_STILL_NS = 15
"""Worker record: how long a guest CPU's worker has been paused, all pauses together; its loads'
times do not go on meanwhile.
"""
L_PACE_PPM = 46
"""Load record: how many times as fast as its scenario says a load goes; 0: just so fast."""
H_PAUSED_NS = 61
"""Header: how long the soak has been paused, all pauses together that are over."""
H_PAUSED_SINCE_NS = 62
"""Header: when the present pause began, monotonic; 0: the soak goes on."""

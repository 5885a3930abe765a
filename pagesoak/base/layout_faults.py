"""Words of the shared segment for faults and recovery, beside those of `layout`.

They lie in places that `layout` and its other parts leave free; whoever adds a word looks at all.
What they are for: `engine.rest`, `engine.recovery`, `base.fault_point`, `host.faults`.
"""

STOP_FOR_GOOD = 1
"""`H_STOP`: the run ends, and every worker with it."""
STOP_TO_RECOVER = 2
"""`H_STOP`: every worker comes to rest where it wants something, and goes on when the word is 0
again.
"""

H_STANDSTILL = 55
"""Header: number of the last standstill that the runner asked for."""
H_FAULT_POINT = 56
"""Header: at which point (the low byte) which worker (its number + 1, above) is to wait for its
death; 0 none.
"""
H_HOST_FAULT = 57
"""Header: what goes wrong with the host's next call (`host.faults`), 0 nothing; taken by the host.
"""
H_HOST_FAULT_AMOUNT = 58
"""Header: how much of it: ns by which a call is slower."""

W_AT_REST = 3
"""Worker record: number of the standstill in which the worker is at rest, 0: it is at work."""
W_FAULT_POINT = 4
"""Worker record: the point at which the worker waits for its death, 0 none."""

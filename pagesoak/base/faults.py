"""The faults that can be made to happen, by name: what a scenario, the command line and the daemon
ask for, and what the summary counts.

How each comes about is in `engine.faults` (processes that are killed or stopped) and `host.faults`
(a host that does wrong); docs/faults.md tells what becomes of each.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from pagesoak.base.errors import InputError

KILL_GUEST = "kill-guest"
KILL_GUEST_LOCKED = "kill-guest-locked"
KILL_REPORTER = "kill-reporter"
KILL_REPORTER_LOCKED = "kill-reporter-locked"
KILL_REPORTER_ISOLATED = "kill-reporter-isolated"
KILL_HOST = "kill-host"
STOP_GUEST = "stop-guest"
STOP_REPORTER = "stop-reporter"
STOP_HOST = "stop-host"
CLOCK_JUMP = "clock-jump"
HOST_DIES = "host-dies"
HOST_SLOW = "host-slow"
HOST_ERROR = "host-error"
HOST_ANSWERS_TWICE = "host-answers-twice"
HOST_PUNCHES_PARTLY = "host-punches-partly"

HOST_FAULTS = {
    HOST_SLOW: 1,
    HOST_ERROR: 2,
    HOST_ANSWERS_TWICE: 3,
    HOST_PUNCHES_PARTLY: 4,
    HOST_DIES: 5,
}
"""What the host is told by a word in the segment."""
FAULTS = (
    KILL_GUEST,
    KILL_GUEST_LOCKED,
    KILL_REPORTER,
    KILL_REPORTER_LOCKED,
    KILL_REPORTER_ISOLATED,
    KILL_HOST,
    STOP_GUEST,
    STOP_REPORTER,
    STOP_HOST,
    CLOCK_JUMP,
    *sorted(HOST_FAULTS),
)
VIRTUAL_FAULTS = (CLOCK_JUMP, HOST_ANSWERS_TWICE, HOST_ERROR, HOST_PUNCHES_PARTLY, HOST_SLOW)
"""Those that a run on a virtual clock can have: it has no processes that could die."""
GUEST_POINTS = ("lock-taken", "lock-kept", "refilling")
REPORTER_POINTS = ("lock-taken", "lock-kept", "putting-back")
POINT_NAMES = ("lock-taken", "lock-kept", "refilling", "putting-back")
"""Where in a hold somebody may be killed; `base.fault_point` says what each is."""
CPU_FAULTS = (KILL_GUEST, KILL_GUEST_LOCKED, STOP_GUEST)
"""Those of one guest CPU, which may be named."""
POINTS_OF = {KILL_GUEST_LOCKED: GUEST_POINTS, KILL_REPORTER_LOCKED: REPORTER_POINTS}
"""Those at a point, which may be named."""
DEADLY_FAULTS = frozenset(FAULTS) - {
    CLOCK_JUMP,
    HOST_ERROR,
    HOST_ANSWERS_TWICE,
    HOST_PUNCHES_PARTLY,
}
"""Those of which somebody dies, or may: who hangs for long is killed."""
TIMED_FAULTS = (STOP_GUEST, STOP_REPORTER, STOP_HOST, CLOCK_JUMP, HOST_SLOW)
"""Those that last for a time, which may be given."""
KIND_CHARS_MAX = 64
"""Of one that is no kind, as far as it is compared with those that are."""
SECONDS_MAX = 3600.0
"""A worker that is stopped for longer is as good as dead."""


class FaultWanted(NamedTuple):
    """One fault. `cpu`: the guest CPU, None any; `seconds`: how long a worker is stopped, by
    how much a call is slower, or how far a clock jumps; `point`: where in a hold, None any.
    """

    kind: str
    cpu: int | None = None
    seconds: float = 1.0
    point: str | None = None


def read_fault(fields: Mapping[str, Any]) -> FaultWanted:
    """A fault from plain values; InputError that names the key, also of one that the fault has no
    use for.
    """
    kind = fields.get("fault")
    if kind not in FAULTS:
        close = difflib.get_close_matches(str(kind)[:KIND_CHARS_MAX], FAULTS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"must be one of {', '.join(FAULTS)}{hint}", key="fault")
    cpu, seconds, point = fields.get("cpu"), fields.get("seconds", 1.0), fields.get("point")
    if cpu is not None and (type(cpu) is not int or cpu < 0):
        raise InputError("must be the number of a guest CPU", key="cpu")
    if type(seconds) not in (int, float) or not (
        math.isfinite(seconds) and 0 < seconds <= SECONDS_MAX
    ):
        raise InputError(f"must be more than 0 and at most {SECONDS_MAX:.0f}", key="seconds")
    for key, kinds in (("cpu", CPU_FAULTS), ("seconds", TIMED_FAULTS), ("point", POINTS_OF)):
        if fields.get(key) is not None and kind not in kinds:
            raise InputError(f"{kind} takes none; {', '.join(kinds)} do", key=key)
    if point is not None and point not in POINTS_OF[str(kind)]:
        raise InputError(f"must be one of {', '.join(POINTS_OF[str(kind)])}", key="point")
    unknown = sorted(set(fields) - {"fault", "cpu", "seconds", "point"})
    if unknown:
        raise InputError("is no key of a fault", key=unknown[0])
    return FaultWanted(str(kind), cpu, float(seconds), point)

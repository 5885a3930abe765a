"""How often a worker may be started again, and when.

A worker that is killed is started again at once; if more of its kind die within a minute, after a
pause that doubles, with some jitter so that several do not come back in step. Too many in a minute
are no accident any more: the run ends. While faults are wanted that kill (`engine.faults`) there
is no pause, and another limit.
"""

import random
from collections import deque
from dataclasses import dataclass

from pagesoak.base.errors import HarnessError

WINDOW_SECONDS = 60.0
RESTARTS_MAX = 5
"""Of one role within the window: more than an operator's mistakes and an OOM killer's look."""
CHAOS_RESTARTS_MAX = 3_000
"""The same where faults are wanted: fifty a second, more than can be made."""
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 5.0
JITTER = 0.5
"""A pause is longer by up to this share of it."""


@dataclass
class Restarts:
    """The restarts of one role; `chaos_until`, monotonic: so long faults are wanted."""

    role: str
    random: random.Random
    chaos_until: float = 0.0
    total: int = 0

    def __post_init__(self) -> None:
        self._times: deque[float] = deque()

    def pause_seconds(self, now: float) -> float:
        """Count a death at `now`, monotonic: after how long to start another.

        Raises HarnessError when there were too many.
        """
        while self._times and self._times[0] <= now - WINDOW_SECONDS:
            self._times.popleft()
        chaos = now < self.chaos_until
        limit = CHAOS_RESTARTS_MAX if chaos else RESTARTS_MAX
        if len(self._times) >= limit:
            msg = (
                f"the {self.role} died more than {limit} times within {WINDOW_SECONDS:.0f} s:"
                " it is not started again"
            )
            raise HarnessError(msg)
        before = len(self._times)
        self._times.append(now)
        self.total += 1
        if chaos or before == 0:
            return 0.0
        pause = min(BACKOFF_FIRST_SECONDS * float(2 ** (before - 1)), BACKOFF_MAX_SECONDS)
        return pause * (1 + JITTER * self.random.random())

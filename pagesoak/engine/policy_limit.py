"""How long one call of a policy may take, in the process that runs the reporter.

A policy decides from a handful of numbers; one that has not come back after 100 ms will not. What
counts is the thread's own processor time, so that a machine that is busy with others stops nobody;
a policy that sleeps or waits is stopped after two seconds by the clock. An alarm signal interrupts
it, which works for all that is Python, and in the main thread, where every reporter runs. The
built-in policies are known to come back and are not watched.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

from pagesoak.reporter.guard import Guarded, Limit
from pagesoak.reporter.policies import BUILT_IN
from pagesoak.reporter.policy import Policy

CALL_SECONDS_MAX = 0.1
"""Of processor time, for one call: a policy works on numbers, not on data."""
WAIT_SECONDS_MAX = 2.0
"""By the clock: longer than any pause that a loaded machine makes by itself."""


@contextmanager
def policy_limit() -> Iterator[None]:
    """Raise TimeoutError inside, in the main thread, when the limit is reached."""
    used_before, began = time.thread_time(), time.monotonic()

    def look(_signal: int, _frame: FrameType | None) -> None:
        if time.thread_time() - used_before >= CALL_SECONDS_MAX:
            raise TimeoutError(f"did not return within {CALL_SECONDS_MAX * 1000:.0f} ms")
        if time.monotonic() - began >= WAIT_SECONDS_MAX:
            raise TimeoutError(f"did not return within {WAIT_SECONDS_MAX:.0f} s")

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, CALL_SECONDS_MAX, CALL_SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limited(policy: Policy | Guarded) -> Guarded:
    """The policy as a reporter is to ask it."""
    return policy if isinstance(policy, Guarded) else Guarded(policy, limit_of(policy))


def limit_of(policy: Policy) -> Limit:
    """The context of a call of this policy."""
    if (
        type(policy) not in BUILT_IN.values()
        and threading.current_thread() is threading.main_thread()
    ):
        return policy_limit
    return nullcontext

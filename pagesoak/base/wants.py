"""What workers yield: the contract between a worker and whichever driver runs it.

A worker (guest CPU, reporter, host) is a generator. It yields one of these and is sent what came
of it. It imports no clock, random source, thread, socket or file; so the live driver can run it in
a process of its own against the monotonic clock, and the virtual driver can run all of them in one
process on a virtual clock.
"""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple


class Run(NamedTuple):
    """Run a compiled function of the core, `function(base, *arguments, until_ns)`; sent: what it
    returned.

    `until_ns` is the driver's deadline for this call (monotonic, some milliseconds ahead, or the
    next event in virtual time): a function that can take long looks at it and comes back. `name`
    says what it is, for logs and schedules.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[int, ...]


class Sleep(NamedTuple):
    """Sleep until a deadline of the driver's clock; sent: the time now, in ns. Comes back early
    when the run ends.
    """

    deadline_ns: int


class Now(NamedTuple):
    """Sent: the time now, in ns."""


class AwaitPass(NamedTuple):
    """The reporter has nothing to do: wait until a pass is requested (state left IDLE), or until a
    deadline of the driver's clock (0: none); sent: the time now, in ns.
    """

    deadline_ns: int = 0


class Report(NamedTuple):
    """Hand entries [start, start + entries) of the scatterlist to the host and sleep until it
    answers.

    Uninterruptible and without time-out, as the balloon driver waits. Sent: 0 or the errno of the
    answer.
    """

    request: int
    start: int
    entries: int


class AwaitReport(NamedTuple):
    """The host has nothing to do: wait for a report request; sent: its number."""


class Answer(NamedTuple):
    """The host has served a request; `error` is 0 or an errno. Sent: None."""

    request: int
    error: int


class Barrier(NamedTuple):
    """Wait until every guest CPU has reached this place; sent: the time now, in ns. The soak's
    clock starts here.
    """


class AwaitRecovery(NamedTuple):
    """A zone is dead, or all workers are called to rest: wait until the state is in order again,
    then do the same once more. Sent: None. Where that will never be, the worker ends here.
    """


class YieldPoint(NamedTuple):
    """A named place at which another worker may go on first; live: nothing happens. Sent: None."""

    name: str


Want = (
    Run
    | Sleep
    | Now
    | AwaitPass
    | Report
    | AwaitReport
    | Answer
    | Barrier
    | AwaitRecovery
    | YieldPoint
)
Worker = Generator[Want, Any, None]
"""Ends by returning; a driver ends it by closing it (GeneratorExit at a yield)."""

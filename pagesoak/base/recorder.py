"""The flight recorder: the last events of each worker, in shared memory, so that they survive kill
-9.

Every worker writes to a ring of its own, without a lock: eight words an event, the head moved
after the event is complete. Whoever reads takes what is there; an event that was being overwritten
while it was read is recognised by its number and left out.
"""

from typing import NamedTuple

from pagesoak.base.clock import now_ns
from pagesoak.base.external import store_release
from pagesoak.base.layout import (
    RING_EVENT_WORDS,
    RING_EVENTS,
    W_RING,
    W_RING_HEAD,
    WORKER_WORDS,
    Core,
    open_core,
)
from pagesoak.base.native import entry, inner
from pagesoak.base.segment import Segment

PASS_START = 1
PASS_END = 2
GATE_CLOSED = 3
ISOLATED = 4
ISOLATION_REFUSED = 5
REPORT = 6
ANSWER = 7
DRAINED = 8
REQUESTED_AGAIN = 9
ALLOCATION_FAILED = 10
OOM = 11
STALLED = 12
BURST_BEGIN = 13
BURST_TAKEN = 14
BURST_END = 15
STEAL = 16
NOTIFY = 17
VIOLATION = 18
HOST_PUNCHED = 19
HOST_ERROR = 20
LEDGER_BREACH = 21
LOCK_DEAD = 22
LIST_ALLOCATION_FAILED = 23
OOM_KILL = 24
HIGHATOMIC_RESERVED = 25
HIGHATOMIC_RELEASED = 26
FACTOR_REACHED = 27
COMPACTED = 28
WAITING = 29
DEMAND_UNSEEN = 30
OOM_WAIT = 31

CAUSE_SHIFT = 8
"""A request's cause lies above its order, in one word."""
REQUEST_FIELDS = ("order", "gfp", "free_pages", "isolated_pages", "margin_pages", "cause")
"""Of a request that got nothing, or had to reclaim."""

FIELDS: dict[int, tuple[str, tuple[str, ...]]] = {
    PASS_START: ("pass-start", ("pass",)),
    PASS_END: ("pass-end", ("pass", "state", "calls")),
    GATE_CLOSED: ("gate-closed", ("zone", "free_pages", "needed_pages")),
    ISOLATED: ("isolated", ("zone", "order", "entries", "pages", "free_pages")),
    ISOLATION_REFUSED: ("isolation-refused", ("zone", "order", "pfn", "free_pages")),
    REPORT: ("report", ("request", "entries", "pages", "free_pages", "isolated_pages")),
    ANSWER: ("answer", ("request", "error", "window_ns")),
    DRAINED: ("drained", ("request", "entries", "pages", "reported_pages", "free_pages")),
    REQUESTED_AGAIN: ("requested-again", ("zone", "order", "migratetype")),
    ALLOCATION_FAILED: ("allocation-failed", REQUEST_FIELDS),
    OOM: ("oom", REQUEST_FIELDS),
    OOM_KILL: ("oom-kill", ("load", "pages", "badness", "asking_load")),
    STALLED: ("stalled", REQUEST_FIELDS),
    BURST_BEGIN: ("burst-begin", ("load", "pages", "free_pages", "isolated_pages")),
    BURST_TAKEN: ("burst-taken", ("load", "pages", "free_pages", "isolated_pages")),
    BURST_END: ("burst-end", ("load", "killed", "free_pages", "isolated_pages")),
    STEAL: ("steal", ("pfn", "order", "from_type", "to_type", "whole")),
    NOTIFY: ("notify", ("pfn", "order", "state")),
    VIOLATION: ("violation", ("pfn", "breach", "expected", "found", "owner")),
    HOST_PUNCHED: ("host-punched", ("request", "pfn", "pages", "punched_bytes")),
    HOST_ERROR: ("host-error", ("request", "errno")),
    LEDGER_BREACH: ("ledger-breach", ("request", "pfn", "order", "state", "breach")),
    LOCK_DEAD: ("lock-dead", ("zone",)),
    LIST_ALLOCATION_FAILED: ("list-allocation-failed", ("pass",)),
    HIGHATOMIC_RESERVED: ("highatomic-reserved", ("pfn", "order", "reserved_pages")),
    COMPACTED: ("compacted", ("zone", "order", "pageblocks", "moved_pages", "result")),
    HIGHATOMIC_RELEASED: ("highatomic-released", ("pfn", "order", "reserved_pages", "forced")),
    WAITING: ("waiting", ("zone", "order", "free_pages", "floor_pages", "retry_ns")),
    DEMAND_UNSEEN: ("unseen-demand", ("zone", "taken_pages", "expected_pages")),
    OOM_WAIT: ("oom-wait", ("order", "gfp", "free_pages", "isolated_pages")),
    FACTOR_REACHED: ("factor-reached", ("zone", "reported_pages", "factor_percent")),
}
"""Name of each kind of event, and of its words after the time and the kind."""


class Event(NamedTuple):
    """One recorded event: monotonic time, worker, name, and its named words."""

    time_ns: int
    worker: int
    name: str
    fields: dict[str, int]


@inner
def record(core: Core, worker: int, kind: int, a: int, b: int, c: int, d: int, e: int) -> None:
    """Write an event to the ring of the worker that calls."""
    words = core.workers
    at = worker * WORKER_WORDS
    number = words[at + W_RING_HEAD]
    place = at + W_RING + (number % RING_EVENTS) * RING_EVENT_WORDS
    words[place + 7] = -1
    words[place] = now_ns(core, worker)
    words[place + 1] = kind
    words[place + 2] = a
    words[place + 3] = b
    words[place + 4] = c
    words[place + 5] = d
    words[place + 6] = e
    store_release(words, place + 7, number)
    store_release(words, at + W_RING_HEAD, number + 1)


@inner
def record_request(
    core: Core,
    worker: int,
    kind: int,
    order: int,
    gfp: int,
    cause: int,
    free_pages: int,
    isolated_pages: int,
    margin_pages: int,
) -> None:
    """Write an event of a request: its order and cause share a word (`REQUEST_FIELDS`)."""
    asked = order | cause << CAUSE_SHIFT
    record(core, worker, kind, asked, gfp, free_pages, isolated_pages, margin_pages)


@entry
def record_event(base: int, worker: int, kind: int, a: int, b: int, c: int, d: int, e: int) -> int:
    """Write an event from Python; returns how many the worker has recorded."""
    core = open_core(base)
    record(core, worker, kind, a, b, c, d, e)
    return core.workers[worker * WORKER_WORDS + W_RING_HEAD]


def read_events(segment: Segment, worker: int, since: int = 0) -> tuple[list[Event], int]:
    """A worker's events from number `since` on that are still in its ring, and the number to go on
    from.
    """
    words = segment.workers
    at = worker * WORKER_WORDS
    head = words[at + W_RING_HEAD]
    events = []
    for number in range(max(since, head - RING_EVENTS), head):
        place = at + W_RING + (number % RING_EVENTS) * RING_EVENT_WORDS
        event = words[place : place + RING_EVENT_WORDS].tolist()
        if event[7] != number or words[place + 7] != number:
            continue
        events.append(_event(worker, event))
    return events, head


def _event(worker: int, words: list[int]) -> Event:
    name, fields = FIELDS.get(words[1], (f"event-{words[1]}", ()))
    values = words[2:7]
    if fields is REQUEST_FIELDS:
        cause, values[0] = divmod(values[0], 1 << CAUSE_SHIFT)
        values.append(cause)
    return Event(words[0], worker, name, dict(zip(fields, values, strict=False)))


def read_all_events(segment: Segment) -> list[Event]:
    """The events of all workers that are still in their rings, by time."""
    events = [
        event
        for worker in range(segment.plan.workers)
        for event in read_events(segment, worker)[0]
    ]
    return sorted(events, key=lambda event: (event.time_ns, event.worker))

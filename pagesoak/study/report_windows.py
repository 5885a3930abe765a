"""What the reporter was doing, worked out from its events: its state at every moment, and the
windows in which pages were isolated.

A window opens with the first isolation of a batch and is over when the batch is drained:
`isolated` (one event for each list visited), `report`, `answer`, `drained`. The reporter's states
follow each other as in `reporter.worker`: idle, requested, a pass at work, filling, out, answered,
and back. `waiting` is a pass of a policy that found too little free and looks again by itself.

Where events were lost the state is unknown until the next event that tells it, and a window of
which only the end is on record is marked incomplete.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from pagesoak.engine.event_log import EVENTS_LOST
from pagesoak.study.run_events import RunEvent

UNKNOWN = "unknown"
IDLE = "idle"
REQUESTED = "requested"
PASS = "pass"  # noqa: S105 - a state, no secret
FILLING = "filling"
OUT = "window-open"
ANSWERED = "draining"
WAITING = "waiting"
NO_DEVICE = "no-device"
STATES = (NO_DEVICE, UNKNOWN, IDLE, REQUESTED, WAITING, PASS, FILLING, OUT, ANSWERED)
WITH_ISOLATED_PAGES = frozenset({FILLING, OUT, ANSWERED})

LISTS_KEPT_MAX = 64
"""Isolations of one batch that are kept one by one: more than a pass has lists."""
WINDOWS_KEPT_MAX = 3
"""Earlier windows of the pass at work that are kept."""

NOTIFY_IDLE, NOTIFY_REQUESTED, NOTIFY_ACTIVE = 0, 1, 2
"""The state before, in a `notify`."""


@dataclass(frozen=True)
class Window:
    """Pages on their way to the host and back; times None and pages 0 until they are known."""

    opened_ns: int
    zone: int | None
    pages_by_order: tuple[tuple[int, int], ...] = ()
    pages: int = 0
    lists: tuple[RunEvent, ...] = ()
    """The isolations of the batch, the first of them."""
    report: RunEvent | None = None
    answer: RunEvent | None = None
    drained: RunEvent | None = None
    complete: bool = True
    """False: events of it were lost."""

    @property
    def request(self) -> int | None:
        """The number of its request; None before it has one."""
        for event in (self.report, self.answer, self.drained):
            if event is not None:
                return int(event.fields["request"])
        return None

    def length_ns(self, until_ns: int) -> int:
        """How long it lasted, or has lasted until then."""
        return (until_ns if self.drained is None else self.drained.time_ns) - self.opened_ns


@dataclass(frozen=True)
class ReporterMoment:
    """What the reporter was doing at one moment."""

    state: str
    since_ns: int | None = None
    pass_number: int | None = None
    requested_ns: int | None = None
    window: Window | None = None
    waiting: RunEvent | None = None


class ReporterTrack:
    """Follows the reporter through the events, which are handed in by time (`see`)."""

    def __init__(self, *, has_device: bool = True) -> None:
        self.state = UNKNOWN if has_device else NO_DEVICE
        self.since_ns: int | None = None
        self.worker: int | None = None
        """Its number, once it has recorded something that only a reporter does."""
        self.asked: RunEvent | None = None
        """What asked for the pass at work or the next one."""
        self.asked_again: RunEvent | None = None
        self.pass_start: RunEvent | None = None
        self.requested_ns: int | None = None
        self.waiting: RunEvent | None = None
        self.window: Window | None = None
        self.last_window: Window | None = None
        self.windows_of_pass: deque[Window] = deque(maxlen=WINDOWS_KEPT_MAX)
        self.windows_of_pass_count = 0
        self._steps: dict[str, Callable[[RunEvent], Window | None]] = {
            "notify": self._notify,
            "pass-start": self._pass_start,
            "pass-end": self._pass_end,
            "isolated": self._isolated,
            "report": self._report,
            "answer": self._answer,
            "drained": self._drained,
            "waiting": self._waits,
            EVENTS_LOST: self._lost,
        }

    def see(self, event: RunEvent) -> Window | None:
        """Take in an event; the window that it ended, if it did."""
        step = self._steps.get(event.kind)
        return None if step is None else step(event)

    def moment(self) -> ReporterMoment:
        """What it is doing now."""
        number = None if self.pass_start is None else int(self.pass_start.fields["pass"])
        at_work = self.state in {PASS, *WITH_ISOLATED_PAGES}
        return ReporterMoment(
            self.state,
            self.since_ns,
            number if at_work else None,
            self.requested_ns if self.state == REQUESTED else None,
            self.window,
            self.waiting if self.state == WAITING else None,
        )

    def _become(self, state: str, event: RunEvent) -> None:
        self.state = state
        self.since_ns = event.time_ns

    def _notify(self, event: RunEvent) -> None:
        before = event.fields["state"]
        if before == NOTIFY_IDLE:
            self.asked = event
            self.requested_ns = event.time_ns
            self._become(REQUESTED, event)
        elif before == NOTIFY_ACTIVE:
            self.asked_again = event
        elif self.state == UNKNOWN:  # requested before the record begins: since when is lost
            self._become(REQUESTED, event)

    def _pass_start(self, event: RunEvent) -> None:
        self.worker = event.worker
        self.pass_start = event
        self.asked_again = self.waiting = self.window = None
        self.windows_of_pass.clear()
        self.windows_of_pass_count = 0
        self._become(PASS, event)

    def _pass_end(self, event: RunEvent) -> None:
        self.worker = event.worker
        again = event.fields["state"] == NOTIFY_REQUESTED
        if again:
            self.asked = self.asked_again
            self.requested_ns = event.time_ns
        state = REQUESTED if again else WAITING if self.waiting is not None else IDLE
        self._become(state, event)

    def _waits(self, event: RunEvent) -> None:
        self.waiting = event
        if self.state not in {PASS, *WITH_ISOLATED_PAGES}:
            self._become(WAITING, event)

    def _isolated(self, event: RunEvent) -> None:
        self.worker = event.worker
        zone, order = event.fields["zone"], event.fields["order"]
        pages = event.fields["pages"]
        window = self.window or Window(event.time_ns, zone, complete=self.state == PASS)
        by_order = dict(window.pages_by_order)
        by_order[order] = by_order.get(order, 0) + pages
        lists = window.lists
        if len(lists) < LISTS_KEPT_MAX:
            lists = (*lists, event)
        self.window = replace(
            window,
            pages_by_order=tuple(sorted(by_order.items())),
            pages=window.pages + pages,
            lists=lists,
        )
        self._become(FILLING, event)

    def _report(self, event: RunEvent) -> None:
        self.worker = event.worker
        pages = event.fields["pages"]
        window = self.window or Window(event.time_ns, None, complete=False)
        complete = window.complete and window.pages == pages
        self.window = replace(window, report=event, pages=pages, complete=complete)
        self._become(OUT, event)

    def _answer(self, event: RunEvent) -> None:
        opened_ns = event.time_ns - event.fields["window_ns"]
        window = self.window or Window(opened_ns, None, complete=False)
        start_ns = opened_ns if self.pass_start is None else self.pass_start.time_ns
        if start_ns <= opened_ns <= window.opened_ns:  # `isolated` is recorded after its hold
            window = replace(window, opened_ns=opened_ns)
        self.window = replace(window, answer=event)
        self._become(ANSWERED, event)

    def _drained(self, event: RunEvent) -> Window:
        self.worker = event.worker
        window = self.window or Window(event.time_ns, None, complete=False)
        window = replace(window, drained=event, pages=window.pages or event.fields["pages"])
        self.window = None
        self.last_window = window
        self.windows_of_pass.append(window)
        self.windows_of_pass_count += 1
        self._become(PASS, event)
        return window

    def _lost(self, event: RunEvent) -> None:
        if self.worker in {None, event.worker} and self.state != NO_DEVICE:
            self.window = None
            self._become(UNKNOWN, event)

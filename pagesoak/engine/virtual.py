"""The virtual driver: all workers in one process, each on its own clock, in the order of time.

It answers what workers yield (`base.wants`) as the live driver does, but nobody waits: whoever is
first in time goes on. A heap holds every worker that has a next moment, by (time, tie number); who
waits for another (a pass, a report, an answer, the barrier) is not in it until that happens.
Workers due at the same nanosecond take turns in the order in which they came to be so. There is
no other source of order, and no floating point; so the same segment, workers and costs end in the
same bytes, everywhere.

*Clocks.* A worker's clock is a word in the segment. Compiled code moves it by what each thing
takes (`base.costs`); a worker that sleeps or is woken has it set. A guest's burst runs in compiled
code up to the next moment of anybody else, or until something happens that another must hear of
(`H_YIELD`): so the driver is called for each event, not for each operation.

*Overlap.* What began before another's moment may end after it: an operation, a critical section.
Its effects are there at its beginning. A zone lock is a stretch of time, which others have to wait
for (`base.lock`). Guest CPUs are let run ahead of each other by up to `LEAD_NS`, or they would
change at every operation; the reporter and the host never wait behind a guest for that.

*The end.* `finish` ends guests where they are, lets the reporter finish its pass (isolated pages
must come back), then ends the host: the order of a live run.
"""

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from typing import Any

from pagesoak.base import layout
from pagesoak.base.costs import Costs
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_virtual import C_WAKE_UP, H_VIRTUAL, H_YIELD, W_CLOCK_NS
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import HOST_REQUESTS_DROPPED, count_statistic, publish_all
from pagesoak.base.virtual import make_virtual
from pagesoak.base.wants import (
    Answer,
    AwaitPass,
    AwaitRecovery,
    AwaitReport,
    Barrier,
    Now,
    Report,
    Run,
    Sleep,
    Worker,
    YieldPoint,
)

LEAD_NS = 50_000
"""How far a guest CPU may run ahead of another: some hundred operations, so that changing costs
less than they do; far below any window.
"""
BURST_NS = 1_000_000_000
"""The longest burst on the virtual clock: eleven million operations of a load without pause, a
quarter of a second of real time, after which signals are served. A run's looks make it half.
"""
START_MULTIPLE_NS = 1_000_000_000
"""The soak's clock starts at a whole second, so that times are easy to read."""
FOREVER_NS = 1 << 62

_WAITS = object()
"""In place of an answer: the worker waits for another."""


class _Turn:
    """A worker, what it is to be sent when it goes on, and when."""

    def __init__(self, number: int, worker: Worker, *, is_guest: bool) -> None:
        self.number = number
        self.worker = worker
        self.send = worker.send
        self.is_guest = is_guest
        self.clock = number * layout.WORKER_WORDS + W_CLOCK_NS
        self.answer: Any = None
        self.begun = False
        self.rests = True
        """Asleep, or without anything to do: it may be ended."""
        self.ended = False
        self.ticket = 0
        """Of its place in the heap; another is one that it has left, woken earlier."""


class VirtualDriver:
    """Drives the `workers` of a segment, by worker number: CPUs, reporter, host, any of them.

    The segment must be unused: the driver makes it a virtual one, with `costs` (`base.costs`), if
    it is none. Guests go first, one after the
    other, up to their barrier (`start`, or the first `run`); then the soak's clock starts and the
    others begin. `run(until_ns)` goes on to a moment of the virtual clock, `finish` ends all
    workers in order. `now_ns` is the time, `started_ns` the soak's start (0 before it).

    `stopping` is asked every now and then whether the run is to stop where it is; no worker goes
    on for longer than `burst_ns` in one turn (1: operation by operation). An exception of a worker
    comes out of whichever call drove it.
    """

    def __init__(
        self,
        segment: Segment,
        workers: Mapping[int, Worker],
        *,
        costs: Costs | None = None,
        stopping: Callable[[], bool] | None = None,
        burst_ns: int = BURST_NS,
    ) -> None:
        self.now_ns = 0
        self.started_ns = 0
        self._segment = segment
        self._base = segment.base
        self._clocks = segment.workers
        self._header = segment.header
        self._report = segment.report
        self._stopping = stopping
        self._burst_ns = burst_ns
        if costs is not None or not segment.header[H_VIRTUAL]:
            make_virtual(segment, costs or Costs())
        self._wake_up_ns = segment.header[C_WAKE_UP]
        self._ties = 0
        self._still_until_ns = 0
        """When the last jump of the guest's clock is over: before, it does not go on."""
        self._horizon_ns = 0
        """Up to when the worker that is going on may do so."""
        self._answers: dict[type, Callable[[_Turn, Any], Any]] = {
            Now: self._now,
            Sleep: self._sleep,
            AwaitPass: self._await_pass,
            Report: self._call_host,
            AwaitReport: self._await_report,
            Answer: self._answer,
            Barrier: self._barrier,
            AwaitRecovery: self._end_here,
            YieldPoint: lambda _turn, _want: None,  # nobody comes in between here
        }
        self._heap: list[tuple[int, int, _Turn]] = []
        cpus = segment.plan.cpus
        turns = [_Turn(n, workers[n], is_guest=n < cpus) for n in sorted(workers)]
        self._guests = [turn for turn in turns if turn.is_guest]
        self._guests_lead = len(self._guests) > 1
        self._others = [turn for turn in turns if not turn.is_guest]
        self._at_barrier: list[_Turn] = []
        self._for_pass: _Turn | None = None
        self._for_report: _Turn | None = None
        self._for_answer: _Turn | None = None

    # -- the course of a run ----------------------------------------------------------------------

    def start(self) -> bool:
        """Bring every guest to its barrier, one after the other, and start the soak's clock; False
        when the run is to stop before.
        """
        if self.started_ns:
            return True
        for turn in self._guests:
            if not turn.begun:
                self._push(turn, self.now_ns)
            if not self._go_on(FOREVER_NS):
                return False
        self.started_ns = (self.now_ns // START_MULTIPLE_NS + 1) * START_MULTIPLE_NS
        self._header[layout.H_STARTED_AT_NS] = self.started_ns
        for turn in self._at_barrier:
            turn.answer = self.started_ns
        for turn in (*self._others, *self._at_barrier):
            self._push(turn, self.started_ns)
        self._at_barrier = []
        self.now_ns = self.started_ns
        return True

    def run(self, until_ns: int) -> bool:
        """Go on to `until_ns`, what is due then not included; False when the run is to stop
        before.
        """
        if not self.start() or not self._go_on(until_ns):
            return False
        self.now_ns = max(self.now_ns, until_ns)
        self.publish()
        return True

    def jump(self, ns: int) -> None:
        """Let the guest's clock jump forward, as after being frozen: guests and reporter stand
        still so long, and what is due meanwhile is due at once afterwards; the host goes on.
        """
        until_ns = self._still_until_ns = max(self._still_until_ns, self.now_ns + ns)
        due = sorted(self._heap)
        self._heap.clear()
        host = self._segment.plan.cpus + 1
        for due_ns, ticket, turn in due:
            if ticket != turn.ticket or turn.number == host or due_ns >= until_ns:
                self._heap.append((due_ns, ticket, turn))
                continue
            if turn.rests:  # who sleeps is told the time
                turn.answer = until_ns
            self._ties += 1
            turn.ticket = self._ties
            self._heap.append((until_ns, turn.ticket, turn))
        heapify(self._heap)

    def finish(self) -> None:
        """End all workers in the order of a live run; the reporter finishes its pass first.

        HarnessError when it waits for an answer that nobody will give.
        """
        self._header[layout.H_STOP] = 1
        for turn in self._guests:
            _end(turn)
        for turn in self._others:  # the reporter's number is below the host's
            self._finish_pass(turn)
            _end(turn)
        self._header[layout.H_HOST_STOP] = 1
        self.publish()

    def _finish_pass(self, turn: _Turn) -> None:
        if turn.number != self._segment.plan.cpus:
            return
        while not (turn.rests or turn.ended):
            if not self._heap:
                msg = "the reporter waits for an answer that does not come: pages stay isolated"
                raise HarnessError(msg)
            self._next(FOREVER_NS)

    def close(self) -> None:
        """End all workers where they are."""
        for turn in (*self._guests, *self._others):
            _end(turn)

    def publish(self) -> None:
        """Let the figures of all workers be read as they are now; the runner's clock says so."""
        publish_all(self._segment)
        runner = self._segment.plan.cpus + 2
        self._clocks[runner * layout.WORKER_WORDS + W_CLOCK_NS] = self.now_ns

    # -- who goes on ------------------------------------------------------------------------------

    def _push(self, turn: _Turn, due_ns: int) -> None:
        self._ties += 1
        turn.ticket = self._ties
        heappush(self._heap, (due_ns, self._ties, turn))

    def _go_on(self, until_ns: int) -> bool:
        """Let the first in time go on, again and again, up to `until_ns`; False when the run is to
        stop before.
        """
        heap, stopping, go_on = self._heap, self._stopping, self._next
        while heap and heap[0][0] < until_ns:
            if stopping is not None and stopping():
                return False
            go_on(until_ns)
        return True

    def _next(self, until_ns: int) -> None:
        """Give the first in time what it wants, until it waits, ends, or its clock comes to the
        horizon.
        """
        due_ns, ticket, turn = heappop(self._heap)
        if ticket != turn.ticket or turn.ended:
            return
        self._horizon_ns = self._horizon(turn, due_ns, until_ns)
        base, clocks, clock, header = self._base, self._clocks, turn.clock, self._header
        report, answers = self._report, self._answers
        send, answer = turn.send, turn.answer
        self.now_ns = clocks[clock] = due_ns
        turn.rests = False
        turn.begun = True
        try:
            while True:
                want = send(answer)
                if type(want) is not Run:
                    answer = answers[type(want)](turn, want)
                    if answer is _WAITS:
                        return
                    continue
                answer = want.function(base, *want.arguments, self._horizon_ns)
                if header[H_YIELD] or (self._for_pass is not None and report[layout.R_STATE]):
                    self._wake_for_pass()
                due_ns = clocks[clock]
                if due_ns >= self._horizon_ns:
                    turn.answer = answer
                    self._push(turn, due_ns)
                    return
        except StopIteration:
            turn.ended = True

    def _horizon(self, turn: _Turn, due_ns: int, until_ns: int) -> int:
        """Up to when a worker may go on that is first in time."""
        heap = self._heap
        horizon_ns = due_ns + self._burst_ns
        if turn is self._for_pass:
            self._for_pass = None
        elif self._for_pass is not None:  # who asks for a pass may go on until its delay is over
            delay_ns = self._report[layout.R_DELAY_NS]
            if delay_ns < self._burst_ns:
                horizon_ns = due_ns + delay_ns
        if horizon_ns > until_ns:  # noqa: PLR1730 - `min` would be a call in each turn
            horizon_ns = until_ns
        if heap:
            if turn.is_guest and self._guests_lead:
                horizon_ns = self._with_lead(horizon_ns)
            elif heap[0][0] < horizon_ns:
                horizon_ns = heap[0][0]
        return horizon_ns if horizon_ns > due_ns else due_ns + 1

    def _with_lead(self, horizon_ns: int) -> int:
        """Up to when a guest may go on beside other guests."""
        for other_ns, _, other in self._heap:
            horizon_ns = min(horizon_ns, other_ns + LEAD_NS * other.is_guest)
        return horizon_ns

    def _wake_for_pass(self) -> None:
        """A pass was requested: the reporter, if it waits for that, learns it at that moment."""
        self._header[H_YIELD] = 0
        turn = self._for_pass
        if turn is None or self._report[layout.R_STATE] == layout.IDLE:
            return
        self._for_pass = None
        due_ns = max(self._report[layout.R_REQUESTED_AT_NS], self.now_ns)  # before it is due
        turn.answer = due_ns
        self._push(turn, due_ns)
        self._horizon_ns = min(self._horizon_ns, due_ns)

    # -- what it wants ----------------------------------------------------------------------------

    def _now(self, turn: _Turn, _want: Now) -> Any:
        return self._clocks[turn.clock]

    def _sleep(self, turn: _Turn, want: Sleep) -> Any:
        deadline_ns, clock_ns = want.deadline_ns, self._clocks[turn.clock]
        due_ns = deadline_ns if deadline_ns > clock_ns else clock_ns  # noqa: FURB136 - as above
        if due_ns >= self._horizon_ns:
            turn.rests = True
            turn.answer = due_ns
            self._push(turn, due_ns)
            return _WAITS
        self._clocks[turn.clock] = due_ns
        return due_ns

    def _await_pass(self, turn: _Turn, want: AwaitPass) -> Any:
        if self._report[layout.R_STATE] != layout.IDLE:
            return self._clocks[turn.clock]
        self._for_pass = turn
        turn.rests = True
        if want.deadline_ns:
            turn.answer = max(want.deadline_ns, self._clocks[turn.clock])
            self._push(turn, turn.answer)
        return _WAITS

    def _call_host(self, turn: _Turn, want: Report) -> Any:
        self._for_answer = turn
        self._wake(self._for_report, self._clocks[turn.clock], want.request)
        self._for_report = None
        return _WAITS

    def _await_report(self, turn: _Turn, _want: AwaitReport) -> Any:
        request = self._report[layout.R_REQUEST]
        if request and request != self._report[layout.R_SERVED]:
            return request
        self._for_report = turn
        turn.rests = True
        return _WAITS

    def _answer(self, turn: _Turn, want: Answer) -> Any:
        if want.request in (0, self._report[layout.R_SERVED]):  # it has its answer
            count_statistic(self._base, turn.number, HOST_REQUESTS_DROPPED, 1)
            return
        self._report[layout.R_ERROR] = want.error
        self._report[layout.R_SERVED] = want.request
        clock_ns = max(self._clocks[turn.clock], self._still_until_ns)
        self._wake(self._for_answer, clock_ns, want.error)
        self._for_answer = None

    def _barrier(self, turn: _Turn, _want: Barrier) -> Any:
        self._at_barrier.append(turn)
        self.now_ns = self._clocks[turn.clock]
        return _WAITS

    def _end_here(self, turn: _Turn, _want: AwaitRecovery) -> Any:
        """Nobody dies here, so what stopped the worker is the end of the run."""
        turn.ended = turn.rests = True
        return _WAITS

    def _wake(self, turn: _Turn | None, clock_ns: int, answer: int) -> None:
        """Let who waits go on, after the time that waking takes."""
        if turn is not None:
            turn.answer = answer
            due_ns = clock_ns + self._wake_up_ns
            self._push(turn, due_ns)
            self._horizon_ns = min(self._horizon_ns, due_ns)


def _end(turn: _Turn) -> None:
    """End a worker where it is."""
    turn.ended = True
    turn.worker.close()

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
from heapq import heappop, heappush
from typing import Any

from pagesoak.base import layout
from pagesoak.base.costs import Costs
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_virtual import C_WAKE_UP, H_VIRTUAL, H_YIELD, W_CLOCK_NS
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import publish_statistics
from pagesoak.base.virtual import make_virtual
from pagesoak.base.wants import (
    Answer,
    AwaitPass,
    AwaitReport,
    Barrier,
    Now,
    Report,
    Run,
    Sleep,
    Want,
    Worker,
)

LEAD_NS = 50_000
"""How far a guest CPU may run ahead of another: some hundred operations, so that changing costs
less than they do; far below any window.
"""
BURST_NS = 100_000_000
"""The longest burst on the virtual clock: a million operations of a load without pause, some tens
of milliseconds of real time, after which signals are served.
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
        self.is_guest = is_guest
        self.clock = number * layout.WORKER_WORDS + W_CLOCK_NS
        self.answer: Any = None
        self.begun = False
        self.rests = True
        """Asleep, or without anything to do: it may be ended."""
        self.ended = False


class VirtualDriver:
    """Drives the `workers` of a segment, by worker number: CPUs, reporter, host, any of them.

    The segment must be unused: the driver makes it a virtual one, with `costs` (`base.costs`), if
    it is none. Guests go first, one after the
    other, up to their barrier (`start`, or the first `run`); then the soak's clock starts and the
    others begin. `run(until_ns)` goes on to a moment of the virtual clock, `finish` ends all
    workers in order. `now_ns` is the time, `started_ns` the soak's start (0 before it).

    `stopping` is asked every now and then whether the run is to stop where it is. An exception of
    a worker comes out of whichever call drove it.
    """

    def __init__(
        self,
        segment: Segment,
        workers: Mapping[int, Worker],
        *,
        costs: Costs | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.now_ns = 0
        self.started_ns = 0
        self._segment = segment
        self._clocks = segment.workers
        self._header = segment.header
        self._report = segment.report
        self._stopping = stopping
        if costs is not None or not segment.header[H_VIRTUAL]:
            make_virtual(segment, costs or Costs())
        self._wake_up_ns = segment.header[C_WAKE_UP]
        self._ties = 0
        self._heap: list[tuple[int, int, _Turn]] = []
        cpus = segment.plan.cpus
        turns = [_Turn(n, workers[n], is_guest=n < cpus) for n in sorted(workers)]
        self._guests = [turn for turn in turns if turn.is_guest]
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
        return True

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
        for worker in range(self._segment.plan.workers):
            publish_statistics(self._segment.base, worker)
        runner = self._segment.plan.cpus + 2
        self._clocks[runner * layout.WORKER_WORDS + W_CLOCK_NS] = self.now_ns

    # -- who goes on ------------------------------------------------------------------------------

    def _push(self, turn: _Turn, due_ns: int) -> None:
        self._ties += 1
        heappush(self._heap, (due_ns, self._ties, turn))

    def _go_on(self, until_ns: int) -> bool:
        """Let the first in time go on, again and again, up to `until_ns`; False when the run is to
        stop before.
        """
        heap = self._heap
        while heap and heap[0][0] < until_ns:
            if self._stopping():
                return False
            self._next(until_ns)
        return True

    def _next(self, until_ns: int) -> None:
        due_ns, _, turn = heappop(self._heap)
        if not turn.ended:
            self.now_ns = due_ns
            self._clocks[turn.clock] = due_ns
            turn.rests = False
            self._advance(turn, max(min(self._horizon_ns(turn, due_ns), until_ns), due_ns + 1))

    def _horizon_ns(self, turn: _Turn, due_ns: int) -> int:
        """Up to when a worker may go on without anybody else."""
        heap = self._heap
        horizon_ns = due_ns + BURST_NS
        if not heap:
            return horizon_ns
        if not turn.is_guest or len(self._guests) == 1:
            return min(horizon_ns, heap[0][0])
        for other_ns, _, other in heap:
            horizon_ns = min(horizon_ns, other_ns + LEAD_NS * other.is_guest)
        return horizon_ns

    def _first_ns(self) -> int:
        """When the first in time is to go on."""
        return self._heap[0][0] if self._heap else FOREVER_NS

    def _wake_for_pass(self) -> int:
        """A pass was requested: the reporter, if it waits for that, learns it at that moment."""
        self._header[H_YIELD] = 0
        turn = self._for_pass
        if turn is None or self._report[layout.R_STATE] == layout.IDLE:
            return FOREVER_NS
        self._for_pass = None
        due_ns = max(self._report[layout.R_REQUESTED_AT_NS], self.now_ns)
        turn.answer = due_ns
        self._push(turn, due_ns)
        return due_ns

    # -- what it wants ----------------------------------------------------------------------------

    def _advance(self, turn: _Turn, horizon_ns: int) -> None:
        """Give a worker what it wants until it waits, ends, or its clock comes to the horizon."""
        base, clocks, clock = self._segment.base, self._clocks, turn.clock
        send, answer = turn.worker.send, turn.answer
        turn.begun = True
        try:
            while True:
                want = send(answer)
                if type(want) is Run:
                    answer = want.function(base, *want.arguments, horizon_ns)
                    if self._header[H_YIELD]:
                        horizon_ns = min(horizon_ns, self._wake_for_pass())
                    if clocks[clock] >= horizon_ns:
                        due_ns = clocks[clock]
                        break
                elif type(want) is Now:
                    answer = clocks[clock]
                elif type(want) is Sleep:
                    answer = due_ns = max(want.deadline_ns, clocks[clock])
                    if due_ns >= horizon_ns:
                        turn.rests = True
                        break
                    clocks[clock] = due_ns
                else:
                    answer = self._others_answer(turn, want)
                    if answer is _WAITS:
                        return
                    horizon_ns = min(horizon_ns, self._first_ns())
        except StopIteration:
            turn.ended = True
            return
        turn.answer = answer
        self._push(turn, due_ns)

    def _others_answer(self, turn: _Turn, want: Want) -> Any:
        """What comes at once of a want that has to do with other workers; `_WAITS` if nothing
        does.
        """
        report = self._report
        clock_ns = self._clocks[turn.clock]
        match want:
            case Report():
                self._for_answer = turn
                self._wake(self._for_report, clock_ns, want.request)
                self._for_report = None
            case Answer():
                report[layout.R_ERROR] = want.error
                report[layout.R_SERVED] = want.request
                self._wake(self._for_answer, clock_ns, want.error)
                self._for_answer = None
                return None
            case AwaitPass():
                if report[layout.R_STATE] != layout.IDLE:
                    return clock_ns
                self._for_pass = turn
                turn.rests = True
            case AwaitReport():
                request = report[layout.R_REQUEST]
                if request and request != report[layout.R_SERVED]:
                    return request
                self._for_report = turn
                turn.rests = True
            case Barrier():
                self._at_barrier.append(turn)
                self.now_ns = clock_ns
            case _:  # a named point: nobody comes in between here
                return None
        return _WAITS

    def _wake(self, turn: _Turn | None, clock_ns: int, answer: int) -> None:
        """Let who waits go on, after the time that waking takes."""
        if turn is not None:
            turn.answer = answer
            self._push(turn, clock_ns + self._wake_up_ns)


def _end(turn: _Turn) -> None:
    """End a worker where it is."""
    turn.ended = True
    turn.worker.close()

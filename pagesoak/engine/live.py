"""The live driver: runs one worker in this process against the monotonic clock and real
descriptors.

It answers what the worker yields (`base.wants`). Waiting is done on eventfds and always with a
time-out and another look at the state in the segment, because an event may be lost with the
process that was to send it, and the state never is. The end of a run is a word in the segment
(every compiled burst looks at it) plus an eventfd that is never read, so that it wakes every
waiter for good.

How each kind of worker ends: a guest at its next want. The reporter finishes the pass it is in,
because isolated pages must be put back, and ends at its next sleep. The host ends when the runner
has seen the reporter end.

A paused run stands still: a guest between two of its wants, the reporter where it sleeps or waits;
the host goes on, so that a pass ends. A guest is told the time of its own life, in which pauses
are not: what it sleeps until, and its loads' times in the segment, are in that time, too.
Guests and reporter also come to rest where they want something, when the runner asks for that
because one of them has died (`engine.rest`): between two wants no lock is held, and tables and
records agree. The host goes on; what it works on is nobody else's.
"""

import contextlib
import os
import select
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pagesoak.base import layout
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_faults import H_STANDSTILL, STOP_FOR_GOOD, STOP_TO_RECOVER, W_AT_REST
from pagesoak.base.layout_steering import W_STOOD_STILL_NS
from pagesoak.base.segment import Segment
from pagesoak.base.statistics import HOST_REQUESTS_DROPPED, count_statistic, publish_statistics
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
    Want,
    Worker,
    YieldPoint,
)
from pagesoak.engine.load_pace import set_paces
from pagesoak.engine.wishes import Wishes

BURST_NS = 4_000_000
"""Deadline of one compiled call: signals and the stop word are served at least so often."""
RECHECK_SECONDS = 0.25
"""The longest wait without another look at the state in the segment."""
BARRIER_LOOK_SECONDS = 0.002
"""Between two looks at whether the soak has started: all CPUs start within this."""
PAUSE_LOOK_SECONDS = 0.02
"""Between two looks at whether a pause is over: all go on within this."""
LATENCY_AFTER_STOP_NS = 2_000_000_000
"""So long after the end was asked for the host still takes its extra latency: the last windows
are as long as the others, unless they are very long.
"""
REST_LOOK_SECONDS = 0.0005
"""Of a worker at rest, between two looks at whether it may go on."""
RECOVERY_LOOK_SECONDS = 0.01
"""Between two looks of a worker that found a zone dead: the runner will call it to rest soon."""
ANSWER_AFTER_STOP_NS = 30_000_000_000
"""A host that has not answered so long after the end of the run was asked for is as good as dead:
the longest punch of a full list takes well under a second, and its sleeps are cut short.
"""
NANOSECONDS_PER_SECOND = 1_000_000_000
NEVER_NS = 1 << 62
"""A time that does not come."""


class Wires(NamedTuple):
    """The eventfds of a run, made before the fork: the same numbers in all workers."""

    stop: int
    """Written at the end, and when all are to come to rest; read by nobody but the runner."""
    host_stop: int
    request: int
    """Wakes the reporter: the device left IDLE."""
    report: int
    """Wakes the host: a report request is out."""
    answer: int
    """Wakes the reporter: the host has answered."""

    @classmethod
    def make(cls) -> "Wires":
        """Five eventfds that never block."""
        return cls(*(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in cls._fields))

    def clear(self, wire: int) -> None:
        """Take what was written to one of them off."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(wire)

    def wake_all(self, wire: int) -> None:
        """Write to one of them."""
        os.eventfd_write(wire, 1)

    def close(self) -> None:
        """Close them all."""
        for descriptor in self:
            os.close(descriptor)


class RunEnds(Exception):  # noqa: N818 - no error: the run's end reaches a worker at a want
    """The run ends: the worker is closed where it is."""


class LiveDriver:
    """Drives one worker. `again`: it takes the place of one that has died in the soak."""

    def __init__(
        self,
        segment: Segment,
        wires: Wires,
        worker: int,
        *,
        is_host: bool = False,
        again: bool = False,
        wishes: Wishes | None = None,
    ) -> None:
        self._is_host = is_host
        self._again = again
        self._segment = segment
        self._wires = wires
        self._worker = worker
        self._stop_word = layout.H_HOST_STOP if is_host else layout.H_STOP
        self._stop_wire = wires.host_stop if is_host else wires.stop
        self._heartbeat = worker * layout.WORKER_WORDS + layout.W_HEARTBEAT_NS
        self._hurry_ns = 0
        self._wishes = None if is_host else wishes
        self._is_guest = worker < segment.plan.cpus
        self._heeded = 0
        self._stood_still = worker * layout.WORKER_WORDS + W_STOOD_STILL_NS
        self._answers: dict[type, Callable[[Any], Any]] = {
            Run: self._run,
            Sleep: self._sleep,
            Now: lambda _: self._now_ns(),
            AwaitPass: self._await_pass,
            Report: self._report,
            AwaitReport: self._await_report,
            Answer: self._answer,
            Barrier: self._barrier,
            AwaitRecovery: self._await_recovery,
            YieldPoint: lambda _: None,
        }

    def drive(self, worker: Worker) -> None:
        """Run the worker until the run ends, or until it returns: a guest's CPU whose loads are
        over is idle then, and does not go away.
        """
        try:
            want: Want = next(worker)
            while True:
                self._rest_if_asked()
                want = worker.send(self._answers[type(want)](want))
        except StopIteration:
            if self._is_guest:
                with contextlib.suppress(RunEnds):
                    self._sleep(Sleep(NEVER_NS))
        except RunEnds:
            worker.close()

    def stopping(self) -> bool:
        """Whether the run's end has been asked for."""
        return bool(self._segment.header[self._stop_word] == STOP_FOR_GOOD)

    def _rest_if_asked(self) -> None:
        """Be at rest as long as the runner wants that; not the host."""
        header = self._segment.header
        if header[layout.H_STOP] != STOP_TO_RECOVER or self._is_host:
            return
        words = self._segment.workers
        at = self._worker * layout.WORKER_WORDS + W_AT_REST
        while header[layout.H_STOP] == STOP_TO_RECOVER:
            words[at] = header[H_STANDSTILL]
            words[self._heartbeat] = time.monotonic_ns()
            time.sleep(REST_LOOK_SECONDS)
        words[at] = 0

    def _await_recovery(self, _: AwaitRecovery) -> None:
        """Until no zone is dead any more, which the runner sees to while all are at rest."""
        zones = self._segment.zones
        while any(zones[layout.Z_DEAD :: layout.ZONE_WORDS]):
            if self.stopping():
                raise RunEnds
            self._wait([self._stop_wire], RECOVERY_LOOK_SECONDS)
            self._rest_if_asked()
        if self.stopping():
            raise RunEnds

    def _wait(self, wires: list[int], seconds: float) -> None:
        """Wait for one of the wires, at most so long; what was written to them is taken off, but
        for the end's.
        """
        self._segment.workers[self._heartbeat] = time.monotonic_ns()
        for wire in select.select(wires, [], [], seconds)[0]:
            if wire != self._stop_wire:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(wire)

    def _now_ns(self) -> int:
        """The time that the worker lives in; that of reporter and host is the clock's."""
        return time.monotonic_ns() - self._segment.workers[self._stood_still]

    def _stand_still(self) -> bool:
        """While the run is paused, wait; whether it was. What a guest waits is not of its life."""
        if self._wishes is None or not self._wishes.paused:
            return False
        began_ns = time.monotonic_ns()
        while self._wishes.paused and not self.stopping():
            self._wait([self._stop_wire], PAUSE_LOOK_SECONDS)
            self._rest_if_asked()
        if self._is_guest:
            self._segment.workers[self._stood_still] += time.monotonic_ns() - began_ns
        return True

    def _heed(self) -> bool:
        """Whether the user wishes something new; a guest's loads take their pace at once."""
        if self._wishes is None or self._wishes.generation == self._heeded:
            return False
        generation, change = self._wishes.read()
        self._heeded = generation
        if self._is_guest and change.pace_ppm is not None:
            set_paces(self._segment, self._worker, change.pace_ppm, self._now_ns())
        return True

    def _run(self, want: Run) -> Any:
        if self._is_guest:
            self._stand_still()
            self._heed()
        self._segment.workers[self._heartbeat] = time.monotonic_ns()
        return want.function(self._segment.base, *want.arguments, time.monotonic_ns() + BURST_NS)

    def _sleep(self, want: Sleep) -> int:
        """Sleep; when the run ends, that is the end of the worker. But what the host sleeps is
        extra latency, and the reporter waits for it: that is only cut short. The reporter's comes
        back early when the user wishes something, too.
        """
        while True:
            if self.stopping():
                raise RunEnds
            paused = self._stand_still()
            now_ns = self._now_ns()
            if not self._is_guest and (self._heed() or paused):
                return now_ns
            self._rest_if_asked()
            if self._segment.header[layout.H_STOP] == STOP_FOR_GOOD and not self._hurry_ns:
                self._hurry_ns = now_ns + LATENCY_AFTER_STOP_NS
            deadline_ns = min(want.deadline_ns, self._hurry_ns or want.deadline_ns)
            if now_ns >= deadline_ns:
                return now_ns
            seconds = min((deadline_ns - now_ns) / NANOSECONDS_PER_SECOND, RECHECK_SECONDS)
            self._wait([self._stop_wire], seconds)

    def _await_pass(self, want: AwaitPass) -> int:
        while self._stand_still() or self._segment.report[layout.R_STATE] == layout.IDLE:
            if self.stopping():
                raise RunEnds
            if self._heed():
                break
            seconds = RECHECK_SECONDS
            if want.deadline_ns:
                left_ns = want.deadline_ns - time.monotonic_ns()
                if left_ns <= 0:
                    break
                seconds = min(left_ns / NANOSECONDS_PER_SECOND, seconds)
            self._wait([self._stop_wire, self._wires.request], seconds)
            self._rest_if_asked()
        return time.monotonic_ns()

    def _report(self, want: Report) -> int:
        """Wait for the host whatever happens: what is isolated must not be put back under its
        hands.
        """
        os.eventfd_write(self._wires.report, 1)
        report = self._segment.report
        give_up_ns = 0
        while report[layout.R_SERVED] != want.request:
            if self.stopping():
                now_ns = time.monotonic_ns()
                give_up_ns = give_up_ns or now_ns + ANSWER_AFTER_STOP_NS
                if now_ns > give_up_ns:
                    msg = f"the host has not answered report {want.request}: pages stay isolated"
                    raise HarnessError(msg)
            self._wait([self._wires.answer], RECHECK_SECONDS)
            self._rest_if_asked()
        return int(report[layout.R_ERROR])

    def _await_report(self, _: AwaitReport) -> int:
        report = self._segment.report
        # Read once: the answer of a host that has died may be brought home meanwhile.
        while (request := report[layout.R_REQUEST]) in (0, report[layout.R_SERVED]):
            if self.stopping():
                raise RunEnds
            self._wait([self._stop_wire, self._wires.report], RECHECK_SECONDS)
        return int(request)

    def _answer(self, want: Answer) -> None:
        """Give the answer, once: one to a request that is not out any more, or has its answer, is
        dropped and counted. It would be taken for that of another.
        """
        report = self._segment.report
        if want.request != report[layout.R_REQUEST] or want.request == report[layout.R_SERVED]:
            count_statistic(self._segment.base, self._worker, HOST_REQUESTS_DROPPED, 1)
            publish_statistics(self._segment.base, self._worker)
            return
        report[layout.R_ERROR] = want.error
        report[layout.R_SERVED] = want.request
        os.eventfd_write(self._wires.answer, 1)

    def _barrier(self, _: Barrier) -> int:
        header = self._segment.header
        header[layout.H_PREPARED_FIRST + self._worker] = 1
        if not self.await_start():
            raise RunEnds
        return self._now_ns() if self._again else int(header[layout.H_STARTED_AT_NS])

    def await_turn(self) -> bool:
        """Wait until the CPU before this one is in its starting state, because what a hog has to
        take depends on what the others have left; False when the run ends instead.
        """
        before = layout.H_PREPARED_FIRST + self._worker - 1
        while self._worker > 0 and not self._segment.header[before]:
            if self.stopping():
                return False
            self._wait([self._stop_wire], BARRIER_LOOK_SECONDS)
        return True

    def await_start(self) -> bool:
        """Wait until the runner has started the soak's clock; False when the run ends instead."""
        while not self._segment.header[layout.H_STARTED_AT_NS]:
            if self.stopping():
                return False
            self._wait([self._stop_wire], BARRIER_LOOK_SECONDS)
        return True

"""Faults that are made to happen in a live run: workers killed, or stopped for a while, and hosts
that do wrong.

What is wanted comes from the scenario's `[faults]`, every so often at random, or from outside
while the run goes on. Some faults wait for their moment: until the reporter has pages isolated, or
until a worker has come to a named point of a hold (`base.fault_point`) and stays there. One whose
moment does not come is given up, and counted nowhere.
"""

import random
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from pagesoak.base import layout
from pagesoak.base.fault_point import POINTS, fault_point_word
from pagesoak.base.faults import (
    CLOCK_JUMP,
    DEADLY_FAULTS,
    GUEST_POINTS,
    HOST_DIES,
    HOST_FAULTS,
    HOST_SLOW,
    KILL_GUEST_LOCKED,
    KILL_REPORTER_ISOLATED,
    KILL_REPORTER_LOCKED,
    REPORTER_POINTS,
    FaultWanted,
)
from pagesoak.base.layout_faults import H_FAULT_POINT, W_FAULT_POINT
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.engine.crew import DEATH_SECONDS, Crew
from pagesoak.engine.host_orders import MOMENT_NS_MAX, HostOrders
from pagesoak.engine.prepare import Soak
from pagesoak.engine.processes import WorkerProcess
from pagesoak.engine.recovery import Recovery
from pagesoak.engine.restarts import WINDOW_SECONDS

MOMENT_SECONDS_MAX = MOMENT_NS_MAX / NS_PER_SECOND
"""A reporter with something to do has pages isolated every few seconds; a guest takes a lock far
more often.
"""
HOST_LOOK_SECONDS = 0.02
"""While a host may take what it was told: so much later, at most, it is said to have happened."""
LOOK_SECONDS = 0.001
"""While a fault waits for its moment, which may be as short as a report."""


class _Aim(NamedTuple):
    """A worker that is to be killed when its moment has come."""

    wanted: FaultWanted
    worker: WorkerProcess
    has_come: Callable[[], bool]
    deadline: float


class _Stopped(NamedTuple):
    """A worker that goes on when its time has come."""

    worker: WorkerProcess
    until: float


class Injector:
    """Makes faults happen in one live run; `more` are wanted from outside."""

    def __init__(
        self,
        soak: Soak,
        crew: Crew,
        recovery: Recovery,
        more: Callable[[], list[FaultWanted]] | None = None,
    ) -> None:
        self._segment = soak.segment
        self._crew = crew
        self._recovery = recovery
        self._more = more
        self._wanted = soak.scenario.faults
        self._random = random.Random(f"faults of {soak.scenario.seed}")  # noqa: S311 - no secret
        self._due = self._next_due()
        self._aims: list[_Aim] = []
        self._stopped: list[_Stopped] = []
        self._dying: list[WorkerProcess] = []
        self._host = self._victim("host", None)
        """The one that takes what hosts are told, or that did."""
        self._may_host_die = False
        self._host_orders = HostOrders(soak.segment.header, self._host_took, self._note_missed)
        if self._wanted.every_ns is not None:
            recovery.allow_chaos(float("inf"))

    @property
    def look_seconds(self) -> float | None:
        """How soon to look again; None when nothing is waited for."""
        if self._aims:
            return LOOK_SECONDS
        times = [self._due, *(stopped.until for stopped in self._stopped)]
        left = min(times, default=float("inf")) - time.monotonic()
        if self._host_orders.waits:
            left = min(left, HOST_LOOK_SECONDS)
        return max(left, 0.0) if left < float("inf") else None

    def look(self) -> None:
        """Make happen what is due."""
        now = time.monotonic()
        if now >= self._due:
            self._due = self._next_due()
            self._begin(self._of_scenario())
        for wanted in self._more() if self._more is not None else ():
            if wanted.kind in DEADLY_FAULTS:
                self._recovery.allow_chaos(now + wanted.seconds + WINDOW_SECONDS)
            self._begin(wanted)
        if self._host_orders.waits:
            self._host = self._victim("host", None) or self._host
            self._host_orders.look(time.monotonic_ns())
        self._aims = [aim for aim in self._aims if not self._is_over(aim, now)]
        self._stopped = [one for one in self._stopped if not self._goes_on(one, now)]

    def end(self) -> None:
        """Nobody stays stopped, nobody waits for his death, and who was killed is seen dead."""
        self._segment.header[H_FAULT_POINT] = 0
        self._host_orders.end()
        self._aims = []
        for stopped in self._stopped:
            stopped.worker.send(signal.SIGCONT)
        self._stopped = []
        for worker in self._dying:
            worker.kill()
        deadline = time.monotonic() + DEATH_SECONDS
        while self._host_may_die() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def _host_may_die(self) -> bool:
        """Whether the host has been told to die and is at work on a call, perhaps its last."""
        report = self._segment.report
        request = report[layout.R_REQUEST]
        pending = request not in (0, report[layout.R_SERVED])
        return self._may_host_die and pending and self._victim("host", None) is not None

    def _next_due(self) -> float:
        every_ns = self._wanted.every_ns
        if every_ns is None:
            return float("inf")
        return time.monotonic() + self._random.expovariate(NS_PER_SECOND / every_ns)

    def _of_scenario(self) -> FaultWanted:
        kind = self._random.choice(self._wanted.kinds)
        ns = self._wanted.slower_by_ns if kind == HOST_SLOW else self._wanted.stopped_for_ns
        return FaultWanted(kind, seconds=ns / NS_PER_SECOND)

    def _begin(self, wanted: FaultWanted) -> None:
        verb, _, rest = wanted.kind.partition("-")
        if wanted.kind in HOST_FAULTS:
            self._may_host_die = self._may_host_die or wanted.kind == HOST_DIES
            self._host_orders.want(wanted, time.monotonic_ns())
            return
        if wanted.kind == CLOCK_JUMP:
            self._let_clock_jump(wanted)
            return
        worker = self._victim(rest.partition("-")[0], wanted.cpu)
        if worker is None:
            self._note_missed(wanted)
        elif verb == "stop":
            if self._stop(worker, time.monotonic() + wanted.seconds):
                self._count(wanted, worker)
        elif wanted.kind in (KILL_GUEST_LOCKED, KILL_REPORTER_LOCKED, KILL_REPORTER_ISOLATED):
            deadline = time.monotonic() + MOMENT_SECONDS_MAX
            self._aims.append(_Aim(wanted, worker, self._moment(wanted, worker), deadline))
        elif self._kill(worker):
            self._count(wanted, worker)

    def _let_clock_jump(self, wanted: FaultWanted) -> None:
        """The whole guest stands still, and the clock does not: what it sees is a jump."""
        until = time.monotonic() + wanted.seconds
        self._recovery.expect_silence(int(until * NS_PER_SECOND))
        reporter = self._segment.plan.cpus
        guest = [one for one in self._crew.workers if one.number <= reporter]
        for one in guest:
            self._stop(one, until)
        self._count(wanted, None)

    def _stop(self, worker: WorkerProcess, until: float) -> bool:
        """Stop a worker; one that is stopped already goes on when the later moment has come."""
        if not worker.send(signal.SIGSTOP):
            return False
        untils = [until, *(one.until for one in self._stopped if one.worker is worker)]
        self._stopped = [one for one in self._stopped if one.worker is not worker]
        self._stopped.append(_Stopped(worker, max(untils)))
        return True

    def _host_took(self, wanted: FaultWanted) -> None:
        self._count(wanted, self._host)

    def _note_missed(self, wanted: FaultWanted) -> None:
        self._recovery.note("fault-missed", {"fault": wanted.kind})

    def _victim(self, role: str, cpu: int | None) -> WorkerProcess | None:
        cpus = self._segment.plan.cpus
        if role != "guest":
            return self._crew.worker(cpus if role == "reporter" else cpus + 1)
        return self._crew.worker(self._random.randrange(cpus) if cpu is None else cpu)

    def _moment(self, wanted: FaultWanted, worker: WorkerProcess) -> Callable[[], bool]:
        if wanted.kind == KILL_REPORTER_ISOLATED:
            report = self._segment.report
            return lambda: report[layout.R_OFFSET] < layout.REPORTING_CAPACITY
        points = GUEST_POINTS if wanted.kind == KILL_GUEST_LOCKED else REPORTER_POINTS
        point = POINTS[wanted.point or self._random.choice(points)]
        self._segment.header[H_FAULT_POINT] = fault_point_word(worker.number, point)
        place = worker.number * layout.WORKER_WORDS + W_FAULT_POINT
        return lambda: self._segment.workers[place] == point

    def _is_over(self, aim: _Aim, now: float) -> bool:
        if aim.has_come() and self._kill(aim.worker):
            self._count(aim.wanted, aim.worker)
            return True
        if now > aim.deadline or aim.worker.ended():
            self._segment.header[H_FAULT_POINT] = 0
            self._note_missed(aim.wanted)
            return True
        return False

    def _kill(self, worker: WorkerProcess) -> bool:
        self._dying = [one for one in self._dying if not one.ended()] + [worker]
        return worker.send(signal.SIGKILL)

    def _goes_on(self, stopped: _Stopped, now: float) -> bool:
        if now < stopped.until:
            return False
        stopped.worker.send(signal.SIGCONT)
        return True

    def _count(self, wanted: FaultWanted, worker: WorkerProcess | None) -> None:
        """`worker` None: it is a fault of all."""
        self._recovery.figures.count_fault(wanted.kind)
        told: dict[str, object] = {"fault": wanted.kind}
        if worker is None:
            told["seconds"] = wanted.seconds
        else:
            told |= {"name": worker.name, "pid": worker.pid}
        self._recovery.note("fault", told)

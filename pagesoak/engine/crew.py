"""The crew of a run: one process per guest CPU, the reporter, the host; how they start and how
they end.

The end has an order. Guests stop at their next want. The reporter finishes its pass, because
isolated pages must be put back while the host still answers. The host goes last. Who does not end
in time is killed and seen dead.
"""

import select
import signal
import time
from collections.abc import Callable

from pagesoak.base import layout
from pagesoak.base.errors import EXIT_USAGE, HarnessError, InputError
from pagesoak.base.external import membarrier_register, membarrier_supported
from pagesoak.engine.live import LiveDriver, Wires
from pagesoak.engine.logs import WorkerLogs
from pagesoak.engine.policy_limit import limited
from pagesoak.engine.prepare import Soak
from pagesoak.engine.processes import WorkerProcess, error_file, fork_worker
from pagesoak.engine.rundir import RunDirectory
from pagesoak.engine.wishes import Wishes
from pagesoak.engine.workers import make_guest, make_host, make_reporter
from pagesoak.host.ram import GuestRam
from pagesoak.reporter.policy import Policy

GUEST_END_SECONDS = 10.0
"""Guests look at the stop word every few milliseconds."""
REPORTER_END_SECONDS = 60.0
"""A pass finishes: some full reports, each a fraction of a second once the host's extra latency is
cut short.
"""
DEATH_SECONDS = 2.0
"""From the moment a dying process gives its locks up until it is seen dead: the kernel takes its
memory apart meanwhile.
"""
WORDS_SECONDS = 15.0
"""From what a worker leaves behind until its own words are there: it sends its last log records
first, on a machine that may be busy.
"""
END_LOOK_SECONDS = 0.002
"""Between two looks at whether a process has ended."""


class Crew:
    """The worker processes of one run; none before `start`."""

    def __init__(self, soak: Soak, policy: Policy, directory: RunDirectory) -> None:
        self._soak = soak
        self._policy = policy
        self._directory = directory
        self.wires = Wires.make()
        self.wishes = Wishes()
        self._logs = WorkerLogs(directory.worker_log)
        seed = soak.scenario.seed
        self._context = {"run": directory.run, "policy": policy.name, "seed": seed}
        self._logs.configure_foreground(0, self._context)
        self.workers: list[WorkerProcess] = []

    @property
    def log_records_dropped(self) -> int:
        """Log records of this run that nobody will read."""
        return self._logs.dropped_records

    @property
    def has_device(self) -> bool:
        """Whether the guest has a reporting device, and so a reporter and a host."""
        return limited(self._policy).registers_device

    def start(self) -> None:
        """Fork them: the host first, so that it is there when the first report comes. `off` has
        neither host nor reporter.
        """
        cpus = self._soak.segment.plan.cpus
        if membarrier_supported():
            self._soak.segment.header[layout.H_FENCED] = 0
        if self.has_device:
            self._fork(cpus + 1)
            self._fork(cpus)
        for cpu in range(cpus):
            self._fork(cpu)

    def start_again(self, number: int) -> WorkerProcess:
        """Fork another in the place of one that has died; its silence begins now."""
        place = number * layout.WORKER_WORDS + layout.W_HEARTBEAT_NS
        self._soak.segment.workers[place] = time.monotonic_ns()
        return self._fork(number, again=True)

    def _fork(self, number: int, *, again: bool = False) -> WorkerProcess:
        cpus = self._soak.segment.plan.cpus
        name, body = f"soak-guest-{number}", self._guest(number, again=again)
        if number == cpus:
            name, body = "soak-reporter", self._reporter
        elif number == cpus + 1:
            name, body = "soak-host", self._host
        worker = fork_worker(
            name,
            number,
            body,
            logs=self._logs,
            context=self._context,
            directory=self._directory.path,
            segment=self._soak.segment,
        )
        self.workers.append(worker)
        return worker

    def _guest(self, cpu: int, *, again: bool) -> Callable[[], None]:
        def body() -> None:
            if not self._soak.segment.header[layout.H_FENCED] and not membarrier_register():
                raise HarnessError("this process cannot be reached by membarrier(2)")
            driver = LiveDriver(
                self._soak.segment, self.wires, cpu, again=again, wishes=self.wishes
            )
            if driver.await_turn():
                driver.drive(make_guest(self._soak, cpu))

        return body

    def _reporter(self) -> None:
        segment = self._soak.segment
        driver = LiveDriver(segment, self.wires, segment.plan.cpus, wishes=self.wishes)
        if driver.await_start():
            wire, wishes = self.wires.request, self.wishes
            driver.drive(make_reporter(self._soak, self._policy, wire, wishes))

    def _host(self) -> None:
        segment = self._soak.segment
        driver = LiveDriver(segment, self.wires, segment.plan.cpus + 1, is_host=True)
        if driver.await_start():
            if segment.plan.cpus == 1 and isinstance(self._soak.ram, GuestRam):
                self._soak.ram.watch(lambda: segment.workers[layout.W_PID])
            driver.drive(make_host(self._soak, self.wishes))

    def take_killed(self) -> list[WorkerProcess]:
        """The workers that somebody has killed (SIGKILL), seen dead; the crew has them no more."""
        killed = [
            worker
            for worker in self.workers
            if worker.ended() and worker.exit_status == -signal.SIGKILL
        ]
        self.workers = [worker for worker in self.workers if worker not in killed]
        return killed

    def kill_host(self) -> list[WorkerProcess]:
        """Kill the host and see it dead; the crew has it no more."""
        number = self._soak.segment.plan.cpus + 1
        hosts = [worker for worker in self.workers if worker.number == number]
        for worker in hosts:
            worker.kill()
        self.workers = [worker for worker in self.workers if worker not in hosts]
        return hosts

    def worker(self, number: int) -> WorkerProcess | None:
        """The living worker of this number."""
        living = (one for one in self.workers if one.number == number and not one.ended())
        return next(living, None)

    def wake_reporter(self) -> None:
        """The reporter's report has been answered."""
        self.wires.wake_all(self.wires.answer)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a worker ends."""
        descriptors = [worker.descriptor for worker in self.workers if not worker.ended()]
        select.select(descriptors, [], [], seconds)

    def check(self, *, killed_too: bool = True) -> None:
        """`HarnessError` when a worker has ended otherwise than well, been killed or, without
        `killed_too`, failed; `InputError` when it could not do what the scenario asks. The host is
        named first, however often it was replaced: others end of what it finds.
        """
        well = (0,) if killed_too else (0, -signal.SIGKILL)
        for worker in sorted(self.workers, key=lambda worker: -worker.number):
            if worker.ended() and worker.exit_status not in well:
                note = error_file(self._directory.path, worker.name)
                said = f": {note.read_text().strip()}" if note.exists() else ""
                if worker.exit_status == EXIT_USAGE:
                    raise InputError(said.removeprefix(": "))
                raise HarnessError(f"worker {worker.name} {worker.describe_end()}{said}")

    def await_host_death(self, found: str) -> None:
        """The same where it is the host that explains it: others may end of that first."""
        host = self._soak.segment.plan.cpus + 1
        deadline = time.monotonic() + WORDS_SECONDS
        while self.worker(host) is not None and time.monotonic() < deadline:
            time.sleep(END_LOOK_SECONDS)
        self.await_death(found)

    def await_death(self, found: str) -> None:
        """`HarnessError` that names the worker whose death explains what was `found`; returns when
        none is seen to die.
        """
        deadline = time.monotonic() + DEATH_SECONDS
        while time.monotonic() < deadline:
            try:
                self.check()
            except HarnessError as death:
                raise HarnessError(f"{death}; {found}") from death
            time.sleep(END_LOOK_SECONDS)

    def end(self) -> None:
        """End them in order; `check` tells how they did.

        Raises HarnessError as soon as one of them ends otherwise than well: nobody waits for the
        answer of a host that is no more.
        """
        header = self._soak.segment.header
        cpus = self._soak.segment.plan.cpus
        header[layout.H_STOP] = 1
        self.wires.wake_all(self.wires.stop)
        self._await_end(
            [worker for worker in self.workers if worker.number < cpus], GUEST_END_SECONDS
        )
        self._await_end(
            [worker for worker in self.workers if worker.number == cpus], REPORTER_END_SECONDS
        )
        header[layout.H_HOST_STOP] = 1
        self.wires.wake_all(self.wires.host_stop)
        self._await_end(self.workers, GUEST_END_SECONDS)

    def _await_end(self, workers: list[WorkerProcess], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not all([worker.ended() for worker in workers]):  # noqa: C419 - each is asked, so that each is reaped
            self.check()
            if time.monotonic() > deadline:
                for worker in workers:
                    worker.kill()
                return
            time.sleep(END_LOOK_SECONDS)

    def close(self) -> None:
        """Nobody of the crew is left, nor its descriptors and logs."""
        for worker in self.workers:
            worker.kill()
        self.wires.close()
        self.wishes.close()
        self._logs.close()

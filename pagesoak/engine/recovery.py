"""Recovery: a run goes on when its workers are killed.

What a dead worker leaves is put in order while nobody is at work, then another takes its place:

- *A guest CPU*: what its loads had comes back, as after an OOM kill, and they begin again.
- *The reporter*: pages that it had isolated are put back, not Reported. Before that the host has
  answered, or is dead: a punch that comes late would erase what the guest has there by then.
- *The host*: its request is answered with an error, once it is seen dead.
- *Anybody who held a lock*: the zone is dead until it has been audited. If its state is in order
  the epoch goes on. If not, lists and counters are made anew from what the living hold, and a new
  epoch begins; what was measured up to then is tainted.

A host that neither answers nor beats for some seconds is killed. Nothing is ever put back because
time is up.
"""

import errno
import random
import time
from collections.abc import Callable, Collection, Mapping

import structlog

from pagesoak.allocator.audit import audit
from pagesoak.allocator.audit_copy import copy_unlocked
from pagesoak.allocator.cache_salvage import rebuild_cache
from pagesoak.allocator.claims import lost_pages
from pagesoak.allocator.forget import forget_marks, forget_processes
from pagesoak.allocator.given_up import cache_lock_is_whole
from pagesoak.allocator.salvage import Salvaged, give_back, mended_claims, rebuild
from pagesoak.base import layout
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_recovery import H_EPOCH, H_RESTARTS
from pagesoak.base.lock import HELD, give_zone_lock, take_zone_lock
from pagesoak.base.statistics import read_all_counters
from pagesoak.engine.crew import Crew
from pagesoak.engine.machine_oom import MachineOom
from pagesoak.engine.prepare import Soak
from pagesoak.engine.processes import WorkerProcess
from pagesoak.engine.recovery_figures import RecoveryFigures
from pagesoak.engine.rest import Standstill
from pagesoak.engine.restarts import Restarts
from pagesoak.engine.rundir import RunDirectory
from pagesoak.engine.silence import Silence
from pagesoak.engine.stuck import StuckHolders
from pagesoak.engine.summary import ROLES
from pagesoak.engine.watch import ZoneDeadError
from pagesoak.host.ram import GuestRam
from pagesoak.host.ram_file import RamFile
from pagesoak.host.settle import settle_punched
from pagesoak.reporter.abandon import abandon_report, forget_report, isolated_blocks

ANSWER_SECONDS = 1.0
"""How long the host of a dead reporter may still take for its answer before it is killed."""
FENCE_SECONDS = 10.0
"""Without an answer and without a heartbeat for so long a host is as good as dead; a sleeping one
beats four times a second.
"""
HOLDER_DEATH_SECONDS = 15.0
"""From the moment a dying process gives its locks up until it is seen dead: the kernel takes its
memory apart meanwhile, and on a machine that is overcommitted it has to wait for its turn.
"""
LOOK_SECONDS = 0.001
BREACHES_NAMED_MAX = 5


class Recovery:
    """The recoveries of one live run; `note_failed_audit` is told of an audit that fails."""

    def __init__(
        self,
        soak: Soak,
        crew: Crew,
        directory: RunDirectory,
        note_failed_audit: Callable[[], None],
    ) -> None:
        self._segment = soak.segment
        self._crew = crew
        self._directory = directory
        self._note_failed_audit = note_failed_audit
        self._cpus = soak.segment.plan.cpus
        self._ram: RamFile | None = None
        if isinstance(soak.ram, GuestRam):
            self._ram = RamFile(soak.ram.file.descriptor)
        self._seed = soak.scenario.seed
        generator = random.Random(soak.scenario.seed)  # noqa: S311 - jitter, no secret
        self._restarts = {role: Restarts(role, generator) for role in ROLES}
        self._due: dict[int, float] = {}
        self._silence = Silence(soak.segment)
        self._stuck = StuckHolders(soak.segment, self._silence)
        self._machine_oom = MachineOom()
        self._log = structlog.get_logger()
        self.figures = RecoveryFigures()

    def allow_chaos(self, until: float) -> None:
        """Faults are wanted up to a monotonic moment: no pause before a restart, more of them."""
        for restarts in self._restarts.values():
            restarts.chaos_until = max(restarts.chaos_until, until)

    def expect_silence(self, until_ns: int) -> None:
        """The guest is made to stand still up to a monotonic moment: it does not hang."""
        self._silence.guest_counts_from(until_ns)

    def look(self) -> bool:
        """See to the dead, if there are any; whether there were.

        Raises HarnessError when the run cannot go on, ZoneDeadError when a zone is dead and none
        of the workers is.
        """
        now_ns = time.monotonic_ns()
        self._silence.look(now_ns)
        self._machine_oom.look()
        self._fence_stuck_host(now_ns)
        for one in self._stuck.look(self._crew.workers, now_ns):
            self.note("lock-stuck", {"name": one.name, "pid": one.pid})
        dead = self._crew.take_killed()
        zone_dead = self._dead_zones()
        if zone_dead and not any(one.number <= self._cpus for one in dead):
            dead += self._await_killed(zone_dead)
        if dead:
            self._recover(dead)
        self._start_due()
        return bool(dead)

    def end(self) -> None:
        """See to the last dead, and let nobody be missing while the run ends: the reporter's last
        report needs a host.
        """
        while self.look():  # somebody may die while another is seen to
            pass
        self._due = dict.fromkeys(self._due, 0.0)
        self._start_due()

    def _dead_zones(self) -> list[int]:
        words = self._segment.zones[layout.Z_DEAD :: layout.ZONE_WORDS].tolist()
        return [zone for zone, dead in enumerate(words) if dead]

    def _await_killed(self, zones: list[int]) -> list[WorkerProcess]:
        """Who died holding a lock, which may be known before the death itself is seen."""
        deadline = time.monotonic() + HOLDER_DEATH_SECONDS
        while time.monotonic() < deadline:
            if dead := self._crew.take_killed():
                return dead
            self._crew.check(killed_too=False)
            time.sleep(LOOK_SECONDS)
        raise ZoneDeadError(f"zone {zones[0]} is dead: a worker died holding its lock")

    def _recover(self, dead: list[WorkerProcess]) -> None:
        began = time.monotonic()
        host = self._cpus + 1
        for one in dead:
            self.note("worker-died", {"name": one.name, "pid": one.pid})
        if killed := self._machine_oom.new_kills():
            self.figures.machine_oom_kills += killed
            self.note("machine-oom", {"killed": killed})
        numbers = {one.number for one in dead}
        if host in numbers:
            self._answer_for_host()
        if self._cpus in numbers and host not in numbers:
            dead += self._await_answer()
        if min(numbers) <= self._cpus:
            dead += self._put_in_order(numbers)
        for one in dead:
            self._due[one.number] = began + self._pause_seconds(self._role(one.number), began)
        self._start_due()
        self.figures.lengths.add(time.monotonic() - began)

    def _pause_seconds(self, role: str, now: float) -> float:
        try:
            return self._restarts[role].pause_seconds(now)
        except HarnessError as error:
            raise HarnessError(f"{error}{self._machine_oom.in_words()}") from error

    def _role(self, number: int) -> str:
        return ROLES[max(0, number - self._cpus + 1)]

    def _start_due(self) -> None:
        """Start those whose pause is over."""
        for number, due in sorted(self._due.items(), reverse=True):
            if time.monotonic() >= due:
                del self._due[number]
                started = self._crew.start_again(number)
                role = self._role(number)
                self.figures.restarts[role] += 1
                self._segment.header[H_RESTARTS + ROLES.index(role)] += 1
                self.note("worker-restarted", {"name": started.name, "pid": started.pid})

    # -- the host ---------------------------------------------------------------------------------

    def _pending(self) -> bool:
        report = self._segment.report
        request = report[layout.R_REQUEST]
        return bool(request != 0 and request != report[layout.R_SERVED])

    def _answer_for_host(self) -> None:
        """The host is seen dead: what it was asked has failed."""
        settle_punched(self._segment, self._ram)
        report = self._segment.report
        if self._pending():
            report[layout.R_ERROR] = errno.EIO
            report[layout.R_SERVED] = report[layout.R_REQUEST]
            self._crew.wake_reporter()

    def _await_answer(self) -> list[WorkerProcess]:
        """The reporter is dead: its host answers soon, or is killed; the host, if it is dead."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._pending() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return self._fence() if self._pending() else []

    def _fence(self) -> list[WorkerProcess]:
        fenced = self._crew.kill_host()
        self._answer_for_host()
        self.figures.hosts_fenced += len(fenced)
        for one in fenced:
            self.note("host-fenced", {"pid": one.pid})
        return fenced

    def _fence_stuck_host(self, now_ns: int) -> None:
        """A host that does not beat while a report is out is killed, and then seen to as dead."""
        silent_seconds = self._silence.seconds(self._cpus + 1, now_ns)
        if not self._pending() or silent_seconds < FENCE_SECONDS:
            return
        if fenced := self._fence():
            self._recover(fenced)

    # -- the guest's state ------------------------------------------------------------------------

    def _put_in_order(self, numbers: set[int]) -> list[WorkerProcess]:
        """Put the state in order while nobody is at work; who else died of that."""
        also = []
        with Standstill(self._segment, self._crew.wires, self._crew.workers) as still:
            if still.stragglers:
                also = self._crew.take_killed()
                for one in also:
                    self.note("worker-died", {"name": one.name, "pid": one.pid})
                numbers |= {one.number for one in also}
                if self._cpus + 1 in numbers:
                    self._answer_for_host()
                elif self._cpus in numbers:
                    also += self._await_answer()
            self._salvage({number for number in numbers if number <= self._cpus})
        return also

    def _salvage(self, dead: Collection[int]) -> None:
        segment = self._segment
        forget_marks(segment, dead)
        cpus = [number for number in dead if number < self._cpus]
        loads = forget_processes(segment, cpus)
        torn_lock = self._look_at_locks()
        in_order = not torn_lock or audit(copy_unlocked(segment)).clean
        if in_order:
            if self._cpus in dead:
                abandon_report(segment)
            claims = mended_claims(segment, loads)
            salvaged = give_back(segment, cpus, claims, self._ram)
            self.figures.recovered += torn_lock
        else:
            salvaged = self._begin_epoch(dead, cpus, loads)
        result = audit(copy_unlocked(segment))
        if not result.clean:
            self._note_failed_audit()
            named = "; ".join(
                f"{breach.check}: {breach.message}"
                for breach in result.breaches[:BREACHES_NAMED_MAX]
            )
            raise HarnessError(f"after a recovery: {named}")
        lost = lost_pages(segment)
        self.figures.pages_back += salvaged.pages
        self.figures.torn_pages += salvaged.torn
        self.figures.lost_pages += lost
        told = {"pages": salvaged.pages, "torn_pages": salvaged.torn, "lost_pages": lost}
        how = {"lock_died": int(torn_lock), "rebuilt": int(not in_order)}
        self.note("recovered", told | how)

    def _look_at_locks(self) -> bool:
        """Whether somebody died holding a lock, a zone's or the page cache's. Every lock is tried,
        because the dead may have held several; afterwards all can be had, and no zone is dead.
        """
        runner = self._cpus + 2
        base = self._segment.base
        torn = bool(self._dead_zones())
        if not cache_lock_is_whole(base, runner):
            torn = True
        self._revive()
        for zone in range(self._segment.plan.zones):
            if take_zone_lock(base, zone, runner) == HELD:
                give_zone_lock(base, zone, runner)
            else:
                torn = True
        self._revive()
        return torn

    def _revive(self) -> None:
        """No zone is marked dead any more."""
        for z in range(0, self._segment.plan.zones * layout.ZONE_WORDS, layout.ZONE_WORDS):
            self._segment.zones[z + layout.Z_DEAD] = 0

    def _begin_epoch(
        self, dead: Collection[int], cpus: Collection[int], loads: Collection[int]
    ) -> Salvaged:
        """Make lists and counters anew from what the living hold."""
        segment = self._segment
        if self._cpus in dead:
            forget_report(segment)
        rebuild_cache(segment)
        claims = mended_claims(segment, loads)
        away = isolated_blocks(segment)
        salvaged = rebuild(segment, claims, away, len(cpus), self._ram)
        self.figures.rebuilt += 1
        segment.header[H_EPOCH] = self.figures.epochs
        self.figures.before_epoch = read_all_counters(segment)
        self.note("epoch", {"epoch": self.figures.epochs, "seed": self._seed})
        return salvaged

    def note(self, kind: str, fields: Mapping[str, object]) -> None:
        """Write an event of the runner's own, and log it."""
        self._directory.write_event(time.monotonic_ns(), self._cpus + 2, kind, fields)
        self._log.warning(f"recovery.{kind}", **fields)

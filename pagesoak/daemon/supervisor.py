"""All runs: those that go on, those that ended since the daemon started, and through the index
those before.
"""

import asyncio
import contextlib
import time
from pathlib import Path

import structlog

from pagesoak.base.errors import PagesoakError
from pagesoak.base.faults import FaultWanted
from pagesoak.base.scenario import Scenario
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.daemon.config import Config
from pagesoak.daemon.health import Unwell
from pagesoak.daemon.index import FILE_NAME, Index
from pagesoak.daemon.live_run import HEARD_SECONDS_MAX, LiveRun
from pagesoak.daemon.record import Record, State, read_record
from pagesoak.daemon.single import make_folder

STOP_SECONDS_MAX = 11.0
"""When the daemon ends, runs have so long to end in order: with what is left to do then it stays
below 15 s.
"""
KILL_SECONDS_MAX = 1.0
"""From SIGKILL until a process is seen dead."""
LOOK_SECONDS = 1.0
"""Between two looks at who is silent, and at what could not be stored."""
REFUSED_KEPT_MAX = 100
"""Of runs that were refused nothing is kept but in memory; the newest of them."""


class ConflictError(PagesoakError):
    """Another run has this name, or there is no room for one more."""


class UnknownRunError(PagesoakError):
    """There is no run of this name."""


class Supervisor:
    """The runs of one daemon; made inside its event loop."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.config_problem: str | None = None
        """Why the configuration that is in the file now is not the one in use."""
        make_folder(config.results)
        self.index = Index(config.results)
        self._live: dict[str, LiveRun] = {}
        self._log = structlog.get_logger()
        self._silent: set[str] = set()
        self.unwell: list[Unwell] = []
        """Workers that were not well at the last look."""
        self._all_over = asyncio.Event()
        self._torn_and_stale_before = (0, 0)
        self.unclean = self.index.catch_up()
        self.started_at = time.monotonic()
        if self.index.moved_aside is not None:
            self._log.warning("index.made_again", moved_aside=str(self.index.moved_aside))
        for record in self.unclean:
            self._log.warning("run.ended_uncleanly", run=record.run, directory=record.directory)

    # ---- asking ----

    def get(self, name: str) -> Record:
        """The record of a run; UnknownRunError when there is none."""
        live = self._live.get(name)
        record = live.refreshed() if live is not None else self.index.get(name)
        if record is None:
            raise UnknownRunError(f"there is no run named {name!r}")
        return record

    def goes_on(self, name: str) -> bool:
        """Whether there is such a run, and it has a process."""
        live = self._live.get(name)
        if live is not None:
            return live.record.going
        record = self.index.get(name)
        return record is not None and record.going

    def all(self) -> list[Record]:
        """Every run, the newest first."""
        records = {record.run: record for record in self.index.all()}
        records |= {name: live.refreshed() for name, live in self._live.items()}
        return sorted(records.values(), key=lambda record: record.started or "", reverse=True)

    def live(self, name: str) -> LiveRun | None:
        """A run that goes on, or ended not long ago."""
        return self._live.get(name)

    def live_runs(self) -> list[LiveRun]:
        """Runs that go on, or ended so recently that their figures are still offered."""
        return list(self._live.values())

    def directory(self, name: str) -> Path:
        """Where a run keeps its files."""
        return Path(self.get(name).directory)

    @property
    def going(self) -> list[LiveRun]:
        """Runs with a process."""
        return [live for live in self._live.values() if live.record.going]

    @property
    def torn_and_stale(self) -> tuple[int, int]:
        """Attempts to read figures that failed, and readings given twice, in the daemon's life."""
        now = [live.torn_and_stale for live in self._live.values()]
        torn, stale = self._torn_and_stale_before
        return torn + sum(pair[0] for pair in now), stale + sum(pair[1] for pair in now)

    @property
    def silent(self) -> list[str]:
        """Runs whose runner has not been heard for too long."""
        return sorted(self._silent)

    # ---- changing ----

    def start(self, name: str, scenario: Scenario, command: list[str]) -> tuple[Record, bool]:
        """Execute a run; its record, and whether it is new. The same name with the same scenario
        is the same run, however often it is asked for.

        Raises ConflictError.
        """
        known = self._known(name)
        if known is not None:
            if self._scenario_text(name) == scenario.as_toml():
                return known, False
            raise ConflictError(f"there is a run named {name!r} already, with another scenario")
        if (self.config.results / name).exists() or name.startswith(FILE_NAME):
            raise ConflictError(f"{self.config.results / name} is taken, by what is no run")
        if len(self.going) >= self.config.at_once_max:
            said = f"{len(self.going)} runs go on, and `runs.at_once_max` allows no more"
            raise ConflictError(said)
        try:
            live = LiveRun(name, scenario, self.config.results, command, self._over)
        except OSError as error:
            raise ConflictError(f"a runner cannot be executed: {error.strerror}") from error
        self._live[name] = live
        self.index.store(live.record)
        return live.record, True

    def stop(self, name: str) -> Record:
        """Ask a run to end in order; its record. A run that is over stays as it is."""
        record = self.get(name)
        live = self._live.get(name)
        if live is not None:
            live.stop()
            return live.record
        if record.going:
            raise ConflictError(f"{name!r} is run by another process; end it there")
        return record

    def chaos(self, name: str, fault: FaultWanted) -> Record:
        """Make a fault happen in a run; its record. ConflictError where that is not allowed, or
        the run does not go on.
        """
        if not self.config.chaos:
            raise ConflictError("faults are not allowed: `runs.chaos` of the configuration is off")
        record = self.get(name)
        live = self._live.get(name)
        if live is None or not record.going:
            raise ConflictError(f"{name!r} does not go on")
        live.chaos(fault)
        return record

    def _known(self, name: str) -> Record | None:
        """The run that keeps others from taking the name; one that was refused does not."""
        live = self._live.get(name)
        record = live.refreshed() if live is not None else self.index.get(name)
        if record is None:
            record = read_record(self.config.results / name)
        return None if record is None or record.state is State.REFUSED else record

    def _scenario_text(self, name: str) -> str | None:
        live = self._live.get(name)
        if live is not None:
            return live.scenario.as_toml()
        try:
            return (self.config.results / name / "scenario.toml").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    def _over(self, live: LiveRun) -> None:
        if not self.going:
            self._all_over.set()
        self._silent.discard(live.name)
        if live.record.state is State.REFUSED:
            self.index.forget(live.name)
            refused = [n for n, run in self._live.items() if run.record.state is State.REFUSED]
            for name in refused[:-REFUSED_KEPT_MAX]:
                del self._live[name]
        else:
            self.index.store(live.record)

    # ---- watching ----

    async def watch(self) -> None:
        """Look at all runs each second, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Name runners that are silent and workers that are not well, store what waits, and drop
        figures of old runs.
        """
        self._look_at_workers()
        for live in self.going:
            # While it loads the core and makes the guest, a runner says nothing.
            quiet = live.record.state is not State.STARTING
            if quiet and live.unheard_seconds > HEARD_SECONDS_MAX:
                if live.name not in self._silent:
                    self._silent.add(live.name)
                    self._log.warning("runner.silent", run=live.name, pid=live.pid)
            elif live.name in self._silent:
                self._silent.discard(live.name)
                self._log.info("runner.heard_again", run=live.name)
        self.index.retry()
        keep_seconds = self.config.keep_ended_ns / NS_PER_SECOND
        for name, live in list(self._live.items()):
            over = live.ended_at is not None and live.record.state is not State.REFUSED
            if over and time.monotonic() - (live.ended_at or 0) > keep_seconds:
                torn, stale = live.torn_and_stale
                before = self._torn_and_stale_before
                self._torn_and_stale_before = (before[0] + torn, before[1] + stale)
                del self._live[name]

    def _look_at_workers(self) -> None:
        before = {(each.run, each.worker): each.how for each in self.unwell}
        self.unwell = [each for live in self.going for each in live.unwell()]
        for each in self.unwell:
            if before.pop((each.run, each.worker), None) is not each.how:
                self._log.warning(f"worker.{each.how}", **each._asdict())
        for run, worker in before:
            if self.goes_on(run):
                self._log.info("worker.well_again", run=run, worker=worker)

    async def close(self) -> None:
        """End all runs in order, those that do not within `STOP_SECONDS_MAX` at once; close."""
        for live in self.going:
            live.stop()
        await self._none_going(STOP_SECONDS_MAX)
        for live in self.going:
            self._log.error("run.killed", run=live.name, reason="did not end in time")
            live.kill()
        await self._none_going(KILL_SECONDS_MAX)
        self.index.close()

    async def _none_going(self, seconds: float) -> None:
        """Return when no run goes on, or after so long."""
        self._all_over.clear()
        if self.going:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_over.wait(), seconds)

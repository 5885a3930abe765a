"""All runs: those that go on, those that ended since the daemon started, and through the index
those before.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from pagesoak.base.errors import InputError, PagesoakError
from pagesoak.base.faults import FaultWanted
from pagesoak.base.scenario import Scenario
from pagesoak.base.tidy_memory import tidy_memory
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.daemon.config import Config
from pagesoak.daemon.elsewhere import Elsewhere
from pagesoak.daemon.health import Unwell
from pagesoak.daemon.index import FILE_NAME, Index
from pagesoak.daemon.live_run import LiveRun
from pagesoak.daemon.lookout import Lookout
from pagesoak.daemon.orders import ConflictError
from pagesoak.daemon.record import Record, State, read_record
from pagesoak.daemon.retention import Retention, trusted_now
from pagesoak.daemon.summaries import Summaries

STOP_SECONDS_MAX = 11.0
"""When the daemon ends, runs have so long to end in order: with what is left to do then it stays
below 15 s.
"""
KILL_SECONDS_MAX = 1.0
"""From SIGKILL until a process is seen dead."""
LOOK_SECONDS = 1.0
"""Between two looks at who is silent, and at what could not be stored."""
TIDY_SECONDS = 60.0
"""Between two looks at which results are too old, or too much."""
REFUSED_KEPT_MAX = 100
"""Of runs that were refused nothing is kept but in memory; the newest of them."""


class UnknownRunError(PagesoakError):
    """There is no run of this name."""


class Supervisor:
    """The runs of one daemon; made inside its event loop."""

    def __init__(self, config: Config, prepare_results: Callable[[], str | None]) -> None:
        self.config = config
        self._prepare_results = prepare_results
        self.results_problem = prepare_results()
        """Why the folder of the runs cannot be used at this moment."""
        self.config_problem: str | None = None
        """Why the configuration that is in the file now is not the one in use."""
        self.index = Index(config.results)
        self.summaries = Summaries()
        self.retention = Retention(config.results)
        self._live: dict[str, LiveRun] = {}
        self._log = structlog.get_logger()
        self._lookout = Lookout()
        self._storage_told: str | None = None
        self._all_over = asyncio.Event()
        self._torn_and_stale_before = (0, 0)
        self._catch_up_due = False
        self.started_at = time.monotonic()
        self._started_at_wall = time.time()
        self._elsewhere = Elsewhere(self.index)
        self._catch_up()

    def _catch_up(self) -> None:
        """Bring the index up to date with the directories, as soon as both can be used."""
        self._catch_up_due = self.results_problem is not None or self.index.problem is not None
        self._elsewhere.catch_up(self._live)
        if self.index.moved_aside is not None:
            self._log.warning("index.made_again", moved_aside=str(self.index.moved_aside))
            self.index.moved_aside = None

    @property
    def not_stored(self) -> int:
        """Records and summaries of runs, and lines of their files, that wait for the disk."""
        lines = sum(live.unstored.waiting_lines for live in self.going)
        return self.index.waiting + self.summaries.waiting + lines

    @property
    def lost(self) -> int:
        """Summaries that were given up, and lines which the disk never took, of runs whose figures
        are offered.
        """
        return self.summaries.dropped + sum(map(_lost_lines, self._live.values()))

    @property
    def storage_problem(self) -> str | None:
        """Why results are not stored at this moment; None: they are."""
        if problem := self.results_problem or self.index.problem:
            return problem
        if self.not_stored:
            return f"{self.config.results}: the disk refuses to be written to"
        return None

    @property
    def unclean(self) -> list[Record]:
        """Runs that no runner of this daemon had when they ended, uncleanly."""
        return self._elsewhere.unclean

    @property
    def unclean_lately(self) -> list[Record]:
        """Those that are told as if they had ended when they were found."""
        lately = self._elsewhere.unclean_lately(self.config.keep_ended_ns / NS_PER_SECOND)
        return [record for record in lately if record.run not in self._live]

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
    def gets_on(self) -> bool:
        """Whether every run does (`Lookout.gets_on`)."""
        return self._lookout.gets_on

    @property
    def in_a_line(self) -> str:
        """How the daemon is, for a service manager."""
        runs = len(self.going)
        said = f"{runs} run{'' if runs == 1 else 's'} going on"
        for how, whom in (
            ("results not stored", self.storage_problem is not None),
            (f"not heard from: {', '.join(self.silent)}", self.silent),
            (f"{len(self.unwell)} workers not well", self.unwell),
            ("the old configuration is kept", self.config_problem),
        ):
            said += f"; {how}" if whom else ""
        return said

    @property
    def silent(self) -> list[str]:
        """Runs whose runner has not been heard for too long."""
        return self._lookout.silent

    @property
    def unwell(self) -> list[Unwell]:
        """Workers that were not well at the last look."""
        return self._lookout.unwell

    # ---- changing ----

    def start(
        self, name: str, scenario: Scenario, command: list[str], owner: int | None
    ) -> tuple[Record, bool]:
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
            live = LiveRun(name, scenario, self.config.results, command, self._over, owner)
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

    async def order(self, name: str, what: str, **more: Any) -> Record:
        """Have a run paused, resumed or changed; its record (`LiveRun.order`)."""
        record = self.get(name)
        live = self._live.get(name)
        if live is not None:
            return await live.order(what, **more)
        if record.going:
            raise ConflictError(f"{name!r} is run by another process")
        raise ConflictError(f"{name} is {record.state}: nothing can be changed")

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
        self._lookout.forget(live.name)
        if lost := _lost_lines(live):
            self._log.error("results.lost", run=live.name, lines=lost)
        if live.record.state is State.REFUSED:
            self.index.forget(live.name)
            refused = [n for n, run in self._live.items() if run.record.state is State.REFUSED]
            for name in refused[:-REFUSED_KEPT_MAX]:
                del self._live[name]
            return
        if live.summary is not None:
            self.summaries.keep(self.config.results / live.name, live.summary)
        self.index.store(live.record)

    # ---- watching ----

    async def watch(self) -> None:
        """Look at all runs each second, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Name runners that are silent and workers that are not well, see what ended elsewhere,
        store what waits, and drop figures of old runs.
        """
        self._lookout.look(self.going)
        if self.results_problem is None:
            self._elsewhere.look(self._live)
        self._store_what_waits()
        self._drop_figures_of_old_runs()

    def _drop_figures_of_old_runs(self) -> None:
        keep_seconds = self.config.keep_ended_ns / NS_PER_SECOND
        for name, live in list(self._live.items()):
            over = live.ended_at is not None and live.record.state is not State.REFUSED
            if over and time.monotonic() - (live.ended_at or 0) > keep_seconds:
                torn, stale = live.torn_and_stale
                before = self._torn_and_stale_before
                self._torn_and_stale_before = (before[0] + torn, before[1] + stale)
                del self._live[name]

    def _store_what_waits(self) -> None:
        before = self.storage_problem
        if self.results_problem is not None:
            try:
                self.results_problem = self._prepare_results()
            except InputError as error:  # another daemon has taken the folder meanwhile
                self.results_problem = str(error)
        if self.results_problem is None:
            self.index.retry()
            self.summaries.retry()
        if self._catch_up_due and self.results_problem is None and self.index.problem is None:
            self._catch_up()
        now = self.storage_problem
        if (now is None) != (self._storage_told is None):
            if now is not None:
                self._log.error("results.not_stored", reason=now, waiting=self.not_stored)
            else:
                self._log.info("results.stored_again", reason=before)
            self._storage_told = now

    async def tidy(self) -> None:
        """Remove results that are too old or too much, each minute, for ever; beside the loop, as
        directories may be large. And collect garbage: what is there at the start is frozen, so
        that this takes a millisecond.
        """
        gc.collect()
        gc.freeze()
        while True:
            tidy_memory()
            config = self.config
            now = trusted_now(
                time.time(), time.monotonic(), self._started_at_wall, self.started_at
            )
            gone = await asyncio.to_thread(
                self.retention.collect,
                self.index.all(),
                frozenset(self._live),
                now,
                config.keep_for_ns / NS_PER_SECOND,
                config.keep_size_bytes,
            )
            for run in gone:
                self.index.forget(run)
                self._log.info("run.removed", run=run, reason="results are too old or too much")
            await asyncio.sleep(TIDY_SECONDS)

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


def _lost_lines(live: LiveRun) -> int:
    """Lines that the disk never took; what still waited when a runner ended is among them."""
    return live.unstored.lost_lines if live.record.going else sum(live.unstored)

"""One run that goes on, as the daemon has it: its runner, what the runner said, its shared memory.

State changes only by what the runner says and by its end. Figures are read when somebody asks; the
last reading is kept when the runner is gone, and the memory given back.
"""

import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from pagesoak.base import layout
from pagesoak.base.errors import EXIT_INTERRUPTED, HarnessError, InputError
from pagesoak.base.faults import FaultWanted
from pagesoak.base.layout_faults import STOP_FOR_GOOD
from pagesoak.base.layout_steering import H_PAUSED_SINCE_NS
from pagesoak.base.scenario import Scenario
from pagesoak.base.segment_view import SegmentView
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.daemon.executed import End, Executed
from pagesoak.daemon.health import Unwell, unwell
from pagesoak.daemon.orders import ConflictError, Orders
from pagesoak.daemon.reading import Reader, Reading
from pagesoak.daemon.record import STEERABLE, Record, State, read_record, verdict_of
from pagesoak.engine.line import Unstored
from pagesoak.engine.soak_clock import elapsed_ns

HEARD_SECONDS_MAX = 8.0
"""A runner that has not been heard for so long is named, within ten seconds: it says that it lives
each second.
"""
VERDICT_LEVELS: dict[str | None, int] = {"pass": logging.INFO, "broken": logging.ERROR}
"""How loud the log says which end: one that failed, or has no verdict, is a warning."""


class LiveRun:
    """A run with a runner; `over` is called once, with the run, when it has ended."""

    def __init__(
        self,
        name: str,
        scenario: Scenario,
        results: Path,
        command: list[str],
        over: Callable[["LiveRun"], None],
        owner: int | None,
    ) -> None:
        self.owner = owner
        """User who started it."""
        self.scenario = scenario
        self._over = over
        self._log = structlog.get_logger().bind(run=name)
        self._directory = results / name
        self._view: SegmentView | None = None
        self._reader: Reader | None = None
        self._refusal: str | None = None
        self.settings: dict[str, Any] = {}
        """What was set while it runs, by key."""
        self.unstored = Unstored(0, 0)
        """Lines of its files that the disk has refused."""
        self.news: dict[str, Any] = {}
        """What the runner says besides, the last of each (`engine.course.LiveCourse.news`)."""
        self.summary: dict[str, Any] | None = None
        """What the runner could not write down."""
        self._heard = time.monotonic()
        self._state = State.STARTING
        started = time.time()
        self._started = datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")
        self.ended_at: float | None = None
        self.record = self._record(State.STARTING)
        wanted = {
            "scenario": scenario.as_toml(),
            "name": name,
            "results": str(results),
            "command": command,
            "started": started,
        }
        self._executed = Executed(wanted, self._hear, self._end)
        self._orders = Orders(self._executed.say)
        self._log.info("run.executed", pid=self._executed.pid, policy=self.record.policy)

    def _record(self, state: State, **more: Any) -> Record:
        return Record(
            run=self._directory.name,
            state=state,
            scenario=self.scenario.name,
            policy=self.scenario.reporting.policy,
            seed=self.scenario.seed,
            duration_seconds=self.scenario.duration_ns / NS_PER_SECOND,
            started=self._started,
            directory=str(self._directory),
            **more,
        )

    @property
    def name(self) -> str:
        """The run's name."""
        return self._directory.name

    @property
    def pid(self) -> int:
        """The runner's process ID."""
        return self._executed.pid

    @property
    def view(self) -> SegmentView | None:
        """The run's shared memory, from `prepared` to the end."""
        return self._view

    @property
    def unheard_seconds(self) -> float:
        """How long ago the runner was heard."""
        return time.monotonic() - self._heard

    def refreshed(self) -> Record:
        """The record, after a look at whether the soak's clock has started or stands still, or
        its end has begun.
        """
        state = self.record.state
        if self._view is not None and state in {State.PREPARING, State.RUNNING, State.PAUSED}:
            if self._view.header[layout.H_STOP] == STOP_FOR_GOOD:
                state = State.STOPPING
            elif self._view.header[H_PAUSED_SINCE_NS]:
                state = State.PAUSED
            elif self.started_ns:
                state = State.RUNNING
            if state is not self.record.state:
                self.record = self.record.model_copy(update={"state": state})
        return self.record

    def elapsed_seconds(self, now_ns: int) -> float | None:
        """How long the soak has gone on, pauses left out; None before its start."""
        soaked_ns = None if self._view is None else elapsed_ns(self._view.header, now_ns)
        return None if soaked_ns is None else soaked_ns / NS_PER_SECOND

    @property
    def started_ns(self) -> int:
        """When the soak's clock started, monotonic; 0 before."""
        return self._view.header[layout.H_STARTED_AT_NS] if self._view is not None else 0

    def reading(self) -> Reading | None:
        """The figures now, or the last of a run that is over."""
        if self._reader is None:
            return None
        return self._reader.take() if self._view is not None else self._reader.last

    def worker_name(self, worker: int) -> str:
        """What a worker is called, by its number."""
        cpus = self.scenario.guest.cpus
        if worker < cpus:
            return f"guest-{worker}"
        return {cpus: "reporter", cpus + 1: "host"}.get(worker, "runner")

    def unwell(self) -> list[Unwell]:
        """Its workers that are not well, while it runs: at the end they go, one by one."""
        going_on = self.refreshed().state in {State.PREPARING, *STEERABLE}
        if not going_on or self._view is None:
            return []
        now_ns = time.monotonic_ns()
        return unwell(self.name, self._view, self.pid, now_ns, self.worker_name)

    @property
    def torn_and_stale(self) -> tuple[int, int]:
        """Failed attempts to read, and readings given a second time."""
        return (0, 0) if self._reader is None else (self._reader.torn, self._reader.stale)

    async def order(self, what: str, **more: Any) -> Record:
        """Have the runner pause, go on or set something; the record afterwards.

        Raises ConflictError when the soak does not go on, and as `Orders.give`.
        """
        state = self.refreshed().state
        if state not in STEERABLE:
            raise ConflictError(f"{self.name} is {state}: nothing can be changed")
        said = await self._orders.give(what, **more)
        self.settings = said["settings"]
        policy = self.settings.get("policy", self.record.policy)
        self.record = self.record.model_copy(update={"policy": policy})
        self._log.info(f"run.{what}", **more)
        return self.refreshed()

    def stop(self) -> None:
        """Ask for an end in order; asking twice is no error."""
        if self.record.going:
            self.record = self.record.model_copy(update={"state": State.STOPPING})
            self._executed.stop()

    def chaos(self, fault: FaultWanted) -> None:
        """Make a fault happen; InputError for one of a CPU that the guest has not."""
        cpus = self.scenario.guest.cpus
        if fault.cpu is not None and fault.cpu >= cpus:
            has = f"CPUs 0 to {cpus - 1}" if cpus > 1 else "CPU 0 only"
            raise InputError(f"the guest of {self.name} has {has}", key="cpu")
        self._log.warning("run.chaos", **fault._asdict())
        self._executed.chaos(fault._asdict())

    def kill(self) -> None:
        """End it at once; it will have ended uncleanly."""
        self._executed.kill()

    def _hear(self, message: dict[str, Any], descriptor: int | None) -> None:
        self._heard = time.monotonic()
        match message["say"]:
            case "prepared" if descriptor is not None:
                self._open(descriptor)
            case "done" | "not done":
                self._orders.hear(message)
            case "alive":
                self.unstored = Unstored(message["waiting_lines"], message["lost_lines"])
                self.news = {**self.news, **message}
            case "refused":
                self._refusal = message["message"]
            case "ended" if message["complaint"]:
                self.summary = message.get("summary")
                self._log.error("run.results_not_kept", reason=message["complaint"])
            case _ if descriptor is not None:
                os.close(descriptor)

    def _open(self, descriptor: int) -> None:
        try:
            self._view = SegmentView(descriptor)
        except HarnessError as error:
            self._log.error("run.unreadable", reason=str(error))
            return
        self._reader = Reader(self._view)
        if self.record.state is State.STARTING:
            self.record = self.record.model_copy(update={"state": State.PREPARING})

    def _end(self, end: End) -> None:
        self._orders.end()
        if self._reader is not None and self._view is not None:
            self._reader.take()
            self._view.close()
            self._view = None
        self.ended_at = time.monotonic()
        self.record = self._last_record(end)
        record = self.record
        told = {"verdict": record.verdict, "reason": record.reason, "code": end.code}
        level = VERDICT_LEVELS.get(record.verdict, logging.WARNING)
        self._log.log(level, f"run.{record.state}", **told)
        self._over(self)

    def _last_record(self, end: End) -> Record:
        if self._refusal is not None:
            return self._record(State.REFUSED, reason=self._refusal)
        if not self._directory.exists():
            if end.code == EXIT_INTERRUPTED:
                return self._record(State.REFUSED, reason="it was stopped before it began")
            return self._record(State.REFUSED, reason=f"the runner {end.in_words()}")
        if self.summary is not None:
            return self._record(State.ENDED, **verdict_of(self.summary))
        kept = read_record(self._directory)
        if kept is not None and kept.state is State.ENDED:
            return kept
        return self._record(State.UNCLEAN, reason=f"the runner {end.in_words()}")

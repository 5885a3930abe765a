"""The runner: one soak from its scenario to its summary. The same for `pagesoak run` and for the
daemon.

It prepares the guest, then lets its workers live (`course`): processes of their own, or all in
this one on a virtual clock. The end, in order: the workers end, every page in use is verified, the
state is audited once more, the summary is written. SIGINT and SIGTERM bring that end forward.

A harness invariant that breaks (lost or foreign page contents, a punch of what was not isolated,
an audit's breach, a worker that dies) ends the run as `broken`: evidence is saved, no figure is
charged to the policy.
"""

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pagesoak.allocator.boot_stamp import stamp_boot_pages, verify_taken_pages
from pagesoak.base import layout
from pagesoak.base.errors import EXIT_USAGE, HarnessError, InputError, PagesoakError
from pagesoak.base.native import core_mode
from pagesoak.base.scenario import Scenario
from pagesoak.base.segment import Segment
from pagesoak.engine.course import Course, LiveCourse
from pagesoak.engine.crew import Crew
from pagesoak.engine.evidence import save_evidence
from pagesoak.engine.guest_files import write_guest_files
from pagesoak.engine.line import Line
from pagesoak.engine.policy_choice import find_policy
from pagesoak.engine.prepare import Soak, prepare
from pagesoak.engine.progress import Progress
from pagesoak.engine.rundir import RunDirectory
from pagesoak.engine.signals import EndSignals
from pagesoak.engine.soak_clock import paused_ns
from pagesoak.engine.steering import Steering
from pagesoak.engine.summary import (
    NANOSECONDS_PER_SECOND,
    Times,
    broken_limits,
    exit_code,
    figures,
    guest_figures,
)
from pagesoak.engine.virtual_course import VirtualCourse
from pagesoak.reporter.policy import Policy

WALK_NS = 50_000_000
"""Deadline of one call that walks all pages."""


class Outcome(NamedTuple):
    """What a run ends with: its summary, the exit code, and what went wrong in keeping the
    results, if anything did.
    """

    summary: dict[str, Any]
    exit_code: int
    complaint: str = ""


class _Began(NamedTuple):
    """When a run began: seconds since the epoch, for labels, and monotonic."""

    seconds: float
    monotonic_ns: int


def run_scenario(
    scenario: Scenario,
    *,
    results: Path,
    command: Sequence[str],
    progress: Progress | None = None,
    virtual: bool = False,
    policy: Policy | None = None,
    name: str | None = None,
    started: float | None = None,
    line: Line | None = None,
) -> Outcome:
    """Run a scenario to its end, live or on a `virtual` clock; the results are kept below
    `results`, `command` is what to note as its cause. `policy` is the one that the scenario names,
    where it is neither built in nor installed. `name` is that of the run, made up without it;
    `started`, seconds since the epoch, is what it says of its start, now without it; and `line`
    leads to the daemon that wants it.

    Raises InputError(s) when it cannot start, and nothing is left behind then.
    """
    policy = policy or find_policy(scenario.reporting.policy)
    soak = prepare(scenario, virtual=virtual)
    try:
        with EndSignals() as signals:
            began = _Began(time.time(), time.monotonic_ns())
            directory = RunDirectory.create(
                results,
                started=began.seconds if started is None else started,
                scenario=scenario.name,
                policy=scenario.reporting.policy,
                seed=scenario.seed,
                name=name,
            )
            with directory:
                try:
                    directory.write_scenario(scenario.as_toml())
                    guest = guest_figures(soak.segment, scenario.guest.memory_bytes)
                    directory.write_identity(command=command, core=core_mode(), guest=guest)
                    stopping = signals.stopping if line is None else _either(signals, line)
                    course = _begin(soak, policy, directory, stopping, progress, line)
                    if line is not None:
                        line.prepared(directory.run, directory.path, soak.segment.file.descriptor)
                except PagesoakError:
                    directory.remove()
                    raise
                try:
                    return _Run(soak, directory, course, began).execute()
                except InputError:
                    directory.remove()
                    raise
    finally:
        soak.close()


def _either(signals: EndSignals, line: Line) -> Callable[[], bool]:
    """Whether a signal has come or the daemon wants the end; the line is looked at each time."""

    def stopping() -> bool:
        return line.stopping() or signals.stopping()

    return stopping


def _begin(
    soak: Soak,
    policy: Policy,
    directory: RunDirectory,
    stopping: Callable[[], bool],
    progress: Progress | None,
    line: Line | None,
) -> Course:
    """The course of a guest whose pages in use are stamped.

    Raises PagesoakError when the system refuses a process or a descriptor; none is left then.
    """
    _walk(soak.segment, stamp_boot_pages)
    if soak.virtual:
        return VirtualCourse(soak, directory, policy, stopping, progress)
    crew = _start_crew(soak, directory, policy)
    steering = faults = None
    if line is not None:
        line.unstored = lambda: directory.unstored
        steering = Steering(line, crew.wishes, soak, directory, has_device=crew.has_device)
        faults = line.take_faults
    course = LiveCourse(soak, directory, crew, stopping, progress, steering, faults)
    if line is not None:
        course.watch.counts_pages = True
        line.news = course.news
    return course


def _start_crew(soak: Soak, directory: RunDirectory, policy: Policy) -> Crew:
    """The worker processes of a live run; PagesoakError as `_begin`."""
    try:
        crew = Crew(soak, policy, directory)
        gc.collect()
        gc.freeze()  # forks share it, and no collection looks at it again
        try:
            crew.start()
        except BaseException:
            crew.close()
            raise
    except OSError as error:
        raise PagesoakError(f"cannot start the workers: {error.strerror or error}") from error
    return crew


def _walk(segment: Segment, function: Callable[..., int]) -> None:
    """Let a compiled walk over all pages go on until it is through; nothing without touched
    pages.
    """
    pfn = 0 if segment.header[layout.H_TOUCH] else segment.plan.max_pfn
    while pfn < segment.plan.max_pfn:
        deadline_ns = time.monotonic_ns() + WALK_NS
        pfn = function(segment.base, segment.plan.cpus + 2, pfn, deadline_ns)


class _Run:
    """The course of one run."""

    def __init__(
        self,
        soak: Soak,
        directory: RunDirectory,
        course: Course,
        began: _Began,
    ) -> None:
        self._soak = soak
        self._directory = directory
        self._course = course
        self._began = began

    def execute(self) -> Outcome:
        """Look on, end, sum up."""
        reason = None
        try:
            self._course.work()
            self._verify()
        except HarnessError as error:
            reason = str(error)
        self._course.watch.note_events()
        return self._conclude(reason)

    def _verify(self) -> None:
        """The last look: every page in use holds what it must, and the state is in order."""
        _walk(self._soak.segment, verify_taken_pages)
        self._course.watch.look()
        self._course.watch.audit_at_end()

    def _conclude(self, reason: str | None) -> Outcome:
        segment = self._soak.segment
        scenario = self._soak.scenario
        took_ns = time.monotonic_ns() - self._began.monotonic_ns
        wall_seconds = took_ns / NANOSECONDS_PER_SECOND
        times = Times(
            self._directory.started,
            self._directory.label(self._began.seconds + wall_seconds),
            self._course.duration_ns / NANOSECONDS_PER_SECOND,
            wall_seconds,
        )
        found = figures(segment, self._soak.unmatched_frees)
        recoveries = self._course.recoveries
        charged = recoveries.charged(found)
        limits_broken = [] if reason else broken_limits(scenario.limits, charged)
        verdict = "broken" if reason else ("fail" if limits_broken else "pass")
        summary: dict[str, Any] = {
            "run": self._directory.run,
            "verdict": verdict,
            "interrupted": self._course.interrupted,
            "reason": reason,
            "limits_broken": limits_broken,
            "scenario": scenario.name,
            "policy": scenario.reporting.policy,
            "mode": "virtual" if self._soak.virtual else "live",
            "core": None if self._soak.virtual else core_mode(),
            "seed": scenario.seed,
            **times._asdict(),
            "paused_seconds": paused_ns(segment.header, 0) / NANOSECONDS_PER_SECOND,
            "changes": self._course.changes,
            "started_monotonic_ns": segment.header[layout.H_STARTED_AT_NS] or None,
            "directory": str(self._directory.path),
            "guest": guest_figures(segment, scenario.guest.memory_bytes),
            **found,
            "audits": self._course.watch.audits._asdict(),
            "tainted_epochs": recoveries.epochs - 1 + int(reason is not None),
            **recoveries.fields(),
        }
        code = exit_code(verdict, interrupted=self._course.interrupted)
        try:
            if reason is not None:
                save_evidence(self._directory.path, reason, segment, self._soak.ram)
            write_guest_files(self._directory.path, segment, self._course.now_ns())
            self._directory.write_summary(summary)
        except (OSError, PagesoakError) as error:
            return Outcome(summary, code or EXIT_USAGE, f"results could not be kept: {error}")
        return Outcome(summary, code)

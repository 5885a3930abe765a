"""The course of a virtual run: the runner drives the workers itself, and looks in between.

Looks, samples and audits come at fixed moments of the virtual clock, so that what they find and
write down is the same in every run. An audit here disturbs nobody, but takes real time, some tens
of milliseconds for 512 MiB: so audits are the rarer the larger the guest is. Only what a user sees
while the run goes on depends on real time.
"""

import time
from collections.abc import Callable

from pagesoak.base.errors import HarnessError, PagesoakError
from pagesoak.engine.course import SERIES_NS
from pagesoak.engine.logs import WorkerLogs
from pagesoak.engine.prepare import Soak
from pagesoak.engine.progress import Progress
from pagesoak.engine.recovery_figures import RecoveryFigures
from pagesoak.engine.rundir import RunDirectory
from pagesoak.engine.sample import Sampler
from pagesoak.engine.virtual import VirtualDriver
from pagesoak.engine.virtual_faults import VirtualFaults
from pagesoak.engine.watch import Watch
from pagesoak.engine.workers import make_all
from pagesoak.reporter.policy import Policy

LOOK_NS = SERIES_NS
"""Between two looks, on the virtual clock."""
PROGRESS_SECONDS = 0.1
"""Between two pictures of the progress, in real time."""
AUDIT_NS_PER_PAGE = 40_000
"""Virtual time from audit to audit for each page of the guest: an audit takes a few hundred real
nanoseconds a page, a busy virtual second a few real milliseconds. 512 MiB: five seconds.
"""


class VirtualCourse:
    """All workers of a run on one virtual clock."""

    def __init__(
        self,
        soak: Soak,
        directory: RunDirectory,
        policy: Policy,
        stopping: Callable[[], bool],
        progress: Progress | None,
    ) -> None:
        self.duration_ns = 0
        self.interrupted = False
        self.changes = 0
        self.recoveries = RecoveryFigures()
        self._soak = soak
        self._directory = directory
        self._stopping = stopping
        self._progress = progress
        self._progress_due = 0.0
        self._driver = VirtualDriver(soak.segment, make_all(soak, policy), stopping=stopping)
        self._faults = VirtualFaults(soak, self.recoveries.count_fault, self._driver.jump)
        audit_ns = max(
            soak.scenario.audit.interval_ns, soak.segment.plan.max_pfn * AUDIT_NS_PER_PAGE
        )
        self.watch = Watch(soak.segment, directory, audit_ns, clock_ns=self.now_ns, alone=True)
        self._logs = WorkerLogs(directory.worker_log)
        context = {"run": directory.run, "policy": policy.name, "seed": soak.scenario.seed}
        self._logs.configure_foreground(0, context)

    def now_ns(self) -> int:
        """The virtual clock's time."""
        return self._driver.now_ns

    def work(self) -> None:
        """See `engine.course.Course`."""
        try:
            if self._driver.start():
                self._look_on()
            self.interrupted = self._stopping()
            self._driver.finish()
            self.watch.look()
        except PagesoakError:
            raise
        except Exception as error:  # of a worker: a bug, of pagesoak's or of a policy's
            raise HarnessError(f"a worker failed: {type(error).__name__}: {error}") from error
        finally:
            self._driver.close()
            self._logs.close()

    def _look_on(self) -> None:
        """Go on from look to look until the soak's time is over, or a signal comes."""
        scenario = self._soak.scenario
        driver = self._driver
        began_ns = driver.started_ns
        title = f"{scenario.name}, {scenario.reporting.policy}"
        sampler = Sampler(self._soak.segment, title, scenario.duration_ns)
        if self._progress is not None:
            self._progress.start()
        try:
            while True:
                self.watch.look()
                self.watch.audit_if_due()
                self.duration_ns = driver.now_ns - began_ns
                self._faults.look(self.duration_ns)
                left_ns = scenario.duration_ns - self.duration_ns
                if left_ns <= 0:
                    return
                sample = sampler.take(self.duration_ns)
                self._directory.write_sample(sample)
                if self._progress is not None and time.monotonic() >= self._progress_due:
                    self._progress.update(sample)
                    self._progress_due = time.monotonic() + PROGRESS_SECONDS
                if not driver.run(driver.now_ns + min(LOOK_NS, left_ns)):
                    self.duration_ns = driver.now_ns - began_ns
                    return
        finally:
            self._faults.end()
            if self._progress is not None:
                self._progress.stop()

"""Who does not get on: runners that are silent, and workers that are not well.

Each is named in the log when that begins and when it is over. Nobody is silent while the daemon
itself was not served.
"""

import time
from collections.abc import Sequence

import structlog

from pagesoak.daemon.health import SLOW_SECONDS, How, Unwell, is_held_up, process
from pagesoak.daemon.live_run import HEARD_SECONDS_MAX, LiveRun
from pagesoak.daemon.record import State

AWAY_SECONDS = 3.0
"""Without a look for longer the daemon was frozen or not served, and its runs as well."""


class Lookout:
    """What was seen of runners and workers at the last look; there is one each second."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._silent: set[str] = set()
        self._looked_at = self._patient_until = time.monotonic()
        self.unwell: list[Unwell] = []
        """Workers that were not well at the last look."""

    @property
    def silent(self) -> list[str]:
        """Runs whose runner has not been heard for too long."""
        return sorted(self._silent)

    @property
    def gets_on(self) -> bool:
        """Whether every run does: no runner is silent, no worker stuck. One that is paused, slow
        or stopped by somebody is not stuck.
        """
        return not self._silent and all(each.how is not How.STUCK for each in self.unwell)

    def look(self, going: Sequence[LiveRun]) -> None:
        """Look at the runs that go on."""
        now, before = time.monotonic(), self._looked_at
        self._looked_at = now
        if now - before > AWAY_SECONDS:
            self._patient_until = now + SLOW_SECONDS
        if now >= self._patient_until:
            self._look_at_workers(going)
            self._look_at_runners(going)

    def forget(self, run: str) -> None:
        """A run is over: its runner need not be heard any more."""
        self._silent.discard(run)

    def _look_at_workers(self, going: Sequence[LiveRun]) -> None:
        before = {(each.run, each.worker): each.how for each in self.unwell}
        self.unwell = [each for live in going for each in live.unwell()]
        for each in self.unwell:
            if before.pop((each.run, each.worker), None) is not each.how:
                self._log.warning(f"worker.{each.how}", **each._asdict())
        still = {live.name for live in going}
        for run, worker in before:
            if run in still:
                self._log.info("worker.well_again", run=run, worker=worker)

    def _look_at_runners(self, going: Sequence[LiveRun]) -> None:
        for live in going:
            if _is_silent(live):
                if live.name not in self._silent:
                    self._silent.add(live.name)
                    self._log.warning("runner.silent", run=live.name, pid=live.pid)
            elif live.name in self._silent:
                self._silent.discard(live.name)
                self._log.info("runner.heard_again", run=live.name)


def _is_silent(live: LiveRun) -> bool:
    """While it loads the core and makes the guest, which may take minutes, a runner says nothing:
    then it is silent only where it cannot get on.
    """
    if live.unheard_seconds <= HEARD_SECONDS_MAX:
        return False
    return live.record.state is not State.STARTING or is_held_up(process(live.pid))

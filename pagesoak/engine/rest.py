"""Bringing guests and reporter to rest, so that nobody is at work while the state is looked at.

The stop word says "to recover": compiled code comes back as at the end of a run, whatever it does,
and every lock that a living worker held is free then; the worker says that it is at rest where it
wants the next thing. One that does not within a second is stopped, or stuck, perhaps in the middle
of a hold: it is killed and counts among the dead.
"""

import time
from collections.abc import Sequence
from typing import Self

from pagesoak.base import layout
from pagesoak.base.layout_faults import H_STANDSTILL, STOP_TO_RECOVER, W_AT_REST
from pagesoak.base.segment import Segment
from pagesoak.engine.live import Wires
from pagesoak.engine.processes import WorkerProcess

REST_SECONDS_MAX = 1.0
"""A want of a worker is over within some milliseconds; on a busy machine it waits for its turn."""
LOOK_SECONDS = 0.0002


class Standstill:
    """While it lasts no guest and no reporter is at work; `stragglers` did not come to rest, and
    are dead.
    """

    def __init__(self, segment: Segment, wires: Wires, workers: Sequence[WorkerProcess]) -> None:
        self._segment = segment
        self._wires = wires
        self._workers = [one for one in workers if one.number <= segment.plan.cpus]
        self.stragglers: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        header = self._segment.header
        header[H_STANDSTILL] += 1
        header[layout.H_STOP] = STOP_TO_RECOVER
        for wire in (self._wires.stop, self._wires.answer, self._wires.request):
            self._wires.wake_all(wire)
        deadline = time.monotonic() + REST_SECONDS_MAX
        while waiting := [one for one in self._workers if not self._rests(one)]:
            if time.monotonic() > deadline:
                self.stragglers = waiting
                for one in waiting:
                    one.kill()
                break
            time.sleep(LOOK_SECONDS)
        self._wires.clear(self._wires.stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # else the run ends, and the state stays as it is, for evidence
            self._segment.header[layout.H_STOP] = 0

    def _rests(self, worker: WorkerProcess) -> bool:
        place = worker.number * layout.WORKER_WORDS + W_AT_REST
        at_rest = self._segment.workers[place] == self._segment.header[H_STANDSTILL]
        return at_rest or worker.ended()

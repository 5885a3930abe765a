"""Coming to rest: who is asked, who must be waited for, and what becomes of who does not."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pagesoak.base import layout
from pagesoak.base.layout_faults import STOP_TO_RECOVER, W_AT_REST
from pagesoak.base.segment import Segment
from pagesoak.base.wants import Now, Sleep, Worker
from pagesoak.engine import rest
from pagesoak.engine.live import LiveDriver, Wires
from pagesoak.engine.logs import WorkerLogs
from pagesoak.engine.processes import WorkerProcess, fork_worker
from pagesoak.engine.rest import Standstill
from tests.hostguest import make_segment

REST_SECONDS = 0.5


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = make_segment()
    made.header[layout.H_STARTED_AT_NS] = 1
    yield made
    made.close()


class Crew:
    """Two workers of a guest of one CPU: the CPU and its reporter."""

    def __init__(self, segment: Segment, folder: Path, bodies: list[Callable[[], None]]) -> None:
        self.logs = WorkerLogs(folder / "log.jsonl")
        self.workers: list[WorkerProcess] = [
            fork_worker(
                f"soak-{number}", number, body, logs=self.logs, context={}, directory=folder,
                segment=segment,
            )
            for number, body in enumerate(bodies)
        ]  # fmt: skip

    def close(self) -> None:
        """Nobody is left."""
        for worker in self.workers:
            worker.kill()
        self.logs.close()


def sleeper(segment: Segment, wires: Wires, number: int) -> Callable[[], None]:
    """A worker that sleeps for long, and counts how often it is awake."""

    def program() -> Worker:
        while True:
            segment.workers[number * layout.WORKER_WORDS + layout.W_OPERATIONS] += 1
            now_ns = yield Now()
            yield Sleep(now_ns + 5_000_000)

    return lambda: LiveDriver(segment, wires, number).drive(program())


def stuck() -> None:
    time.sleep(60)


def works(segment: Segment, number: int) -> bool:
    place = number * layout.WORKER_WORDS + layout.W_OPERATIONS
    before = segment.workers[place]
    time.sleep(0.3)
    return bool(segment.workers[place] > before)


def test_all_are_at_rest_while_it_lasts_and_go_on_afterwards(
    segment: Segment, tmp_path: Path
) -> None:
    wires = Wires.make()
    crew = Crew(segment, tmp_path, [sleeper(segment, wires, number) for number in range(2)])
    try:
        assert works(segment, 0)
        with Standstill(segment, wires, crew.workers) as still:
            assert still.stragglers == []
            assert segment.workers[W_AT_REST] == 1
            assert not works(segment, 0)
            assert not works(segment, 1)
        assert works(segment, 0)
        assert works(segment, 1)
        assert segment.workers[W_AT_REST] == 0
        with Standstill(segment, wires, crew.workers):
            assert segment.workers[layout.WORKER_WORDS + W_AT_REST] == 2
    finally:
        crew.close()
        wires.close()


def test_who_does_not_come_to_rest_is_dead_then(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "REST_SECONDS_MAX", REST_SECONDS)
    wires = Wires.make()
    crew = Crew(segment, tmp_path, [sleeper(segment, wires, 0), stuck])
    try:
        with Standstill(segment, wires, crew.workers) as still:
            assert still.stragglers == [crew.workers[1]]
            assert crew.workers[1].ended()
            assert not crew.workers[0].ended()
    finally:
        crew.close()
        wires.close()


def test_when_it_fails_nobody_goes_on(segment: Segment, tmp_path: Path) -> None:
    """So that what is wrong can be looked at as it is."""
    wires = Wires.make()
    crew = Crew(segment, tmp_path, [sleeper(segment, wires, 0)])
    try:
        with (
            pytest.raises(ZeroDivisionError),
            Standstill(segment, wires, crew.workers),
        ):
            os.getpid() // 0
        assert segment.header[layout.H_STOP] == STOP_TO_RECOVER
        assert not works(segment, 0)
    finally:
        crew.close()
        wires.close()

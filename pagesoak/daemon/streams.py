"""Live data as server-sent events: the lines of a run's files as they come, and a sample a second.

A file is read from where the client says it has got to (`after`, or `Last-Event-ID`), in pieces,
so that a client who does not read holds up only itself. A stream ends when its run has ended and
everything has been sent, with an event `end`.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from pagesoak.base.units import KIB
from pagesoak.daemon.live_run import LiveRun
from pagesoak.engine.sample import Sampler
from pagesoak.engine.soak_clock import elapsed_ns

PIECE_BYTES = 64 * KIB
"""Read from a file at once."""
LOOK_SECONDS = 0.25
"""Between two looks at whether a file has grown: the runner writes ten times a second."""
SILENCE_SECONDS_MAX = 15.0
"""A comment goes out when nothing else has for so long, so that a client that has gone is seen."""
SAMPLE_SECONDS = 1.0
"""Between two samples."""
END = "event: end\ndata: {}\n\n"


async def follow_lines(
    path: Path, after: int, *, going: Callable[[], bool], follow: bool
) -> AsyncIterator[str]:
    """The lines of a file from byte `after` on, each as an event whose ID is where the next one
    begins; with `follow`, until the run has ended.

    A file that became shorter was begun anew, and is read from its beginning.
    """
    silent_seconds = 0.0
    rest = b""
    place = after
    while True:
        still_going = going()  # looked at before the file: what is written last is not missed
        size = _size(path)
        if size < place:
            place, rest = 0, b""
        piece = _read(path, place + len(rest)) if size > place + len(rest) else b""
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            place += len(line) + 1
            yield f"id: {place}\ndata: {line.decode('utf-8', 'replace')}\n\n"
        if piece:
            silent_seconds = 0.0
            continue
        if not (follow and still_going):
            yield END
            return
        if silent_seconds >= SILENCE_SECONDS_MAX:
            silent_seconds = 0.0
            yield ": nothing new\n\n"
        await asyncio.sleep(LOOK_SECONDS)
        silent_seconds += LOOK_SECONDS


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # nothing has been written yet
        return 0


def _read(path: Path, place: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.pread(descriptor, PIECE_BYTES, place)
    finally:
        os.close(descriptor)


async def samples(
    live: LiveRun, monotonic_ns: Callable[[], int], closing: Callable[[], bool]
) -> AsyncIterator[str]:
    """A sample of a run each second (`engine.run_sample`), with its record; until it ends."""
    sampler: Sampler | None = None
    while live.record.going and not closing():
        record = live.refreshed()
        view, soaked_ns = live.view, None
        if view is not None:
            soaked_ns = elapsed_ns(view.header, monotonic_ns())
        sample = None
        if view is not None and soaked_ns is not None:
            if sampler is None:
                title = f"{record.scenario}, {record.policy}"
                sampler = Sampler(view, title, live.scenario.duration_ns)
            sample = sampler.take(soaked_ns)._asdict()
            sample["zones"] = [zone._asdict() for zone in sample["zones"]]
            for counts in ("alloc_failures", "oom_events"):
                sample[counts] = sample[counts]._asdict()
        document = {"record": record.model_dump(mode="json"), "sample": sample}
        yield f"data: {json.dumps(document)}\n\n"
        await asyncio.sleep(SAMPLE_SECONDS)
    yield END

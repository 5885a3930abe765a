"""A segment seen by who only reads: the same words, no compiler, and nothing believed unseen."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.errors import HarnessError
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment
from pagesoak.base.segment_view import SIZE_SEALS, SegmentView
from pagesoak.base.statistics import (
    count_statistic,
    observe_statistic,
    publish_statistics,
    read_statistics,
)
from pagesoak.daemon.reading import Reader
from tests.live_helper import environment

PLAN = SegmentPlan(
    zones=2, cpus=1, max_pfn=4096, workers=3, loads=1, table_words=8, replay_events=1
)


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(PLAN)
    yield made
    made.close()


@pytest.fixture
def view(segment: Segment) -> Iterator[SegmentView]:
    seen = SegmentView(os.dup(segment.file.descriptor))
    yield seen
    seen.close()


def test_a_view_reads_what_is_written(segment: Segment, view: SegmentView) -> None:
    assert view.plan == PLAN
    segment.zones[layout.ZONE_WORDS + layout.Z_FREE_PAGES] = 1234
    assert view.zones[layout.ZONE_WORDS + layout.Z_FREE_PAGES] == 1234
    count_statistic(segment.base, 2, st.FREES, 5)
    observe_statistic(segment.base, 2, st.WINDOW, 77)
    publish_statistics(segment.base, 2)
    assert read_statistics(view, 2) == read_statistics(segment, 2)
    assert read_statistics(view, 2).counters[st.FREES] == 5


def test_a_view_cannot_write(view: SegmentView) -> None:
    with pytest.raises(TypeError):
        view.header[layout.H_STOP] = 1


def test_closing_a_view_leaves_the_segment_alone(segment: Segment) -> None:
    seen = SegmentView(os.dup(segment.file.descriptor))
    seen.close()
    segment.header[layout.H_STOP] = 1
    with pytest.raises(ValueError, match="released"):
        len(seen.header)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (layout.H_MAGIC, 1),
        (layout.H_VERSION, layout.VERSION + 1),
        (layout.H_WORKERS, 1 << 40),
        (layout.H_WORKERS, -1),
        (layout.H_ZONES, 7),
        (layout.H_SEGMENT_BYTES, 64),
        (layout.H_OFFSETS + layout.Section.WORKERS, 0),
    ],
)
def test_what_is_no_segment_of_this_layout_is_refused(
    segment: Segment, word: int, value: int
) -> None:
    segment.header[word] = value
    descriptor = os.dup(segment.file.descriptor)
    with pytest.raises(HarnessError, match="not a segment"):
        SegmentView(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_file_that_may_shrink_is_refused() -> None:
    descriptor = os.memfd_create("loose", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 1 << 20)
    with pytest.raises(HarnessError, match="not sealed"):
        SegmentView(descriptor)
    short = os.memfd_create("short", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(short, fcntl.F_ADD_SEALS, SIZE_SEALS)
    with pytest.raises(HarnessError, match="no pagesoak segment"):
        SegmentView(short)


def test_readers_and_the_daemon_load_no_compiler() -> None:
    program = (
        "import sys; import pagesoak.daemon.service, pagesoak.engine.sample;"
        " print(sorted({'numba', 'llvmlite', 'numpy', 'pagesoak.base.native'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(),
        check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"


# ---- readings: all of one moment ----


def test_a_reading_adds_up_all_workers(segment: Segment, view: SegmentView) -> None:
    for worker in range(3):
        count_statistic(segment.base, worker, st.FREES, worker + 1)
        publish_statistics(segment.base, worker)
    segment.workers[layout.W_HEARTBEAT_NS] = 99
    reading = Reader(view).take()
    assert reading is not None
    assert reading.statistics.counters[st.FREES] == 6
    assert reading.heartbeats == (99, 0, 0)
    assert len(reading.zones) == 2


def test_a_worker_that_died_while_publishing_takes_no_figure_back(
    segment: Segment, view: SegmentView
) -> None:
    count_statistic(segment.base, 1, st.FREES, 5)
    publish_statistics(segment.base, 1)
    reader = Reader(view)
    good = reader.take()
    count_statistic(segment.base, 1, st.FREES, 5)
    segment.workers[layout.WORKER_WORDS + layout.W_PUBLISHED_SEQUENCE] += 1
    assert reader.take() is good
    assert reader.stale == 1
    assert reader.torn > 1
    segment.workers[layout.WORKER_WORDS + layout.W_PUBLISHED_SEQUENCE] += 1
    assert reader.take() is not good


def test_there_is_no_reading_before_the_first_good_one(
    segment: Segment, view: SegmentView
) -> None:
    segment.workers[layout.W_PUBLISHED_SEQUENCE] = 1
    assert Reader(view).take() is None

"""Bursts as a process makes them: requests one by one, then drawn; kills; the end of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from pagesoak.allocator.populate import plan_from_geometry, populate_synthetic
from pagesoak.allocator.process_load import (
    ALIGNED,
    UNALIGNED,
    Burst,
    ProcessSettings,
    process_bursts,
)
from pagesoak.allocator.process_memory import table_words
from pagesoak.allocator.worker import guest_worker
from pagesoak.base import layout
from pagesoak.base.costs import NO_COSTS
from pagesoak.base.generator import seed_words
from pagesoak.base.layout_process import L_OFFSET
from pagesoak.base.layout_reclaim import L_OOM_SCORE_ADJ
from pagesoak.base.segment import Segment
from pagesoak.engine.virtual import VirtualDriver
from tests.core_helper import zone_of_blocks

BLOCKS = 16
PAGES = BLOCKS * 1024
HOG, PROCESS = 0, 1
MS = 1_000_000
COSTS = NO_COSTS._replace(operation_ns=1_000, page_touch_ns=2_000)
SETTINGS = ProcessSettings(
    cpu=0,
    load=PROCESS,
    hog=HOG,
    leave_free_pages=4096,
    sizes_drawn_pages=(1024,),
    think_ns=50 * MS,
    hold_ns=20 * MS,
    run_ns=400 * MS,
)


@contextmanager
def small_guest() -> Iterator[Segment]:
    """64 MiB, a hog and a process."""
    zones = (zone_of_blocks(BLOCKS),)
    words = table_words(PAGES)
    segment = Segment.create(plan_from_geometry(zones, cpus=1, loads=2, table_words=2 * words))
    try:
        populate_synthetic(segment, zones)
        for load, score in ((HOG, -1000), (PROCESS, 1000)):
            at = load * layout.LOAD_WORDS
            segment.loads[at + layout.L_OWNER] = layout.OWNER_FIRST_LOAD + load
            segment.loads[at + layout.L_TABLE] = load * words
            segment.loads[at + layout.L_CAPACITY] = words
            segment.loads[at + L_OOM_SCORE_ADJ] = score
            for word, value in enumerate(seed_words(3, load)):
                segment.loads[at + layout.L_RANDOM + word] = value
        yield segment
    finally:
        segment.close()


def run(segment: Segment, settings: ProcessSettings) -> list[Burst]:
    """The bursts of a run."""
    bursts: list[Burst] = []
    driver = VirtualDriver(
        segment, {0: guest_worker([process_bursts(settings, bursts.append)])}, costs=COSTS
    )
    driver.run(10_000 * MS)
    driver.finish()
    return bursts


def test_the_hog_leaves_what_it_is_to_leave_and_bursts_are_done() -> None:
    with small_guest() as segment:
        bursts = run(segment, SETTINGS)
        assert bursts[0].free_pages == 4096
        assert not any(burst.killed for burst in bursts)
        assert {burst.pages for burst in bursts} == {1024}
        assert {burst.touched_ns - burst.began_ns for burst in bursts} == {1024 * 3_000}
        assert bursts[-1].began_ns - bursts[0].began_ns > 200 * MS
        assert segment.loads[PROCESS * layout.LOAD_WORDS + layout.L_HELD] == 0


def test_requests_are_taken_one_by_one_then_drawn() -> None:
    with small_guest() as segment:
        asked = SETTINGS._replace(pauses_ns=(7 * MS, 300 * MS, 0), sizes_pages=(100, 2000))
        bursts = run(segment, asked)
        assert [burst.pages for burst in bursts[:3]] == [100, 2000, 1024]
        ended_ns = bursts[0].touched_ns + SETTINGS.hold_ns
        pause_ns = bursts[1].began_ns - ended_ns
        assert 300 * MS < pause_ns < 301 * MS


def test_a_process_that_is_killed_starts_again() -> None:
    with small_guest() as segment:
        bursts = run(segment, SETTINGS._replace(sizes_pages=(500, 4200, 500)))
        assert [burst.killed for burst in bursts[:3]] == [False, True, False]
        assert bursts[1].free_pages_touched < 512
        assert bursts[2].pages == 500


def test_the_run_ends_after_the_burst_that_crosses_its_end() -> None:
    with small_guest() as segment:
        asked = SETTINGS._replace(pauses_ns=(0, 350 * MS, 350 * MS, 350 * MS))
        bursts = run(segment, asked)
        assert len(bursts) == 3


def test_regions_are_aligned_where_the_kernel_does() -> None:
    for alignment, size, aligned in (
        (UNALIGNED, 1024, False),
        (ALIGNED, 1024, True),
        (ALIGNED, 1000, False),
    ):
        with small_guest() as segment:
            asked = SETTINGS._replace(alignment=alignment, sizes_drawn_pages=(size,), run_ns=MS)
            run(segment, asked)
            offset = segment.loads[PROCESS * layout.LOAD_WORDS + L_OFFSET]
            assert (offset == 0) == aligned


def test_sizes_are_drawn_from_those_given() -> None:
    with small_guest() as segment:
        bursts = run(segment, SETTINGS._replace(sizes_drawn_pages=(100, 200, 300)))
        assert {burst.pages for burst in bursts} == {100, 200, 300}

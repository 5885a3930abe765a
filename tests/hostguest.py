"""A small guest for tests of the balloon host: its segment, a batch, and all other workers."""

from collections.abc import Sequence
from typing import Any

from pagesoak.base.layout import (
    E_END,
    E_ORDER,
    E_PAGES,
    E_PFN,
    ENTRY_WORDS,
    KIND_ISOLATED,
    NEXT,
    PAGE_WORDS,
    PREVIOUS,
    R_COUNT,
    R_ENTRIES,
    R_ERROR,
    R_ORDER,
    R_REQUEST,
    R_SERVED,
    R_START,
    REPORTING_CAPACITY,
    STAMPED,
    STATE,
    Z_END_PFN,
    Z_START_PFN,
    ZONE_WORDS,
)
from pagesoak.base.plan import SegmentPlan
from pagesoak.base.segment import Segment
from pagesoak.base.wants import Answer, AwaitReport, Now, Run, Sleep, Want
from pagesoak.host.device import HostModel
from pagesoak.host.faults import HostFaults
from pagesoak.host.worker import Ram, host_worker

CPUS = 1
HOST = CPUS + 1
MAX_PFN = 4096
ZONES = ((1, 1024), (1024, MAX_PFN))
REPORTING_ORDER = 3


def make_segment() -> Segment:
    """A guest of 16 MiB with two zones, reporting blocks of order 3 and above."""
    segment = Segment.create(SegmentPlan(len(ZONES), CPUS, MAX_PFN, CPUS + 3, 1, 1, 0))
    for zone, (start, end) in enumerate(ZONES):
        segment.zones[zone * ZONE_WORDS + Z_START_PFN] = start
        segment.zones[zone * ZONE_WORDS + Z_END_PFN] = end
    segment.report[R_ORDER] = REPORTING_ORDER
    return segment


def entry_words(index: int) -> int:
    """Where the words of an entry begin."""
    return R_ENTRIES + index * ENTRY_WORDS


def isolate(segment: Segment, request: int, blocks: Sequence[tuple[int, int]]) -> int:
    """Put blocks (first page, order) into the last entries and make the request.

    Every page of the blocks is entered as stamped. Returns the first entry.
    """
    start = REPORTING_CAPACITY - len(blocks)
    for index, (pfn, order) in enumerate(blocks, start):
        at = entry_words(index)
        segment.report[at + E_PFN] = pfn
        segment.report[at + E_ORDER] = order
        segment.report[at + E_PAGES] = 1 << order
        segment.report[at + E_END] = 0
        for page in range(pfn, pfn + (1 << order)):
            segment.pages[page * PAGE_WORDS + STATE] = STAMPED
        segment.pages[pfn * PAGE_WORDS + STATE] |= KIND_ISOLATED | order
        segment.pages[pfn * PAGE_WORDS + NEXT] = request
        segment.pages[pfn * PAGE_WORDS + PREVIOUS] = index
    segment.report[entry_words(REPORTING_CAPACITY - 1) + E_END] = 1
    segment.report[R_START] = start
    segment.report[R_COUNT] = len(blocks)
    segment.report[R_REQUEST] = request
    return start


def stamped_pages(segment: Segment) -> set[int]:
    """The pages whose records say that they carry a stamp."""
    states = segment.pages[STATE : MAX_PFN * PAGE_WORDS : PAGE_WORDS].tolist()
    return {pfn for pfn, state in enumerate(states) if state & STAMPED}


class Host:
    """Runs the host worker, on a clock that only sleeping moves."""

    def __init__(
        self,
        segment: Segment,
        ram: Ram,
        model: HostModel | None = None,
        faults: HostFaults | None = None,
    ) -> None:
        self.segment = segment
        self.now_ns = 1_000_000
        self.wants: list[Want] = []
        self.answers: list[Answer] = []
        self._worker = host_worker(segment.base, HOST, ram, model or HostModel(), faults=faults)
        assert isinstance(next(self._worker), AwaitReport)

    def serve(self, request: int) -> None:
        """Send the host a request, and go along until it waits for the next."""
        want = self._worker.send(request)
        while not isinstance(want, AwaitReport):
            self.wants.append(want)
            want = self._worker.send(self._answer(want))

    def _answer(self, want: Want) -> Any:
        if isinstance(want, Run):
            return want.function(self.segment.base, *want.arguments, self.now_ns)
        if isinstance(want, Sleep):
            self.now_ns = want.deadline_ns
        elif isinstance(want, Answer):
            self.answers.append(want)
            self.segment.report[R_ERROR] = want.error
            self.segment.report[R_SERVED] = want.request
            return None
        else:
            assert isinstance(want, Now)
        return self.now_ns

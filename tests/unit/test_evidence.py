"""What a breach leaves behind is bounded, however many pages were wrong and however often."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesoak.base.layout import RING_EVENTS
from pagesoak.base.recorder import VIOLATION, record_event
from pagesoak.base.segment import Segment
from pagesoak.engine.evidence import PAGES_MAX, save_evidence
from pagesoak.host.ram import GuestRam, open_ram
from tests.hostguest import HOST, MAX_PFN, make_segment


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = make_segment()
    yield made
    made.close()


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def test_evidence_is_bounded_in_number_and_size(segment: Segment, tmp_path: Path) -> None:
    for number in range(RING_EVENTS + 100):
        record_event(segment.base, HOST, VIOLATION, number % MAX_PFN, 1, 0, 0, 0)
    ram = open_ram(segment, touch=True)
    assert isinstance(ram, GuestRam)
    try:
        kept = {save_evidence(tmp_path, message, segment, ram) for message in ("one", "two")}
    finally:
        ram.close()
    (folder,) = kept
    files = {file.name for file in folder.iterdir()}
    assert files == {"message.txt", "events.jsonl", "segment.bin.gz", "pages.jsonl"}
    assert lines(folder / "pages.jsonl") == PAGES_MAX
    assert 0 < lines(folder / "events.jsonl") <= RING_EVENTS * segment.plan.workers
    with gzip.open(folder / "segment.bin.gz") as saved:
        assert len(saved.read()) == segment.file.size_bytes

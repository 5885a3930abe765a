"""What a load of files needs of the guest: slots of the page cache, and words in its record."""

from pagesoak.base import layout
from pagesoak.base.layout_reclaim import (
    L_FILE_PAGES,
    L_FIRST_SLOT,
    L_MLOCKED_PAGES,
    L_SEQUENTIAL,
    L_TMPFS_PAGES,
    L_WRITE_PERMILLE,
)
from pagesoak.base.scenario import Files, Load
from pagesoak.base.segment import Segment
from pagesoak.base.units import PAGE_SHIFT


def file_slots(settings: Load) -> int:
    """Slots of the page cache that a load needs, one for each page of its files."""
    if not isinstance(settings, Files):
        return 0
    return (settings.files_bytes + settings.tmpfs_bytes) >> PAGE_SHIFT


def write_files(segment: Segment, number: int, settings: Files, slot: int) -> None:
    """Write what a load of files needs into its record; its slots begin at `slot`."""
    for word, value in (
        (L_FIRST_SLOT, slot),
        (L_FILE_PAGES, settings.files_bytes >> PAGE_SHIFT),
        (L_MLOCKED_PAGES, settings.mlocked_bytes >> PAGE_SHIFT),
        (L_TMPFS_PAGES, settings.tmpfs_bytes >> PAGE_SHIFT),
        (L_WRITE_PERMILLE, settings.write_percent * 10),
        (L_SEQUENTIAL, int(settings.pattern == "sequential")),
    ):
        segment.loads[number * layout.LOAD_WORDS + word] = value

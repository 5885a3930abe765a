"""What a host that died leaves of its request: some ranges punched, and perhaps not yet on record.

The pages of a report that is out belong to nobody, so a punch that was made does no harm; but a
page that carries a stamp by its record and reads zero would be taken for lost memory later. Once
the host is seen dead nothing can be punched any more, and the records are made to agree.
"""

import numpy as np

from pagesoak.base.layout import (
    E_PAGES,
    E_PFN,
    ENTRY_WORDS,
    H_TOUCH,
    PAGE_WORDS,
    R_COUNT,
    R_ENTRIES,
    R_START,
    REPORTING_CAPACITY,
    STAMPED,
    STATE,
)
from pagesoak.base.segment import Segment
from pagesoak.base.units import PAGE_SHIFT, PAGE_SIZE_BYTES
from pagesoak.host.ram_file import RamFile

STAMP_WORDS = 2
WORDS_PER_PAGE = PAGE_SIZE_BYTES // 8


def settle_punched(segment: Segment, ram: RamFile | None) -> int:
    """Enter which pages of the request that is out have been punched; how many were not entered.

    `ram` is None where nothing is touched.
    """
    if ram is None or not segment.header[H_TOUCH]:
        return 0
    report = segment.report
    start = report[R_START]
    found = 0
    for index in range(start, min(start + report[R_COUNT], REPORTING_CAPACITY)):
        at = R_ENTRIES + index * ENTRY_WORDS
        found += unstamp_zeros(segment, ram, report[at + E_PFN], report[at + E_PAGES])
    return found


def unstamp_zeros(segment: Segment, ram: RamFile, pfn: int, pages: int) -> int:
    """Enter of each page of a range that reads zero that it does; how many were not entered."""
    if not 0 <= pfn <= pfn + pages <= segment.plan.max_pfn:
        return 0
    contents = ram.read(pfn << PAGE_SHIFT, pages << PAGE_SHIFT)
    words = np.frombuffer(contents, dtype=np.int64).reshape(pages, WORDS_PER_PAGE)
    zero = ~words[:, :STAMP_WORDS].any(axis=1)
    records = np.frombuffer(segment.pages, dtype=np.int32).reshape(-1, PAGE_WORDS)
    states = records[pfn : pfn + pages, STATE]
    stale = zero & (states & STAMPED != 0)
    states[stale] &= ~STAMPED
    return int(np.count_nonzero(stale))

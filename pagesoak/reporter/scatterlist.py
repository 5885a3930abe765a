"""The scatterlist: 32 entries that name the blocks of one report, with a mark on the last.

It is filled from its last entry downwards, so that what is in use always runs from `R_OFFSET` (32
when nothing is) to the end. Whoever walks it stops at the end marker and never counts. A policy
that may use fewer than 32 entries uses the last ones, so the marker stays where it is.

Models the array of struct scatterlist in Linux 6.1 `mm/page_reporting.c`, and of
`lib/scatterlist.c` what that uses: `sg_init_table`, `sg_set_page`, `sg_next`. The words:
`base.layout`, "page reporting device".
"""

from pagesoak.base.layout import (
    E_END,
    E_ORDER,
    E_PAGES,
    E_PFN,
    ENTRY_WORDS,
    R_ENTRIES,
    R_OFFSET,
    REPORTING_CAPACITY,
    Core,
    open_core,
)
from pagesoak.base.native import entry, inner, leaf

NO_ENTRY = -1
"""What follows the entry with the end marker."""
NO_PFN = -1
"""E_PFN of an entry that names no block."""


@leaf
def entry_words(index: int) -> int:
    """Where the words of an entry begin in the report section."""
    return R_ENTRIES + index * ENTRY_WORDS


@inner
def clear_entries(core: Core, start: int, count: int) -> None:
    """Forget `count` >= 1 entries from `start` on, and mark the last of them as the end."""
    report = core.report
    for index in range(start, start + count):
        at = entry_words(index)
        report[at + E_PFN] = NO_PFN
        report[at + E_ORDER] = 0
        report[at + E_PAGES] = 0
        report[at + E_END] = 0
    report[entry_words(start + count - 1) + E_END] = 1


@inner
def init_scatterlist(core: Core) -> None:
    """Empty list, end marker on the last entry: the state at the start of a pass."""
    clear_entries(core, 0, REPORTING_CAPACITY)
    core.report[R_OFFSET] = REPORTING_CAPACITY


@entry
def init_last_entries(base: int, _worker: int, count: int, _until_ns: int) -> int:
    """Initialise the last `count` (1 to 32) entries anew; 0, and nothing done, if any is in use.

    What is in use always ends at the last entry, so that the blocks it names would be forgotten.
    """
    core = open_core(base)
    if core.report[R_OFFSET] != REPORTING_CAPACITY:
        return 0
    clear_entries(core, REPORTING_CAPACITY - count, count)
    return 1


@entry
def pending_blocks(base: int) -> tuple[int, int]:
    """Pages and entries of the batch that is being filled; no lock."""
    core = open_core(base)
    entries = REPORTING_CAPACITY - core.report[R_OFFSET]
    return (pages_from(core, core.report[R_OFFSET]) if entries > 0 else 0), entries


@inner
def set_entry(core: Core, index: int, pfn: int, order: int) -> None:
    """Name a block in an entry; an end marker there stays."""
    at = entry_words(index)
    core.report[at + E_PFN] = pfn
    core.report[at + E_ORDER] = order
    core.report[at + E_PAGES] = 1 << order


@inner
def next_entry(core: Core, index: int) -> int:
    """The entry after this one, NO_ENTRY after the one with the end marker."""
    if core.report[entry_words(index) + E_END] != 0 or index >= REPORTING_CAPACITY - 1:
        return NO_ENTRY
    return index + 1


@inner
def pages_from(core: Core, start: int) -> int:
    """Pages named by the entries from `start` to the end marker."""
    pages = 0
    index = start
    while index != NO_ENTRY:
        pages += core.report[entry_words(index) + E_PAGES]
        index = next_entry(core, index)
    return pages

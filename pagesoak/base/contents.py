"""What the pages of a virtual guest contain: one word each, in place of 4096 bytes of RAM.

0 is a page of zeros with nothing behind it on the host; a *short stamp* says whose write it was;
any other word is foreign. A stamp in RAM has the page's number, its owner and the allocation's
sequence number; the short one has owner and sequence in full, and the number's low bits.
"""

from pagesoak.base.layout import H_OFFSETS, Core, Section, open_core
from pagesoak.base.layout_virtual import H_CONTENT_PAGES
from pagesoak.base.native import Words, entry, inner, int64_at, leaf

ZEROS = 0
SHORT_STAMP = 1 << 62
"""A bit that every short stamp has: none of them is 0."""
PFN_BITS_MASK = 0x3FFF
"""Of a page's number, between the owner's bits and that one."""
PFN_SHIFT = 48
OWNER_SHIFT = 32

_CONTENTS_OFFSET = H_OFFSETS + Section.CONTENTS


@leaf
def contents_of(core: Core) -> Words:
    """The content words, by page."""
    return int64_at(core.base + core.header[_CONTENTS_OFFSET])


@leaf
def short_stamp(pfn: int, owner: int, sequence: int) -> int:
    """The content of a page that `owner` (15 bits) wrote after allocation `sequence` (31 bits)."""
    return SHORT_STAMP | (pfn & PFN_BITS_MASK) << PFN_SHIFT | owner << OWNER_SHIFT | sequence


@inner
def clear_contents(core: Core, first_pfn: int, pages: int) -> int:
    """Make pages zero; returns how many of them had something behind them."""
    contents = contents_of(core)
    backed = 0
    for pfn in range(first_pfn, first_pfn + pages):
        if contents[pfn] != ZEROS:
            contents[pfn] = ZEROS
            backed += 1
    return backed


@entry
def write_content(base: int, pfn: int, word: int) -> int:
    """Put a word into a page, as a write by nobody that is known would; what was there."""
    contents = contents_of(open_core(base))
    before = contents[pfn]
    contents[pfn] = word
    return before


@leaf
def has_contents(core: Core) -> bool:
    """Whether pages have content words."""
    return core.header[H_CONTENT_PAGES] != 0

"""What the guest writes into its pages, and what it must find there.

Every page taken carries a stamp of 16 bytes at its start: (magic, pfn), (owner, sequence). The
page record remembers whether the page carries one (STAMPED) and of whom. So on the next touch
exactly one thing may be found: the last stamp, if nobody punched the page since; zeros, all 4096
bytes of them, if the host says it did, or if the page was never touched. Anything else is a breach
of the harness: memory was lost, or came back that should not have.

Stamps are written and read through the mapping of guest RAM, which the host punches. With `touch`
off nothing is mapped and these functions do nothing.

In a virtual run no RAM is mapped. There each page has one content word (`base.contents`): its
stamp in short, 0 while the page is all zero, anything else for what should not be there. Punching
clears it. What is checked, when, and what counts as a breach is the same.
"""

from pagesoak.base import recorder
from pagesoak.base.clock import spend
from pagesoak.base.contents import contents_of, short_stamp
from pagesoak.base.layout import (
    H_RAM_ADDRESS,
    H_TOUCH,
    OWNER_MASK,
    OWNER_SHIFT,
    PAGE_WORDS,
    SEQUENCE,
    STAMPED,
    STATE,
    Core,
)
from pagesoak.base.layout_virtual import C_PAGE_TOUCH, H_VIRTUAL
from pagesoak.base.native import inner, int64_at, leaf
from pagesoak.base.recorder import record
from pagesoak.base.statistics import PAGES_STAMPED, PAGES_VERIFIED, VIOLATIONS, count

STAMP_MAGIC = 0x5041_4745
"""`PAGE` in ASCII; with the pfn it makes the first word."""
PAGE_STAMP_WORDS = 512
"""64-bit words of a page."""

FOUND_STAMP_FOR_ZERO = 1
"""A punched (or never touched) page is not all zero."""
FOUND_OTHER_STAMP = 2
"""A page lost its stamp, or carries another page's, owner's or sequence's."""
FREED_NOT_TAKEN = 3
"""A block was given back that its owner does not have."""


@leaf
def first_word(pfn: int) -> int:
    """(magic, pfn)."""
    return (STAMP_MAGIC << 32) | pfn


@leaf
def second_word(owner: int, sequence: int) -> int:
    """(owner, sequence)."""
    return (owner << 32) | sequence


@inner
def breach(
    core: Core, worker: int, pfn: int, kind: int, expected: int, found: int, owner: int
) -> None:
    """Count a breach and keep its evidence in the flight recorder."""
    count(core, worker, VIOLATIONS, 1)
    record(core, worker, recorder.VIOLATION, pfn, kind, expected, found, owner)


@inner
def verify_content(core: Core, worker: int, pfn: int) -> bool:
    """`verify_page` on a page's content word."""
    found = contents_of(core)[pfn]
    state = core.pages[pfn * PAGE_WORDS + STATE]
    owner = (state & OWNER_MASK) >> OWNER_SHIFT
    count(core, worker, PAGES_VERIFIED, 1)
    if state & STAMPED:
        expected = short_stamp(pfn, owner, core.pages[pfn * PAGE_WORDS + SEQUENCE])
        if found == expected:
            return True
        breach(core, worker, pfn, FOUND_OTHER_STAMP, expected, found, owner)
        return False
    if found != 0:
        breach(core, worker, pfn, FOUND_STAMP_FOR_ZERO, 0, found, owner)
    return found == 0


@inner
def verify_page(core: Core, worker: int, pfn: int) -> bool:
    """Whether a page holds what it must: its last stamp, or zeros; a breach is counted and
    recorded.
    """
    if core.header[H_VIRTUAL] != 0:
        return verify_content(core, worker, pfn)
    words = int64_at(core.header[H_RAM_ADDRESS])
    at = pfn * PAGE_STAMP_WORDS
    state = core.pages[pfn * PAGE_WORDS + STATE]
    owner = (state & OWNER_MASK) >> OWNER_SHIFT
    count(core, worker, PAGES_VERIFIED, 1)
    if state & STAMPED:
        expected = second_word(owner, core.pages[pfn * PAGE_WORDS + SEQUENCE])
        if words[at] == first_word(pfn) and words[at + 1] == expected:
            return True
        breach(core, worker, pfn, FOUND_OTHER_STAMP, expected, words[at + 1], owner)
        return False
    seen = 0
    for word in range(PAGE_STAMP_WORDS):
        seen |= words[at + word]
    if seen != 0:
        breach(core, worker, pfn, FOUND_STAMP_FOR_ZERO, 0, words[at], owner)
    return seen == 0


@inner
def stamp_page(core: Core, worker: int, pfn: int, owner: int, sequence: int) -> None:
    """Write a page's stamp and remember it in its record."""
    if core.header[H_VIRTUAL] != 0:
        contents_of(core)[pfn] = short_stamp(pfn, owner, sequence)
    else:
        words = int64_at(core.header[H_RAM_ADDRESS])
        at = pfn * PAGE_STAMP_WORDS
        words[at] = first_word(pfn)
        words[at + 1] = second_word(owner, sequence)
    place = pfn * PAGE_WORDS + STATE
    core.pages[place] = (core.pages[place] & ~OWNER_MASK) | (owner << OWNER_SHIFT) | STAMPED
    core.pages[pfn * PAGE_WORDS + SEQUENCE] = sequence
    count(core, worker, PAGES_STAMPED, 1)


@inner
def touch_pages(core: Core, worker: int, pfn: int, order: int, owner: int, sequence: int) -> None:
    """Each page of a block must hold what it did, then is stamped."""
    for page in range(pfn, pfn + (1 << order)):
        verify_page(core, worker, page)
        stamp_page(core, worker, page, owner, sequence)
    spend(core, worker, C_PAGE_TOUCH, 1 << order)


@inner
def verify_pages(core: Core, worker: int, pfn: int, order: int) -> None:
    """Each page of a block must hold what it did."""
    for page in range(pfn, pfn + (1 << order)):
        verify_page(core, worker, page)


@leaf
def touch_block(core: Core, worker: int, pfn: int, order: int, owner: int, sequence: int) -> None:
    """First touch of a block just taken; nothing with `touch` off."""
    if core.header[H_TOUCH] != 0:
        touch_pages(core, worker, pfn, order, owner, sequence)


@leaf
def verify_block(core: Core, worker: int, pfn: int, order: int) -> None:
    """Last look at a block before it is given back; nothing with `touch` off."""
    if core.header[H_TOUCH] != 0:
        verify_pages(core, worker, pfn, order)

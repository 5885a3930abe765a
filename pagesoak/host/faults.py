"""A host that does wrong, once, when a word in the segment says so (`base.faults`).

Its next call is slow, or fails, or is answered twice, or stops in the middle of a range with an
error, or the host dies in the middle of it. What it did punch it enters, as long as it lives: a
guest may find its free pages empty after a report that failed.
"""

import os
import signal
from typing import NamedTuple, Protocol

from pagesoak.base.faults import (
    HOST_ANSWERS_TWICE,
    HOST_DIES,
    HOST_ERROR,
    HOST_FAULTS,
    HOST_PUNCHES_PARTLY,
    HOST_SLOW,
)
from pagesoak.base.layout import PAGE_WORDS, STAMPED, STATE
from pagesoak.base.layout_faults import H_HOST_FAULT, H_HOST_FAULT_AMOUNT
from pagesoak.base.segment import Segment

NOTHING = ""


class CallFault(NamedTuple):
    """What goes wrong with a call, by name, and how much longer it takes."""

    kind: str = NOTHING
    slower_ns: int = 0

    @property
    def fails(self) -> bool:
        """The call is answered by an error, and nothing is punched."""
        return self.kind == HOST_ERROR

    @property
    def breaks_off(self) -> bool:
        """The call ends in the middle of its ranges."""
        return self.kind in (HOST_PUNCHES_PARTLY, HOST_DIES)

    @property
    def dies(self) -> bool:
        """And the host with it."""
        return self.kind == HOST_DIES

    @property
    def answers_twice(self) -> bool:
        """The answer is given again."""
        return self.kind == HOST_ANSWERS_TWICE


WELL = CallFault()
"""Nothing goes wrong."""


class HostFaults(Protocol):
    """Where a host learns what is to go wrong."""

    def of_call(self) -> CallFault:
        """What goes wrong with the call that begins."""
        ...

    def half_punched(self, first_pfn: int, pages: int) -> None:
        """Some pages of a range were punched and the rest will not be."""
        ...

    def die(self) -> None:
        """End the process, as from outside."""
        ...


class NoFaults:
    """Nothing goes wrong."""

    def of_call(self) -> CallFault:
        """Nothing."""
        return WELL

    def half_punched(self, first_pfn: int, pages: int) -> None:
        """Never called."""

    def die(self) -> None:
        """Never called."""


class SegmentFaults:
    """What the words of a segment say."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._names = {number: name for name, number in HOST_FAULTS.items()}

    def of_call(self) -> CallFault:
        """Take the word, so that the next call goes well."""
        header = self._segment.header
        if not header[H_HOST_FAULT]:
            return WELL
        name = self._names.get(header[H_HOST_FAULT], NOTHING)
        slower_ns = header[H_HOST_FAULT_AMOUNT] if name == HOST_SLOW else 0
        header[H_HOST_FAULT] = 0  # from here on it is said to have happened, and another is told
        return CallFault(name, slower_ns)

    def half_punched(self, first_pfn: int, pages: int) -> None:
        """Enter that these pages read zero."""
        for place in range(first_pfn * PAGE_WORDS, (first_pfn + pages) * PAGE_WORDS, PAGE_WORDS):
            self._segment.pages[place + STATE] &= ~STAMPED

    def die(self) -> None:
        """SIGKILL."""
        os.kill(os.getpid(), signal.SIGKILL)

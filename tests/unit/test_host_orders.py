"""What a host is told to do wrong: one thing at a time, and counted when it has taken it."""

from collections.abc import Iterator

import pytest

from pagesoak.base.faults import HOST_ERROR, HOST_FAULTS, HOST_SLOW, FaultWanted
from pagesoak.base.layout_faults import H_HOST_FAULT
from pagesoak.base.segment import Segment
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.engine.host_orders import MOMENT_NS_MAX, HostOrders
from pagesoak.host.faults import CallFault, SegmentFaults
from tests.hostguest import make_segment

SLOW = FaultWanted(HOST_SLOW, seconds=2.0)
ERROR = FaultWanted(HOST_ERROR)


class Told:
    """A host and what became of its orders."""

    def __init__(self, segment: Segment) -> None:
        self.taken: list[FaultWanted] = []
        self.missed: list[FaultWanted] = []
        self.header = segment.header
        self.orders = HostOrders(segment.header, self.taken.append, self.missed.append)
        self.host = SegmentFaults(segment)


@pytest.fixture
def told() -> Iterator[Told]:
    segment = make_segment()
    yield Told(segment)
    segment.close()


def test_what_is_wanted_at_once_happens_call_by_call(told: Told) -> None:
    for wanted in (SLOW, ERROR, SLOW):
        told.orders.want(wanted, 0)
    assert told.taken == []
    calls = []
    for now_ns in range(4):
        calls.append(told.host.of_call())
        told.orders.look(now_ns)
    slow = CallFault(HOST_SLOW, 2 * NS_PER_SECOND)
    assert calls == [slow, CallFault(HOST_ERROR), slow, CallFault()]
    assert told.taken == [SLOW, ERROR, SLOW]
    assert told.missed == []
    assert not told.orders.waits


def test_what_no_call_comes_for_is_given_up_and_counted_nowhere(told: Told) -> None:
    told.orders.want(SLOW, 0)
    told.orders.want(ERROR, 1)
    told.orders.look(MOMENT_NS_MAX)
    assert told.missed == []
    told.orders.look(MOMENT_NS_MAX + 1)
    assert (told.missed, told.header[H_HOST_FAULT]) == ([SLOW], HOST_FAULTS[HOST_ERROR])
    told.orders.look(MOMENT_NS_MAX + 2)
    assert (told.missed, told.header[H_HOST_FAULT]) == ([SLOW, ERROR], 0)
    assert told.host.of_call() == CallFault()
    assert told.taken == []


def test_at_the_end_what_was_taken_counts_and_the_rest_does_not(told: Told) -> None:
    for wanted in (SLOW, ERROR, SLOW):
        told.orders.want(wanted, 0)
    told.host.of_call()
    told.orders.look(1)
    told.host.of_call()
    told.orders.end()
    assert told.taken == [SLOW, ERROR]
    assert told.missed == [SLOW]
    assert (told.header[H_HOST_FAULT], told.orders.waits) == (0, False)

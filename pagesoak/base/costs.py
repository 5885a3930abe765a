"""What things take on a virtual clock: whole nanoseconds, each with its source or named a choice.

A live run measures; a virtual one has to say. The figures are those of a small guest on a host of
the 2020s; a scenario sets its own in [virtual] (docs/scenarios.md). They lie in the segment's
header, where a live run has zeros.
"""

from typing import NamedTuple


class Costs(NamedTuple):
    """Modelled times in ns, in the order of the `C_` words of `layout_virtual`."""

    operation_ns: int = 90
    """An allocation or a free that its pageset serves: order 0 in Linux 6.0 took 94 and 90 ns on a
    Xeon of 2.2 GHz (the benchmark module of LLFree).
    """
    page_touch_ns: int = 4_000
    """The first touch of a 4 KiB page, fault included: 2.0 ms for 2 MiB that a balloon gave back
    (HyperAlloc's measurements), 4.2 to 5.9 us a page with a memfd.
    """
    lock_ns: int = 20
    """Taking and giving back a zone lock that is free: a robust mutex takes 12 to 18 ns."""
    lock_block_ns: int = 100
    """Per block that is taken off or put on a free list under the zone lock, merging and splitting
    included: an order-0 pair past the pageset took 105 to 112 ns.
    """
    list_step_ns: int = 5
    """Per block that a pass walks over without taking it: a choice, a cache line that is there."""
    wake_up_ns: int = 5_000
    """From waking a worker until it runs. A report call wakes the host, and its answer the guest:
    a call with one discard of 2 MiB takes 16.1 us, the discard alone 6.2 us (HyperAlloc's
    measurements), so 5 us each.
    """
    host_range_ns: int = 6_000
    """Discarding a range of which nothing is backed: punching a hole again takes 5.6 to 7.2 us."""
    host_mib_ns: int = 350_000
    """Per MiB that a discard gives back, in 4 KiB pages: 2 MiB of a memfd took 0.55 to 0.75 ms,
    4 MiB 1.1 to 1.7 ms.
    """
    reclaim_page_ns: int = 500
    """Per page that reclaim scans: a choice, some cache misses and a tree operation."""


NO_COSTS = Costs(*(0 for _ in Costs._fields))

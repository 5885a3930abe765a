"""What the proposed policies share: how many entries of an order weigh as much as a full list of
the smallest order, and what that makes at most.
"""

LARGEST_ORDER = 10
"""Of a free block in the modelled kernels."""


def entries_of_order(order: int, reporting_order: int, capacity: int) -> int:
    """Entries of `order` that hold as many pages as `capacity` of `reporting_order`; at least 1.

    (32 << 9) >> order in Alexander Duyck's review of 2 April 2021 (ML-R4), for the capacity and
    page_reporting_order of any device. Never 0: that would be a report of nothing, and a budget
    divided by 0.
    """
    return max(1, (capacity << reporting_order) >> order)


def most_pages(reporting_order: int, capacity: int) -> int:
    """The most pages of so many entries of any one order."""
    return max(
        entries_of_order(order, reporting_order, capacity) << order
        for order in range(reporting_order, LARGEST_ORDER + 1)
    )

"""The counters of Pang's first patch, and CAL-1: a boot that uses what was reported first."""

from pagesoak.allocator.proc_view import ReportingKbytes, reporting_kbytes
from pagesoak.base import layout
from pagesoak.base.layout import IDLE
from pagesoak.reporter.passes import DELAY_NS
from tests.reporting_driver import Driver
from tests.zone_helper import G512, Guest

FIRST_PFN = 12_288
ORDER = 10
TICK_NS = 4_000_000
WHEEL_NS = 8 * TICK_NS


def test_cal_1_all_that_the_first_pass_reported_is_in_use_again() -> None:
    """CAL-1: 42 free blocks of 4 MiB when the driver is probed; its first pass 2 s later reports
    all 168 MiB, in one full call and a leftover; then the boot takes every one of them.
    """
    guest = Guest(*G512)
    try:
        pfns = [FIRST_PFN + (number << ORDER) for number in range(42)]
        guest.give_list(ORDER, pfns)
        driver = Driver(guest)
        driver.run(passes=1)
        assert driver.states == [IDLE]
        assert driver.entries_by_pass() == [[32, 10]]
        (cause,), (start,) = driver.causes, driver.sleeps
        assert 0 <= start - cause - DELAY_NS <= WHEEL_NS + TICK_NS
        assert reporting_kbytes(guest.segment) == ReportingKbytes(172_032, 0)
        for _ in pfns:
            assert guest.take(ORDER, 1) in pfns
        assert reporting_kbytes(guest.segment) == ReportingKbytes(0, 172_032)
        assert guest.word(1, layout.Z_REPORTED) == 0
    finally:
        guest.close()


def test_a_merge_counts_and_a_block_never_reported_does_not() -> None:
    """Both buddies of 2 MiB leave their list to merge; one of them was Reported."""
    guest = Guest(*G512)
    try:
        guest.give_list(9, [FIRST_PFN, FIRST_PFN + 2048], reported=[FIRST_PFN])
        assert reporting_kbytes(guest.segment) == ReportingKbytes(2048, 0)
        assert guest.give(FIRST_PFN + 512, 9) == ORDER
        assert reporting_kbytes(guest.segment) == ReportingKbytes(0, 2048)
        guest.take(9, 1)
        assert reporting_kbytes(guest.segment) == ReportingKbytes(0, 2048)
    finally:
        guest.close()

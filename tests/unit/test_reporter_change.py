"""Policy and settings that change while the reporter runs: between two passes, and as if its
driver had been loaded anew.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pagesoak.base import layout
from pagesoak.base.layout import IDLE
from pagesoak.base.layout_reporting import R_FACTOR
from pagesoak.reporter.guard import Guarded
from pagesoak.reporter.passes import ReporterSettings
from pagesoak.reporter.policies.driver_capacity import DriverCapacity
from pagesoak.reporter.policies.halving import Halving
from pagesoak.reporter.worker import Change
from tests.reporting_driver import Driver
from tests.unit.test_reporter_worker import O10, guest_of_o10
from tests.zone_helper import Guest

SETTINGS = ReporterSettings(1)


@pytest.fixture
def guests() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Wishes:
    """Changes that a test makes, each given once."""

    def __init__(self) -> None:
        self.next: Change | None = None

    def __call__(self) -> Change | None:
        """See `Changes`."""
        given, self.next = self.next, None
        return given


def steered(guest: Guest) -> tuple[Driver, Wishes]:
    wishes = Wishes()
    return Driver(guest, settings=SETTINGS, changes=wishes).run(), wishes


def test_another_policy_registers_the_device_again_and_asks_for_a_pass(
    guests: ExitStack,
) -> None:
    guest = guest_of_o10(guests, 40)
    driver, wishes = steered(guest)
    passes = len(driver.states)
    assert driver.steps.count("register-device") == 1
    wishes.next = Change(Guarded(Halving()), SETTINGS)
    driver.run()
    assert driver.steps.count("register-device") == 2
    assert len(driver.states) == passes + 1
    guest.give(90 * O10, 10, flags=0)
    driver.run()
    assert driver.states[-1] == IDLE
    assert len(guest.reported(10)) == 41


def test_the_new_policy_decides_from_the_next_pass_on(guests: ExitStack) -> None:
    """Halving fills half a list of order 10, mainline a whole one."""
    guest = guest_of_o10(guests, 40)
    driver = Driver(guest, settings=SETTINGS, changes=(wishes := Wishes()))
    wishes.next = Change(Guarded(Halving()), SETTINGS)
    driver.run()
    assert max(len(call.entries) for call in driver.calls) == 16


def test_a_device_of_another_capacity_comes_with_its_policy(guests: ExitStack) -> None:
    driver, wishes = steered(guest_of_o10(guests, 3))
    policy = DriverCapacity(capacity=8)
    wishes.next = Change(Guarded(policy), SETTINGS)
    driver.run()
    assert driver.guest.report[layout.R_CAPACITY] == policy.device_capacity == 8


def test_factors_come_change_and_go(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 3)
    driver, wishes = steered(guest)
    assert guest.report[R_FACTOR] == 0
    for factor, word in ((50, 51), (100, 101), (-1, 0), (None, 0)):
        wishes.next = Change(None, ReporterSettings(1, factor=factor))
        driver.run()
        assert guest.report[R_FACTOR] == word
    assert driver.steps.count("register-device") == 1


def test_a_policy_takes_its_own_factor_away_with_it(guests: ExitStack) -> None:
    guest = guest_of_o10(guests, 3)
    driver, wishes = steered(guest)
    wishes.next = Change(Guarded(OwnFactor()), SETTINGS)
    driver.run()
    assert guest.report[R_FACTOR] == 31
    wishes.next = Change(Guarded(Halving()), SETTINGS)
    driver.run()
    assert guest.report[R_FACTOR] == 0


class OwnFactor(Halving):
    """Comes with a factor."""

    factor = 30

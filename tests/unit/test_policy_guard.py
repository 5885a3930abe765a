"""A policy that does what no policy may: it is stopped, by name and value, and nothing is lost."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from pagesoak.base.layout import IDLE
from pagesoak.engine.policy_limit import limited
from pagesoak.reporter.guard import Guarded, PolicyError
from pagesoak.reporter.policies import policy_by_name
from pagesoak.reporter.policy import Hold, HoldView, OrderPlan, ZoneView
from tests.reporting_driver import Call, Driver
from tests.zone_helper import Guest, ample

O10 = 1 << 10


@pytest.fixture
def guests() -> Iterator[ExitStack]:
    """Closes the guests of a test."""
    with ExitStack() as stack:
        yield stack


def guest_of(stack: ExitStack) -> Guest:
    """20 blocks of order 9, 40 of order 10."""
    guest = Guest(ample(120))
    stack.callback(guest.close)
    guest.give_list(9, [number * O10 for number in range(20)])
    guest.give_list(10, [(20 + number) * O10 for number in range(40)])
    return guest


@dataclass
class Wrong:
    """Right until order 10; there `deed` decides, at the first or the second hold."""

    deed: Any
    hold: int = 1
    name: str = "wrong"
    seen: int = 0

    def at_zone(self, _view: ZoneView) -> Any:
        """All zones."""
        return ()

    def at_hold(self, order: int, view: HoldView, _context: Any) -> Any:
        """The deed."""
        if order == 10:
            self.seen += 1
            if self.seen == self.hold:
                return self.deed(view)
        return Hold(32)


def raises(_view: HoldView) -> Any:
    raise KeyError("nothing there")


def writes(view: HoldView) -> Hold:
    object.__setattr__(view, "free_pages", 5)
    return Hold(32)


def writes_true(view: HoldView) -> Hold:
    object.__setattr__(view, "isolated_pages", view.isolated_pages + 0.0)
    return Hold(32)


def changed(_view: HoldView) -> Hold:
    hold = Hold(32)
    object.__setattr__(hold, "capacity", 33)
    return hold


def spins(_view: HoldView) -> Any:
    while True:
        pass


def sleeps(_view: HoldView) -> Any:
    time.sleep(60)


DEEDS: dict[str, tuple[Any, str]] = {
    "capacity 0": (lambda _: Hold(0), "at_hold: capacity = 0 is not a whole number from 1 to 32"),
    "capacity 33": (lambda _: Hold(33), "at_hold: capacity = 33 is not"),
    "capacity 1.5": (lambda _: Hold(1.5), r"at_hold: capacity = 1\.5 is not"),  # type: ignore[arg-type]
    "capacity None": (lambda _: Hold(None), "at_hold: capacity = None is not"),  # type: ignore[arg-type]
    "take -1": (lambda _: Hold(1, take=-1), "at_hold: take = -1 is not"),
    "take huge": (lambda _: Hold(1, take=1 << 40), f"at_hold: take = {1 << 40} is not"),
    "budget -2": (lambda _: Hold(1, budget=-2), "at_hold: budget = -2 is not"),
    "flush 1": (lambda _: Hold(1, flush_before=1), "flush_before = 1 is neither"),  # type: ignore[arg-type]
    "shift 11": (lambda _: Hold(1, budget_shift=11), "budget_shift = 11 is not"),
    "a number": (lambda _: 16, "at_hold: returned 16, which is no Hold"),
    "nothing": (lambda _: None, "at_hold: returned None, which is no Hold"),
    "raises": (raises, "at_hold: raised KeyError: 'nothing there'"),
    "writes": (writes, "at_hold: wrote to its view: free_pages was [0-9]+, is 5"),
    "writes the same in another type": (writes_true, "wrote to its view: isolated_pages was"),
    "an answer changed afterwards": (changed, "at_hold: capacity = 33 is not"),
}


@pytest.mark.parametrize("hold", [1, 2], ids=["before a report", "after a report"])
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
def test_nonsense_stops_the_policy_and_loses_nothing(
    guests: ExitStack, deed: tuple[Any, str], hold: int
) -> None:
    guest = guest_of(guests)
    what, said = deed
    driver = Driver(guest, policy=Wrong(what, hold))  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match=f"^policy: policy wrong: .*{said}"):
        driver.run()
    assert guest.isolated_pages() == 0
    guest.check()
    guest.check_page_records()
    assert driver.states == [IDLE]
    # what was pending was reported: 20 of order 9, with 12 of order 10 in the second hold
    assert sum(len(call.entries) for call in driver.calls) == (20 if hold == 1 else 32)
    assert len(guest.reported(9)) == 20


@pytest.mark.parametrize(("deed", "said"), [(spins, "100 ms"), (sleeps, "2 s")])
def test_a_policy_that_does_not_come_back(guests: ExitStack, deed: Any, said: str) -> None:
    guest = guest_of(guests)
    driver = Driver(guest, policy=limited(Wrong(deed)))  # type: ignore[arg-type]
    began = time.monotonic()
    with pytest.raises(PolicyError, match=f"at_hold: did not return within {said}"):
        driver.run()
    assert time.monotonic() - began < 50
    assert guest.isolated_pages() == 0
    assert len(guest.reported(9)) == 20


def test_a_policy_stopped_while_the_report_failed(guests: ExitStack) -> None:
    guest = guest_of(guests)

    def answer(_call: Call) -> int:
        return 5

    driver = Driver(guest, policy=Wrong(raises, 2), answer=answer)  # type: ignore[arg-type]
    with pytest.raises(PolicyError):
        driver.run()
    assert guest.isolated_pages() == 0
    assert guest.reported(9) == []


def test_a_zone_function_that_is_wrong(guests: ExitStack) -> None:
    guest = guest_of(guests)

    class Zone(Wrong):
        def at_zone(self, view: ZoneView) -> Any:
            return view.free_pages // 0

    driver = Driver(guest, policy=Zone(raises))  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="policy wrong: at_zone: raised ZeroDivisionError"):
        driver.run()
    assert driver.calls == []


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (None, "at_order: returned None, which is no OrderPlan"),
        (SimpleNamespace(initialise=1), "which is no OrderPlan"),
        ("many", "at_order: initialise = 33 is not a whole number from 0 to 32"),
    ],
)
def test_an_order_function_that_is_wrong(guests: ExitStack, plan: Any, said: str) -> None:
    guest = guest_of(guests)

    class Order(Wrong):
        def at_order(self, order: int, _view: ZoneView, _context: Any) -> Any:
            if order == 9:
                return OrderPlan(32)
            return OrderPlan(33) if plan == "many" else plan

    driver = Driver(guest, policy=Order(lambda _: Hold(32)))  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match=said):
        driver.run()
    assert [len(call.entries) for call in driver.calls] == [20]
    assert guest.isolated_pages() == 0


def test_what_a_policy_says_of_its_device() -> None:
    class Device(Wrong):
        device_capacity = 64

    with pytest.raises(PolicyError, match=r"policy wrong: device_capacity = 64 is not .* 1 to 32"):
        Guarded(Device(raises))  # type: ignore[arg-type]


def test_built_in_policies_are_not_watched() -> None:
    assert limited(policy_by_name("mainline"))._limit is not limited(Wrong(raises))._limit  # type: ignore[arg-type]

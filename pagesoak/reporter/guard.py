"""Between the reporter and a policy: no answer is believed before it has been looked at.

A policy may be anybody's code. It runs before the zone lock is taken, on views that are copies, so
whatever it does, it harms nothing but its own results: an answer that is no answer, one out of
range, an exception, a view that was written to, a function that does not come back. Each is a
`PolicyError` that names the policy, the function and what was wrong; the reporter then reports
what is pending, ends its pass and passes the error on.

The built-in policies are asked directly: their answers are what the tests of this program look at.

The guard knows no clock. Whoever runs a worker hands it a `Limit`, a context in which one call of
the policy is made and which raises TimeoutError when it takes too long.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from operator import attrgetter, is_
from typing import Any

from pagesoak.base.errors import InputError
from pagesoak.reporter.policies import BUILT_IN
from pagesoak.reporter.policy import (
    CAPACITY_MAX,
    DEMAND_MEMORY_SECONDS,
    DEMAND_MEMORY_SECONDS_MAX,
    Hold,
    HoldView,
    OrderPlan,
    Policy,
    ZoneView,
)

Limit = Callable[[], AbstractContextManager[object]]
"""Makes the context of one call of a policy."""

FACTOR_PERCENT_MAX = 100
NANOSECONDS_PER_SECOND = 1_000_000_000
NO_PLAN = OrderPlan()
"""Of an order, by a policy that plans none."""
_ZONE_WORDS = attrgetter(*(field.name for field in fields(ZoneView)))
_HOLD_WORDS = attrgetter(*(field.name for field in fields(HoldView)))


class PolicyError(InputError):
    """A policy did what no policy may; the message names it, its function, and the value."""


class Guarded:
    """A policy as the reporter asks it. Raises PolicyError for whatever it does wrong."""

    def __init__(self, policy: Policy, limit: Limit = nullcontext) -> None:
        self.policy = policy
        self._limit = limit
        self.name = name_of(policy)
        self.registers_device = bool(getattr(policy, "registers_device", True))
        self.device_capacity = self._setting("device_capacity", 1, CAPACITY_MAX)
        self.factor = self._setting("factor", 0, FACTOR_PERCENT_MAX)
        self._built_in = type(policy) in BUILT_IN.values()
        seconds = self._setting("demand_memory_seconds", 1, DEMAND_MEMORY_SECONDS_MAX)
        self.watches_demand = seconds is not None or not self._built_in
        self.demand_memory_ns = (seconds or DEMAND_MEMORY_SECONDS) * NANOSECONDS_PER_SECOND
        self.plans_orders = callable(getattr(policy, "at_order", None))
        self.fixed_hold: Callable[[int], Hold] | None = None
        """Of a built-in policy that looks at nothing: its one hold, by the device's capacity."""
        if self._built_in:
            self.fixed_hold = getattr(policy, "fixed_hold", None)

    def at_zone(self, view: ZoneView) -> Any:
        """The context, or None: leave the zone out."""
        return self._ask("at_zone", _ZONE_WORDS, view, view)

    def at_order(self, order: int, view: ZoneView, context: Any) -> OrderPlan:
        """What happens to the scatterlist around this order."""
        answer = self._ask("at_order", _ZONE_WORDS, view, order, view, context)
        plan: OrderPlan = self._checked("at_order", answer, OrderPlan)
        return plan

    def at_hold(self, order: int, view: HoldView, context: Any) -> Hold:
        """How far the next hold may fill."""
        if self._built_in:
            return self.policy.at_hold(order, view, context)
        answer = self._ask("at_hold", _HOLD_WORDS, view, order, view, context)
        hold: Hold = self._checked("at_hold", answer, Hold)
        return hold

    def would_lose(self, plan: OrderPlan, pages: int, entries: int) -> PolicyError:
        """The error of a plan that initialises entries which are in use."""
        lost = f"with {entries} blocks pending: {pages} pages would be lost"
        return self._error("at_order", f"initialise = {plan.initialise} {lost}")

    def _setting(self, key: str, least: int, most: int) -> int | None:
        value = getattr(self.policy, key, None)
        if value is not None and (type(value) is not int or not least <= value <= most):
            message = f"{key} = {value!r} is not a whole number from {least} to {most}"
            raise PolicyError(f"policy {self.name}: {message}", key="policy")
        return value

    def _ask(
        self, function: str, words: Callable[[Any], tuple[int, ...]], view: Any, *arguments: Any
    ) -> Any:
        before = words(view)
        try:
            with self._limit():
                answer = getattr(self.policy, function)(*arguments)
        except TimeoutError as error:
            raise self._error(function, str(error)) from error
        except InputError as error:
            key = (error.key or "").removeprefix("policy.")
            said = f"{key} = {error.message}" if key else error.message
            raise self._error(function, said) from error
        except Exception as error:
            raise self._error(function, f"raised {type(error).__name__}: {error}") from error
        after = words(view)
        if not all(map(is_, before, after)):
            for field, was, now in zip(fields(view), before, after, strict=True):
                if now is not was:
                    said = f"wrote to its view: {field.name} was {was}, is {now!r}"
                    raise self._error(function, said)
        return answer

    def _checked(self, function: str, answer: Any, wanted: type[Any]) -> Any:
        if type(answer) is not wanted:
            raise self._error(function, f"returned {answer!r}, which is no {wanted.__name__}")
        try:
            answer.__post_init__()  # also of an answer that was written to after it was made
        except InputError as error:
            key = (error.key or "").removeprefix("policy.")
            raise self._error(function, f"{key} = {error.message}") from error
        return answer

    def _error(self, function: str, what: str) -> PolicyError:
        return PolicyError(f"policy {self.name}: {function}: {what}", key="policy")


def name_of(policy: object) -> str:
    """What a policy is called in messages, whatever it is."""
    name = getattr(policy, "name", None)
    return name if isinstance(name, str) and name else type(policy).__name__

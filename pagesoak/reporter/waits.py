"""Which zones are left alone, and when their policy is asked again (`reporter.waiting`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pagesoak.reporter.views import ListOf

RETRY_FIRST_NS = 2_000_000_000
"""From the pass that ends waiting to the first look: as from pass to pass."""
RETRY_LAST_NS = 60_000_000_000
"""A tenth of the time that demands are remembered for: a floor comes down in such steps."""


@dataclass
class Wait:
    """A zone that waits: the list it stopped at, and when its policy is asked again."""

    at: ListOf
    context: Any
    """Of the policy, for this zone."""
    due_ns: int
    retry_ns: int = RETRY_FIRST_NS

    def put_off(self, now_ns: int) -> None:
        """The policy still leaves the zone alone."""
        self.retry_ns = min(2 * self.retry_ns, RETRY_LAST_NS)
        self.due_ns = now_ns + self.retry_ns


class Waits:
    """The zones that wait, by number."""

    def __init__(self) -> None:
        self._waits: dict[int, Wait] = {}

    def begin(self, wait: Wait) -> None:
        """A zone waits."""
        self._waits[wait.at.zone] = wait

    def end_all(self) -> None:
        """A pass begins, which comes to every zone."""
        self._waits.clear()

    def __bool__(self) -> bool:
        """Whether any zone waits."""
        return bool(self._waits)

    def due_ns(self) -> int:
        """When a policy is to be asked next, where a zone waits."""
        return min(wait.due_ns for wait in self._waits.values())

    def due(self, now_ns: int) -> Iterator[Wait]:
        """The zones whose policy is to be asked now."""
        return (wait for wait in list(self._waits.values()) if wait.due_ns <= now_ns)

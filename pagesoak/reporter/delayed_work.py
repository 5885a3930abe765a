"""Delayed work: what is to be done, and when, in the order in which it falls due.

A queue without a clock: it is told the time. Work that is pending is not moved by scheduling it
again; work that has begun may be scheduled anew. Both as in the kernel, whose
`schedule_delayed_work` returns whether it did anything (Linux 6.1 `kernel/workqueue.c`). A
deadline is the moment at which the kernel's timer fires; `base.timer_wheel` knows when that is.
"""

from bisect import insort
from collections.abc import Hashable
from typing import Generic, TypeVar

WorkT = TypeVar("WorkT", bound=Hashable)


class DelayedWorkQueue(Generic[WorkT]):
    """Pending work by its deadline; work with the same deadline in the order it was scheduled."""

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, WorkT]] = []
        self._pending: dict[WorkT, tuple[int, int, WorkT]] = {}
        self._scheduled = 0

    def __len__(self) -> int:
        return len(self._queue)

    def schedule(self, work: WorkT, due_ns: int) -> bool:
        """Have `work` fall due at `due_ns`; False when it is pending: it stays as it is."""
        if work in self._pending:
            return False
        entry = (due_ns, self._scheduled, work)
        self._scheduled += 1
        self._pending[work] = entry
        insort(self._queue, entry)  # the second word is nobody else's: works are not compared
        return True

    def cancel(self, work: WorkT) -> bool:
        """Forget pending work; False when it was not pending."""
        entry = self._pending.pop(work, None)
        if entry is None:
            return False
        self._queue.remove(entry)
        return True

    def next_due_ns(self) -> int | None:
        """When the first work falls due; None when nothing is pending."""
        return self._queue[0][0] if self._queue else None

    def pop_due(self, now_ns: int) -> list[WorkT]:
        """Take out and return all work that is due at `now_ns`, earliest first."""
        due = []
        while self._queue and self._queue[0][0] <= now_ns:
            work = self._queue.pop(0)[2]
            del self._pending[work]
            due.append(work)
        return due

"""The queue of delayed work: order, pending work that stays, cancelling."""

from hypothesis import given
from hypothesis import strategies as st

from pagesoak.reporter.delayed_work import DelayedWorkQueue


def test_an_empty_queue() -> None:
    queue: DelayedWorkQueue[str] = DelayedWorkQueue()
    assert queue.next_due_ns() is None
    assert queue.pop_due(1 << 60) == []
    assert not queue.cancel("pass")


def test_due_at_its_deadline_and_not_before() -> None:
    queue: DelayedWorkQueue[str] = DelayedWorkQueue()
    assert queue.schedule("pass", 2_000)
    assert queue.next_due_ns() == 2_000
    assert queue.pop_due(1_999) == []
    assert queue.pop_due(2_000) == ["pass"]
    assert queue.next_due_ns() is None


def test_pending_work_stays_where_it_is() -> None:
    queue: DelayedWorkQueue[str] = DelayedWorkQueue()
    assert queue.schedule("pass", 2_000)
    assert not queue.schedule("pass", 1_000)
    assert not queue.schedule("pass", 3_000)
    assert queue.next_due_ns() == 2_000
    assert len(queue) == 1


def test_work_that_began_may_be_scheduled_again() -> None:
    queue: DelayedWorkQueue[str] = DelayedWorkQueue()
    queue.schedule("pass", 1_000)
    assert queue.pop_due(1_000) == ["pass"]
    assert queue.schedule("pass", 3_000)
    assert queue.next_due_ns() == 3_000


def test_cancelled_work_is_gone() -> None:
    queue: DelayedWorkQueue[str] = DelayedWorkQueue()
    queue.schedule("pass", 1_000)
    queue.schedule("timer", 1_000)
    assert queue.cancel("pass")
    assert not queue.cancel("pass")
    assert queue.pop_due(1_000) == ["timer"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=30), st.integers(0, 9))
def test_earliest_first_and_fair_between_equals(works: list[tuple[int, int]], now_ns: int) -> None:
    """Against a stable sort of what was scheduled; `works` are (deadline, name)."""
    queue: DelayedWorkQueue[int] = DelayedWorkQueue()
    pending: dict[int, int] = {}
    for due_ns, name in works:
        assert queue.schedule(name, due_ns) == (name not in pending)
        pending.setdefault(name, due_ns)
    assert queue.next_due_ns() == min(pending.values(), default=None)
    due = [
        name for name in sorted(pending, key=lambda name: pending[name]) if pending[name] <= now_ns
    ]
    assert queue.pop_due(now_ns) == due
    assert len(queue) == len(pending) - len(due)

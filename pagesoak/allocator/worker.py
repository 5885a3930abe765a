"""A guest CPU: the worker that runs the programs of its loads in turn, by their due times.

One program makes its next move when it is due; what it wants is yielded on to the driver. Programs
that are due at the same time take turns. The barrier is reached when all programs of the CPU have
reached it.
"""

from collections.abc import Sequence
from typing import Any

from sortedcontainers import SortedKeyList

from pagesoak.allocator.loads import Program
from pagesoak.base.wants import Barrier, Now, Sleep, Worker


class _Turn:
    """One program's next move: when it is due, and what came of its last want."""

    def __init__(self, program: Program, due_ns: int, number: int) -> None:
        self.program = program
        self.due_ns = due_ns
        self.number = number
        self.answer: Any = None


def _prepare(programs: Sequence[Program]) -> Worker:
    """Run each program up to its barrier."""
    for program in programs:
        want = next(program)
        while not isinstance(want, Barrier):
            want = program.send((yield want))


def guest_worker(programs: Sequence[Program]) -> Worker:
    """Run the programs of one CPU; ends when all have ended."""
    if len(programs) == 1:  # its barrier is the CPU's
        yield from programs[0]
        return
    yield from _prepare(programs)
    now_ns = yield Barrier()
    turns = SortedKeyList(key=lambda turn: (turn.due_ns, turn.number))
    for number, program in enumerate(programs):
        turn = _Turn(program, now_ns, number)
        turn.answer = now_ns
        turns.add(turn)
    number = len(turns)
    while turns:
        turn = turns.pop(0)
        if turn.due_ns > now_ns:
            now_ns = yield Sleep(turn.due_ns)
            turn.answer = now_ns
        try:
            want = turn.program.send(turn.answer)
        except StopIteration:
            continue
        if isinstance(want, Sleep):
            turn.due_ns = want.deadline_ns
            turn.answer = now_ns
        else:
            turn.answer = yield want
            now_ns = yield Now()
            turn.due_ns = now_ns
        turn.number = number
        number += 1
        turns.add(turn)

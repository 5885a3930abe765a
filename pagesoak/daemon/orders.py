"""Orders to a runner, and its answers: each has a number, and whoever gave it waits for it.

A runner looks ten times a second. One that does not answer is not asked again: what it does when
it wakes up, its events say.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pagesoak.base.errors import InputError, PagesoakError

ANSWER_SECONDS_MAX = 5.0
"""A runner is busy with an audit or a slow disk for less; the client waits for twice as long."""


class ConflictError(PagesoakError):
    """What is asked does not go with what there is: another run has the name, it is over."""


class UnansweredError(PagesoakError):
    """The runner has not said in time whether it has done what it was told."""


class Orders:
    """The orders of one run; `say` sends a message to its runner, and whether it could."""

    def __init__(self, say: Callable[[Mapping[str, Any]], bool]) -> None:
        self._say = say
        self._given = 0
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}

    async def give(self, what: str, **more: Any) -> Mapping[str, Any]:
        """Have something done; what the runner said of it.

        Raises InputError when it refuses, UnansweredError when it does not answer, ConflictError
        when the run ends meanwhile.
        """
        self._given += 1
        number = self._given
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if not self._say({"do": what, "order": number, **more}):
                raise UnansweredError("the runner does not take orders at this moment")
            said: Mapping[str, Any] = await asyncio.wait_for(answer, ANSWER_SECONDS_MAX)
        except TimeoutError:
            late = f"the runner has not answered within {ANSWER_SECONDS_MAX:.0f} s"
            raise UnansweredError(f"{late}; `events` will say what it has done") from None
        finally:
            del self._waiting[number]
        if said["say"] == "not done":
            raise InputError(said["message"])
        return said

    def hear(self, said: Mapping[str, Any]) -> None:
        """The runner has answered."""
        answer = self._waiting.get(said["order"])
        if answer is not None and not answer.done():
            answer.set_result(said)

    def end(self) -> None:
        """The run is over: nobody waits any more."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConflictError("the run ended meanwhile"))

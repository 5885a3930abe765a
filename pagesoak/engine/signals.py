"""The signals that bring an end forward: taken down as they come, looked at between two steps.

Before a run takes them into its own hands they are a KeyboardInterrupt. That may be swallowed
where it comes, by C code that is being imported for example; so it is remembered as well.
"""

import signal
import sys
from types import FrameType
from typing import Any, NoReturn, Self

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupts:
    came = False


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handler of a program that has nothing to end in order yet."""
    _Interrupts.came = True
    sys.unraisablehook = _told
    raise KeyboardInterrupt


def _told(unraisable: "sys.UnraisableHookArgs") -> None:
    """An interrupt that a callback could not pass on is remembered: nothing to be said."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)


class EndSignals:
    """SIGINT, SIGTERM and SIGHUP are taken down, and looked at between two ticks.

    Once one has come, those that follow change nothing any more, up to the end of the process.
    Raises KeyboardInterrupt at once when `interrupt` had one that was swallowed.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: dict[int, Any] = {}

    def stopping(self) -> bool:
        """Whether one has come."""
        return self.received

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True

    def __enter__(self) -> Self:
        for number in END_SIGNALS:
            self._before[number] = signal.signal(number, self._take)
        if _Interrupts.came:
            raise KeyboardInterrupt
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_IGN if self.received else before)

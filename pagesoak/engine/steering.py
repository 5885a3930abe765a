"""A run as its user steers it: orders of the daemon, carried out and written down by the runner.

An order comes over the line (`engine.line`): `pause`, `resume`, `set`. It is checked here once
more, because only the runner knows the run; it becomes a wish that the workers look at
(`engine.wishes`), and an event of the run. Every order is answered.

A pause ends when the run is to end: then workers go on to their end.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pagesoak.base import layout
from pagesoak.base.errors import InputError, PagesoakError
from pagesoak.base.layout_steering import H_PAUSED_NS, H_PAUSED_SINCE_NS
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.engine.line import Line
from pagesoak.engine.policy_choice import find_policy
from pagesoak.engine.prepare import Soak
from pagesoak.engine.rundir import RunDirectory
from pagesoak.engine.settings import Change, check_change, parse_change
from pagesoak.engine.wishes import Wishes


class Steering:
    """The orders of one run; `wishes` is what its workers look at."""

    def __init__(
        self,
        line: Line,
        wishes: Wishes,
        soak: Soak,
        directory: RunDirectory,
        *,
        has_device: bool,
    ) -> None:
        self._line = line
        self._wishes = wishes
        self._segment = soak.segment
        self._scenario = soak.scenario
        self._directory = directory
        self._change = Change()
        self.changes = 0
        """How often something was set."""
        self._has_device = has_device
        self._does: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "pause": self._pause,
            "resume": self._resume,
            "set": self._set,
        }

    def heed(self) -> None:
        """Carry out what has been ordered since the last look; the soak's clock runs."""
        for order in self._line.orders():
            try:
                self._does[order["do"]](order)
            except PagesoakError as error:
                self._line.not_done(order["order"], str(error))
            else:
                self._line.done(
                    order["order"],
                    paused=bool(self._segment.header[H_PAUSED_SINCE_NS]),
                    settings=self._change.document(),
                )

    def end(self) -> None:
        """The run ends: nobody stands still any more."""
        if self._segment.header[H_PAUSED_SINCE_NS]:
            self._go_on(time.monotonic_ns())

    def _pause(self, _order: Mapping[str, Any]) -> None:
        header = self._segment.header
        if header[H_PAUSED_SINCE_NS]:
            return
        now_ns = time.monotonic_ns()
        header[H_PAUSED_SINCE_NS] = now_ns
        self._wishes.pause(paused=True)
        self._note(now_ns, "pause", {})

    def _resume(self, _order: Mapping[str, Any]) -> None:
        since_ns = self._segment.header[H_PAUSED_SINCE_NS]
        if not since_ns:
            return
        now_ns = time.monotonic_ns()
        self._go_on(now_ns)
        self._note(now_ns, "resume", {"paused_seconds": (now_ns - since_ns) / NS_PER_SECOND})

    def _go_on(self, now_ns: int) -> None:
        header = self._segment.header
        header[H_PAUSED_NS] += now_ns - header[H_PAUSED_SINCE_NS]
        header[H_PAUSED_SINCE_NS] = 0
        self._wishes.pause(paused=False)

    def _set(self, order: Mapping[str, Any]) -> None:
        change = parse_change(order["settings"], _check_policy)
        check_change(change, self._scenario, has_device=self._has_device)
        self._change = change.over(self._change)
        self._wishes.write(self._change)
        self.changes += 1
        self._note(time.monotonic_ns(), "set", change.document())

    def _note(self, now_ns: int, kind: str, fields: Mapping[str, object]) -> None:
        runner = self._segment.header[layout.H_CPUS] + 2
        self._directory.write_event(now_ns, runner, kind, fields)


def _check_policy(text: str) -> None:
    """Raise InputError unless the reporter could take this policy."""
    policy = find_policy(text)
    if not getattr(policy, "registers_device", True):
        said = "a policy without a reporting device cannot be taken by a guest that has one"
        raise InputError(f"{text!r}: {said}", key="policy")

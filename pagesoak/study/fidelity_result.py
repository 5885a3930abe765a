"""What a check of the model against a recording says: the same few words for every kind.

A check predicts what the model can and compares. Each result holds *figures* (named counts, a part
of its JSON), *demands* (sentences that hold or do not, which decide the exit code), *divergences*
(the first places at which prediction and recording differ), what was *not checked* and why, and
*faults*: what is wrong with the recording itself. A fault never ends a check. What can still be
checked is checked, and what cannot is counted as not checked, never as exact.

Each kind of recording has its checker, `check_KIND(folder)`, in `study.fidelity_KIND`; it gives a
`CheckResult` or something with these attributes. `study.fidelity` finds the kind and puts
several together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pagesoak.base.errors import InputError

DIVERGENCES_MAX = 10
"""Divergences that a result names; all are counted in its figures."""


class Demand(NamedTuple):
    """Something that must hold for the model to be called faithful here, and whether it does."""

    text: str
    holds: bool

    def as_json(self) -> dict[str, Any]:
        """The demand as a JSON object."""
        return self._asdict()


class Divergence(NamedTuple):
    """One place at which the recording is not what the model predicts."""

    where: str
    """Event line, report call, snapshot: as `file:line` where there is a line."""
    expected: str
    """What the recording says."""
    got: str
    """What the model says."""
    doing: str = ""
    """What the model was doing, and what is known of the reason."""

    def as_json(self) -> dict[str, Any]:
        """The divergence as a JSON object."""
        return self._asdict()


class NotChecked(NamedTuple):
    """Something in the recording that is not compared with anything, and why."""

    what: str
    where: str
    """File, `file:line`, or a name inside the recording."""
    reason: str
    number: int = 1
    """How many of it."""

    def as_json(self) -> dict[str, Any]:
        """What was not checked as a JSON object."""
        return self._asdict()


class Fault(NamedTuple):
    """Something wrong with the recording: damaged, cut off, contradicting itself, missing."""

    place: str
    """File, or `file:line`."""
    message: str

    @classmethod
    def of(cls, error: InputError) -> "Fault":
        """The fault that a reader found."""
        place = error.file or ""
        if error.line is not None:
            place += f":{error.line}"
        return cls(place, f"{error.key}: {error.message}" if error.key else error.message)

    def as_json(self) -> dict[str, Any]:
        """The fault as a JSON object."""
        return self._asdict()

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class Result(Protocol):
    """What every checker gives."""

    @property
    def kind(self) -> str:
        """Trace, timeline, balloon or oom."""

    @property
    def path(self) -> str:
        """The folder, as it was given."""

    @property
    def demands(self) -> tuple[Demand, ...]:
        """What must hold; all of them decide the exit code."""

    @property
    def divergences(self) -> tuple[Divergence, ...]:
        """The first ones, at most DIVERGENCES_MAX."""

    @property
    def not_checked(self) -> tuple[NotChecked, ...]:
        """What was left out, with reasons."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with the recording."""

    def as_json(self) -> dict[str, Any]:
        """This recording in the answer: path, kind, figures, and all of the above."""


@dataclass(frozen=True)
class CheckResult:
    """A `Result`; `figures` are JSON values by name, like {"scatterlists": {"exact": 4, …}}."""

    path: str
    kind: str
    kernel: str
    """Version named in the recording, "" when it names none."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    demands: tuple[Demand, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    """What was assumed, and what else a reader should know."""

    def as_json(self) -> dict[str, Any]:
        """The object of this recording in the answer."""
        return {
            "path": self.path,
            "kind": self.kind,
            "kernel": self.kernel,
            **self.figures,
            "holds": holds(self),
            "demands": [demand.as_json() for demand in self.demands],
            "divergences": [divergence.as_json() for divergence in self.divergences],
            "not_checked": [left_out.as_json() for left_out in self.not_checked],
            "faults": [fault.as_json() for fault in self.faults],
            "notes": list(self.notes),
        }


def holds(result: Result) -> bool:
    """Whether every demand of a result holds, and the recording has no fault."""
    return not result.faults and all(demand.holds for demand in result.demands)

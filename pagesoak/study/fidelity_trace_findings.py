"""What the check of a trace finds: how much was predicted, and where it was not."""

from collections import Counter
from dataclasses import dataclass, field

from pagesoak.study.fidelity_result import DIVERGENCES_MAX, Divergence, Fault, NotChecked

FAULTS_MAX = 20
"""Faults of the trace's contents that are named."""


@dataclass
class Tally:
    """How much was predicted, of how much that could be."""

    exact: int = 0
    total: int = 0

    def judge(self, exact: bool) -> None:
        """One more."""
        self.total += 1
        self.exact += exact


@dataclass
class Findings:
    """What came of a check."""

    allocations: Tally = field(default_factory=Tally)
    not_checked: int = 0
    """Allocations."""
    snapshots: Tally = field(default_factory=Tally)
    unexplained_snapshots: int = 0
    """Not exact, though nothing before them is missing from the trace."""
    reports: Tally = field(default_factory=Tally)
    repairs: Counter[str] = field(default_factory=Counter)
    bulk: list[dict[str, object]] = field(default_factory=list)
    """Where pages left a pageset without an event."""
    divergences: list[Divergence] = field(default_factory=list)
    left_out: list[NotChecked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    compaction_isolated: int = 0
    past_pageset: int = 0
    unseen_frees: int = 0
    kswapd_runs: int = 0
    first_line: int = 0
    """Of the first exact snapshot."""

    def fault(self, fault: Fault) -> None:
        """Name a fault of the trace, among the first ones."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(fault)

    def diverges(self, where: str, expected: str, got: str, doing: str) -> None:
        """Name a divergence, among the first ones."""
        if len(self.divergences) < DIVERGENCES_MAX:
            self.divergences.append(Divergence(where, expected, got, doing))

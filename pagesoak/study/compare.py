"""A comparison: the runs of each variant, its totals, and what differs from the baseline, seed by
seed.

Only runs that came to their end count, and in a difference only seeds that both sides have.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from pagesoak import __version__
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.study.compare_figures import FIGURES, Figure, Run, read_run
from pagesoak.study.compare_plan import Plan
from pagesoak.study.compare_run import Runs
from pagesoak.study.compare_totals import DECIMALS, Totals, totals_of
from pagesoak.study.paired import Difference, difference

FORMAT = 1
"""Of compare.json; raised when a reader must know of a change."""


class FoundDifference(NamedTuple):
    """What one figure of a variant is over that of the baseline."""

    variant: int
    figure: Figure
    baseline_mean: Fraction
    difference: Difference

    def as_json(self, label: str) -> dict[str, Any]:
        """Plain values; docs/compare.md explains each."""
        found = self.difference
        low, high = found.interval or (None, None)
        return {
            "variant": label,
            "figure": self.figure.key,
            "unit": self.figure.unit,
            "seeds": found.seeds,
            "baseline_mean": _number(self.baseline_mean),
            "mean": _number(found.mean),
            "low": None if low is None else _number(low),
            "high": None if high is None else _number(high),
            "seeds_lower": found.lower,
            "seeds_equal": found.equal,
            "seeds_higher": found.higher,
            "told": found.told,
        }


@dataclass(frozen=True)
class Comparison:
    """What was planned, and the runs of each variant, by seed."""

    plan: Plan
    runs: tuple[tuple[Run, ...], ...]
    interrupted: bool

    @cached_property
    def totals(self) -> tuple[Totals | None, ...]:
        """By variant; None for one without a run."""
        return tuple(map(totals_of, self.runs))

    @property
    def labels(self) -> list[str]:
        """What the variants are called, in order."""
        return [variant.label for variant in self.plan.variants]

    @cached_property
    def differences(self) -> tuple[FoundDifference, ...]:
        """Every figure of every variant but the baseline, over the seeds that both have."""
        base = {run.seed: run for run in self.runs[self.plan.baseline]}
        found = []
        for number, runs in enumerate(self.runs):
            pairs = [(run, base[run.seed]) for run in runs if run.seed in base]
            if number == self.plan.baseline:
                continue
            for figure in FIGURES:
                values = [figure.value(run) for run, _ in pairs]
                others = [figure.value(other) for _, other in pairs]
                differs = difference(values, others)
                if differs is not None:
                    mean = Fraction(sum(others), len(others))
                    found.append(FoundDifference(number, figure, mean, differs))
        return tuple(found)

    def of(self, variant: int, key: str) -> FoundDifference | None:
        """The difference of one variant in one figure."""
        return next(
            (one for one in self.differences if (one.variant, one.figure.key) == (variant, key)),
            None,
        )

    def as_json(self) -> dict[str, Any]:
        """Everything that does not depend on the moment or the place, as plain values."""
        plan = self.plan
        return {
            "format": FORMAT,
            "pagesoak": __version__,
            "scenario": plan.scenario.name,
            "mode": "virtual" if plan.virtual else "live",
            "duration_seconds": plan.scenario.duration_ns / NS_PER_SECOND,
            "seeds": list(plan.seeds),
            "baseline": self.labels[plan.baseline],
            "interrupted": self.interrupted,
            "variants": [self._variant(number) for number in range(len(plan.variants))],
            "differences": [one.as_json(self.labels[one.variant]) for one in self.differences],
        }

    def _variant(self, number: int) -> dict[str, Any]:
        variant = self.plan.variants[number]
        totals = self.totals[number]
        return {
            "variant": variant.label,
            "policy": variant.policy_text,
            "changes": dict(variant.changes),
            "totals": totals and totals.as_json(),
            "runs": [_run(run) for run in self.runs[number]],
        }


def compared(plan: Plan, runs: Runs) -> Comparison:
    """The comparison of runs that have ended; reads their directories."""
    by_variant: list[list[Run]] = [[] for _ in plan.variants]
    for (variant, seed), summary in runs.done:
        by_variant[variant].append(read_run(seed, summary, plan.scenario.duration_ns))
    return Comparison(plan, tuple(map(tuple, by_variant)), runs.interrupted)


def _run(run: Run) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "directory": run.summary["directory"],
        "verdict": run.summary["verdict"],
        **{figure.key: figure.value(run) for figure in FIGURES},
    }


def _number(value: Fraction) -> int | float:
    """Whole where it is whole."""
    return int(value) if value.denominator == 1 else round(float(value), DECIMALS)

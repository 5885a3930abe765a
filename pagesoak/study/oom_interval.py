"""How many kills to expect in several runs, and between which bounds: exact, in whole numbers.

Kills cluster within a run, so runs are what is resampled. Each recorded run stands for a draw from
the simulated runs of its kind; the sum over the recorded runs then has a distribution that can be
worked out exactly, without drawing: the convolution of the runs' own. The interval leaves at most
2.5 % of it on each side. It is one for what *will be counted* in as many runs, not for the mean.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

TAIL = Fraction(1, 40)
"""On each side of a 95 % interval."""
WIDEST = 4
"""`high` may be so many times `low`, or 1: a wider interval would pass whatever was counted."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected kills, and the 95 % prediction interval for what is counted."""

    kills: Fraction
    low: int
    high: int

    @property
    def is_narrow(self) -> bool:
        """Whether the interval can tell anything."""
        return self.high <= WIDEST * max(self.low, 1)

    def holds(self, kills: int) -> bool:
        """Whether a count lies inside."""
        return self.low <= kills <= self.high


def expected_kills(runs: Sequence[Sequence[int]]) -> Expected:
    """What to expect of the sum, each run drawn from its own simulated counts (none empty)."""
    ways = {0: 1}
    for counts in runs:
        chances = Counter(counts)
        following: Counter[int] = Counter()
        for total, number in ways.items():
            for kills, chance in chances.items():
                following[total + kills] += number * chance
        ways = following
    everything = sum(ways.values())
    totals = sorted(ways)
    return Expected(
        Fraction(sum(total * number for total, number in ways.items()), everything),
        _first_beyond(totals, ways, everything),
        _first_beyond(totals[::-1], ways, everything),
    )


def _first_beyond(totals: Sequence[int], ways: dict[int, int], everything: int) -> int:
    """The first total, from one end, at which more than the tail has been passed."""
    passed = 0
    for total in totals:
        passed += ways[total]
        if passed > TAIL * everything:
            break
    return total

"""The figures of one variant over all its runs: sums, extremes, rates with their intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pagesoak.base.statistics import CAUSES
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.study.compare_figures import FIGURES, Run, quantile_ns, reported_at_end_pages
from pagesoak.study.paired import Interval, mean_interval, runs_with_any_max, share_interval

SECONDS_PER_HOUR = 3600
DECIMALS = 6
"""Of what is no whole number, in JSON."""
AT_THE_END = 1
"""Windows that may close while the run is being ended."""
BY_KEY = {figure.key: figure for figure in FIGURES}


class Rate(NamedTuple):
    """A share or a rate with its interval, None with too few seeds."""

    value: float
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        """Plain values."""
        return self._asdict()


class Totals(NamedTuple):
    """What a variant did in all its runs, at least one."""

    runs: int
    runs_failed: int
    """Runs that broke a limit of the scenario."""
    soak_seconds: float
    bursts_run: int
    bursts_killed: int
    oom_events: dict[str, int]
    alloc_failures: dict[str, int]
    stalls: int
    runs_with_isolated_kill: int
    isolated_kill_runs_share_max: float | None
    """Where there was none: the largest share of runs that may have one; else None."""
    isolated_kills_per_hour: Rate
    isolated_kills_per_burst: Rate | None
    """None unless every kill took a burst."""
    margins_pages_min: dict[str, int]
    free_pages_min: int
    isolated_pages_max: int
    windows_ns: tuple[int, ...]
    windows_lost: int
    """Windows that the summaries count and the events do not show: events were lost."""
    report_calls: int
    passes: int
    reported_pages: int
    punched_bytes: int
    reported_at_end_pages: int
    reporter_waits: int
    oom_waits: int
    oom_waits_ns: int

    @property
    def kills(self) -> int:
        """Kills of every cause."""
        return sum(self.oom_events.values())

    @property
    def other_kills(self) -> int:
        """Kills that isolated pages did not cause."""
        return self.kills - self.oom_events["isolated"]

    def per_run(self, number: int) -> float:
        """A sum over the runs, for one of them."""
        return number / self.runs

    def as_json(self) -> dict[str, Any]:
        """Plain values; docs/compare.md explains each."""
        windows = self.windows_ns
        per_burst = self.isolated_kills_per_burst
        return {
            "runs": self.runs,
            "runs_failed": self.runs_failed,
            "soak_seconds": self.soak_seconds,
            "bursts": {"run": self.bursts_run, "killed": self.bursts_killed},
            "oom_events": self.oom_events,
            "alloc_failures": self.alloc_failures,
            "stalls": self.stalls,
            "runs_with_isolated_kill": self.runs_with_isolated_kill,
            "isolated_kill_runs_share_max": self.isolated_kill_runs_share_max,
            "isolated_kills_per_hour": self.isolated_kills_per_hour.as_json(),
            "isolated_kills_per_burst": per_burst and per_burst.as_json(),
            "watermark_margin_pages_min": self.margins_pages_min,
            "free_pages_min": self.free_pages_min,
            "isolated_pages_max": self.isolated_pages_max,
            "window_seconds": {
                "count": len(windows),
                "p50": quantile_ns(windows, 50) / NS_PER_SECOND,
                "p99": quantile_ns(windows, 99) / NS_PER_SECOND,
                "max": max(windows, default=0) / NS_PER_SECOND,
            },
            "windows_lost": self.windows_lost,
            "window_open_share": round(sum(windows) / NS_PER_SECOND / self.soak_seconds, DECIMALS),
            "report_calls": self.report_calls,
            "passes": self.passes,
            "reported_pages": self.reported_pages,
            "punched_bytes": self.punched_bytes,
            "reported_at_end_pages_mean": round(self.per_run(self.reported_at_end_pages), 1),
            "reporter_waits": self.reporter_waits,
            "oom_waits": {
                "count": self.oom_waits,
                "seconds": self.oom_waits_ns / NS_PER_SECOND,
            },
        }


def totals_of(runs: Sequence[Run]) -> Totals | None:
    """The totals; None without a run."""
    if not runs:
        return None
    summaries = [run.summary for run in runs]

    def total(key: str) -> int:
        return sum(BY_KEY[key].value(run) for run in runs)

    def by_cause(name: str) -> dict[str, int]:
        return {cause: sum(one[name][cause] for one in summaries) for cause in CAUSES}

    margins = [one["watermark_margin_pages_min"] for one in summaries]
    seconds = sum(one["duration_seconds"] for one in summaries)
    isolated = [BY_KEY["oom_isolated"].value(run) for run in runs]
    none_killed = not any(isolated)
    return Totals(
        len(runs),
        sum(one["verdict"] == "fail" for one in summaries),
        seconds,
        total("bursts_run"),
        total("bursts_killed"),
        by_cause("oom_events"),
        by_cause("alloc_failures"),
        total("stalls"),
        sum(count > 0 for count in isolated),
        runs_with_any_max(len(runs)) if none_killed else None,
        _per_hour(isolated, seconds),
        _per_burst(runs, isolated),
        {mark: min(margin[mark] for margin in margins) for mark in margins[0]},
        min(one["free_pages_min"] for one in summaries),
        max(one["isolated_pages_max"] for one in summaries),
        tuple(window for run in runs for window in run.windows_ns),
        sum(map(_windows_lost, runs)),
        total("report_calls"),
        total("passes"),
        total("reported_pages"),
        total("punched_bytes"),
        sum(map(reported_at_end_pages, runs)),
        total("reporter_waits"),
        total("oom_waits"),
        total("oom_waits_ns"),
    )


def _windows_lost(run: Run) -> int:
    """How many windows have no length here; one that ends with the run may be counted or not."""
    lost: int = run.summary["window_seconds"]["count"] - len(run.windows_ns)
    return lost if lost > AT_THE_END else 0


def _rate(value: float, interval: Interval | None, factor: float) -> Rate:
    """A value with its interval; where nothing was seen at all there is none to be drawn."""
    if interval is None or value == 0:
        return Rate(round(value * factor, DECIMALS), None, None)
    low, high = (round(float(end) * factor, DECIMALS) for end in interval)
    return Rate(round(value * factor, DECIMALS), low, high)


def _per_hour(kills: Sequence[int], seconds: float) -> Rate:
    runs = len(kills)
    mean = sum(kills) / runs
    return _rate(mean, mean_interval(kills), SECONDS_PER_HOUR * runs / seconds)


def _per_burst(runs: Sequence[Run], isolated: Sequence[int]) -> Rate | None:
    """Kills by bursts, if there are bursts and each kill took one."""
    bursts = [BY_KEY["bursts_run"].value(run) for run in runs]
    killed = sum(BY_KEY["bursts_killed"].value(run) for run in runs)
    if not any(bursts) or killed != sum(sum(run.summary["oom_events"].values()) for run in runs):
        return None
    return _rate(sum(isolated) / sum(bursts), share_interval(isolated, bursts), 1)

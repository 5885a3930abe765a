"""What Prometheus gets: one collector that reads every run's shared memory at each scrape.

Not the library's multiprocess mode: its files stay behind when a worker dies, and a soak kills
workers on purpose. A sample is copied under the workers' sequence numbers (`reading`), so its
figures belong together and no counter ever goes back; the zone lock is never taken. Every cause is
there with 0 from the start, because `increase()` does not see a series begin.

A window is far shorter than the time between two scrapes. So each run has, beside what is so now,
what was worst (`_max`, `_min`), which only grows worse, and histograms.
"""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pagesoak import __version__
from pagesoak.base import layout
from pagesoak.base import statistics as st
from pagesoak.base.units import NS_PER_SECOND
from pagesoak.daemon.live_run import LiveRun
from pagesoak.daemon.metrics_news import of_news
from pagesoak.daemon.metrics_table import (
    BY_CAUSE,
    COUNTERS,
    HISTOGRAMS,
    RUN_GAUGES,
    SECONDS,
    ZONE_GAUGES,
    bounds,
)
from pagesoak.daemon.reading import Reading
from pagesoak.daemon.record import Record, State
from pagesoak.daemon.supervisor import Supervisor
from pagesoak.engine.sample import STATES
from pagesoak.engine.summary import ZONE_NAMES

MARKS = (("min", layout.Z_WMARK_MIN), ("low", layout.Z_WMARK_LOW), ("high", layout.Z_WMARK_HIGH))
MARGINS = {"min": layout.Z_MARGIN_MIN, "low": layout.Z_MARGIN_LOW, "high": layout.Z_MARGIN_HIGH}
"""Least margins of the run, by mark."""


class SoakCollector(Collector):
    """All `pagesoak_*` series of one daemon."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.reloads = {"taken": 0, "refused": 0}

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every series, of one reading of each run."""
        live_runs = self._supervisor.live_runs()
        read = [(live, reading) for live in live_runs if (reading := live.reading()) is not None]
        yield from self._of_daemon()
        yield from _of_runs(live_runs, self._supervisor.unclean_lately)
        yield from _counters(read)
        yield from _by_cause(live_runs, read)
        yield from _histograms(read)
        yield from _zones(read)
        yield from _run_gauges(read)
        yield from _workers(read)
        yield from of_news(live_runs)

    def _of_daemon(self) -> Iterator[Metric]:
        build = InfoMetricFamily("pagesoak_build", "What runs here.")
        build.add_metric([], {"version": __version__})
        yield build
        torn, stale = self._supervisor.torn_and_stale
        for name, help_text, value in (
            ("scrape_torn_reads", "Readings that were tried again: a worker was writing.", torn),
            ("scrape_stale_reads", "Last good readings that were given once more.", stale),
        ):
            yield CounterMetricFamily(f"pagesoak_{name}", help_text, value=value)
        supervisor = self._supervisor
        waiting, lost = supervisor.not_stored, supervisor.lost
        for name, help_text, level in (
            ("not_stored", "Records, summaries and lines that wait for the disk.", waiting),
            ("lost", "Lines and summaries that the disk never took, of runs still told of.", lost),
            ("bytes", "What runs take on the disk.", supervisor.retention.used_bytes),
        ):
            yield GaugeMetricFamily(f"pagesoak_results_{name}", help_text, value=level)
        yield CounterMetricFamily(
            "pagesoak_runs_removed",
            "Runs whose results were removed: too old, or too much.",
            value=self._supervisor.retention.removed,
        )
        reloads = CounterMetricFamily(
            "pagesoak_config_reloads", "Configurations read again.", labels=["result"]
        )
        for result, count in self.reloads.items():
            reloads.add_metric([result], count)
        yield reloads


def registry(collector: SoakCollector) -> CollectorRegistry:
    """The daemon's own registry: the soaks, and what this process itself needs."""
    made = CollectorRegistry(auto_describe=False)
    made.register(collector)
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def zone_labels(zone: tuple[int, ...]) -> list[str]:
    """Node and zone as labels."""
    return [str(zone[layout.Z_NODE]), ZONE_NAMES[zone[layout.Z_INDEX]]]


def _of_runs(live_runs: list[LiveRun], unclean: list[Record]) -> Iterator[Metric]:
    info = InfoMetricFamily("pagesoak_run", "What a run is; to join on `run`.", labels=["run"])
    state = GaugeMetricFamily(
        "pagesoak_run_state", "1 for the state that a run is in.", labels=["run", "state"]
    )
    for record in [live.refreshed() for live in live_runs] + unclean:
        if record.state is State.REFUSED:
            continue
        facts = {"scenario": record.scenario, "policy": record.policy, "seed": str(record.seed)}
        info.add_metric([record.run], facts)
        for each in State:
            state.add_metric([record.run, each], float(record.state is each))
    yield info
    yield state


Read = list[tuple[LiveRun, Reading]]


def _counters(read: Read) -> Iterator[Metric]:
    for name, (help_text, words) in COUNTERS.items():
        family = CounterMetricFamily(f"pagesoak_{name}", help_text, labels=["run"])
        for live, reading in read:
            value = sum(reading.statistics.counters[word] for word in words)
            family.add_metric([live.name], value)
        yield family
    for name, (help_text, word) in SECONDS.items():
        family = CounterMetricFamily(f"pagesoak_{name}", help_text, labels=["run"])
        for live, reading in read:
            family.add_metric([live.name], reading.statistics.counters[word] / NS_PER_SECOND)
        yield family


def _by_cause(live_runs: list[LiveRun], read: Read) -> Iterator[Metric]:
    """Each cause, with 0 also for a run whose memory is not there yet."""
    readings = {live.name: reading for live, reading in read}
    for name, (help_text, first) in BY_CAUSE.items():
        family = CounterMetricFamily(f"pagesoak_{name}", help_text, labels=["run", "cause"])
        for live in live_runs:
            if live.record.state is State.REFUSED:
                continue
            reading = readings.get(live.name)
            for number, cause in enumerate(st.CAUSES):
                counted = reading.statistics.counters[first + number] if reading else 0
                family.add_metric([live.name, cause], counted)
        yield family


def _histograms(read: Read) -> Iterator[Metric]:
    for name, (help_text, number, octaves) in HISTOGRAMS.items():
        family = HistogramMetricFamily(f"pagesoak_{name}", help_text, labels=["run"])
        for live, reading in read:
            view = reading.statistics.histograms[number]
            buckets = [
                (str(bound), sum(n for bucket, n in view.buckets.items() if bucket < end))
                for bound, end in bounds(octaves)
            ]
            buckets.append(("+Inf", view.observations))
            family.add_metric([live.name], buckets, view.total / NS_PER_SECOND)
        yield family


def _zones(read: Read) -> Iterator[Metric]:
    labels = ["run", "node", "zone"]
    gauges = {
        name: GaugeMetricFamily(f"pagesoak_zone_{name}", help_text, labels=labels)
        for name, (help_text, _) in ZONE_GAUGES.items()
    }
    by_mark = [*labels, "mark"]
    marks = GaugeMetricFamily(
        "pagesoak_zone_watermark_pages", "A watermark, without boost.", labels=by_mark
    )
    margin = GaugeMetricFamily(
        "pagesoak_zone_watermark_margin_pages",
        "Free pages above a watermark with its boost; negative below.",
        labels=by_mark,
    )
    least = GaugeMetricFamily(
        "pagesoak_zone_watermark_margin_pages_min", "The least of the run.", labels=by_mark
    )
    blocks = GaugeMetricFamily(
        "pagesoak_zone_free_blocks", "Free blocks, of all types.", labels=[*labels, "order"]
    )
    for live, reading in read:
        for zone in reading.zones:
            where = [live.name, *zone_labels(zone)]
            for name, (_, word) in ZONE_GAUGES.items():
                gauges[name].add_metric(where, zone[word])
            for mark, word in MARKS:
                over = zone[layout.Z_FREE_PAGES] - zone[word] - zone[layout.Z_BOOST]
                marks.add_metric([*where, mark], zone[word])
                margin.add_metric([*where, mark], over)
                least.add_metric([*where, mark], zone[MARGINS[mark]])
            for order in range(layout.MAX_ORDER):
                blocks.add_metric([*where, str(order)], zone[layout.Z_NR_FREE + order])
    yield from (*gauges.values(), marks, margin, least, blocks)


def _run_gauges(read: Read) -> Iterator[Metric]:
    for name, (help_text, value) in RUN_GAUGES.items():
        family = GaugeMetricFamily(f"pagesoak_{name}", help_text, labels=["run"])
        for live, reading in read:
            family.add_metric([live.name], value(reading))
        yield family
    state = GaugeMetricFamily(
        "pagesoak_reporter_state", "1 for the reporter's state.", labels=["run", "state"]
    )
    for live, reading in read:
        for number, name in STATES.items():
            now = float(reading.report[layout.R_STATE] == number)
            state.add_metric([live.name, name], now)
    yield state


def _workers(read: Read) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "pagesoak_worker_heartbeat_timestamp_seconds",
        "When a worker last showed that it lives, seconds since the epoch.",
        labels=["run", "worker"],
    )
    since_epoch = time.time() - time.monotonic()
    for live, reading in read:
        for worker, heartbeat_ns in enumerate(reading.heartbeats):
            if heartbeat_ns:
                name = live.worker_name(worker)
                family.add_metric([live.name, name], since_epoch + heartbeat_ns / NS_PER_SECOND)
    yield family

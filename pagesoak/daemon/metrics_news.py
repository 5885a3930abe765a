"""Series of what runners tell: audits, recoveries, dropped log records, and where all pages are at
one moment.

Zone counters that are read one by one while a guest runs need not add up. Those that must are
counted by the runner, on the copy that it audits (`allocator.census`), and come here as they were
then; how long ago that was is a series, too.
"""

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pagesoak.base.units import NS_PER_SECOND
from pagesoak.daemon.live_run import LiveRun
from pagesoak.engine.summary import ZONE_NAMES

STATES = {
    "free": "free_pages",
    "pageset": "pageset_pages",
    "isolated": "isolated_pages",
    "in_use": "in_use_pages",
}
"""By label: the field of a zone's census."""
TYPES = ("unmovable", "movable", "reclaimable", "highatomic", "cma", "isolate")
"""Labels, by number of the migratetype."""


def of_news(live_runs: list[LiveRun]) -> Iterator[Metric]:
    """Every such series, of runs that have told."""
    told = [live for live in live_runs if live.news]
    yield from _audits(told)
    yield from _recoveries(told)
    yield from _pages([live for live in told if live.news.get("census")])


def _audits(told: list[LiveRun]) -> Iterator[Metric]:
    run = CounterMetricFamily("pagesoak_audits", "Audits of the guest's state.", labels=["run"])
    failed = CounterMetricFamily(
        "pagesoak_audits_failed", "Audits that found a breach.", labels=["run"]
    )
    hold = GaugeMetricFamily(
        "pagesoak_audit_hold_seconds_max",
        "Longest time for which an audit held the locks.",
        labels=["run"],
    )
    dropped = CounterMetricFamily(
        "pagesoak_log_records_dropped",
        "Log records that workers dropped, or the disk refused.",
        labels=["run"],
    )
    for live in told:
        audits = live.news["audits"]
        run.add_metric([live.name], audits["run"])
        failed.add_metric([live.name], audits["failed"])
        hold.add_metric([live.name], audits["hold_seconds_max"])
        dropped.add_metric([live.name], live.news["log_records_dropped"])
    yield from (run, failed, hold, dropped)


COUNTS = {
    "epochs": "Lives of the guest's state; all but the last are tainted.",
    "recoveries": "Deaths of workers after which the run went on.",
    "lost_pages": "Pages that nobody could be found to own after a death.",
}
"""By name: the help; a counter each."""
BY_LABEL = {
    "restarts": ("worker_restarts", "worker", "Workers started in place of dead ones, by role."),
    "faults": ("faults", "fault", "Faults that were made to happen."),
}
"""By what a runner tells: counter, label, help; all values are there from the start."""


def _recoveries(told: list[LiveRun]) -> Iterator[Metric]:
    for name, help_text in COUNTS.items():
        family = CounterMetricFamily(f"pagesoak_{name}", help_text, labels=["run"])
        for live in told:
            family.add_metric([live.name], live.news[name])
        yield family
    for key, (name, label, help_text) in BY_LABEL.items():
        family = CounterMetricFamily(f"pagesoak_{name}", help_text, labels=["run", label])
        for live in told:
            for value, count in live.news[key].items():
                family.add_metric([live.name, value], count)
        yield family


def _pages(counted: list[LiveRun]) -> Iterator[Metric]:
    labels = ["run", "node", "zone"]
    pages = GaugeMetricFamily(
        "pagesoak_zone_pages",
        "Where a zone's pages were at its last count; they add up to the managed ones.",
        labels=[*labels, "state"],
    )
    blocks = GaugeMetricFamily(
        "pagesoak_zone_free_blocks_by_type",
        "Free blocks at the last count.",
        labels=[*labels, "order", "migratetype"],
    )
    age = GaugeMetricFamily(
        "pagesoak_zone_pages_age_seconds", "How long ago that count was.", labels=["run"]
    )
    now_ns = time.monotonic_ns()
    for live in counted:
        age.add_metric([live.name], (now_ns - live.news["census_ns"]) / NS_PER_SECOND)
        for zone in live.news["census"]:
            where = [live.name, str(zone["node"]), ZONE_NAMES[zone["zone_index"]]]
            for state, field in STATES.items():
                pages.add_metric([*where, state], zone[field])
            for order, by_type in enumerate(zone["free_blocks"]):
                for name, count in zip(TYPES, by_type, strict=True):
                    blocks.add_metric([*where, str(order), name], count)
    yield from (pages, blocks, age)

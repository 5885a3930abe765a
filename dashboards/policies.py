"""*Policy comparison*: runs with different policies side by side, each figure by policy."""

from dashboards.panels import (
    ANNOTATIONS,
    BAD_BELOW_0,
    BAD_FROM_1,
    DAEMON_VARIABLES,
    INFO,
    POLICY_VARIABLE,
    RUN,
    RUN_QUERY,
    Dashboard,
    Kind,
    Panel,
    Query,
    Row,
    Variable,
)

FAIR = "Compare runs of one scenario; `pagesoak compare` does it with the same load for all."


def by_policy(expr: str, how: str = "sum") -> Query:
    """Runs' figures, put together by the policy of their run."""
    return Query(f"{how} by (policy) (({expr}) * {INFO})", "{{policy}}")


def per_run(series: str, more: str = "") -> str:
    """A series of the whole run."""
    return f"sum by (instance, run) ({series}{{{RUN}{more}}})"


def rate(series: str, more: str = "") -> str:
    """A series per second."""
    return f"sum by (instance, run) (rate({series}{{{RUN}{more}}}[$__rate_interval]))"


ISOLATED = ', cause="isolated"'
NOW = Row(
    "What each policy did so far",
    (
        Panel(
            "Killed by reporting",
            f"OOM kills that the isolated pages would have spared. {FAIR}",
            "none",
            (by_policy(per_run("pagesoak_oom_events_total", ISOLATED)),),
            Kind.STAT,
            width=8,
            height=6,
            thresholds=BAD_FROM_1,
        ),
        Panel(
            "Least margin above min",
            "The worst moment of all its runs, in pages; below zero the guest was under its min "
            f"watermark. {FAIR}",
            "short",
            (
                by_policy(
                    "min by (instance, run) (pagesoak_zone_watermark_margin_pages_min"
                    f'{{{RUN}, mark="min"}})',
                    "min",
                ),
            ),
            Kind.STAT,
            width=8,
            height=6,
            thresholds=BAD_BELOW_0,
        ),
        Panel(
            "Given back in an hour",
            f"Memory that went to the host, by the time that its runs took. {FAIR}",
            "bytes",
            (
                by_policy(
                    f"3600 * {per_run('pagesoak_punched_bytes_total')} / "
                    f"{per_run('pagesoak_run_elapsed_seconds')}",
                    "avg",
                ),
            ),
            Kind.STAT,
            width=8,
            height=6,
        ),
        Panel(
            "Runs by policy",
            "Counts are of the whole run. Requests that got nothing are per million that were "
            "asked for, so that a run that went on for longer can be compared.",
            "none",
            (
                Query(
                    f"sum by (instance, run, scenario, policy, seed) (pagesoak_run_info{{{RUN}}})",
                    column="one",
                ),
                Query(
                    per_run("pagesoak_oom_events_total", ISOLATED),
                    column="killed by reporting",
                    bad_from=1,
                ),
                Query(
                    f"1e6 * {per_run('pagesoak_alloc_failures_total')} / "
                    f"{per_run('pagesoak_alloc_requests_total')}",
                    column="got nothing, per million",
                ),
                Query(per_run("pagesoak_report_calls_total"), column="report calls"),
                Query(per_run("pagesoak_isolated_pages_max"), column="most isolated, pages"),
                Query(per_run("pagesoak_free_pages_min"), column="fewest free, pages"),
                Query(per_run("pagesoak_punched_bytes_total"), column="given back", unit="bytes"),
                Query(per_run("pagesoak_run_elapsed_seconds"), column="time", unit="s"),
            ),
            Kind.TABLE,
            width=24,
            height=8,
            hidden_columns=("Value #A", "one"),
            sorted_by="killed by reporting",
            run_links=True,
        ),
    ),
)

OVER_TIME = Row(
    "Over time",
    (
        Panel(
            "OOM kills because pages were isolated, per minute",
            f"Of all runs of a policy together. {FAIR}",
            "cpm",
            (by_policy(f"60 * {rate('pagesoak_oom_events_total', ISOLATED)}"),),
            minimum=0,
        ),
        Panel(
            "Requests that got nothing, per minute",
            f"Of all runs of a policy together, whatever kept the memory. {FAIR}",
            "cpm",
            (by_policy(f"60 * {rate('pagesoak_alloc_failures_total')}"),),
            minimum=0,
        ),
        Panel(
            "Margin above the min watermark",
            "Of the scarcest zone of the worst run of a policy.",
            "short",
            (
                by_policy(
                    "min by (instance, run) (pagesoak_zone_watermark_margin_pages"
                    f'{{{RUN}, mark="min"}})',
                    "min",
                ),
            ),
            thresholds=((None, "red"), (0.0, "transparent")),
        ),
        Panel(
            "Isolated pages",
            "The most of any run of a policy, at the moment of the scrape.",
            "short",
            (by_policy(per_run("pagesoak_isolated_pages"), "max"),),
            minimum=0,
        ),
        Panel(
            "Memory given back",
            "Of all runs of a policy together, per second.",
            "Bps",
            (by_policy(rate("pagesoak_punched_bytes_total")),),
            minimum=0,
        ),
        Panel(
            "Windows: 99 % at most",
            "Lengths of the report windows, of all runs of a policy together.",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (policy, le) ("
                    "rate(pagesoak_isolation_window_seconds_bucket"
                    f"{{{RUN}}}[$__rate_interval]) * {INFO}))",
                    "{{policy}}",
                ),
            ),
            minimum=0,
        ),
        Panel(
            "Stalls per minute",
            "Requests that came to direct reclaim.",
            "cpm",
            (by_policy(f"60 * {rate('pagesoak_alloc_stalls_total')}"),),
            minimum=0,
        ),
        Panel(
            "Requests per second",
            "Of all runs of a policy together: that the guests were under the same load.",
            "ops",
            (by_policy(rate("pagesoak_alloc_requests_total")),),
            minimum=0,
        ),
    ),
)

DASHBOARD = Dashboard(
    "pagesoak-policies",
    "Policy comparison",
    "What reporting policies do to their guests, side by side, while the soaks go on.",
    (*DAEMON_VARIABLES, POLICY_VARIABLE, Variable("run", "Run", RUN_QUERY)),
    ANNOTATIONS,
    (NOW, OVER_TIME),
    since="now-6h",
)

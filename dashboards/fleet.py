"""*Fleet of soaks*: all runs at a glance, what is wrong first."""

from dashboards.panels import (
    ANNOTATIONS,
    BAD_FROM_1,
    DAEMON_VARIABLES,
    JOB_AND_INSTANCE,
    POLICY_VARIABLE,
    RUN,
    RUN_QUERY,
    STATES,
    Dashboard,
    Kind,
    Panel,
    Query,
    Row,
    Variable,
    goes_on,
    state_number,
)

SILENT_SECONDS = 10
"""A worker without a sign of life for so long does not go on by itself (docs/daemon.md)."""
BY_RUN = "sum by (instance, run)"

WRONG = Row(
    "What is wrong",
    (
        Panel(
            "Daemons that do not answer",
            "Targets of the jobs chosen above that Prometheus could not scrape. Their runs are "
            "missing from everything below.",
            "none",
            (Query(f"sum(1 - up{{{JOB_AND_INSTANCE}}})"),),
            Kind.STAT,
            width=4,
            height=4,
            thresholds=BAD_FROM_1,
        ),
        Panel(
            "Killed by reporting",
            "OOM kills in the time shown that would not have been if the isolated pages had been "
            "free: what reporting did to the guests.",
            "none",
            (
                Query(
                    f'sum(increase(pagesoak_oom_events_total{{{RUN}, cause="isolated"}}'
                    "[$__range]))"
                ),
            ),
            Kind.STAT,
            width=4,
            height=4,
            thresholds=BAD_FROM_1,
        ),
        Panel(
            "Guests below min now",
            "Zones whose free pages are below the min watermark at this moment: what asks there "
            "next has to reclaim by itself.",
            "none",
            (
                Query(
                    f'sum((pagesoak_zone_watermark_margin_pages{{{RUN}, mark="min"}} < bool 0) '
                    f"{goes_on(RUN, 'running')})"
                ),
            ),
            Kind.STAT,
            width=4,
            height=4,
            thresholds=BAD_FROM_1,
        ),
        Panel(
            "Silent workers",
            f"Worker processes that showed no sign of life for {SILENT_SECONDS} s: dead, stopped "
            "or stuck. `pagesoak status` names them.",
            "none",
            (
                Query(
                    f"sum(((time() - pagesoak_worker_heartbeat_timestamp_seconds{{{RUN}}}) "
                    f"> bool {SILENT_SECONDS}) {goes_on(RUN)})"
                ),
            ),
            Kind.STAT,
            width=4,
            height=4,
            thresholds=BAD_FROM_1,
        ),
        Panel(
            "Integrity violations",
            "Breaches of pagesoak's own invariants, and audits that failed. One is enough: that "
            "run measures nothing any more.",
            "none",
            (
                Query(
                    f"sum(pagesoak_integrity_violations_total{{{RUN}}}) "
                    f"+ sum(pagesoak_audits_failed_total{{{RUN}}})"
                ),
            ),
            Kind.STAT,
            width=4,
            height=4,
            thresholds=BAD_FROM_1,
        ),
        Panel(
            "Results not stored",
            "Records, summaries and lines that wait for the disk, which is full or read-only; "
            "they are stored once it takes them.",
            "none",
            (Query(f"sum(pagesoak_results_not_stored{{{JOB_AND_INSTANCE}}})"),),
            Kind.STAT,
            width=4,
            height=4,
            thresholds=BAD_FROM_1,
        ),
    ),
)

RUNS = Row(
    "All runs",
    (
        Panel(
            "Runs, the worst first",
            "Every run that goes on or ended a moment ago. Counts are of the whole run. The least "
            "margin is how far above the min watermark its worst zone once was; below zero, "
            "under it. A run's name leads to its own dashboard.",
            "none",
            (
                Query(
                    f"sum by (instance, run, scenario, policy) (pagesoak_run_info{{{RUN}}})",
                    column="info",
                ),
                Query(
                    f"{BY_RUN} (pagesoak_integrity_violations_total{{{RUN}}}) "
                    f"+ {BY_RUN} (pagesoak_audits_failed_total{{{RUN}}})",
                    column="breaches",
                    bad_from=1,
                ),
                Query(
                    f'{BY_RUN} (pagesoak_oom_events_total{{{RUN}, cause="isolated"}})',
                    column="killed, isolated",
                    bad_from=1,
                ),
                Query(
                    f'{BY_RUN} (pagesoak_oom_events_total{{{RUN}, cause!="isolated"}})',
                    column="killed, other",
                    bad_from=1,
                ),
                Query(
                    f"{BY_RUN} (pagesoak_alloc_failures_total{{{RUN}}})",
                    column="got nothing",
                    bad_from=1,
                ),
                Query(
                    "min by (instance, run) (pagesoak_zone_watermark_margin_pages_min"
                    f'{{{RUN}, mark="min"}})',
                    column="least margin, pages",
                ),
                Query(
                    f"{BY_RUN} (pagesoak_isolated_pages_max{{{RUN}}})",
                    column="most isolated, pages",
                ),
                Query(
                    f"{BY_RUN} (pagesoak_punched_bytes_total{{{RUN}}})",
                    column="given back",
                    unit="bytes",
                ),
                Query(
                    f"{BY_RUN} (pagesoak_run_elapsed_seconds{{{RUN}}})",
                    column="time",
                    unit="s",
                ),
            ),
            Kind.TABLE,
            width=24,
            height=9,
            hidden_columns=("Value #A", "info"),
            sorted_by="killed, isolated",
            run_links=True,
        ),
        Panel(
            "States",
            "What each run does. `unclean` ended without a summary: killed, or its machine went "
            "down.",
            "none",
            (Query(state_number(RUN), "{{run}}"),),
            Kind.STATES,
            width=24,
            height=6,
            mappings=STATES,
        ),
        Panel(
            "OOM kills per minute",
            "Requests that killed, by run and by what kept the memory: pages isolated for "
            "reporting, fragmentation, or nothing left.",
            "cpm",
            (
                Query(
                    "60 * sum by (instance, run, cause) "
                    f"(rate(pagesoak_oom_events_total{{{RUN}}}[$__rate_interval]))",
                    "{{run}} {{cause}}",
                ),
            ),
            minimum=0,
        ),
        Panel(
            "Margin above the min watermark",
            "Free pages of a run's scarcest zone above its min watermark, boost included. Between "
            "two scrapes it may have been less: the table has the least.",
            "short",
            (
                Query(
                    "min by (instance, run) (pagesoak_zone_watermark_margin_pages"
                    f'{{{RUN}, mark="min"}})',
                    "{{run}}",
                ),
            ),
            thresholds=((None, "red"), (0.0, "transparent")),
        ),
        Panel(
            "Share of free memory that is isolated",
            "Of the pages that nobody uses, those on their way to the host at this moment, and "
            "the most that ever were, of what the guest manages.",
            "percentunit",
            (
                Query(
                    f"pagesoak_isolated_pages{{{RUN}}} / (pagesoak_isolated_pages{{{RUN}}} + "
                    f"on (job, instance, run) sum by (job, instance, run) "
                    f"(pagesoak_zone_free_pages{{{RUN}}}))",
                    "{{run}} now",
                ),
                Query(
                    f"pagesoak_isolated_pages_max{{{RUN}}} / on (job, instance, run) "
                    f"sum by (job, instance, run) (pagesoak_zone_managed_pages{{{RUN}}})",
                    "{{run}} most, of all",
                ),
            ),
            minimum=0,
        ),
        Panel(
            "Memory given back to the hosts",
            "What the balloon hosts punched out of the guests' memory, per second.",
            "Bps",
            (
                Query(
                    f"{BY_RUN} (rate(pagesoak_punched_bytes_total{{{RUN}}}[$__rate_interval]))",
                    "{{run}}",
                ),
            ),
            minimum=0,
        ),
    ),
)

DAEMONS = Row(
    "The daemons",
    (
        Panel(
            "Versions",
            "What runs where.",
            "none",
            (
                Query(
                    f"sum by (instance, version) (pagesoak_build_info{{{JOB_AND_INSTANCE}}})",
                    column="one",
                ),
            ),
            Kind.TABLE,
            width=8,
            hidden_columns=("Value", "Value #A", "one"),
        ),
        Panel(
            "Memory of the daemons",
            "Of the daemon's own process; a soak's workers have theirs.",
            "bytes",
            (Query(f"process_resident_memory_bytes{{{JOB_AND_INSTANCE}}}", "{{instance}}"),),
            width=8,
            minimum=0,
        ),
        Panel(
            "Readings of shared memory",
            "`tried again`: a worker wrote while it was read. `given once more`: no reading of "
            "one moment was had in 50 ms, so the last good one was shown.",
            "ops",
            (
                Query(
                    "rate(pagesoak_scrape_torn_reads_total"
                    f"{{{JOB_AND_INSTANCE}}}[$__rate_interval])",
                    "{{instance}} tried again",
                ),
                Query(
                    "rate(pagesoak_scrape_stale_reads_total"
                    f"{{{JOB_AND_INSTANCE}}}[$__rate_interval])",
                    "{{instance}} given once more",
                ),
            ),
            width=8,
            minimum=0,
        ),
        Panel(
            "Results on the disk",
            "What the runs that are kept take (`runs.keep_size` bounds it).",
            "bytes",
            (Query(f"pagesoak_results_bytes{{{JOB_AND_INSTANCE}}}", "{{instance}}"),),
            width=8,
            minimum=0,
        ),
        Panel(
            "Results removed or lost",
            "Runs whose results were removed since the daemon's start, as too old or too much, "
            "and lines and summaries that the disk never took, of runs that go on.",
            "none",
            (
                Query(
                    f"pagesoak_runs_removed_total{{{JOB_AND_INSTANCE}}}",
                    "{{instance}} runs removed",
                ),
                Query(f"pagesoak_results_lost{{{JOB_AND_INSTANCE}}}", "{{instance}} lost"),
            ),
            width=8,
            minimum=0,
        ),
        Panel(
            "Configurations read again",
            "By SIGHUP, since the daemon's start. A refused one left the old one in place.",
            "none",
            (
                Query(
                    f"pagesoak_config_reloads_total{{{JOB_AND_INSTANCE}}}",
                    "{{instance}} {{result}}",
                ),
            ),
            width=8,
            minimum=0,
        ),
    ),
)

DASHBOARD = Dashboard(
    "pagesoak-fleet",
    "Fleet of soaks",
    "All soaks of all daemons at a glance, what is wrong first.",
    (*DAEMON_VARIABLES, POLICY_VARIABLE, Variable("run", "Run", RUN_QUERY)),
    ANNOTATIONS,
    (WRONG, RUNS, DAEMONS),
)

"""*One soak*: how close it came, what failed and why, what reporting did, how the guest was."""

from dashboards.one_soak_guest import FAULTS, FREE_BLOCKS, GUEST, LOCK
from dashboards.panels import (
    ANNOTATIONS,
    BAD_BELOW_0,
    BAD_FROM_1,
    DAEMON_VARIABLES,
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
    state_number,
)
from dashboards.queries import heat, quantiles, rates
from pagesoak.base.units import PAGE_SIZE_BYTES

ZONE = f'{RUN}, zone=~"$zone"'
ZONE_NAME = "node {{node}} {{zone}}"


def number(title: str, description: str, expr: str, unit: str = "none", **more: object) -> Panel:
    """One figure, as wide as six of them fit."""
    return Panel(title, description, unit, (Query(expr),), Kind.STAT, 4, 4, **more)  # type: ignore[arg-type]


HEAD = Row(
    "How it is",
    (
        number("State", "What the run does.", state_number(RUN), mappings=STATES),
        number(
            "Killed by reporting",
            "OOM kills of the run that would not have been if the isolated pages had been free.",
            f'sum(pagesoak_oom_events_total{{{RUN}, cause="isolated"}})',
            thresholds=BAD_FROM_1,
        ),
        number(
            "Killed for other reasons",
            "OOM kills of the run in spite of what was isolated: fragmentation, or nothing left.",
            f'sum(pagesoak_oom_events_total{{{RUN}, cause!="isolated"}})',
            thresholds=BAD_FROM_1,
        ),
        number(
            "Least margin",
            "How far above its min watermark the scarcest zone once was; below zero, under it.",
            f'min(pagesoak_zone_watermark_margin_pages_min{{{RUN}, mark="min"}})',
            "short",
            thresholds=BAD_BELOW_0,
        ),
        number(
            "Most isolated at once",
            "The most memory of the run that was on its way to the host.",
            f"{PAGE_SIZE_BYTES} * max(pagesoak_isolated_pages_max{{{RUN}}})",
            "bytes",
        ),
        number(
            "Given back",
            "All that the host punched out of the guest's memory so far.",
            f"sum(pagesoak_punched_bytes_total{{{RUN}}})",
            "bytes",
        ),
        Panel(
            "What is run",
            "The scenario, its policy, and the seed that makes it again.",
            "none",
            (
                Query(
                    f"sum by (instance, run, scenario, policy, seed) (pagesoak_run_info{{{RUN}}})",
                    column="one",
                ),
                Query(
                    f"sum by (instance, run) (pagesoak_run_elapsed_seconds{{{RUN}}})",
                    column="time",
                    unit="s",
                ),
            ),
            Kind.TABLE,
            24,
            4,
            hidden_columns=("Value #A", "one"),
        ),
    ),
)

HEADROOM = Row(
    "Headroom",
    (
        Panel(
            "Free pages and watermarks",
            "Free pages of each zone, its watermarks, and the fewest of the run. What is isolated "
            "is not free.",
            "short",
            (
                Query(f"pagesoak_zone_free_pages{{{ZONE}}}", f"{ZONE_NAME} free"),
                Query(f"pagesoak_zone_free_pages_min{{{ZONE}}}", f"{ZONE_NAME} fewest"),
                Query(f"pagesoak_zone_watermark_pages{{{ZONE}}}", f"{ZONE_NAME} {{{{mark}}}}"),
            ),
            height=10,
            minimum=0,
        ),
        Panel(
            "Margins above the watermarks",
            "Free pages above each watermark with its boost, now and the least of the run. Below "
            "low kswapd reclaims; below min a request has to reclaim by itself.",
            "short",
            (
                Query(
                    f"pagesoak_zone_watermark_margin_pages{{{ZONE}}}", f"{ZONE_NAME} {{{{mark}}}}"
                ),
                Query(
                    f"pagesoak_zone_watermark_margin_pages_min{{{ZONE}}}",
                    f"{ZONE_NAME} {{{{mark}}}}, least",
                ),
            ),
            height=10,
            thresholds=((None, "red"), (0.0, "transparent")),
        ),
        Panel(
            "Isolated pages",
            "Pages on their way to the host: neither free nor in use. A window is shorter than "
            "the time between two scrapes, so the most of the run stands beside what is seen.",
            "short",
            (
                Query(f"pagesoak_zone_isolated_pages{{{ZONE}}}", f"{ZONE_NAME} now"),
                Query(f"pagesoak_zone_isolated_pages_max{{{ZONE}}}", f"{ZONE_NAME} most"),
                Query(f"pagesoak_isolated_pages{{{RUN}}}", "all zones now"),
                Query(f"pagesoak_isolated_pages_max{{{RUN}}}", "all zones most"),
            ),
            minimum=0,
        ),
        Panel(
            "Fewest free pages of the run",
            "Of all zones together, beside what the zones manage and what reclaim may add: the "
            "boost of the watermarks.",
            "short",
            (
                Query(f"pagesoak_free_pages_min{{{RUN}}}", "all zones, fewest free"),
                Query(f"pagesoak_zone_managed_pages{{{ZONE}}}", f"{ZONE_NAME} managed"),
                Query(f"pagesoak_zone_watermark_boost_pages{{{ZONE}}}", f"{ZONE_NAME} boost"),
            ),
            minimum=0,
        ),
    ),
)

WINDOWS = Row(
    "Windows",
    (
        Panel(
            "Lengths of the report windows",
            "From the first isolation of a batch until its pages are back. The bounds are exact, "
            "and no window is missed between two scrapes.",
            "s",
            heat("pagesoak_isolation_window_seconds"),
            Kind.BUCKETS,
        ),
        Panel(
            "Windows: median and 99 %",
            "The same as lines.",
            "s",
            quantiles("pagesoak_isolation_window_seconds"),
            minimum=0,
        ),
        Panel(
            "Lengths of the stalls",
            "How long requests were in direct reclaim.",
            "s",
            heat("pagesoak_alloc_stall_seconds"),
            Kind.BUCKETS,
        ),
        Panel(
            "Time in windows and in stalls",
            "Share of the time in which a batch was isolated, and in which requests stalled; "
            "several CPUs that stall together come to more than 100 %.",
            "percentunit",
            (
                Query(
                    "sum by (instance, run) (rate(pagesoak_isolation_window_seconds_sum"
                    f"{{{RUN}}}[$__rate_interval]))",
                    "in a window",
                ),
                Query(
                    "sum by (instance, run) (rate(pagesoak_alloc_stall_seconds_sum"
                    f"{{{RUN}}}[$__rate_interval]))",
                    "in direct reclaim",
                ),
            ),
            minimum=0,
        ),
    ),
)

FAILURES = Row(
    "Failures by cause",
    (
        Panel(
            "OOM kills per minute",
            "Requests that killed, by what kept the memory. `isolated`: with the isolated pages "
            "it would have passed.",
            "cpm",
            (
                Query(
                    "60 * sum by (cause) (rate(pagesoak_oom_events_total"
                    f"{{{RUN}}}[$__rate_interval]))",
                    "{{cause}}",
                ),
            ),
            stacked=True,
            minimum=0,
        ),
        Panel(
            "Requests that got nothing, per minute",
            "Allocations that failed, by what kept the memory.",
            "cpm",
            (
                Query(
                    "60 * sum by (cause) (rate(pagesoak_alloc_failures_total"
                    f"{{{RUN}}}[$__rate_interval]))",
                    "{{cause}}",
                ),
            ),
            stacked=True,
            minimum=0,
        ),
        Panel(
            "What else did not get through",
            "Stalls came to direct reclaim; fallbacks were optional and did without; killed "
            "bursts and dropped requests of a replay are what the loads lost.",
            "cpm",
            rates(
                ("alloc_stalls", "stalls"),
                ("alloc_fallbacks", "fallbacks"),
                ("bursts", "bursts"),
                ("bursts_killed", "bursts killed"),
                ("replay_requests_dropped", "replay, dropped"),
                ("unmatched_frees", "replay, frees without a page"),
                times=60,
            ),
            minimum=0,
        ),
        Panel(
            "Requests that waited instead of killing",
            "For policies that let a request wait until the window is over: how many each "
            "minute, and how long all of them together in each second.",
            "none",
            (
                *rates(("oom_waits", "waits each minute"), times=60),
                *rates(("oom_wait_seconds", "seconds of waiting, each second")),
            ),
            minimum=0,
        ),
    ),
)

REPORTING = Row(
    "Reporting",
    (
        Panel(
            "Passes and calls per minute",
            "Passes of the reporting work, and the calls to the host that came of them. The other "
            "lines say why not more was reported.",
            "cpm",
            rates(
                ("report_passes", "passes"),
                ("report_calls", "calls"),
                ("report_gates_closed", "zones left alone"),
                ("isolations_refused", "blocks not isolated"),
                ("reporter_waits", "passes ended by a floor"),
                ("list_allocations_failed", "no memory for the list"),
                ("unseen_demands", "more taken than was left"),
                times=60,
            ),
            minimum=0,
        ),
        Panel(
            "Memory reported and given back",
            "Pages that became Reported, and what the host punched, per second.",
            "Bps",
            (
                *rates(("reported_pages", "reported"), times=PAGE_SIZE_BYTES),
                *rates(("punched_bytes", "given back")),
            ),
            minimum=0,
        ),
        Panel(
            "Free pages that are Reported",
            "What the host has and the guest does not use. A free that leaves more pages than "
            "`asks for a pass` sets the reporter going; 0: none does.",
            "short",
            (
                Query(f"pagesoak_zone_reported_pages{{{ZONE}}}", f"{ZONE_NAME} Reported"),
                Query(
                    f"pagesoak_zone_waiting_for_pages{{{ZONE}}}", f"{ZONE_NAME} asks for a pass"
                ),
            ),
            minimum=0,
        ),
        Panel(
            "The reporter's state",
            "1 for the state that it was in when it was looked at.",
            "none",
            (Query(f"pagesoak_reporter_state{{{RUN}}}", "{{state}}"),),
            stacked=True,
            minimum=0,
        ),
        Panel(
            "The host",
            "Report requests that it served, ranges that it punched, and requests that it "
            "dropped because they were not pending; per minute.",
            "cpm",
            rates(
                ("host_calls", "requests"),
                ("host_ranges", "ranges"),
                ("host_requests_dropped", "dropped"),
                times=60,
            ),
            minimum=0,
        ),
        Panel(
            "Ranges that the host has not answered",
            "At the moment of the scrape.",
            "short",
            (Query(f"pagesoak_host_queue_elements{{{RUN}}}", "ranges"),),
            minimum=0,
        ),
    ),
)

DASHBOARD = Dashboard(
    "pagesoak-one-soak",
    "One soak",
    "One run from near: its headroom, its windows, what failed and what kept the memory.",
    (
        *DAEMON_VARIABLES,
        POLICY_VARIABLE,
        Variable("run", "Run", RUN_QUERY, one=True),
        Variable("zone", "Zone", f"label_values(pagesoak_zone_managed_pages{{{RUN}}}, zone)"),
    ),
    ANNOTATIONS,
    (HEAD, HEADROOM, WINDOWS, FAILURES, REPORTING, FREE_BLOCKS, LOCK, GUEST, FAULTS),
)

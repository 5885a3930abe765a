"""The lower half of *One soak*: free blocks, the zone lock, what the guest does, and faults."""

from dashboards.panels import RUN, Kind, Panel, Query, Row, goes_on
from dashboards.queries import quantiles, rates

ZONE = f'{RUN}, zone=~"$zone"'

FREE_BLOCKS = Row(
    "Free blocks",
    (
        Panel(
            "Free blocks by order",
            "How many free blocks of each order there are. Reporting takes those of the highest "
            "orders; while they are away the colour leaves the top rows.",
            "short",
            (Query(f"sum by (order) (pagesoak_zone_free_blocks{{{ZONE}}})", "{{order}}"),),
            Kind.ORDERS,
            width=24,
            height=10,
        ),
        Panel(
            "Where the pages are",
            "At the last count: free, in the lists of the CPUs, isolated, in use; together they "
            "are all that the zones manage.",
            "short",
            (Query(f"sum by (state) (pagesoak_zone_pages{{{ZONE}}})", "{{state}}"),),
            width=8,
            stacked=True,
            minimum=0,
        ),
        Panel(
            "Free blocks by type",
            "Of all orders, by migratetype, at the last count.",
            "short",
            (
                Query(
                    f"sum by (migratetype) (pagesoak_zone_free_blocks_by_type{{{ZONE}}})",
                    "{{migratetype}}",
                ),
            ),
            width=8,
            stacked=True,
            minimum=0,
        ),
        Panel(
            "Age of the last count",
            "Pages are counted on the copy of the guest's state that an audit looks at, so that "
            "they add up; the two panels beside this one are as old as this.",
            "s",
            (Query(f"pagesoak_zone_pages_age_seconds{{{RUN}}}", "age"),),
            width=8,
            minimum=0,
        ),
    ),
)

LOCK = Row(
    "The zone lock",
    (
        Panel(
            "Waits for a zone's lock",
            "How long somebody had to wait who found it taken.",
            "s",
            quantiles("pagesoak_zone_lock_wait_seconds"),
            width=8,
            minimum=0,
        ),
        Panel(
            "How long a zone's lock was held",
            "By whoever had it.",
            "s",
            quantiles("pagesoak_zone_lock_hold_seconds"),
            width=8,
            minimum=0,
        ),
        Panel(
            "Taken, and found taken",
            "Per second.",
            "ops",
            rates(("zone_locks_taken", "taken"), ("zone_lock_waits", "found taken")),
            width=8,
            minimum=0,
        ),
    ),
)

GUEST = Row(
    "The guest",
    (
        Panel(
            "Requests and frees",
            "Per second.",
            "ops",
            rates(("alloc_requests", "requests"), ("frees", "frees")),
            width=8,
            minimum=0,
        ),
        Panel(
            "Lists of the CPUs, and blocks of other types",
            "Refills and drains of the per-CPU lists, and blocks taken from another migratetype.",
            "ops",
            rates(
                ("pageset_refills", "refills"),
                ("pageset_drains", "drains"),
                ("steals", "blocks of another type"),
            ),
            width=8,
            minimum=0,
        ),
        Panel(
            "Reclaim",
            "kswapd woken and at work, and waits of direct reclaim for others; per minute.",
            "cpm",
            rates(
                ("kswapd_wakes", "kswapd woken"),
                ("kswapd_runs", "runs of kswapd"),
                ("reclaim_throttles", "waits of direct reclaim"),
                times=60,
            ),
            width=8,
            minimum=0,
        ),
        Panel(
            "Files",
            "Accesses that found their page in memory, those that did not, and pages written.",
            "ops",
            rates(
                ("page_cache_hits", "found"),
                ("page_cache_misses", "not found"),
                ("page_cache_written_pages", "pages written"),
            ),
            minimum=0,
        ),
        Panel(
            "Contents checked",
            "Pages that the guest wrote to, and whose contents were compared with what it wrote.",
            "ops",
            rates(("pages_stamped", "written to"), ("pages_verified", "checked")),
            minimum=0,
        ),
    ),
)

FAULTS = Row(
    "Faults",
    (
        Panel(
            "Silence of the workers",
            "How long ago each worker showed that it lives. Ten seconds are more than any pause "
            "that a loaded machine makes by itself.",
            "s",
            (
                Query(
                    f"(time() - pagesoak_worker_heartbeat_timestamp_seconds{{{RUN}}}) "
                    f"{goes_on(RUN)}",
                    "{{worker}}",
                ),
            ),
            minimum=0,
            thresholds=((None, "transparent"), (10.0, "red")),
        ),
        Panel(
            "What went wrong",
            "Report calls that the host answered with an error, and breaches of pagesoak's own "
            "invariants; of the whole run.",
            "short",
            (
                Query(f"pagesoak_report_errors_total{{{RUN}}}", "errors of the host"),
                Query(f"pagesoak_integrity_violations_total{{{RUN}}}", "integrity violations"),
            ),
            minimum=0,
        ),
        Panel(
            "Deaths and what became of them",
            "Faults that were made to happen, workers started in place of dead ones, deaths after "
            "which the run went on, pages that nobody owned after one, and the epoch: all but the "
            "last are tainted. Of the whole run.",
            "short",
            (
                Query(f"sum by (fault) (pagesoak_faults_total{{{RUN}}})", "fault {{fault}}"),
                Query(f"pagesoak_worker_restarts_total{{{RUN}}}", "{{worker}} started anew"),
                Query(f"pagesoak_recoveries_total{{{RUN}}}", "recoveries"),
                Query(f"pagesoak_lost_pages_total{{{RUN}}}", "pages without an owner"),
                Query(f"pagesoak_epochs_total{{{RUN}}}", "epochs"),
            ),
            minimum=0,
        ),
        Panel(
            "Audits, and log records dropped",
            "Audits of the guest's state, those that found a breach, and records that workers or "
            "the disk did not keep. Of the whole run.",
            "short",
            (
                Query(f"pagesoak_audits_total{{{RUN}}}", "audits"),
                Query(f"pagesoak_audits_failed_total{{{RUN}}}", "audits that found a breach"),
                Query(f"pagesoak_log_records_dropped_total{{{RUN}}}", "log records dropped"),
            ),
            minimum=0,
        ),
        Panel(
            "Longest hold of an audit",
            "The longest time of the run for which an audit held the locks.",
            "s",
            (Query(f"pagesoak_audit_hold_seconds_max{{{RUN}}}", "longest hold"),),
            minimum=0,
        ),
    ),
)

"""Queries that several panels are made of: rates of counters, quantiles and heat maps."""

from dashboards.panels import RUN, Query


def quantiles(histogram: str, what: str = "") -> tuple[Query, ...]:
    """The median, and what 99 of 100 stayed below."""
    before = f"{what} " if what else ""
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by (instance, run, le) "
            f"(rate({histogram}_bucket{{{RUN}}}[$__rate_interval])))",
            f"{before}{name}",
        )
        for share, name in ((0.5, "median"), (0.99, "99 % at most"))
    )


def heat(histogram: str) -> tuple[Query, ...]:
    """How many fell into each bucket."""
    return (
        Query(f"sum by (le) (increase({histogram}_bucket{{{RUN}}}[$__rate_interval]))", "{{le}}"),
    )


def rates(*names: tuple[str, str], times: int = 1) -> tuple[Query, ...]:
    """Rates of counters, each with its words; `times` 60 makes them per minute."""
    factor = "" if times == 1 else f"{times} * "
    return tuple(
        Query(f"{factor}rate(pagesoak_{name}_total{{{RUN}}}[$__rate_interval])", words)
        for name, words in names
    )

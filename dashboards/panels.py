"""What a dashboard is made of, as plain data: panels, queries, annotations, a table's columns.

A dashboard's module says what is shown; `grafana` makes Grafana's own objects of it.
"""

from dataclasses import dataclass, field
from enum import StrEnum

JOB_AND_INSTANCE = 'job=~"$job", instance=~"$instance"'
"""Stands in every query, so that one Grafana can watch several daemons."""
RUN = f'{JOB_AND_INSTANCE}, run=~"$run"'
"""What belongs to a run is chosen by the run, too."""
INFO = f"on (instance, run) group_left (policy) pagesoak_run_info{{{RUN}}}"
"""Joins a run's policy to a series of that run."""


class Kind(StrEnum):
    """How a panel shows its figures."""

    LINES = "lines"
    STAT = "stat"
    TABLE = "table"
    BUCKETS = "buckets"
    """A heat map of a histogram: times upwards, how often as colour."""
    ORDERS = "orders"
    """A heat map of levels: orders upwards, how many as colour."""
    STATES = "states"
    """A bar for each run, with the names of its states."""


@dataclass(frozen=True)
class Query:
    """One PromQL expression. `legend` names a series by its labels; `column` a column of a table;
    `unit` is that of the column.
    """

    expr: str
    legend: str = ""
    column: str = ""
    unit: str = ""
    bad_from: float | None = None
    """The column turns red from this value on."""


@dataclass(frozen=True)
class Panel:
    """One picture; `width` in the 24 columns of Grafana's grid, `height` in its rows.

    `thresholds` are values and colours, the first of which has no value: the colour of what is
    well. `decimals` None leaves it to Grafana.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    width: int = 12
    height: int = 8
    stacked: bool = False
    minimum: float | None = None
    thresholds: tuple[tuple[float | None, str], ...] = ()
    mappings: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Texts and colours for whole numbers."""
    hidden_columns: tuple[str, ...] = ()
    sorted_by: str = ""
    """The column of a table that comes first, the largest value on top."""
    run_links: bool = False
    """Whether a run's name leads to its own dashboard."""


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Annotation:
    """Moments that are marked in all panels: those at which `expr` has a value."""

    name: str
    expr: str
    title: str
    text: str
    colour: str


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values of a label.

    `one` is for a dashboard that shows one thing at a time.
    """

    name: str
    label: str
    query: str
    one: bool = False


@dataclass(frozen=True)
class Dashboard:
    """A whole dashboard."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    annotations: tuple[Annotation, ...]
    rows: tuple[Row, ...]
    since: str = "now-1h"


RED, ORANGE, GREEN, BLUE, PURPLE, GREY = "red", "orange", "green", "blue", "purple", "text"
BAD_FROM_1 = ((None, GREEN), (1.0, RED))
"""Anything at all is too much."""
BAD_BELOW_0 = ((None, RED), (0.0, GREEN))
"""Below zero the guest was below its watermark."""

STATES = {
    1: ("starting", BLUE),
    2: ("preparing", BLUE),
    3: ("running", GREEN),
    4: ("stopping", ORANGE),
    5: ("ended", GREY),
    6: ("unclean", RED),
    7: ("paused", PURPLE),
}
"""States of a run as numbers, since Grafana shows numbers over time."""


def goes_on(labels: str, states: str = "preparing|running") -> str:
    """PromQL that multiplies a series of each run by 1 while it is in one of these states, by 0
    otherwise: the last figures of a run that is over stay for a while.
    """
    state = f'pagesoak_run_state{{{labels}, state=~"{states}"}}'
    by = "(job, instance, run)"
    return f"* on {by} group_left () max by {by} ({state})"


def state_number(labels: str) -> str:
    """PromQL for the state of each run as a number of `STATES`.

    A pause of the daemon's clock would give none; `max` over an empty choice gives no row, so each
    state is asked for by itself and the sum is one number.
    """
    return " + ".join(
        f'{number} * max by (instance, run) (pagesoak_run_state{{{labels}, state="{name}"}})'
        for number, (name, _) in STATES.items()
    )


DAEMON_VARIABLES = (
    Variable("job", "Job", "label_values(pagesoak_build_info, job)"),
    Variable("instance", "Daemon", 'label_values(pagesoak_build_info{job=~"$job"}, instance)'),
)
"""Every dashboard has these two."""
POLICY_VARIABLE = Variable(
    "policy", "Policy", f"label_values(pagesoak_run_info{{{JOB_AND_INSTANCE}}}, policy)"
)
RUN_QUERY = f'label_values(pagesoak_run_info{{{JOB_AND_INSTANCE}, policy=~"$policy"}}, run)'

ANNOTATIONS = (
    Annotation(
        "OOM kills",
        f"sum by (instance, run, cause) (increase(pagesoak_oom_events_total{{{RUN}}}[1m])) > 0",
        "OOM kill in {{run}}",
        "What kept the memory: {{cause}}",
        RED,
    ),
    Annotation(
        "Policy begins",
        f"pagesoak_run_info{{{RUN}}} unless on (instance, run, policy) "
        f"(pagesoak_run_info{{{RUN}}} offset 1m)",
        "{{run}}: policy {{policy}}",
        "The run began with this policy, or it was changed to it",
        BLUE,
    ),
    Annotation(
        "New epochs",
        f"changes(pagesoak_epochs_total{{{RUN}}}[1m]) > 0",
        "New epoch in {{run}}",
        "A zone had to be made anew; what was measured before is tainted",
        PURPLE,
    ),
)
"""What is marked in every dashboard."""

"""Makes Grafana's own objects, and their JSON, of a dashboard that is plain data.

With grafana-foundation-sdk 0.0.21; other builds of it have larger numbers and are for an older
Grafana (pyproject.toml pins this one). Nothing here is random or knows the time, so the same
dashboard gives the same bytes.
"""

import json
from collections.abc import Callable
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as model_common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as model_heatmap
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.panels import Annotation, Dashboard, Kind, Panel, Query, Row, Variable

TAG = "pagesoak"
"""By this the dashboards find each other."""
SOURCE = model_common.DataSourceRef(type_val="prometheus", uid="${datasource}")
REFRESH = "10s"
FILL_PERCENT = 8
"""Under a line, so that it is seen on which side of it is more."""
STACKED_PERCENT = 40
ANNOTATION_STEP = "60s"
"""As long as the interval that its expressions look back over: no moment is marked twice."""
REFERENCES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of a panel's queries, as Grafana gives them."""
ONE_RUN_UID = "pagesoak-one-soak"

INSTANT = frozenset({Kind.STAT, Kind.TABLE})
"""Shown as they are now; the others over time."""


def dashboard_json(dashboard: Dashboard) -> str:
    """The dashboard as the file that Grafana reads."""
    document = json.loads(json.dumps(_built(dashboard), cls=JSONEncoder))
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _built(dashboard: Dashboard) -> model.Dashboard:
    builder = (
        build.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.description)
        .tags([TAG])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(dashboard.since, "now")
        .timezone("browser")
        .refresh(REFRESH)
        .link(
            build.DashboardLink("Other dashboards of pagesoak")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
        .with_variable(
            build.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )
    for variable in dashboard.variables:
        builder.with_variable(_variable(variable))
    for annotation in dashboard.annotations:
        builder.annotation(_annotation(annotation))
    for row in dashboard.rows:
        _add(builder, row)
    made = builder.build()
    for number, panel in enumerate(made.panels or [], 1):
        panel.id_val = number
    return made


def _add(builder: build.Dashboard, row: Row) -> None:
    builder.with_row(build.Row(row.title))
    for panel in row.panels:
        builder.with_panel(_panel(panel))


def _variable(variable: Variable) -> build.QueryVariable:
    made = (
        build.QueryVariable(variable.name)
        .label(variable.label)
        .query(variable.query)
        .definition(variable.query)
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    if variable.one:
        return made.multi(multi=False).include_all(include_all=False)
    every = model.VariableOption(selected=True, text="All", value="$__all")
    return made.multi(multi=True).include_all(include_all=True).all_value(".+").current(every)


def _annotation(annotation: Annotation) -> build.AnnotationQuery:
    return (
        build.AnnotationQuery()
        .name(annotation.name)
        .datasource(SOURCE)
        .enable(enable=True)
        .icon_color(annotation.colour)
        .expr(annotation.expr)
        .title_format(annotation.title)
        .text_format(annotation.text)
        .tag_keys("run")
        .step(ANNOTATION_STEP)
    )


def _panel(panel: Panel) -> Any:
    made = MAKERS[panel.kind](panel)
    made.title(panel.title).description(panel.description).datasource(SOURCE)
    made.unit(panel.unit).span(panel.width).height(panel.height)
    if panel.minimum is not None:
        made.min(panel.minimum)
    if panel.thresholds:
        steps = [model.Threshold(value, colour) for value, colour in panel.thresholds]
        made.thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.mappings:
        shown = {
            str(number): model.ValueMappingResult(text=text, color=colour, index=number)
            for number, (text, colour) in panel.mappings.items()
        }
        made.mappings([model.ValueMap(shown)])
    for reference, query in zip(REFERENCES, panel.queries, strict=False):
        made.with_target(_target(panel.kind, query).ref_id(reference))
    return made


def _target(kind: Kind, query: Query) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).datasource(SOURCE)
    if query.legend:
        made.legend_format(query.legend)
    made = made.instant() if kind in INSTANT else made.range()
    formats = {Kind.TABLE: PromQueryFormat.TABLE, Kind.BUCKETS: PromQueryFormat.HEATMAP}
    return made.format(formats.get(kind, PromQueryFormat.TIME_SERIES))


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(model_common.LegendDisplayMode.TABLE)
        .placement(model_common.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
        .calcs(["min", "max", "lastNotNull"])
    )


def _lines(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .legend(_legend())
        .line_width(1)
        .fill_opacity(STACKED_PERCENT if panel.stacked else FILL_PERCENT)
        .show_points(model_common.VisibilityMode.AUTO)
        .tooltip(
            common.VizTooltipOptions()
            .mode(model_common.TooltipDisplayMode.MULTI)
            .sort(model_common.SortOrder.DESCENDING)
        )
    )
    if panel.stacked:
        made.stacking(common.StackingConfig().mode(model_common.StackingMode.NORMAL))
    if panel.thresholds:
        made.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(model_common.GraphThresholdsStyleMode.LINE)
        )
    return made


def _stat(panel: Panel) -> stat.Panel:
    made = (
        stat.Panel()
        .graph_mode(model_common.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("none")
    )
    if panel.thresholds:
        made.color_mode(model_common.BigValueColorMode.BACKGROUND)
    if any(query.legend for query in panel.queries):
        made.text_mode(model_common.BigValueTextMode.VALUE_AND_NAME)
    return made


def _table(panel: Panel) -> table.Panel:
    """One row for what the queries have in common, a column for each query."""
    names = {
        f"Value #{reference}": query.column
        for reference, query in zip(REFERENCES, panel.queries, strict=False)
    }
    made = table.Panel().filterable(filterable=True)
    made.with_transformation(model.DataTransformerConfig("merge", options={}))
    hidden = dict.fromkeys(("Time", "__name__", "job", *panel.hidden_columns), True)
    made.with_transformation(
        model.DataTransformerConfig(
            "organize", options={"excludeByName": hidden, "renameByName": names}
        )
    )
    if panel.sorted_by:
        made.with_transformation(
            model.DataTransformerConfig(
                "sortBy",
                options={"fields": {}, "sort": [{"field": panel.sorted_by, "desc": True}]},
            )
        )
    for query in panel.queries:
        made.override_by_name(query.column, _column(query))
    if panel.run_links:
        url = f"/d/{ONE_RUN_UID}?var-run=${{__value.text}}&${{datasource:queryparam}}"
        link = {"title": "Look at this soak", "url": url}
        made.override_by_name("run", [model.DynamicConfigValue("links", [link])])
    return made


def _column(query: Query) -> list[model.DynamicConfigValue]:
    found = []
    if query.unit:
        found.append(model.DynamicConfigValue("unit", query.unit))
    if query.bad_from is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": query.bad_from}]
        config = {"mode": "absolute", "steps": steps}
        found.append(model.DynamicConfigValue("thresholds", config))
        found.append(model.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    return found


def _heat(scheme: str) -> heatmap.Panel:
    return (
        heatmap.Panel()
        .calculate(calculate=False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(model_heatmap.HeatmapColorMode.SCHEME)
            .scheme(scheme)
            .steps(64)
        )
        .cell_gap(1)
        .show_legend()
    )


def _buckets(panel: Panel) -> heatmap.Panel:
    axis = heatmap.YAxisConfig().unit(panel.unit).axis_placement(model_common.AxisPlacement.LEFT)
    return _heat("Oranges").y_axis(axis)


def _orders(_panel: Panel) -> heatmap.Panel:
    axis = heatmap.YAxisConfig().unit("none").axis_label("order")
    return _heat("Blues").y_axis(axis)


def _states(_panel: Panel) -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .merge_values(merge_values=True)
        .legend(
            common.VizLegendOptions()
            .display_mode(model_common.LegendDisplayMode.LIST)
            .placement(model_common.LegendPlacement.BOTTOM)
            .show_legend(show_legend=False)
        )
    )


MAKERS: dict[Kind, Callable[[Panel], Any]] = {
    Kind.LINES: _lines,
    Kind.STAT: _stat,
    Kind.TABLE: _table,
    Kind.BUCKETS: _buckets,
    Kind.ORDERS: _orders,
    Kind.STATES: _states,
}

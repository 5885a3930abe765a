"""The description of the HTTP interface (OpenAPI 3.1), as `/v1/openapi.json` gives it."""

from typing import Any

from pagesoak import __version__
from pagesoak.base.faults import FAULTS, POINT_NAMES, SECONDS_MAX
from pagesoak.daemon.record import Record
from pagesoak.daemon.request import StartRequest
from pagesoak.engine.settings import KEYS

_RUN = {
    "name": "run",
    "in": "path",
    "required": True,
    "description": "The run's name.",
    "schema": {"type": "string"},
}
_PLACE = {
    "name": "after",
    "in": "query",
    "description": "Go on behind this event ID; `Last-Event-ID` does the same.",
    "schema": {"type": "integer", "minimum": 0, "default": 0},
}
_FOLLOW = {
    "name": "follow",
    "in": "query",
    "description": "Wait for more until the run has ended.",
    "schema": {"type": "boolean", "default": True},
}
_GUEST_RUN = {
    "name": "run",
    "in": "query",
    "description": "Which run; may be left out when there is one only.",
    "schema": {"type": "string"},
}
_FROM = {
    "name": "from",
    "in": "query",
    "description": "Begin, in seconds of the soak's clock.",
    "schema": {"type": "number", "minimum": 0, "default": 0},
}
_TO = {
    "name": "to",
    "in": "query",
    "description": "End, in seconds of the soak's clock; the newest without it.",
    "schema": {"type": "number", "minimum": 0},
}

_OVER = {"409": "The run does not go on.", "503": "Its runner has not answered."}


def description() -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pagesoak",
            "version": __version__,
            "description": "Soaks of Linux free page reporting: start, watch and stop them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(),
        "components": {"schemas": _schemas()},
    }


def _paths() -> dict[str, Any]:
    json, text, events = "application/json", "text/plain", "text/event-stream"
    run, status, problems = _schema("Run"), {"type": "object"}, {"422": "What is wrong, by key."}
    over = {**problems, **_OVER}
    return {
        "/v1/version": {"get": _operation("Who answers here.", json, status)},
        "/v1/status": {"get": _operation("The daemon, and the runs that go on.", json, status)},
        "/v1/openapi.json": {"get": _operation("This document.", json, status)},
        "/v1/runs": {
            "get": _operation("Every run, the newest first.", json, _schema("Runs")),
            "post": {
                **_operation(
                    "Start a run. The client chooses its name; asking again for the same run "
                    "starts no second one.",
                    json,
                    run,
                    problems={**problems, "409": "Another run has the name, or no room."},
                ),
                **_takes("StartRequest"),
            },
        },
        "/v1/runs/{run}": {
            "get": _operation("One run, with its summary or its figures.", json, run, [_RUN])
        },
        "/v1/runs/{run}/stop": {
            "post": {
                **_operation("Ask a run to end in order.", json, run, [_RUN], problems),
                **_takes("NoValues"),
            }
        },
        "/v1/runs/{run}/pause": {
            "post": {
                **_operation("Let a run stand still.", json, run, [_RUN], over),
                **_takes("NoValues"),
            }
        },
        "/v1/runs/{run}/resume": {
            "post": {
                **_operation("Let a run go on.", json, run, [_RUN], over),
                **_takes("NoValues"),
            }
        },
        "/v1/runs/{run}/set": {
            "post": {
                **_operation(
                    "Change policy, host or load of a run that goes on.",
                    json,
                    run,
                    [_RUN],
                    over,
                ),
                **_takes("Settings"),
            },
        },
        "/v1/runs/{run}/chaos": {
            "post": {
                **_operation(
                    "Make a fault happen, where the configuration allows that.",
                    json,
                    run,
                    [_RUN],
                    problems={**problems, "409": "Not allowed, or the run does not go on."},
                ),
                **_takes("Fault"),
            }
        },
        "/v1/runs/{run}/events": {
            "get": _operation("What happened.", events, None, [_RUN, _PLACE, _FOLLOW])
        },
        "/v1/runs/{run}/logs": {
            "get": _operation("What its workers logged.", events, None, [_RUN, _PLACE, _FOLLOW])
        },
        "/v1/page": {
            "get": _operation("The page for browsers: where, and what it may do.", json, status)
        },
        "/v1/page/token": {
            "get": _operation("What the page needs to change something.", json, status)
        },
        "/v1/runs/{run}/view": {
            "get": _operation("What the page shows of a run.", json, status, [_RUN, _FROM, _TO])
        },
        "/v1/runs/{run}/live": {"get": _operation("A sample each second.", events, None, [_RUN])},
        "/metrics": {"get": _operation("Series for Prometheus.", text)},
        "/metrics/guest": {
            "get": _operation("A guest under node_exporter's names.", text, None, [_GUEST_RUN])
        },
        "/healthz": {"get": _operation("`ok` or `degraded`.", json, status)},
    }


def _operation(
    summary: str,
    media_type: str,
    schema: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
    problems: dict[str, str] | None = None,
) -> dict[str, Any]:
    content = {media_type: {"schema": schema or {"type": "string"}}}
    problem = {"application/problem+json": {"schema": _schema("Problem")}}
    answers = {"404": "There is no such run."} if parameters and _RUN in parameters else {}
    return {
        "summary": summary,
        **({"parameters": parameters} if parameters else {}),
        "responses": {
            "2XX": {"description": "As asked.", "content": content},
            **{
                status: {"description": text, "content": problem}
                for status, text in (answers | (problems or {})).items()
            },
            "default": {"description": "What is wrong.", "content": problem},
        },
    }


def _takes(name: str) -> dict[str, Any]:
    """What an operation must be given."""
    content = {"application/json": {"schema": _schema(name)}}
    return {"requestBody": {"required": True, "content": content}}


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Any]:
    template = "#/components/schemas/{model}"
    record = Record.model_json_schema(ref_template=template)
    nested = record.pop("$defs", {})
    extra = {"pid": "integer", "elapsed_seconds": "number"}
    for name, kind in extra.items():
        record["properties"][name] = {"type": [kind, "null"]}
    record["properties"]["settings"] = {
        "type": "object",
        "description": "What was set while the run goes on.",
    }
    for name in ("summary", "figures"):
        record["properties"][name] = {
            "type": ["object", "null"],
            "description": "Of one run alone; fields as in docs/summary.md.",
        }
    return {
        "Run": record,
        **nested,
        "Runs": {
            "type": "object",
            "required": ["runs"],
            "properties": {"runs": {"type": "array", "items": _schema("Run")}},
        },
        "NoValues": {
            "type": "object",
            "description": "Empty: the order takes no values.",
            "additionalProperties": False,
        },
        "Settings": {
            "type": "object",
            "description": "What is to be changed, by key; the rest stays. As in docs/daemon.md.",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": {key: {"type": ["string", "number"]} for key in KEYS},
        },
        "Fault": {
            "type": "object",
            "required": ["fault"],
            "additionalProperties": False,
            "properties": {
                "fault": {"type": "string", "enum": list(FAULTS)},
                "cpu": {"type": "integer", "minimum": 0},
                "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": SECONDS_MAX},
                "point": {"type": "string", "enum": list(POINT_NAMES)},
            },
        },
        "StartRequest": StartRequest.model_json_schema(ref_template=template),
        "Problem": {
            "type": "object",
            "description": "RFC 9457.",
            "required": ["title", "status", "detail"],
            "properties": {
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "errors": {"type": "array", "items": {"type": "object"}},
            },
        },
    }

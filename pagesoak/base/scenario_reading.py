"""How one table of a TOML file becomes a frozen model, with everything wrong with it in words.

The same for a scenario and for the daemon's configuration.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pagesoak.base.scenario_checks import Mistake, TableView
from pagesoak.base.scenario_file import Key, dotted, suggestion
from pagesoak.base.scenario_tables import Reading, Table

MESSAGES = {
    "missing": "is missing",
    "value_error": "{error}",
    "string_type": "must be a text in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters long",
    "string_pattern_mismatch": "must consist of a-z, 0-9 and -",
    "int_type": "must be a whole number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "model_type": "must be a table",
}
"""What is wrong, in the words of the file rather than of the library."""


def read_table(
    model: type[Table],
    raw: Any,
    place: Key,
    folder: Path,
    mistakes: list[Mistake],
    also: Iterable[str] = (),
) -> tuple[Table | None, TableView]:
    """The table, None if anything in it is wrong, and the view of it that shows what is valid.
    `also` are keys of other tables that may stand beside this one's own.
    """
    reading = Reading(folder)
    table = None
    if not isinstance(raw, dict):
        mistakes.append(Mistake(place, f"must be a table, [{dotted(place)}]"))
        raw = {}
    else:
        try:
            table = model.model_validate(raw, context=reading)
        except ValidationError as error:
            for details in error.errors(include_url=False, include_input=False):
                message = _message(details, [*model.defaults(), *also])
                mistakes.append(Mistake((*place, *details["loc"]), message))
    view = TableView(place, frozenset(raw), reading.valid, model.defaults())
    return table, view


def _message(error: ErrorDetails, known: list[str]) -> str:
    """What is wrong with one key."""
    match error["type"]:
        case "extra_forbidden":
            at_top = len(error["loc"]) == 1
            return f"unknown key{suggestion(str(error['loc'][0]), known) if at_top else ''}"
        case kind if kind in MESSAGES:
            return MESSAGES[kind].format(**error.get("ctx", {}))
    return error["msg"]

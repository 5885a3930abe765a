"""What stands behind the `?` of a path. All that is wrong with it is told at once, by key."""

from collections.abc import Mapping
from typing import NamedTuple

from starlette.requests import Request

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.daemon.page_facts import read_interval
from pagesoak.daemon.problem import ProblemError

PLACE_DIGITS_MAX = 15
"""Of a place in a file."""


class Following(NamedTuple):
    """From which place of a file on, and whether to wait for more."""

    after: int
    follow: bool


def read_following(request: Request) -> Following:
    """`after`, or `Last-Event-ID` without it, and `follow`; InputErrors."""
    query = request.query_params
    key, after = "after", query.get("after")
    if not after:
        key, after = "Last-Event-ID", request.headers.get("last-event-id") or "0"
    mistakes = []
    if not (after.isascii() and after.isdecimal() and len(after) <= PLACE_DIGITS_MAX):
        said = "must be a place in the file, as an event's ID gives it"
        mistakes.append(InputError(said, key=key))
    follow = query.get("follow", "true")
    if follow not in {"true", "false"}:
        mistakes.append(InputError("must be true or false", key="follow"))
    if mistakes:
        raise InputErrors(mistakes)
    return Following(int(after), follow == "true")


def read_shown(query: Mapping[str, str]) -> tuple[float, float]:
    """`from` and `to`, in seconds of the soak's clock; ProblemError."""
    mistakes = {}
    for key in ("from", "to"):
        try:
            read_interval({key: query[key]} if key in query else {})
        except ProblemError as error:
            mistakes[key] = error.detail
    if not mistakes:
        try:
            return read_interval(query)
        except ProblemError as error:  # each is a time, but not this one behind the other
            mistakes["to"] = error.detail
    errors = [{"key": key, "line": None, "detail": said} for key, said in mistakes.items()]
    raise ProblemError(422, "\n".join(mistakes.values()), errors)

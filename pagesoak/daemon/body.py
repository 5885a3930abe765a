"""The body of a request: a JSON document, an object of values by key, or nothing to say."""

import json
from typing import Any

from starlette.requests import Request

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.daemon.problem import ProblemError

JSON_DEPTH_MAX = 32
"""Of a request's document: ours have two levels."""


async def read_object(request: Request) -> dict[str, Any]:
    """Values by key; ProblemError when the body is no such document."""
    document = _document(await request.body())
    if not isinstance(document, dict):
        raise ProblemError(422, "the body must be an object: values by key")
    return document


async def check_empty(request: Request) -> None:
    """Of an order that takes no values: an empty object, or no body at all. ProblemError, and
    InputErrors with every key that there is.
    """
    if await request.body():
        keys = await read_object(request)
        if keys:
            raise InputErrors(InputError("this order takes no values", key=key) for key in keys)


def _document(body: bytes) -> Any:
    def refuse(text: str) -> None:
        raise ProblemError(400, f"{text} is no number of JSON")

    try:
        document = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ProblemError(400, "the body is no JSON document") from None
    if _depth(document) > JSON_DEPTH_MAX:
        raise ProblemError(400, f"the document is nested deeper than {JSON_DEPTH_MAX} levels")
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a pair: no answer could name it
        raise ProblemError(400, "a text of the document is no Unicode") from None
    return document


def _depth(value: Any) -> int:
    """Levels of a document, counted no further than is allowed."""
    levels, layer = 0, [value]
    while layer and levels <= JSON_DEPTH_MAX:
        levels += 1
        below: list[Any] = []
        for entry in layer:
            if isinstance(entry, dict):
                below += entry.values()
            elif isinstance(entry, list):
                below += entry
        layer = below
    return levels

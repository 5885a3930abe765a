"""What a client is told when its request leads nowhere, or ends in an error: always a problem
document.
"""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ExceptionHandler

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.daemon.orders import ConflictError, UnansweredError
from pagesoak.daemon.problem import ProblemError, problem
from pagesoak.daemon.supervisor import UnknownRunError

RUN_PATH = "/v1/runs/{run}/"
"""What the paths of all that a run has begin with."""
_OF_A_RUN = re.compile(r"/v1/runs/[^/]+/.")


async def _nowhere(request: Request, error: Exception) -> Response:
    """No route has such a path, or none such a method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    match status:
        case 404:
            return problem(status, _what_there_is(request))
        case 405:
            allowed = ", ".join(sorted(_allowed(request)))
            answer = problem(status, f"this is not done with this method, but with {allowed}")
            answer.headers["allow"] = allowed
            return answer
    return problem(status, "the request is not understood")


def _allowed(request: Request) -> set[str]:
    """The methods of all routes that have the path of a request."""
    routes = request.app.routes
    there = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in there for method in route.methods}


def _what_there_is(request: Request) -> str:
    if not _OF_A_RUN.match(request.url.path):
        return "there is nothing here"
    found: dict[str, list[str]] = {"GET": [], "POST": []}
    for route in request.app.routes:
        if route.path.startswith(RUN_PATH):
            method = "GET" if "GET" in route.methods else "POST"
            found[method].append(f"`{route.path.removeprefix(RUN_PATH)}`")
    if not found["GET"]:  # a port that has only figures
        return "there is nothing here"
    shown, orders = (", ".join(sorted(names)) for names in found.values())
    return f"a run has {shown} to look at, and takes the orders {orders}"


async def _own(_request: Request, error: Exception) -> Response:
    return error.response() if isinstance(error, ProblemError) else problem(500, "")


async def _unknown_run(_request: Request, error: Exception) -> Response:
    return problem(404, str(error))


async def _conflict(_request: Request, error: Exception) -> Response:
    return problem(409, str(error))


async def _unanswered(_request: Request, error: Exception) -> Response:
    return problem(503, str(error))


async def _wrong_input(_request: Request, error: Exception) -> Response:
    mistakes = error.errors if isinstance(error, InputErrors) else (error,)
    documents = [
        {"key": each.key, "line": each.line, "detail": each.message}
        for each in mistakes
        if isinstance(each, InputError)
    ]
    return problem(422, str(error), documents)


REFUSALS: dict[type[Exception], ExceptionHandler] = {
    HTTPException: _nowhere,
    ProblemError: _own,
    UnknownRunError: _unknown_run,
    ConflictError: _conflict,
    UnansweredError: _unanswered,
    InputErrors: _wrong_input,
    InputError: _wrong_input,
}
"""What answers each kind of error."""

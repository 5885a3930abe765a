"""Errors of the API: problem documents (RFC 9457), which say what is wrong and never how the
daemon is made.
"""

from typing import Any

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"

TITLES = {
    400: "The request is not understood",
    403: "Not allowed",
    404: "Not found",
    405: "Not for this method",
    408: "The request came too slowly",
    409: "In conflict with what there is",
    413: "The request is too large",
    415: "The request must be JSON",
    421: "Not the host that was asked for",
    422: "The request is wrong",
    500: "The daemon failed",
    503: "Not at this moment",
}


class ProblemError(Exception):
    """Ends a request with a problem document; `errors` name several mistakes, each by its key."""

    def __init__(
        self, status: int, detail: str, errors: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors

    def response(self) -> JSONResponse:
        """The problem document."""
        return problem(self.status, self.detail, self.errors)


def problem(status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> JSONResponse:
    """A problem document."""
    document: dict[str, Any] = {"title": TITLES[status], "status": status, "detail": detail}
    if errors:
        document["errors"] = errors
    return JSONResponse(document, status_code=status, media_type=MEDIA_TYPE)

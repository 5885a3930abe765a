"""What the page for browsers asks, beside what all clients do: where it is, the view of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pagesoak.daemon.page_facts import PageFacts
from pagesoak.daemon.peer import asking, check_authority
from pagesoak.daemon.query import read_shown
from pagesoak.daemon.record import Record
from pagesoak.daemon.supervisor import Supervisor
from pagesoak.daemon.view import Views, kept_facts, live_facts


@dataclass(frozen=True)
class PageApi:
    """The page's routes; `describe` gives a run's document with its figures."""

    supervisor: Supervisor
    page: PageFacts
    views: Views
    describe: Callable[[Record], dict[str, Any]]

    def routes(self) -> list[Route]:
        """For every client."""
        return [
            Route("/v1/page", self.facts),
            Route("/v1/runs/{run}/view", self.view),
        ]

    def token_route(self) -> Route:
        """For the Unix socket alone."""
        return Route("/v1/page/token", self.token)

    async def facts(self, _request: Request) -> Response:
        """Where the page is, whether it may change something, and what it can offer to start."""
        return JSONResponse(self.page.document())

    async def token(self, request: Request) -> Response:
        """What the page needs to change something: for root and the daemon's own user, since who
        has it may change every run.
        """
        check_authority(asking(request), None, "the page")
        return JSONResponse({"token": self.page.token})

    async def view(self, request: Request) -> Response:
        """What the page shows of a run: figures, curves, windows, failures, the last events."""
        shown = read_shown(request.query_params)
        record = self.supervisor.get(request.path_params["run"])
        document = self.describe(record)
        live = self.supervisor.live(record.run)
        if live is not None and record.going:
            facts = live_facts(live, document["elapsed_seconds"])
        else:
            facts = kept_facts(record)
        return JSONResponse({**await self.views.document(record, facts, shown), "run": document})

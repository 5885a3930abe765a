"""The HTTP/JSON interface under `/v1`: what a client may ask, and what becomes of it.

`openapi` describes it, `gate` stands before it, and `refusal` says what errors become.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Scope

from pagesoak import __version__
from pagesoak.base.errors import InputError
from pagesoak.base.faults import read_fault
from pagesoak.base.scenario import Scenario
from pagesoak.daemon.body import check_empty, read_object
from pagesoak.daemon.gate import API_VERSION, Gate
from pagesoak.daemon.metrics_guest import GuestCollector
from pagesoak.daemon.openapi import description
from pagesoak.daemon.page_api import PageApi
from pagesoak.daemon.page_assets import asset_routes
from pagesoak.daemon.page_facts import NO_PAGE, PageFacts, TokenGate
from pagesoak.daemon.peer import Peer, asking, check_authority
from pagesoak.daemon.problem import ProblemError
from pagesoak.daemon.query import read_following
from pagesoak.daemon.record import Record, State, read_summary
from pagesoak.daemon.refusal import REFUSALS, RUN_PATH
from pagesoak.daemon.request import read_request
from pagesoak.daemon.streams import follow_lines, samples
from pagesoak.daemon.supervisor import Supervisor
from pagesoak.daemon.view import Views
from pagesoak.engine.policy_choice import check_installed
from pagesoak.engine.settings import OFF, check_change, parse_change
from pagesoak.engine.summary import figures

FILES = {"events": "events.jsonl", "logs": "worker.log.jsonl"}
"""What can be followed, and the file of a run's directory that it is."""


@dataclass(frozen=True)
class Api:
    """The routes of one daemon."""

    supervisor: Supervisor
    registry: CollectorRegistry
    closing: Callable[[], bool]
    """Whether the daemon is on its way out; streams end then."""
    page: PageFacts = NO_PAGE
    views: Views = field(default_factory=Views)

    def control(self) -> Gate:
        """Everything, for the Unix socket."""
        return self._gated([*self._routes(), self._of_page().token_route()])

    def for_browsers(self) -> Gate:
        """The page and all it asks for; what changes something needs the token."""
        return self._gated([*asset_routes(), *self._routes()], self.page)

    def _routes(self) -> list[Route]:
        return [
            Route("/v1/version", self.version),
            Route("/v1/status", self.status),
            Route("/v1/openapi.json", self.openapi),
            Route("/v1/runs", self.list_runs, methods=["GET"]),
            Route("/v1/runs", self.start_run, methods=["POST"]),
            Route("/v1/runs/{run}", self.get_run),
            Route("/v1/runs/{run}/stop", self.stop_run, methods=["POST"]),
            Route("/v1/runs/{run}/pause", self.pause_run, methods=["POST"]),
            Route("/v1/runs/{run}/resume", self.resume_run, methods=["POST"]),
            Route("/v1/runs/{run}/set", self.set_values, methods=["POST"]),
            Route("/v1/runs/{run}/chaos", self.chaos, methods=["POST"]),
            *self._of_page().routes(),
            Route("/v1/runs/{run}/live", self.live),
            *(Route(RUN_PATH + name, partial(self.follow, name)) for name in FILES),
            *self._read_only(),
        ]

    def _of_page(self) -> PageApi:
        return PageApi(self.supervisor, self.page, self.views, self._with_figures)

    def metrics_only(self) -> Gate:
        """What a TCP port offers: figures, and whether the daemon lives."""
        return self._gated(self._read_only())

    def _read_only(self) -> list[Route]:
        return [
            Route("/metrics", self.metrics),
            Route("/metrics/guest", self.guest),
            Route("/healthz", self.health),
        ]

    def _gated(self, routes: list[Route], page: PageFacts | None = None) -> Gate:
        app: ASGIApp = Starlette(routes=routes, exception_handlers=REFUSALS)
        if page is not None:
            app = TokenGate(app, page.token)

        def leads(scope: Scope) -> bool:
            return any(route.matches(scope)[0] is Match.FULL for route in routes)

        return Gate(app, lambda: self.supervisor.config.hosts, leads)

    # ---- the daemon ----

    async def version(self, _request: Request) -> Response:
        """Who answers here."""
        return JSONResponse({"pagesoak": __version__, "api": API_VERSION})

    async def openapi(self, _request: Request) -> Response:
        """The description of this interface."""
        return JSONResponse(description())

    async def health(self, _request: Request) -> Response:
        """`ok`, or `degraded` when results are not stored or a process is not well; no more."""
        supervisor = self.supervisor
        degraded = supervisor.storage_problem or supervisor.silent or supervisor.unwell
        return JSONResponse({"status": "degraded" if degraded else "ok"})

    async def status(self, _request: Request) -> Response:
        """How the daemon is, and the runs that go on."""
        supervisor = self.supervisor
        config = supervisor.config
        return JSONResponse(
            {
                "pagesoak": __version__,
                "api": API_VERSION,
                "pid": os.getpid(),
                "uptime_seconds": round(time.monotonic() - supervisor.started_at, 3),
                "config": None if config.file is None else str(config.file),
                "socket": str(config.socket),
                "results": str(config.results),
                "chaos": config.chaos,
                "config_problem": supervisor.config_problem,
                "results_bytes": supervisor.retention.used_bytes,
                "results_removed": supervisor.retention.removed,
                "results_not_stored": supervisor.not_stored,
                "results_lost": supervisor.lost,
                "storage_problem": supervisor.storage_problem,
                "silent": supervisor.silent,
                "unwell": [each._asdict() for each in supervisor.unwell],
                "ended_uncleanly": [record.run for record in supervisor.unclean],
                "runs": [self._document(live.refreshed()) for live in supervisor.going],
            }
        )

    # ---- runs ----

    async def list_runs(self, _request: Request) -> Response:
        """Every run, the newest first."""
        return JSONResponse({"runs": [self._document(r) for r in self.supervisor.all()]})

    async def get_run(self, request: Request) -> Response:
        """One run, with its summary, or its figures so far."""
        record = self.supervisor.get(request.path_params["run"])
        return JSONResponse(self._with_figures(record))

    def _with_figures(self, record: Record) -> dict[str, Any]:
        document = self._document(record)
        live = self.supervisor.live(record.run)
        document["summary"] = document["figures"] = None
        if record.state is State.ENDED:
            waiting = self.supervisor.summaries.of(self.supervisor.config.results / record.run)
            document["summary"] = dict(waiting) if waiting is not None else _summary(record)
        elif live is not None and live.view is not None:
            document["figures"] = {**figures(live.view, 0), "faults": live.news.get("faults", {})}
        return document

    async def start_run(self, request: Request) -> Response:
        """Start a run; asking again for the same one is no error."""
        document = await read_object(request)
        run, scenario = read_request(document, self.supervisor.config.recordings)
        record, is_new = self._started(request, run, scenario, ["pagesoak", "start", run])
        location = {"location": f"/v1/runs/{record.run}"}
        return JSONResponse(self._document(record), 201 if is_new else 200, headers=location)

    def _started(
        self, request: Request, run: str, scenario: Scenario, command: list[str]
    ) -> tuple[Record, bool]:
        peer = asking(request)
        record, is_new = self.supervisor.start(run, scenario, command, peer.uid if peer else None)
        if is_new:
            _log_order(peer, "start", run)
        return record, is_new

    def _check_authority(self, request: Request, what: str) -> None:
        """Only some may do that; ProblemError, UnknownRunError."""
        run = self.supervisor.get(request.path_params["run"]).run
        live = self.supervisor.live(run)
        peer = asking(request)
        check_authority(peer, live.owner if live is not None else None, run)
        _log_order(peer, what, run)

    async def stop_run(self, request: Request) -> Response:
        """Ask a run to end in order."""
        await check_empty(request)
        self._check_authority(request, "stop")
        record = self.supervisor.stop(request.path_params["run"])
        return JSONResponse(self._document(record), 202 if record.going else 200)

    async def pause_run(self, request: Request) -> Response:
        """Let a run stand still."""
        await check_empty(request)
        return await self._ordered(request, "pause")

    async def resume_run(self, request: Request) -> Response:
        """Let a run go on."""
        await check_empty(request)
        return await self._ordered(request, "resume")

    async def set_values(self, request: Request) -> Response:
        """Change policy, host or load of a run that goes on."""
        document = await read_object(request)
        run = request.path_params["run"]
        self.supervisor.get(run)
        live = self.supervisor.live(run)
        change = parse_change(document, check_installed)
        if live is not None:
            check_change(change, live.scenario, has_device=live.scenario.reporting.policy != OFF)
        return await self._ordered(request, "set", settings=document)

    async def _ordered(self, request: Request, what: str, **more: Any) -> Response:
        self._check_authority(request, what)
        record = await self.supervisor.order(request.path_params["run"], what, **more)
        return JSONResponse(self._document(record))

    async def chaos(self, request: Request) -> Response:
        """Make a fault happen in a run."""
        fault = read_fault(await read_object(request))
        self._check_authority(request, "chaos")
        record = self.supervisor.chaos(request.path_params["run"], fault)
        return JSONResponse(self._document(record), 202)

    def _document(self, record: Record) -> dict[str, Any]:
        document = record.model_dump(mode="json")
        live = self.supervisor.live(record.run)
        going = live is not None and record.going
        document["pid"] = live.pid if live is not None and going else None
        if live is not None and going:
            document["elapsed_seconds"] = live.elapsed_seconds(time.monotonic_ns())
        document["settings"] = live.settings if live is not None else {}
        return document

    # ---- streams ----

    async def follow(self, name: str, request: Request) -> Response:
        """The lines of one of a run's `FILES`."""
        run = request.path_params["run"]
        file = self.supervisor.directory(run) / FILES[name]
        after, follow = read_following(request)

        def going() -> bool:
            return not self.closing() and self.supervisor.goes_on(run)

        lines = follow_lines(file, after, going=going, follow=follow)
        return StreamingResponse(lines, media_type="text/event-stream")

    async def live(self, request: Request) -> Response:
        """A sample each second of a run that goes on."""
        record = self.supervisor.get(request.path_params["run"])
        live = self.supervisor.live(record.run)
        if live is None or not record.going:
            raise ProblemError(409, f"{record.run} does not go on; its results are kept")
        stream = samples(live, time.monotonic_ns, self.closing)
        return StreamingResponse(stream, media_type="text/event-stream")

    # ---- figures ----

    async def metrics(self, request: Request) -> Response:
        """All series, in the format that the client asks for."""
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(self.registry), headers={"content-type": content_type})

    async def guest(self, request: Request) -> Response:
        """One run's guest, under node_exporter's names."""
        name = request.query_params.get("run")
        readable = {live.name: live for live in self.supervisor.live_runs() if live.view}
        if name is None:
            if len(readable) != 1:
                named = ", ".join(sorted(readable)) or "none"
                raise InputError(f"say which run, as ?run=NAME; there are: {named}", key="run")
            name = next(iter(readable))
        reading = readable[name].reading() if name in readable else None
        if reading is None:
            raise ProblemError(404, f"there is no run named {name!r} that goes on")
        registry = CollectorRegistry(auto_describe=False)
        registry.register(GuestCollector(reading))
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(registry), headers={"content-type": content_type})


def _log_order(peer: Peer | None, what: str, run: str) -> None:
    """Who has had something done."""
    who = {} if peer is None else {"by_uid": peer.uid, "by_pid": peer.pid}
    structlog.get_logger().info("order", order=what, run=run, **who)


def _summary(record: Record) -> dict[str, Any] | None:
    try:
        return read_summary(Path(record.directory))
    except (OSError, ValueError):
        return None

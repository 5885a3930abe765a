"""The daemon: lock, socket, servers and supervisor put together, and the order of their end.

It begins with the lock, so that a second daemon neither takes the first one's socket nor touches
its runs. The socket is bound here: uvicorn would make it writable for everybody. At the end nobody
new is let in, the streams end, the runs end in order and keep their results, and the socket goes.
"""

import asyncio
import contextlib
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from pagesoak import __version__
from pagesoak.base.errors import InputError, PagesoakError
from pagesoak.daemon import log, notify, passed
from pagesoak.daemon.api import Api
from pagesoak.daemon.config import Config, Listen, load_config
from pagesoak.daemon.connections import HEADER_BYTES_MAX, KEEP_ALIVE_SECONDS, bounded
from pagesoak.daemon.metrics import SoakCollector, registry
from pagesoak.daemon.notify import Notifier
from pagesoak.daemon.page_facts import NO_PAGE, PageFacts
from pagesoak.daemon.passed import Passed, passed_sockets
from pagesoak.daemon.single import HeldError, Single, make_folder
from pagesoak.daemon.supervisor import Supervisor

SOCKET_UMASK = 0o117
"""Leaves 0660: the owner and the group of the folder's choice."""
LOCK_NAME = ".daemon.lock"
"""In the folder of the runs; the socket's own lies beside it."""
BACKLOG = 128
"""Connections that wait to be taken: who comes last is answered within a fraction of a second."""
TAKEN_AT_ONCE = 16
"""Of those, before something else is looked at."""
TELL_SECONDS = 5.0
"""Between two lines to the service manager."""
SIGNS_OF_LIFE = 4
"""In the time in which the service manager wants one."""
DRAIN_SECONDS_MAX = 2
"""At the end, for answers that are being written."""
DROPS_SECONDS = 1.0
"""Between two looks at what the log has left out: it counts by the second."""


class _Server(uvicorn.Server):
    """A server that leaves the signals to the daemon, and takes few connections at once: the
    event loop would take all that wait before it looks at any of them.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; then let as many wait as before, since that told the kernel otherwise."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind_socket(path: Path) -> socket.socket:
    """The control socket, only for owner and group; one that was left over is replaced.

    Raises InputError when something else is there, or it cannot be made.
    """
    try:
        make_folder(path.parent)
        if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
            raise InputError("is there already, and is no socket", file=path)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(SOCKET_UMASK)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except OSError as error:
        raise InputError(f"cannot be listened on: {error.strerror}", file=path) from error
    return listener


def bind_tcp(listen: Listen, key: str) -> socket.socket:
    """The TCP socket that a key asks for; InputError when the port cannot be had."""
    family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listen.address, listen.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        said = f"{listen.address}:{listen.port} cannot be listened on: {error.strerror}"
        raise InputError(said, key=key) from error
    return listener


def _server(app: ASGIApp) -> _Server:
    config = uvicorn.Config(
        app,
        http=bounded(),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=TAKEN_AT_ONCE,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
    )
    return _Server(config)


class Service:
    """One daemon from its locks to its end."""

    def __init__(
        self, config: Config, environment: Mapping[str, str], passed: Passed, notifier: Notifier
    ) -> None:
        self._passed = passed
        self._notifier = notifier
        self._environment = environment
        self._config = self._where_we_are(config)
        self._ending = asyncio.Event()
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises InputError when it cannot start."""
        with contextlib.ExitStack() as held:
            held.callback(self._passed.close)
            prepare_results = self._results_prepared(held)
            listeners = [self._passed.control or self._own_socket(held)]
            if self._passed.metrics is not None:
                listeners.append(self._passed.metrics)
            elif self._config.listen is not None:
                listeners.append(
                    held.enter_context(bind_tcp(self._config.listen, "metrics.listen"))
                )
            page = NO_PAGE
            if self._config.page_listen is not None:
                for_page = held.enter_context(bind_tcp(self._config.page_listen, "page.listen"))
                page = PageFacts.at(for_page, changes=self._config.page_changes)
            supervisor = Supervisor(self._config, prepare_results)
            collector = SoakCollector(supervisor)
            api = Api(supervisor, registry(collector), self._ending.is_set, page)
            servers = [_server(api.control()), _server(api.metrics_only())][: len(listeners)]
            self._take_signals(supervisor, collector)
            self._say_ready(listeners, page)
            if page.address is not None:
                listeners.append(for_page)
                servers.append(_server(api.for_browsers()))
            await self._serve(servers, listeners, supervisor)

    def _where_we_are(self, config: Config) -> Config:
        """The configuration with the socket that was passed in place of its own."""
        path = self._passed.path
        return config if path is None else config.model_copy(update={"socket": path})

    def _own_socket(self, held: contextlib.ExitStack) -> socket.socket:
        """The control socket, bound here, with a lock beside it; it goes with the daemon."""
        path = self._config.socket
        held.callback(Single(path.with_name(f"{path.name}.lock")).close)
        listener = held.enter_context(bind_socket(path))
        held.callback(path.unlink, missing_ok=True)
        return listener

    def _results_prepared(self, held: contextlib.ExitStack) -> Callable[[], str | None]:
        """What makes the folder of the runs ours: makes it, and takes its lock. It says why not,
        and is to be called again then: a disk that is full or read-only refuses no daemon.

        Raises HeldError when another daemon has the folder, at once or later.
        """
        folder = self._config.results
        locks: list[Single] = []

        def prepare() -> str | None:
            try:
                make_folder(folder)
                if not locks:
                    locks.append(Single(folder / LOCK_NAME))
                    held.callback(locks[0].close)
            except HeldError:
                raise
            except (OSError, InputError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                return f"{folder}: results cannot be kept here: {reason}"
            return None

        return prepare

    async def _serve(
        self,
        servers: list[_Server],
        listeners: list[socket.socket],
        supervisor: Supervisor,
    ) -> None:
        serving = [
            asyncio.create_task(server.serve(sockets=[listener]))
            for server, listener in zip(servers, listeners, strict=True)
        ]
        beside = [
            asyncio.create_task(each)
            for each in (
                supervisor.watch(),
                supervisor.tidy(),
                self._tell(supervisor),
                self._report_drops(),
            )
        ]
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait([*serving, *beside, ending], return_when=asyncio.FIRST_COMPLETED)
        self._notifier.stopping()
        self._log.info("daemon.ending", runs=len(supervisor.going))
        self._ending.set()
        await supervisor.close()
        for task in beside:
            task.cancel()
        for server in servers:
            server.should_exit = True
        results = await asyncio.gather(*serving, *beside, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise PagesoakError(f"the daemon failed: {result}") from result
        self._log.info("daemon.ended")

    def _say_ready(self, listeners: list[socket.socket], page: PageFacts) -> None:
        places = [str(self._config.socket)]
        for listener in listeners[1:]:
            address, port = listener.getsockname()[:2]
            shown = f"[{address}]" if ":" in address else address
            places.append(f"http://{shown}:{port}/metrics")
        if page.address is not None:
            places.append(page.address)
        self._log.info("daemon.started", version=__version__, pid=os.getpid(), places=places)
        self._notifier.ready()

    async def _tell(self, supervisor: Supervisor) -> None:
        """Tell the service manager how it is, for ever; that it lives only while workers get on,
        so that a daemon whose soaks hang is started anew.
        """
        wanted = self._notifier.watchdog_seconds
        pause_seconds = min(TELL_SECONDS, wanted / SIGNS_OF_LIFE) if wanted else TELL_SECONDS
        said = None
        while True:
            now = supervisor.in_a_line
            if now != said:
                said = now
                self._notifier.status(now)
            if supervisor.gets_on:
                self._notifier.alive()
            await asyncio.sleep(pause_seconds)

    async def _report_drops(self) -> None:
        """Have the log say what it left out, for ever."""
        while True:
            await asyncio.sleep(DROPS_SECONDS)
            log.report_due()

    def _take_signals(self, supervisor: Supervisor, collector: SoakCollector) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload, supervisor, collector)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # it waited (`cli.main`)

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something failed that nobody waits for. What the system refuses (descriptors, say) is
        no fault to be traced back.
        """
        error = context.get("exception")
        if isinstance(error, OSError):
            self._log.error("daemon.short_of", what=context["message"], reason=str(error))
        else:
            loop.default_exception_handler(context)

    def _reload(self, supervisor: Supervisor, collector: SoakCollector) -> None:
        """Take the configuration that is in the file now, or keep the old one and say why."""
        self._notifier.reloading()
        self._reload_now(supervisor, collector)
        self._notifier.ready()

    def _reload_now(self, supervisor: Supervisor, collector: SoakCollector) -> None:
        try:
            config = self._where_we_are(load_config(self._config.file, self._environment))
            fixed = self._config.needs_restart(config)
            if fixed:
                said = f"a restart is needed to change {', '.join(fixed)}"
                raise InputError(said, file=config.file)
        except PagesoakError as error:
            collector.reloads["refused"] += 1
            reason = "; ".join(str(error).splitlines())
            supervisor.config_problem = reason
            self._log.error("config.kept", reason=reason)
            return
        collector.reloads["taken"] += 1
        supervisor.config, supervisor.config_problem = config, None
        self._log.info("config.reloaded")


def serve(config: Config, environment: MutableMapping[str, str]) -> None:
    """Run the daemon to its end. What the service manager says in the environment is taken out
    of it: it is not for the runners.

    Raises InputError when it cannot start.
    """
    pid = os.getpid()
    notifier, sockets = Notifier(environment, pid), passed_sockets(environment, pid)
    notify.forget(environment)
    passed.forget(environment)

    async def main() -> None:
        await Service(config, environment, sockets, notifier).run()

    try:
        asyncio.run(main())
    finally:
        log.report_drops()

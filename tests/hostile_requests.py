"""Requests that mean no good, made up from a seed: what a fuzzer, a browser's page, a port scanner
or a broken client might send; the sockets that they are sent to; and what the daemon needs
meanwhile.
"""

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.daemon_helper import Daemon
from tests.page_helper import PageDaemon

ANSWER_SECONDS_MAX = 0.05
"""What does not answer a cut-off request at once is not waited for."""

METHODS = (
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"get",
    b"",
)
TARGETS = (
    b"/v1/runs", b"/v1/runs/x", b"/v1/runs/x/stop", b"/v1/runs/x/pause", b"/v1/runs/x/resume",
    b"/v1/runs/x/set", b"/v1/runs/x/events?follow=false", b"/v1/runs/x/logs", b"/v1/status",
    b"/v1/version", b"/v1/openapi.json", b"/metrics", b"/metrics/guest?run=x", b"/healthz", b"/",
    b"*", b"http://localhost/v1/status", b"/v1/runs/../../etc/passwd", b"/v1/runs/%2e%2e/stop",
    b"/v1/runs/x/set?after=9999999999999999999999", b"//v1/runs", b"/v1/runs/\xff",
    b"/v1/runs/x/chaos", b"/v1/runs/x/live", b"/v1/runs/x/view?from=nan", b"/v1/page",
    b"/v1/runs/soak/view?from=1e9", b"/v1/runs/soak/live", b"/v1/page/token", b"/page/uplot.js",
    b"/page/..%2fapi.py", b"/page/\x00",
)  # fmt: skip
HOSTS = (b"localhost", b"localhost", b"localhost", b"evil.example", b"", b"[::1]", b"a\x00b")
TYPES = (b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"")
HEADERS = (
    b"", b"Origin: http://evil.example\r\n", b"Pagesoak-Api: 99\r\n", b"Expect: 100-continue\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Content-Length: -1\r\n", b"X: " + b"y" * 5000 + b"\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Host: twice\r\n", b": \r\n", b"\r\n",
    b"Last-Event-ID: 1e999\r\n", b"Cookie: \xff\xfe\r\n", b"Pagesoak-Token: guessed\r\n",
)  # fmt: skip
VALUES = (
    None, True, 0, -1, 2**63, 1e308, "", "x" * 2000, "\ud800", "\u0000", "../x", [], {}, [[[]]],
    "1s", "mainline", "off", "none", {"a": {"b": []}}, "NaN",
)  # fmt: skip
KEYS = (
    "run", "scenario", "scenario_toml", "policy", "duration", "seed", "factor", "delay", "load",
    "host.latency", "odd", "",
)  # fmt: skip
TEXTS = (
    b"", b"{", b"[", b"null", b"NaN", b"1e400", b'{"run": ', b"\xff" * 50, b"[" * 3000,
    b'{"a":1,"a":2}', b"\x00", b"a = [",
)  # fmt: skip
CUT_ONE_IN = 12
"""Of the requests, so many end in the middle."""


class Place(NamedTuple):
    """A socket of a daemon: the control socket without a port; `plain` is what all may ask there,
    `token` what its orders need.
    """

    name: str
    port: int | None
    plain: str
    token: str | None = None


PLACES = ("control", "page", "metrics")


def place_of(daemon: PageDaemon, name: str) -> Place:
    """One of `PLACES`."""
    if name == "control":
        return Place(name, None, "/v1/status")
    if name == "page":
        return Place(name, daemon.page_port, "/v1/status", daemon.token)
    return Place(name, daemon.port, "/metrics")


def requests(seed: int, count: int, token: str | None = None) -> Iterator[bytes]:
    """So many requests; the same for the same seed. None of them starts a run, even if it gets as
    far as an order: one in two has the token, if one is given.
    """
    choose = random.Random(seed)  # noqa: S311 - the same requests again, for the same seed
    for _ in range(count):
        with_token = token is not None and choose.randrange(2)
        request = _request(choose, f"Pagesoak-Token: {token}\r\n" if with_token else "")
        if choose.randrange(CUT_ONE_IN) == 0:
            request = request[: choose.randrange(len(request) + 1)]
        yield request


def _request(choose: random.Random, more: str) -> bytes:
    kind = choose.randrange(10)
    if kind == 0:
        return choose.randbytes(choose.randrange(1, 400))
    body = _body(choose)
    length = len(body) if choose.randrange(8) else choose.choice((0, 5, 10**6, 10**12))
    return b"".join(
        (
            choose.choice(METHODS), b" ", choose.choice(TARGETS), b" HTTP/1.",
            choose.choice((b"1", b"1", b"0", b"9", b"")), b"\r\nHost: ", choose.choice(HOSTS),
            b"\r\nContent-Type: ", choose.choice(TYPES), b"\r\n", more.encode(),
            choose.choice(HEADERS),
            f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode(), body,
        )
    )  # fmt: skip


def _body(choose: random.Random) -> bytes:
    """Mostly JSON, wrong in one way or another: a run always has a name that no run may have, or
    no scenario that exists.
    """
    if choose.randrange(3) == 0:
        return choose.choice(TEXTS)
    keys = choose.sample(KEYS, choose.randrange(len(KEYS)))
    document = {key: choose.choice(VALUES) for key in keys}
    return json.dumps(document).encode("utf-8", "surrogatepass")


class Use(NamedTuple):
    """What the daemon's process has."""

    threads: int
    descriptors: int


def use_of(pid: int) -> Use:
    """Threads and descriptors of a process."""
    return Use(
        len(list(Path(f"/proc/{pid}/task").iterdir())),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
    )


def send(daemon: Daemon, request: bytes, port: int | None = None) -> None:
    """Send one, take what comes at once, and go."""
    with contextlib.suppress(OSError), daemon.http(port) as connection:
        connection.settimeout(ANSWER_SECONDS_MAX)
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass


def plain_seconds(daemon: Daemon, place: Place) -> float:
    """How long a plain request takes there; it is answered."""
    began = time.monotonic()
    request = f"GET {place.plain} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
    answer = daemon.ask(request, place.port)
    assert answer.startswith(b"HTTP/1.1 200 "), (place.name, answer[:200])
    return time.monotonic() - began


def slow_client(daemon: Daemon, port: int | None = None) -> socket.socket:
    """One that has begun a request and does not go on; it may have been let go already."""
    connection = daemon.http(port)
    with contextlib.suppress(OSError):
        connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    return connection

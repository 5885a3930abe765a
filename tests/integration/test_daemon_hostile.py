"""Clients that mean no good, or are just slow, on each socket of the daemon: none of them changes
anything, holds anybody up, or leaves more than a line in the log.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from pagesoak import __version__
from pagesoak.daemon.connections import (
    ANSWER_SECONDS_MAX,
    CONNECTIONS_MAX,
    REQUEST_SECONDS_MAX,
)
from pagesoak.daemon.gate import BODY_BYTES_MAX, BODY_SECONDS_MAX
from tests.daemon_helper import SLOW_TEST_SECONDS_MAX, wait_until
from tests.hostile_requests import (
    PLACES,
    Place,
    place_of,
    plain_seconds,
    requests,
    send,
    slow_client,
    use_of,
)
from tests.page_helper import PageDaemon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SLOW_TEST_SECONDS_MAX)]

PLAIN_SECONDS_MAX = 1.0
"""A plain request is answered within this, whatever others do (by the issue)."""
START = json.dumps({"run": "planted", "scenario": "idle-512m"}).encode()
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageDaemon]:
    with PageDaemon(tmp_path_factory.mktemp("hostile")) as started:
        yield started
        assert "Traceback" not in started.log_text


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, daemon: PageDaemon) -> Place:
    """Each socket: the control socket, the page's TCP port, that of the metrics."""
    return place_of(daemon, request.param)


def request(
    method: str, target: str, headers: bytes = b"", body: bytes = b"", host: bytes = b"localhost"
) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\n".encode() + b"Host: " + host + b"\r\n"
    length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    return head + headers + length + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def assert_nothing_was_started(daemon: PageDaemon) -> None:
    assert daemon.client.get("/v1/runs") == {"runs": []}


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"localhost.evil.example", b"127.0.0.1.nip.io:80", b"[::2]", b"", b"a@b"],
)
def test_a_host_that_is_not_ours_is_refused(daemon: PageDaemon, host: bytes) -> None:
    for port in (None, daemon.port, daemon.page_port):
        for asked in (
            request("GET", "/v1/version", host=host),
            request("GET", "/metrics", host=host),
            request("POST", "/v1/runs", JSON, START, host),
        ):
            answer = daemon.ask(asked, port)
            assert status(answer) == 421
            assert __version__.encode() not in answer
    assert_nothing_was_started(daemon)


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:99", b"127.0.0.1:1", b"[::1]:80"])
def test_our_own_names_are_let_in(daemon: PageDaemon, host: bytes) -> None:
    assert status(daemon.ask(request("GET", "/healthz", host=host))) == 200


def test_two_hosts_are_none(daemon: PageDaemon) -> None:
    twice = request("GET", "/healthz", b"Host: localhost\r\n")
    assert status(daemon.ask(twice)) in {400, 421}


def test_no_get_changes_anything(daemon: PageDaemon) -> None:
    for target in ("/v1/runs", "/v1/runs?run=planted&scenario=idle-512m", "/v1/runs/x/stop"):
        daemon.ask(request("GET", target, JSON, START))
    assert status(daemon.ask(request("GET", "/v1/runs/planted/stop"))) in {404, 405}
    assert_nothing_was_started(daemon)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"", 415),
        (b"Content-Type: text/plain\r\n", 415),
        (b"Content-Type: application/x-www-form-urlencoded\r\n", 415),
        (JSON + b"Origin: https://evil.example\r\n", 403),
        (JSON + b"Origin: null\r\n", 403),
        (JSON + b"Origin: http://localhost.evil.example\r\n", 403),
        (JSON + b"Pagesoak-Api: 2\r\n", 400),
    ],
)
def test_a_post_of_a_foreign_page_or_another_version_is_refused(
    daemon: PageDaemon, headers: bytes, expected: int
) -> None:
    assert status(daemon.ask(request("POST", "/v1/runs", headers, START))) == expected
    assert_nothing_was_started(daemon)


@pytest.mark.parametrize("order", ["set", "chaos", "stop", "pause", "resume"])
@pytest.mark.parametrize("body", [b"5.5", b"null", b"true", b'"fault"', b'["fault"]'])
def test_an_order_that_is_no_object_is_a_problem(
    daemon: PageDaemon, order: str, body: bytes
) -> None:
    answer = daemon.ask(request("POST", f"/v1/runs/x/{order}", JSON, body))
    assert status(answer) == 422
    assert b"must be an object" in answer
    assert "Traceback" not in daemon.log_text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"run":' * 50_000,
        b'{"run": "x", "scenario": "idle-512m", "seed": NaN}',
        b'{"run": "x", "scenario": "idle-512m", "seed": 1e400}',
        b'{"run": "x", "scenario": "idle-512m", "seed": ' + b"9" * 10_000 + b"}",
        b'{"run": "x", "scenario": "idle-512m", "seed": 9223372036854775808}',
        b'{"run": "x", "scenario": "idle-512m", "seed": true}',
        b'{"run": ["x"], "scenario": "idle-512m"}',
        b'{"run": "x\\u0000", "scenario": "idle-512m"}',
        b'{"run": ".index", "scenario": "idle-512m"}',
        b'"\\ud800"',
        b"\xff\xfe",
        json.dumps({"run": "x", "scenario_toml": "[" * 10_000}).encode(),
        json.dumps({"run": "x", "scenario_toml": "a = " + "[" * 10_000}).encode(),
    ],
)
def test_a_document_that_is_none_is_a_problem(daemon: PageDaemon, body: bytes) -> None:
    answer = daemon.ask(request("POST", "/v1/runs", JSON, body))
    assert status(answer) in {400, 422}
    assert b"application/problem+json" in answer
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert problem["status"] == status(answer)
    assert len(problem["detail"]) < 10_000
    assert_nothing_was_started(daemon)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/runs/..%2f..%2fetc%2fpasswd/events",
        "/v1/runs/../../etc/passwd",
        "/v1/runs/%00/logs",
        "/v1/runs/index.sqlite3/events",
        "/v1/runs/" + "x" * 4000,
        "/metrics/guest?run=%0a%22%7d",
        "//evil",
    ],
)
def test_a_path_that_leads_elsewhere_finds_nothing(
    daemon: PageDaemon, place: Place, target: str
) -> None:
    answer = daemon.ask(request("GET", target), place.port)
    assert status(answer) == 404
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"GET\r\n\r\n",
        b"\r\n" * 5,
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_an_error_or_nothing(
    daemon: PageDaemon, place: Place, raw: bytes
) -> None:
    with daemon.http(place.port) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert not answer or status(answer) >= 200
    assert plain_seconds(daemon, place) < PLAIN_SECONDS_MAX


def test_a_body_has_a_limit(daemon: PageDaemon, place: Place) -> None:
    body = b'{"run": "' + b"x" * BODY_BYTES_MAX + b'"}'
    with daemon.http(place.port) as connection:
        with contextlib.suppress(OSError):  # the answer does not wait for the end
            connection.sendall(request("POST", "/v1/runs", JSON, body))
        assert status(connection.recv(1 << 16)) == 413


def test_the_tcp_port_has_figures_and_nothing_else(daemon: PageDaemon) -> None:
    assert status(daemon.ask(request("GET", "/metrics"), daemon.port)) == 200
    assert status(daemon.ask(request("GET", "/healthz"), daemon.port)) == 200
    for target in ("/v1/runs", "/v1/status", "/v1/version", "/v1/openapi.json", "/"):
        assert status(daemon.ask(request("GET", target), daemon.port)) == 404
    assert status(daemon.ask(request("POST", "/v1/runs", JSON, START), daemon.port)) == 404
    assert status(daemon.ask(request("POST", "/metrics", JSON, START), daemon.port)) == 405
    assert_nothing_was_started(daemon)


def test_health_is_one_word_and_nothing_else(daemon: PageDaemon, place: Place) -> None:
    head, _, body = daemon.ask(request("GET", "/healthz"), place.port).partition(b"\r\n\r\n")
    assert json.loads(body) == {"status": "ok"}
    assert __version__.encode() not in head


def test_no_answer_lets_another_origin_in(daemon: PageDaemon) -> None:
    head = daemon.ask(request("GET", "/healthz", b"Origin: https://evil.example\r\n")).lower()
    assert b"access-control-" not in head
    assert b"x-content-type-options: nosniff" in head
    assert b"content-security-policy: default-src 'none'" in head
    assert b"server:" not in head


# ---- slow ones ----


def test_slow_clients_hold_nobody_up_and_are_let_go(daemon: PageDaemon, place: Place) -> None:
    pid = daemon.process.pid
    connections = [slow_client(daemon, place.port) for _ in range(4 * CONNECTIONS_MAX)]
    try:
        assert plain_seconds(daemon, place) < PLAIN_SECONDS_MAX
        during = use_of(pid)
        assert during.descriptors < CONNECTIONS_MAX + 40
        assert during.threads < 4
        wait_until(lambda: use_of(pid).descriptors < 40, 2 * REQUEST_SECONDS_MAX)
    finally:
        for connection in connections:
            connection.close()
    assert plain_seconds(daemon, place) < PLAIN_SECONDS_MAX


def test_clients_that_stay_after_their_answer_make_room(daemon: PageDaemon, place: Place) -> None:
    ask = f"GET {place.plain} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as held:
        for _ in range(2 * CONNECTIONS_MAX):
            connection = held.enter_context(daemon.http(place.port))
            connection.sendall(ask)
            assert status(connection.recv(1 << 16)) == 200
        assert plain_seconds(daemon, place) < PLAIN_SECONDS_MAX


def reads_nothing(port: int) -> socket.socket:
    """A client that asks for a large file and takes so little that some of it stays with the
    daemon: what is on its way in the kernel is bounded by the size of a segment.
    """
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 88)
    connection.connect(("127.0.0.1", port))
    with contextlib.suppress(OSError):  # it made room already
        connection.sendall(request("GET", "/page/uplot.js"))
    return connection


def test_clients_that_take_no_answer_make_room_and_are_let_go(daemon: PageDaemon) -> None:
    pid = daemon.process.pid
    page = place_of(daemon, "page")
    before = use_of(pid)
    with contextlib.ExitStack() as held:
        for _ in range(2 * CONNECTIONS_MAX):
            held.enter_context(reads_nothing(daemon.page_port))
        wait_until(lambda: use_of(pid).descriptors >= before.descriptors + CONNECTIONS_MAX // 2)
        assert plain_seconds(daemon, page) < PLAIN_SECONDS_MAX
        wait_until(lambda: use_of(pid).descriptors <= before.descriptors, 2 * ANSWER_SECONDS_MAX)


def test_a_body_that_never_comes_ends_the_connection(daemon: PageDaemon, place: Place) -> None:
    with daemon.http(place.port) as connection:
        connection.sendall(
            b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\n"
            + JSON
            + b"Content-Length: 99\r\n\r\n{"
        )
        began = time.monotonic()
        answer = connection.recv(1 << 16)
        assert not answer or status(answer) == 408
        assert time.monotonic() - began < 2 * BODY_SECONDS_MAX


def test_a_second_request_that_never_comes_whole_is_bounded_too(
    daemon: PageDaemon, place: Place
) -> None:
    with daemon.http(place.port) as connection:
        connection.settimeout(2 * REQUEST_SECONDS_MAX)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b'"ok"}' not in answer:
            answer += connection.recv(1 << 16)
        connection.sendall(b"GET /healthz HT")
        assert connection.recv(1 << 16) == b""


def test_the_log_does_not_grow_with_hostile_requests(daemon: PageDaemon, place: Place) -> None:
    before = len(daemon.log_text)
    for _ in range(200):
        daemon.ask(b"nonsense\r\n\r\n", place.port)
    assert len(daemon.log_text) - before < 2_000


GENERATED = 1_500
SLOW_CLIENTS = 150
"""`bench/hostile_clients.py` makes a hundred thousand, and a thousand."""


def test_generated_requests_and_slow_clients_change_nothing(
    daemon: PageDaemon, place: Place
) -> None:
    pid = daemon.process.pid
    before = use_of(pid)
    for request_bytes in requests(7, GENERATED, place.token):
        send(daemon, request_bytes, place.port)
    slow = [slow_client(daemon, place.port) for _ in range(SLOW_CLIENTS)]
    assert plain_seconds(daemon, place) < PLAIN_SECONDS_MAX
    during = use_of(pid)
    assert during.threads <= before.threads + 1
    assert during.descriptors <= before.descriptors + 2 * CONNECTIONS_MAX
    for connection in slow:
        connection.close()
    wait_until(lambda: use_of(pid).descriptors <= before.descriptors + 8)
    assert plain_seconds(daemon, place) < PLAIN_SECONDS_MAX
    assert_nothing_was_started(daemon)
    assert "Traceback" not in daemon.log_text

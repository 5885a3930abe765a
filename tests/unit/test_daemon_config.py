"""The daemon's configuration: defaults, every mistake at once, and what a reload may change."""

from pathlib import Path

import pytest

from pagesoak.base.errors import InputError, InputErrors
from pagesoak.cli.serve import serve
from pagesoak.daemon.config import Config, Listen, load_config, parse_config
from pagesoak.daemon.places import default_results, default_socket
from pagesoak.daemon.single import Single

HOME = {"HOME": "/h"}


def parsed(text: str, environment: dict[str, str] | None = None) -> Config:
    return parse_config(text, Path("/etc/daemon.toml"), environment or HOME)


def test_without_a_file_everything_has_a_default() -> None:
    config = load_config(None, HOME)
    assert config.socket == Path("/h/.local/state/pagesoak/control.sock")
    assert config.results == Path("/h/.local/state/pagesoak/runs")
    assert config.listen is None


@pytest.mark.parametrize(
    ("environment", "socket"),
    [
        ({"PAGESOAK_SOCKET": "/x/s"}, "/x/s"),
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/r"}, "/run/a/control.sock"),
        ({"XDG_RUNTIME_DIR": "/r"}, "/r/pagesoak/control.sock"),
        ({"XDG_STATE_HOME": "/s"}, "/s/pagesoak/control.sock"),
    ],
)
def test_daemon_and_client_look_in_the_same_place(
    environment: dict[str, str], socket: str
) -> None:
    assert str(default_socket(HOME | environment)) == socket
    assert str(load_config(None, HOME | environment).socket) == socket


def test_results_go_to_the_state_directory_of_the_service_manager() -> None:
    assert default_results({"STATE_DIRECTORY": "/var/lib/pagesoak/main"}) == Path(
        "/var/lib/pagesoak/main/runs"
    )


def test_paths_are_relative_to_the_file() -> None:
    config = parsed('[control]\nsocket = "s"\n[runs]\ndirectory = "../runs"\n')
    assert config.socket == Path("/etc/s")
    assert config.results == Path("/etc/../runs")


def test_every_mistake_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "daemon.toml"
    file.write_text(
        '[control]\nsockets = "x"\nhosts = ["a:1"]\n[runs]\nat_once_max = 0\n'
        'recordings = ["nowhere"]\n[metrics]\nlisten = "0.0.0.0:9464"\nkeep_ended = 5\n[odd]\n'
    )
    with pytest.raises(InputErrors) as raised:
        load_config(file, HOME)
    found = [(error.line, error.key) for error in raised.value.errors]
    assert found == [
        (2, "control.sockets"),
        (3, "control.hosts"),
        (5, "runs.at_once_max"),
        (6, "runs.recordings"),
        (8, "metrics.listen"),
        (9, "metrics.keep_ended"),
        (10, "odd"),
    ]
    assert "did you mean 'socket'" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "[control",
        "control = 3",
        '[control]\nsocket = "' + "x" * 200 + '"',
        '[runs]\ndirectory = ""',
    ],
)
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises((InputError, InputErrors)):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:9464", Listen("127.0.0.1", 9464)),
        ("localhost:0", Listen("127.0.0.1", 0)),
        ("[::1]:9464", Listen("::1", 9464)),
    ],
)
def test_metrics_listen_on_this_machine(text: str, listen: Listen) -> None:
    assert parsed(f'[metrics]\nlisten = "{text}"').listen == listen


@pytest.mark.parametrize(
    "text", ["0.0.0.0:9464", "[::]:9464", "192.168.1.1:80", ":9464", "127.0.0.1:99999", "::1:9"]
)
def test_metrics_listen_nowhere_else(text: str) -> None:
    with pytest.raises(InputErrors, match=r"metrics\.listen"):
        parsed(f'[metrics]\nlisten = "{text}"')


@pytest.mark.parametrize("text", ["0.0.0.0:1", "192.0.2.1:80", "[::]:1", "example.org:1"])
def test_the_page_listens_nowhere_else(text: str) -> None:
    with pytest.raises(InputErrors, match=r"page\.listen"):
        parsed(f'[page]\nlisten = "{text}"')


@pytest.mark.parametrize(
    ("metrics", "page"),
    [
        ("127.0.0.1:9464", "127.0.0.1:9464"),
        ("127.0.0.1:9464", "localhost:9464"),
        ("[::1]:9464", "[0:0:0:0:0:0:0:1]:9464"),
    ],
)
def test_the_page_does_not_listen_where_metrics_do(metrics: str, page: str) -> None:
    text = f'[metrics]\nlisten = "{metrics}"\nkeep_ended = 5\n[page]\nlisten = "{page}"\n'
    with pytest.raises(InputErrors) as raised:
        parsed(text)
    found = [(error.file, error.line, error.key) for error in raised.value.errors]
    assert found == [
        ("/etc/daemon.toml", 3, "metrics.keep_ended"),
        ("/etc/daemon.toml", 5, "page.listen"),
    ]
    assert "metrics.listen" in str(raised.value)


@pytest.mark.parametrize(
    ("metrics", "page"),
    [
        ("127.0.0.1:9464", "127.0.0.1:9465"),
        ("127.0.0.1:9464", "127.0.0.2:9464"),
        ("127.0.0.1:0", "127.0.0.1:0"),
    ],
)
def test_the_page_listens_beside_metrics(metrics: str, page: str) -> None:
    config = parsed(f'[metrics]\nlisten = "{metrics}"\n[page]\nlisten = "{page}"\n')
    assert config.page_listen is not None


@pytest.mark.parametrize("is_there", [True, False])
def test_a_check_names_the_file_that_was_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_there: bool,
) -> None:
    file = tmp_path / "daemon.toml"
    if is_there:
        file.write_text("[runs]\nat_once_max = 3\n")
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    serve(check=True)
    assert capsys.readouterr().out == f"in order: {file if is_there else 'the defaults'}\n"


def test_what_needs_a_restart_is_named() -> None:
    before = parsed("")
    assert before.needs_restart(parsed("[runs]\nat_once_max = 3")) == []
    changed = parsed('[control]\nsocket = "/other"\n[metrics]\nlisten = "127.0.0.1:1"')
    assert before.needs_restart(changed) == ["control.socket", "metrics.listen"]


# ---- one daemon to a place ----


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    import os

    file = tmp_path / "folder" / "lock"
    held = Single(file)
    with pytest.raises(InputError, match=f"already, process {os.getpid()}$"):
        Single(file)
    held.close()
    Single(file).close()


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("content")
    (tmp_path / "lock").symlink_to(precious)
    with pytest.raises(InputError, match="cannot be locked"):
        Single(tmp_path / "lock")
    assert precious.read_text() == "content"

"""The view of `attach` on a terminal: the screen is what was to be shown, few bytes get it there,
and its picture says what the samples do.
"""

import io
import json
import random
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from pagesoak.cli import attach
from pagesoak.cli.line_screen import LineScreen
from pagesoak.cli.live_picture import COLUMNS_MAX, LABEL_COLUMNS, LivePicture
from pagesoak.daemon.client import NoDaemonError
from pagesoak.engine.progress import render
from pagesoak.engine.run_sample import CauseCounts, RunSample, ZoneSample

REFRESH_BYTES_MAX = 1_500
"""A tenth of a second at 128 kbit/s."""


class Terminal(io.StringIO):
    """Understands what the view sends: its lines, and where the cursor is."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = [""]
        self.row = 0
        self.bytes = 0
        self.sent = ""

    def write(self, text: str) -> int:
        """Take in what is sent."""
        self.bytes += len(text.encode())
        self.sent += text
        for part in re.findall(r"\x1b\[\??\d*[A-Za-z]|\r\n|\r|[^\x1b\r]+", text):
            self._take(part)
        return len(text)

    def _take(self, part: str) -> None:
        match = re.fullmatch(r"\x1b\[(\d+)([AB])", part)
        if match:
            self.row += int(match[1]) * (1 if match[2] == "B" else -1)
        elif part == "\x1b[J":
            del self.lines[self.row :]
            self.lines.append("")
        elif part == "\r\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        elif not part.startswith(("\x1b", "\r")):
            self.lines[self.row] = part
        assert 0 <= self.row < len(self.lines)

    @property
    def shown(self) -> list[str]:
        """The lines above the cursor's last."""
        return self.lines[:-1]


def sample(second: int, **changed: object) -> RunSample:
    free = 30_000 - (second * 997) % 29_000
    zone = ZoneSample("DMA32", 118_000, free, 310, 678, 847)
    made = RunSample(
        title="seed-512m, mainline", elapsed_seconds=float(second), total_seconds=600.0,
        zones=(ZoneSample("DMA", 3_840, 3_400, 3_300, 21, 26), zone),
        isolated_pages=(second % 4) * 8_192, isolated_pages_max=32_768, report_calls=second // 4,
        reported_pages=second * 1_000, punched_bytes=second << 22, alloc_requests=second * 61_234,
        alloc_requests_per_second=61_234.0 + second, alloc_failures=CauseCounts(), fallbacks=0,
        oom_events=CauseCounts(isolated=second // 10), reporter_state="active",
    )  # fmt: skip
    return made._replace(**changed)  # type: ignore[arg-type]


def picture_lines(picture: LivePicture, width: int = 80) -> list[str]:
    return [line.plain for line in picture.lines(width)]


# ---- the screen ----


def test_the_screen_shows_whatever_lines_it_is_given() -> None:
    chance = random.Random(1)  # noqa: S311 - the same each time
    terminal = Terminal()
    screen = LineScreen(terminal)
    for _ in range(500):
        lines = [f"{n}:{chance.randrange(3)}" for n in range(chance.randrange(8))]
        screen.show(lines)
        assert terminal.shown == lines
    screen.close()
    assert terminal.shown == []


def test_what_is_the_same_sends_nothing() -> None:
    screen = LineScreen(Terminal())
    screen.show(["a", "b", "c"])
    assert screen.show(["a", "b", "c"]) == 0
    assert screen.show(["a", "B", "c"]) < 20


def test_the_cursor_is_given_back() -> None:
    out = io.StringIO()
    screen = LineScreen(out)
    screen.show(["a"])
    screen.close()
    assert out.getvalue().endswith("\x1b[?25h")


def test_a_refresh_takes_few_bytes() -> None:
    terminal, picture = Terminal(), LivePicture()
    screen = LineScreen(terminal)
    console = Console(width=80, force_terminal=True, color_system="standard", file=io.StringIO())
    sent = []
    for second in range(200):
        picture.add(sample(second))
        with console.capture() as printed:
            console.print(render(sample(second)))
            for line in picture.lines(80):
                console.print(line, no_wrap=True)
        before = terminal.bytes
        screen.show([line.rstrip() for line in printed.get().splitlines()])
        sent.append(terminal.bytes - before)
    assert max(sent[1:]) < REFRESH_BYTES_MAX


def test_a_daemon_that_goes_away_leaves_the_terminal_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone:
        def stream(self, _target: str) -> Iterator[dict[str, str]]:
            made = sample(1)
            zones = [zone._asdict() for zone in made.zones]
            counts = {
                name: getattr(made, name)._asdict() for name in ("alloc_failures", "oom_events")
            }
            yield {"data": json.dumps({"sample": {**made._asdict(), "zones": zones, **counts}})}
            raise NoDaemonError("gone")

    out = Terminal()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(attach, "client", lambda _path: Gone())
    with pytest.raises(NoDaemonError):
        attach.attach("bursts", as_json=False, socket=None)
    assert out.bytes > 100
    assert out.shown == []
    assert out.sent.endswith("\x1b[?25h")


# ---- the picture ----


def test_windows_and_kills_stand_in_the_column_of_their_sample() -> None:
    picture = LivePicture()
    for second in range(12):
        picture.add(sample(second))
    free, isolated, windows, kills = picture_lines(picture)
    assert windows[LABEL_COLUMNS:] == "    ▬   ▬   "
    assert kills[LABEL_COLUMNS:] == "          x "
    assert isolated[LABEL_COLUMNS:].startswith(" ▂▄▆ ▂▄▆")
    assert isolated.endswith("96.0 MiB")
    assert free.endswith(f"{(30_000 - 11 * 997) / 256:,.1f} MiB")


def test_free_memory_below_min_is_marked() -> None:
    picture = LivePicture()
    low = ZoneSample("DMA32", 118_000, 600, 310, 678, 847)
    for second, zones in enumerate(((low._replace(free_pages=20_000),), (low,))):
        picture.add(sample(second, zones=zones))
    line = next(iter(picture.lines(80)))
    assert line.plain[LABEL_COLUMNS:].startswith("█▁")
    assert any("red" in str(span.style) for span in line.spans)


@pytest.mark.parametrize("width", [200, 80, 40])
def test_the_picture_fits_the_terminal(width: int) -> None:
    picture = LivePicture()
    for second in range(COLUMNS_MAX * 2):
        picture.add(sample(second))
    lines = picture_lines(picture, width)
    assert len(lines) == 4
    assert max(map(len, lines)) <= width


def test_there_is_no_picture_of_one_sample_or_on_a_sliver() -> None:
    picture = LivePicture()
    picture.add(sample(0))
    assert picture_lines(picture) == []
    picture.add(sample(1))
    assert picture_lines(picture, 20) == []


def test_a_run_that_began_anew_begins_the_picture_anew() -> None:
    picture = LivePicture()
    for second in (50, 51, 0):
        picture.add(sample(second))
    assert picture_lines(picture) == []

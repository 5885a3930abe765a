"""What a user wishes of a run reaches its workers whole."""

from collections.abc import Iterator

import pytest

from pagesoak.engine import wishes as page
from pagesoak.engine.settings import Change
from pagesoak.engine.wishes import GENERATION, Wishes


@pytest.fixture
def wishes() -> Iterator[Wishes]:
    made = Wishes()
    yield made
    made.close()


def test_what_is_wished_is_read(wishes: Wishes) -> None:
    assert wishes.read() == (0, Change())
    change = Change(policy="halving", pace_ppm=2_000_000)
    wishes.write(change)
    number, found = wishes.read()
    assert (found, number) == (change, wishes.generation)
    assert number != 0


def test_a_change_that_is_being_written_is_not_taken(
    wishes: Wishes, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = page.Wishes._read
    reads: list[Change] = []

    def reading(self: Wishes) -> Change:
        reads.append(honest(self))
        if len(reads) == 2:
            self._words[GENERATION] += 1  # now it is there
        return reads[-1]

    monkeypatch.setattr(page.Wishes, "_read", reading)
    wishes._words[GENERATION] += 1  # somebody has begun to write
    number, _ = wishes.read()
    assert (number, len(reads)) == (1, 3)

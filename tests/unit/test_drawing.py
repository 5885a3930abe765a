"""Pictures: the same bytes each time, and only in formats that people expect."""

from pathlib import Path

import pytest

from pagesoak.base.errors import InputError
from pagesoak.study import drawing


def picture(suffix: str) -> bytes:
    figure, axes = drawing.new_figure(2, heights=[2.0, 1.0])
    axes[0].plot([0, 1, 2], [3, 1, 2], color=drawing.FREE)
    axes[1].set_xlabel("time, s")
    return drawing.picture_bytes(figure, suffix)


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".png", b"\x89PNG\r\n\x1a\n"), (".svg", b"<?xml")]
)
def test_a_picture_is_the_same_bytes_each_time(suffix: str, begins: bytes) -> None:
    first = picture(suffix)
    assert first.startswith(begins)
    assert picture(suffix) == first


@pytest.mark.parametrize("name", ["timeline", "timeline.jpg", "timeline.pdf"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    figure, _ = drawing.new_figure(1, heights=[1.0])
    with pytest.raises(InputError, match=r"must end in \.png or \.svg"):
        drawing.write_picture(figure, tmp_path / name, "--output")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    figure, _ = drawing.new_figure(1, heights=[1.0])
    with pytest.raises(InputError, match="cannot be written: No such file"):
        drawing.write_picture(figure, tmp_path / "no" / "timeline.svg", "--output")

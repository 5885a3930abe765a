"""Text files: plain, gzip, damaged, cut off, too long."""

import gzip
import os
from pathlib import Path

import pytest

from pagesoak.base import textfile
from pagesoak.base.errors import InputError
from pagesoak.base.textfile import TextFile, hex_number, whole_number


@pytest.mark.parametrize("name", ["a.txt", "a.gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_plain_and_gzip_whatever_the_name(tmp_path: Path, name: str, pack: type[bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(pack(b"one\n\nthree \r\n"))
    assert list(TextFile(path)) == [(1, "one"), (2, ""), (3, "three \r")]


def test_empty_file_has_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    assert list(TextFile(path)) == []
    path.write_bytes(gzip.compress(b"", mtime=0))
    assert list(TextFile(path)) == []


def test_lines_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "_CHUNK_BYTES", 3)
    path = tmp_path / "a"
    path.write_text("a\nbéébéé\n\nlonger than a chunk\n", encoding="utf-8")
    assert [line for _, line in TextFile(path)] == ["a", "béébéé", "", "longer than a chunk"]


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a\xff\xfeb\n")
    assert list(TextFile(path)) == [(1, "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b")]


def damaged_gzip() -> bytes:
    packed = bytearray(gzip.compress(os.urandom(4096)))
    packed[2000] ^= 0xFF
    return bytes(packed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo", ":2: the line is cut off: the file ends without a newline"),
        (b"one\n\xc3", ":2: the line is cut off: the file ends without a newline"),
        (
            gzip.compress(b"one\ntwo", mtime=0),
            ":2: the line is cut off: the file ends without a newline",
        ),
        (gzip.compress(b"one\n" * 999, mtime=0)[:-9], ": the gzip data is cut off"),
        (damaged_gzip(), ": the gzip data is damaged: "),
        (b"\x1f\x8b\x08\x00", ":1: the gzip data is cut off"),
        (b"\x1f\x8bnonsense", ":1: the gzip data is damaged: "),
        (b"\x28\xb5\x2f\xfd", ": compressed with zstd: only plain text and gzip are read"),
        (b"\xfd7zXZ\x00\x00", ": compressed with xz: only plain text and gzip are read"),
        (b"BZh9", ": compressed with bzip2: only plain text and gzip are read"),
        (b"PERFILE2\x00", ": not text but perf's binary recording; print it with `perf script`"),
        (
            b"\x17\x08Dtracing6\x00",
            ": not text but trace-cmd's binary recording; print it with `trace-cmd report`",
        ),
    ],
)
def test_contents_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(TextFile(path))
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_cut_line_is_not_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("whole\ncut")
    lines = iter(TextFile(path))
    assert next(lines) == (1, "whole")
    with pytest.raises(InputError, match="the line is cut off"):
        next(lines)


def test_paths_refused(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "nul\0", "null"),
    ]:
        with pytest.raises(InputError, match=f"cannot be read: .*{reason}") as caught:
            list(TextFile(path))
        assert caught.value.file == str(path)
        assert caught.value.line is None


def test_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(b"x\n" * 100_000, mtime=0))
    with pytest.raises(InputError, match="the text is longer than 1000 bytes"):
        list(TextFile(path, max_bytes=1000))
    monkeypatch.setattr(textfile, "MAX_LINE_BYTES", 1000)
    path.write_bytes(b"short\n" + b"x" * 300_000)
    with pytest.raises(InputError, match=r"a:2: the line is longer than 1000 bytes"):
        list(TextFile(path))


@pytest.mark.parametrize("text", ["", "-1", "+1", "1 ", "1_0", "٣", "²", "1" * 21, "x"])
def test_not_a_whole_number(text: str) -> None:
    with pytest.raises(InputError, match=r"^f:7: pages: .* is not a whole number$") as caught:
        whole_number(text, "pages", file="f", line=7)
    assert caught.value.line == 7
    assert whole_number("0042", "pages", file="f", line=7) == 42


@pytest.mark.parametrize("text", ["", "-1", "0x1", "1F", "1_0", "g", "1" * 17])
def test_not_a_hexadecimal_number(text: str) -> None:
    with pytest.raises(InputError, match=r"^f:7: pfn: .* is not a hexadecimal number$"):
        hex_number(text, "pfn", file="f", line=7)
    assert hex_number("1ff", "pfn", file="f", line=7) == 0x1FF

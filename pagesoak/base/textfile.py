"""Text files line by line: plain or gzip, streamed, every fault an `InputError` with its line.

Whether a file is compressed is told by its first bytes, not by its name: recordings get renamed,
pipes have no useful name. All formats read here end every line with a newline, so a file that
stops inside a line was cut off; the cut line is never handed to a reader (a pfn that lost its
last digit is still a number).
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from pagesoak.base.errors import InputError

NumberedLines: TypeAlias = Iterable[tuple[int, str]]
"""Lines with their number, counted from 1, without the newline."""

MAX_TEXT_BYTES = 64 << 30
"""Uncompressed bytes read from one file: 500 million trace events, more than is ever replayed.

It ends the reading of an endless pipe and of a small gzip file that unpacks for ever.
"""

MAX_LINE_BYTES = 256 << 20
"""Bytes of one line: the longest honest one is the order-0 free list of a 64 GiB guest, 16 million
page frame numbers of up to 8 characters each.
"""

_CHUNK_BYTES = 1 << 18
_MAGIC_BYTES = 8
_EXCERPT_CHARS = 60

_OTHER_COMPRESSIONS = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_BINARY_RECORDINGS = (
    (b"\x17\x08Dtracin", "trace-cmd's binary recording; print it with `trace-cmd report`"),
    (b"PERFILE2", "perf's binary recording; print it with `perf script`"),
)

# As many digits as a 64-bit number can have.
_DECIMAL = re.compile(r"[0-9]{1,20}")
_HEX = re.compile(r"[0-9a-f]{1,16}")


class TextFile:
    """The lines of one file as (number from 1, text without newline), read once from the front.

    `name` is the path as given, for messages. Bytes that are not UTF-8 become U+FFFD (process
    names may hold anything). Raises `InputError` with the file and, once reading, the line:
    unreadable path, damaged or cut-off gzip data, a last line without its newline, more than
    `max_bytes`.
    """

    def __init__(self, path: str | Path, *, max_bytes: int = MAX_TEXT_BYTES) -> None:
        self.path = Path(path)
        self.name = str(path)
        self._max_bytes = max_bytes

    def error(self, message: str, line: int | None = None) -> InputError:
        """An error at a place of this file, to be raised by the caller."""
        return InputError(message, file=self.name, line=line)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        number = 0
        try:
            with ExitStack() as files:
                for lines in self._blocks(self._open(files)):
                    for line in lines:
                        number += 1
                        yield number, line
        except _CutOffError:
            message = "the line is cut off: the file ends without a newline"
            raise self.error(message, number + 1) from None
        except _TooMuchError as limit:
            raise self.error(str(limit), number + 1) from None
        except EOFError:
            raise self.error("the gzip data is cut off", number + 1) from None
        except (gzip.BadGzipFile, zlib.error) as damage:
            raise self.error(f"the gzip data is damaged: {damage}", number + 1) from None
        except OSError as fault:
            reason = fault.strerror or str(fault)
            raise self.error(f"cannot be read: {reason}", number + 1 if number else None) from None
        except ValueError as fault:  # a path with a NUL character
            raise self.error(f"cannot be read: {fault}") from None

    def _open(self, files: ExitStack) -> BinaryIO:
        stream = files.enter_context(self.path.open("rb"))
        magic = stream.peek(_MAGIC_BYTES)
        for known, name in _OTHER_COMPRESSIONS:
            if magic.startswith(known):
                raise self.error(f"compressed with {name}: only plain text and gzip are read")
        for known, hint in _BINARY_RECORDINGS:
            if magic.startswith(known):
                raise self.error(f"not text but {hint}")
        if magic.startswith(b"\x1f\x8b"):
            return cast("BinaryIO", files.enter_context(gzip.open(stream, "rb")))
        return stream

    def _blocks(self, stream: BinaryIO) -> Iterator[list[str]]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        begun: list[str] = []  # pieces of a line that goes on in the next chunk
        begun_bytes = 0
        total_bytes = 0
        while chunk := stream.read(_CHUNK_BYTES):
            total_bytes += len(chunk)
            if total_bytes > self._max_bytes:
                raise _TooMuchError(f"the text is longer than {self._max_bytes} bytes")
            pieces = decoder.decode(chunk).split("\n")
            if len(pieces) > 1:
                begun.append(pieces[0])
                pieces[0] = "".join(begun)
                begun = []
                begun_bytes = 0
            last = pieces.pop()
            begun.append(last)
            begun_bytes += len(last)
            yield pieces
            if begun_bytes > MAX_LINE_BYTES:
                raise _TooMuchError(f"the line is longer than {MAX_LINE_BYTES} bytes")
        if any(begun) or decoder.decode(b"", final=True):
            raise _CutOffError


class _CutOffError(Exception):
    """The text ended inside a line."""


class _TooMuchError(Exception):
    """A limit on the size was passed."""


def whole_number(text: str, what: str, *, file: str, line: int) -> int:
    """A decimal number without sign; `what` names it in the `InputError` for anything else."""
    if _DECIMAL.fullmatch(text):
        return int(text)
    raise InputError(f"{what}: {excerpt(text)} is not a whole number", file=file, line=line)


def hex_number(text: str, what: str, *, file: str, line: int) -> int:
    """A hexadecimal number, small letters, without prefix; `what` names it in the `InputError`."""
    if _HEX.fullmatch(text):
        return int(text, 16)
    raise InputError(f"{what}: {excerpt(text)} is not a hexadecimal number", file=file, line=line)


def excerpt(text: str) -> str:
    """A text quoted for a message, not longer than a message should be."""
    return repr(text if len(text) <= _EXCERPT_CHARS else text[:_EXCERPT_CHARS] + "…")

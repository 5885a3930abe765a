"""How the core is written so that one source runs at the speed of C and as plain Python.

The hot path of the guest allocator costs some ten nanoseconds per operation. Python reaches that
with Numba, but only in one style; the obvious one (numpy arrays handed from compiled function to
compiled function) is four to nine times slower, because every call copies array descriptors and
counts references. The style, said once here and nowhere else:

*State is an address.* Everything the core touches lies in one shared segment (`base.layout`). A
compiled entry is called with the segment's address as an integer, makes typed pointers from it,
and bundles them in a named tuple (`base.core.Core`) that the functions below it take as their
first argument. Indices are the only references; nothing in the segment is a pointer.

*Four decorators.* `entry` marks what Python calls. `inner` marks what compiled code calls: no
Python wrapper is generated. `hot` marks the steps that every operation takes: LLVM puts them in
place of the call, because a compiled call passes the whole bundle of pointers. `leaf` marks the
smallest, which Numba itself puts in place of the call. Doing that to everything gains nothing more
and doubles the compile time.

*Branches that can be foreseen.* An operation takes as long as three wrong guesses of the processor
about which way a branch goes. So the usual case is told by what hardly ever changes, not by what
differs from request to request (`watermark.zone_watermark_fast`).

*Integers are 64 bits wide.* Everything read from the segment is widened on reading. There is no
unsigned arithmetic (mixing signed and unsigned makes a float in Numba), so random words and
digests stay below 2**63.

*No clock, no input or output.* What compiled code needs of the C library and the processor (a
robust mutex, the monotonic clock, a write to an eventfd, atomic words) is in `base.external`, each
with a plain twin, and used by `base` modules only.

*The plain run.* With `NUMBA_DISABLE_JIT=1`, or where Numba cannot be installed, the decorators
return their function unchanged and a "pointer" is a memoryview of the same segment, whose elements
are Python integers. It is a hundred times slower, steps through a debugger, and gives the same
digest. A compiled pointer has no bounds check: the plain run and the audit are the safety net.

*The cache.* Numba keys its cache on the calling file alone: a constant changed in another module
would not take effect. So the cache directory is named by a hash of all core sources, the Numba
version and the mode (`cache_directory`), and is set before Numba is imported. Compiling happens
once per version of the sources, takes some tens of seconds for everything, and is announced by
whoever triggers it (`compiling_needed`).
"""

import ctypes
import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

_IMPORT = re.compile(
    r"^(?:from|import) (pagesoak(?:\.\w+)+)(?: import (?:\(([\w, \n]+)\)|([\w, ]+)))?",
    re.MULTILINE,
)
_DECORATORS = frozenset({"entry", "hot", "inner", "leaf"})

_NUMBA_DISABLE_VALUES = frozenset({"1", "true", "yes", "on"})

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Words(Protocol):
    """What a pointer looks like to the type checker: whole numbers by index."""

    def __getitem__(self, index: int, /) -> int:
        """Read a word."""
        ...

    def __setitem__(self, index: int, value: int, /) -> None:
        """Write a word."""
        ...


def _plain_requested() -> bool:
    return os.environ.get("NUMBA_DISABLE_JIT", "0").lower() in _NUMBA_DISABLE_VALUES


def _names(match: re.Match[str]) -> list[str]:
    """What an import takes from a module, as far as it names it."""
    return [name.strip() for name in (match[2] or match[3] or "").split(",")]


def _imported(text: str, root: Path) -> set[Path]:
    """The files of this package that a source imports at its top."""
    found = set()
    for match in _IMPORT.finditer(text):
        parts = match[1].split(".")[1:]
        names = _names(match)
        candidates = [root.joinpath(*parts).with_suffix(".py")]
        candidates += [root.joinpath(*parts, f"{name}.py") for name in names if name]
        found |= {path for path in candidates if path.is_file()}
    return found


def _compiles(text: str) -> bool:
    """Whether a source marks functions to be compiled, rather than just asks about the core."""
    imports = (match for match in _IMPORT.finditer(text) if match[1] == "pagesoak.base.native")
    names = {name for match in imports for name in _names(match)}
    return not names.isdisjoint(_DECORATORS)


def core_sources() -> tuple[Path, ...]:
    """Every module that compiles something, and every module that such a module imports."""
    root = Path(__file__).resolve().parent.parent
    texts = {path: path.read_text() for path in root.rglob("*.py")}
    core = {path for path, text in texts.items() if _compiles(text)}
    core.add(Path(__file__).resolve())
    waiting = list(core)
    while waiting:
        for path in _imported(texts[waiting.pop()], root) - core:
            core.add(path)
            waiting.append(path)
    return tuple(sorted(core))


def sources_hash() -> str:
    """Hash of every core source, names and contents; hexadecimal, 16 digits."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.blake2b(digest_size=8)
    for path in core_sources():
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pagesoak"


def cache_directory(numba_version: str) -> Path:
    """Where compiled code of exactly these sources is kept:
    <cache>/pagesoak/<hash>-<numba>-<python>.
    """
    python = f"{sys.version_info[0]}{sys.version_info[1]}"
    return _cache_root() / f"{sources_hash()}-{numba_version}-{python}"


def _numba_version() -> str | None:
    """The installed Numba's version, without importing it; None when it is not installed."""
    from importlib import metadata

    try:
        return metadata.version("numba")
    except metadata.PackageNotFoundError:
        return None


def _prepare_cache(directory: Path) -> bool:
    """True when compiled code can be kept in `directory`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError:
        return False
    return True


_version = _numba_version()
PLAIN: bool = _plain_requested() or _version is None
"""True when the core runs as plain Python."""

CACHE_DIRECTORY: Path | None = None
"""Where compiled code is kept; None when nothing is compiled, or cannot be kept."""
if not PLAIN and _version is not None:
    _directory = cache_directory(_version)
    if _prepare_cache(_directory):
        CACHE_DIRECTORY = _directory
        os.environ["NUMBA_CACHE_DIR"] = str(_directory)
CACHED = CACHE_DIRECTORY is not None


def compiling_needed() -> bool:
    """True when the compiled core of these sources is not in the cache yet."""
    if PLAIN:
        return False
    return CACHE_DIRECTORY is None or not (CACHE_DIRECTORY / _COMPLETE).exists()


def core_mode() -> str:
    """`compiled` or `plain`: part of a run's identity."""
    return "plain" if PLAIN else "compiled"


# ---------------------------------------------------------------------------------------------
# Plain twins of pointers: memoryviews of registered segments, found by address.

_views: dict[tuple[int, str], memoryview] = {}
_extents: dict[int, int] = {}


def register_extent(address: int, size_bytes: int) -> None:
    """Make the memory at `address` reachable for the plain run's pointers.

    Sections inside it are reached by their own address; so the plain run can bounds-check them.
    """
    _extents[address] = size_bytes


def forget_extent(address: int) -> None:
    """Forget a registered extent and every view made inside it (before it is unmapped)."""
    size_bytes = _extents.pop(address, 0)
    for key in [key for key in _views if address <= key[0] < address + size_bytes]:
        _views.pop(key).release()


def _view(address: int, code: Literal["b", "i", "q"]) -> memoryview:
    view = _views.get((address, code))
    if view is None:
        for start, size_bytes in _extents.items():
            if start <= address < start + size_bytes:
                length = start + size_bytes - address
                length -= length % 8
                raw = (ctypes.c_char * length).from_address(address)
                view = memoryview(raw).cast("B").cast(code)
                break
        else:
            msg = f"address {address:#x} is in no registered segment"
            raise ValueError(msg)
        _views[(address, code)] = view
    return view


COMPILERS_MAX = 4
"""Processes that compile at once: each needs some 200 MiB, and more would wait for the slowest
entry.
"""
_entries: list[Any] = []
_ROOT_HASH = hashlib.blake2b(str(Path(__file__).resolve()).encode(), digest_size=8).hexdigest()
_COMPLETE = f"complete-{_ROOT_HASH}"
"""Written into the cache when every entry of this copy of the sources is in it: Numba's files are
named by where a source lies, so another copy compiles its own.
"""


def _compile(number: int) -> None:
    function = _entries[number]
    function.compile((types.int64,) * function.py_func.__code__.co_argcount)


def _compile_in_parallel(announce: Callable[[int, int], None] | None) -> None:
    """Fill the cache with one process per processor: each takes the next entry's number from a
    pipe.
    """
    readable, writable = os.pipe()
    os.write(writable, bytes(range(len(_entries))))
    os.close(writable)
    children = []
    for _ in range(min(len(os.sched_getaffinity(0)), COMPILERS_MAX) - 1):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                while taken := os.read(readable, 1):
                    _compile(taken[0])
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    while taken := os.read(readable, 1):
        if announce is not None:
            announce(taken[0], len(_entries))
        _compile(taken[0])
    os.close(readable)
    for pid in children:
        os.waitpid(pid, 0)


def load_entries(announce: Callable[[int, int], None] | None = None) -> int:
    """Compile, or load from the cache, every entry of the modules imported so far; their number.

    Workers forked afterwards share the code. `announce(done, total)` is called while compiling. To
    be called before any thread is started.
    """
    if not PLAIN:
        if CACHE_DIRECTORY is not None and compiling_needed():
            _compile_in_parallel(announce)
        for number in range(len(_entries)):
            _compile(number)
        if CACHE_DIRECTORY is not None:
            (CACHE_DIRECTORY / _COMPLETE).touch()
    return len(_entries)


if PLAIN:

    def entry(function: _Function) -> _Function:
        """Mark a function that Python calls; plain: unchanged."""
        return function

    inner = hot = leaf = entry

    def int64_at(address: int, /) -> Words:
        """Signed 64-bit words at `address`."""
        return _view(address, "q")

    def int32_at(address: int, /) -> Words:
        """Signed 32-bit words at `address`."""
        return _view(address, "i")

    def int8_at(address: int, /) -> Words:
        """Signed bytes at `address`."""
        return _view(address, "b")

else:
    import numba
    from numba import types
    from numba.extending import intrinsic

    def entry(function: _Function) -> _Function:
        """Mark a function that Python calls: compiled, without the interpreter lock, cached."""
        compiled = numba.njit(nogil=True, cache=CACHED, error_model="numpy")(function)
        _entries.append(compiled)
        return cast("_Function", compiled)

    def inner(function: _Function) -> _Function:
        """Mark a function that only compiled code calls: no Python wrapper is generated."""
        return _called_by_compiled(function, in_place=False)

    def hot(function: _Function) -> _Function:
        """Mark an inner function on the way of every operation: LLVM puts it in place of each
        call.
        """
        return _called_by_compiled(function, in_place=True)

    def _called_by_compiled(function: _Function, *, in_place: bool) -> _Function:
        # `forceinline` is said both ways: a function compiled on behalf of another takes over what
        # it does not say itself. Not cached: what an entry calls is in the entry's own cache.
        compiled = numba.njit(
            nogil=True,
            error_model="numpy",
            no_cpython_wrapper=True,
            no_cfunc_wrapper=True,
            forceinline=in_place,
        )(function)
        template = compiled.get_call_template

        def one_for_all(arguments: Any, keywords: Any) -> Any:
            return template(tuple(_widened(argument) for argument in arguments), keywords)

        compiled.get_call_template = one_for_all
        return cast("_Function", compiled)

    def _widened(argument: Any) -> Any:
        """The type that a callee takes for it: any whole number as 64 bits, no constant as itself.

        Numba would compile a callee again for every constant and width that it is called with, and
        so all that it calls in turn: four times as long for the core as it is.
        """
        general = types.unliteral(argument)
        return types.int64 if isinstance(general, types.Integer) else general

    def leaf(function: _Function) -> _Function:
        """Mark a function whose body stands in place of each call."""
        compiled = numba.njit(nogil=True, inline="always", error_model="numpy")(function)
        return cast("_Function", compiled)

    def _pointer_intrinsic(element: Any) -> Any:
        @intrinsic
        def pointer_at(typing_context: Any, address: Any) -> Any:
            signature = types.CPointer(element)(types.intp)

            def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

            return signature, codegen

        return pointer_at

    int64_at = cast("Callable[[int], Words]", _pointer_intrinsic(types.int64))
    int32_at = cast("Callable[[int], Words]", _pointer_intrinsic(types.int32))
    int8_at = cast("Callable[[int], Words]", _pointer_intrinsic(types.int8))

__all__ = [
    "CACHED",
    "CACHE_DIRECTORY",
    "PLAIN",
    "Words",
    "cache_directory",
    "compiling_needed",
    "core_mode",
    "entry",
    "forget_extent",
    "hot",
    "inner",
    "int8_at",
    "int32_at",
    "int64_at",
    "leaf",
    "load_entries",
    "register_extent",
    "sources_hash",
]

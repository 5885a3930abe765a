"""What compiled code asks of the C library and the processor, each with a plain twin.

`monotonic_ns`, the robust process-shared mutex, a wake-up through an eventfd, and atomic words.
The compiled forms are LLVM intrinsics and calls to symbols of the C library, both of which Numba
can cache; function pointers taken through ctypes could not be. Inline assembly is not used (Numba
has no parser for it).

In the plain run an atomic operation is made under one process-shared mutex (`ATOMIC_MUTEX` in the
segment's header), so that it stays atomic between plain workers too.
"""

import ctypes
import errno
import platform
import time
from typing import Any

from pagesoak.base.native import PLAIN, Words

CLOCK_MONOTONIC = 1
NANOSECONDS_PER_SECOND = 1_000_000_000

LOCKED = 0
"""A mutex call's answer: the caller holds it now."""
BUSY = errno.EBUSY
TIMED_OUT = errno.ETIMEDOUT
OWNER_DEAD = errno.EOWNERDEAD

MEMBARRIER_GLOBAL_EXPEDITED = 1 << 1
MEMBARRIER_REGISTER_GLOBAL_EXPEDITED = 1 << 2
_MEMBARRIER_NUMBERS = {"x86_64": 324, "aarch64": 283}
_MEMBARRIER = _MEMBARRIER_NUMBERS.get(platform.machine(), -1)

MUTEX_WORDS = 6
"""64-bit words kept for one pthread_mutex_t: 40 bytes on x86-64, 48 on aarch64."""

PTHREAD_PROCESS_SHARED = 1
PTHREAD_MUTEX_ROBUST = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


for _name, _arguments in {
    "pthread_mutexattr_init": [ctypes.c_void_p],
    "pthread_mutexattr_setpshared": [ctypes.c_void_p, ctypes.c_int],
    "pthread_mutexattr_setrobust": [ctypes.c_void_p, ctypes.c_int],
    "pthread_mutexattr_destroy": [ctypes.c_void_p],
    "pthread_mutex_init": [ctypes.c_void_p, ctypes.c_void_p],
    "pthread_mutex_trylock": [ctypes.c_void_p],
    "pthread_mutex_lock": [ctypes.c_void_p],
    "pthread_mutex_clocklock": [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p],
    "pthread_mutex_unlock": [ctypes.c_void_p],
    "pthread_mutex_consistent": [ctypes.c_void_p],
}.items():
    getattr(_libc, _name).argtypes = _arguments
_libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_libc.write.restype = ctypes.c_ssize_t
_libc.syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_uint, ctypes.c_int]
_libc.syscall.restype = ctypes.c_long


def membarrier_supported() -> bool:
    """Whether this system can make other processes fence (membarrier(2), Linux 4.16)."""
    needed = MEMBARRIER_GLOBAL_EXPEDITED | MEMBARRIER_REGISTER_GLOBAL_EXPEDITED
    mask = _libc.syscall(_MEMBARRIER, 0, 0, 0)
    return bool(mask > 0 and mask & needed == needed)


def membarrier_register() -> bool:
    """Let other processes' `fence_others` reach this one; once per process."""
    return bool(_libc.syscall(_MEMBARRIER, MEMBARRIER_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0)


def initialise_mutex(address: int) -> None:
    """Make a robust process-shared mutex at `address` (MUTEX_WORDS words, 64-byte aligned).

    Raises OSError when the C library refuses.
    """
    attributes = ctypes.create_string_buffer(64)
    steps = (
        _libc.pthread_mutexattr_init(attributes),
        _libc.pthread_mutexattr_setpshared(attributes, PTHREAD_PROCESS_SHARED),
        _libc.pthread_mutexattr_setrobust(attributes, PTHREAD_MUTEX_ROBUST),
        _libc.pthread_mutex_init(address, attributes),
        _libc.pthread_mutexattr_destroy(attributes),
    )
    for code in steps:
        if code:
            raise OSError(code, "cannot make a robust process-shared mutex")


if PLAIN:

    def monotonic_ns() -> int:
        """CLOCK_MONOTONIC in nanoseconds."""
        return time.monotonic_ns()

    def mutex_trylock(address: int) -> int:
        """LOCKED, BUSY or OWNER_DEAD (then held)."""
        return int(_libc.pthread_mutex_trylock(address))

    def mutex_lock_until(address: int, deadline_ns: int) -> int:
        """LOCKED, OWNER_DEAD (then held) or TIMED_OUT at `deadline_ns` of the monotonic clock."""
        deadline = _Timespec(*divmod(deadline_ns, NANOSECONDS_PER_SECOND))
        return int(_libc.pthread_mutex_clocklock(address, CLOCK_MONOTONIC, ctypes.byref(deadline)))

    def mutex_unlock(address: int) -> int:
        """0, or an errno."""
        return int(_libc.pthread_mutex_unlock(address))

    def mutex_consistent(address: int) -> int:
        """0, or an errno."""
        return int(_libc.pthread_mutex_consistent(address))

    def wake_eventfd(descriptor: int) -> int:
        """Add 1 to an eventfd; never blocks on a non-blocking one. The return of write(2)."""
        one = ctypes.c_int64(1)
        return int(_libc.write(descriptor, ctypes.byref(one), 8))

    _ATOMIC_MUTEX: list[int] = []

    def set_atomic_mutex(address: int) -> None:
        """Name the mutex under which plain workers make their atomic operations."""
        _ATOMIC_MUTEX[:] = [address]

    def exchange(words: Words, index: int, value: int) -> int:
        """Store `value`, return what was there; atomic, sequentially consistent."""
        held = bool(_ATOMIC_MUTEX) and not _libc.pthread_mutex_lock(_ATOMIC_MUTEX[0])
        old = int(words[index])
        words[index] = value
        if held:
            _libc.pthread_mutex_unlock(_ATOMIC_MUTEX[0])
        return old

    def compare_exchange(words: Words, index: int, expected: int, value: int) -> int:
        """Store `value` if `expected` is there; return what was there; atomic."""
        held = bool(_ATOMIC_MUTEX) and not _libc.pthread_mutex_lock(_ATOMIC_MUTEX[0])
        old = int(words[index])
        if old == expected:
            words[index] = value
        if held:
            _libc.pthread_mutex_unlock(_ATOMIC_MUTEX[0])
        return old

    def store_release(words: Words, index: int, value: int) -> None:
        """Store after everything before it."""
        words[index] = value

    def load_acquire(words: Words, index: int) -> int:
        """Load before everything after it."""
        return int(words[index])

    def fence() -> None:
        """Order everything before against everything after."""

    def compiler_fence() -> None:
        """The same for the compiler alone: no instruction, no order between processors."""

    def fence_others() -> int:
        """Every registered process that runs now passes a fence; 0, or -1."""
        return int(_libc.syscall(_MEMBARRIER, MEMBARRIER_GLOBAL_EXPEDITED, 0, 0))

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    from pagesoak.base.native import inner

    _int32 = ir.IntType(32)
    _int64 = ir.IntType(64)
    _timespec = ir.LiteralStructType([_int64, _int64])
    _mutex_signature = types.int32(types.intp)

    mutex_trylock = types.ExternalFunction("pthread_mutex_trylock", _mutex_signature)
    mutex_unlock = types.ExternalFunction("pthread_mutex_unlock", _mutex_signature)
    mutex_consistent = types.ExternalFunction("pthread_mutex_consistent", _mutex_signature)

    def set_atomic_mutex(address: int) -> None:
        """Compiled code has the processor's atomics."""

    @intrinsic
    def monotonic_ns(typing_context: Any) -> Any:
        """CLOCK_MONOTONIC in nanoseconds."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            room = cgutils.alloca_once(builder, _timespec)
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(_int32, [_int32, _timespec.as_pointer()]),
                "clock_gettime",
            )
            builder.call(function, [_int32(CLOCK_MONOTONIC), room])
            value = builder.load(room)
            seconds = builder.extract_value(value, 0)
            nanoseconds = builder.extract_value(value, 1)
            return builder.add(builder.mul(seconds, _int64(NANOSECONDS_PER_SECOND)), nanoseconds)

        return types.int64(), codegen

    @intrinsic
    def _mutex_clocklock(typing_context: Any, address: Any, seconds: Any, nanoseconds: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            room = cgutils.alloca_once(builder, _timespec)
            builder.store(args[1], cgutils.gep_inbounds(builder, room, 0, 0))
            builder.store(args[2], cgutils.gep_inbounds(builder, room, 0, 1))
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(_int32, [_int64, _int32, _timespec.as_pointer()]),
                "pthread_mutex_clocklock",
            )
            return builder.call(function, [args[0], _int32(CLOCK_MONOTONIC), room])

        return types.int32(types.intp, types.int64, types.int64), codegen

    @inner
    def mutex_lock_until(address: int, deadline_ns: int) -> int:
        """LOCKED, OWNER_DEAD (then held) or TIMED_OUT at `deadline_ns` of the monotonic clock."""
        seconds = deadline_ns // NANOSECONDS_PER_SECOND
        answer: int = _mutex_clocklock(
            address, seconds, deadline_ns - seconds * NANOSECONDS_PER_SECOND
        )
        return answer

    @intrinsic
    def wake_eventfd(typing_context: Any, descriptor: Any) -> Any:
        """Add 1 to an eventfd; never blocks on a non-blocking one. The return of write(2)."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            room = cgutils.alloca_once(builder, _int64)
            builder.store(_int64(1), room)
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(_int64, [_int32, _int64.as_pointer(), _int64]),
                "write",
            )
            number = builder.trunc(args[0], _int32)
            return builder.call(function, [number, room, _int64(8)])

        return types.int64(types.int64), codegen

    def _element(builder: Any, pointer: Any, index: Any) -> Any:
        return builder.gep(pointer, [index])

    @intrinsic
    def exchange(typing_context: Any, words: Any, index: Any, value: Any) -> Any:
        """Store `value`, return what was there; atomic, sequentially consistent."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            place = _element(builder, args[0], args[1])
            return builder.atomic_rmw("xchg", place, args[2], "seq_cst")

        return types.int64(words, types.int64, types.int64), codegen

    @intrinsic
    def compare_exchange(
        typing_context: Any, words: Any, index: Any, expected: Any, value: Any
    ) -> Any:
        """Store `value` if `expected` is there; return what was there; atomic."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            place = _element(builder, args[0], args[1])
            pair = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
            return builder.extract_value(pair, 0)

        return types.int64(words, types.int64, types.int64, types.int64), codegen

    @intrinsic
    def store_release(typing_context: Any, words: Any, index: Any, value: Any) -> Any:
        """Store after everything before it."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            place = _element(builder, args[0], args[1])
            builder.store_atomic(args[2], place, "release", 8)
            return context.get_dummy_value()

        return types.void(words, types.int64, types.int64), codegen

    @intrinsic
    def load_acquire(typing_context: Any, words: Any, index: Any) -> Any:
        """Load before everything after it."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            place = _element(builder, args[0], args[1])
            return builder.load_atomic(place, "acquire", 8)

        return types.int64(words, types.int64), codegen

    @intrinsic
    def fence(typing_context: Any) -> Any:
        """Order everything before against everything after."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.fence("seq_cst")
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def compiler_fence(typing_context: Any) -> Any:
        """The same for the compiler alone: no instruction, no order between processors."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.fence("seq_cst", "singlethread")
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def fence_others(typing_context: Any) -> Any:
        """Every registered process that runs now passes a fence; 0, or -1."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(_int64, [_int64, _int64, _int64, _int64]),
                "syscall",
            )
            command = _int64(MEMBARRIER_GLOBAL_EXPEDITED)
            return builder.call(function, [_int64(_MEMBARRIER), command, _int64(0), _int64(0)])

        return types.int64(), codegen


__all__ = [
    "BUSY",
    "LOCKED",
    "MUTEX_WORDS",
    "OWNER_DEAD",
    "TIMED_OUT",
    "compare_exchange",
    "compiler_fence",
    "exchange",
    "fence",
    "fence_others",
    "initialise_mutex",
    "load_acquire",
    "membarrier_register",
    "membarrier_supported",
    "monotonic_ns",
    "mutex_consistent",
    "mutex_lock_until",
    "mutex_trylock",
    "mutex_unlock",
    "set_atomic_mutex",
    "store_release",
    "wake_eventfd",
]

"""The names of GFP masks, from the packed form that events carry.

A packed mask keeps what decides about pages (`allocator.gfp`), so `GFP_USER` and `GFP_KERNEL` are
one here, as they are to the page allocator. A mask without a name of its own is the nearest named
one below it with the flags that are added: `GFP_KERNEL|__GFP_NORETRY`.
"""

from functools import lru_cache

from pagesoak.allocator.gfp import (
    GFP_ZONE_MASK,
    GfpFlags,
    parse_packed_gfp,
    unpack_gfp,
)

NAMES = (
    "GFP_HIGHUSER_MOVABLE",
    "GFP_TRANSHUGE",
    "GFP_TRANSHUGE_LIGHT",
    "GFP_HIGHUSER",
    "GFP_KERNEL_ACCOUNT",
    "GFP_KERNEL",
    "GFP_NOFS",
    "GFP_NOIO",
    "GFP_ATOMIC",
    "GFP_NOWAIT",
)
"""Of masks with the same rights the first is named."""
_PACKED = {name: parse_packed_gfp(name) for name in reversed(NAMES)}
_BY_MASK = {mask: name for name, mask in _PACKED.items()}


@lru_cache(maxsize=1024)
def gfp_name(packed: int) -> str:
    """The name of a packed mask; the number itself when it is none."""
    if packed in _BY_MASK:
        return _BY_MASK[packed]
    if packed < 0 or packed >> GFP_ZONE_MASK.bit_length():
        return hex(packed)
    flags = unpack_gfp(packed)
    best, missing = "", _set(flags)
    for name in NAMES:
        own = _set(unpack_gfp(_PACKED[name]))
        rest = _set(flags) - own
        if own <= _set(flags) and len(rest) < len(missing):
            best, missing = name, rest
    added = [f"__GFP_{flag.upper()}" for flag in GfpFlags._fields if flag in missing]
    return "|".join([best, *added] if best else added) or hex(packed)


def _set(flags: GfpFlags) -> set[str]:
    return {name for name in GfpFlags._fields if getattr(flags, name)}

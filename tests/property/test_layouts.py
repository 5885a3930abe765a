"""Any layout of zones under any load, reported at the same time: audits, and the rules of who is
served from where (docs/model.md, 3 and 6). Nothing may hang on the layouts that were recorded.
"""

import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagesoak.allocator.digest import state_digest
from pagesoak.allocator.geometry import ZoneGeometry
from pagesoak.allocator.profile import PROFILES
from tests.layouts import Chooser, Mix, any_layout, mixed_guest, random_steps
from tests.live_helper import COMPILE_SECONDS_MAX
from tests.treefiles import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(COMPILE_SECONDS_MAX)]

STEPS = 300
STEPS_BETWEEN_AUDITS = 50
SEEDS_OF_TWINS = 12


class Drawn(Chooser):
    """Numbers that Hypothesis draws, so that it finds the simplest layout that fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def below(self, limit: int) -> int:
        """0 to limit - 1."""
        return self._draw(st.integers(0, limit - 1))


@st.composite
def layouts(draw: st.DrawFn) -> tuple[ZoneGeometry, ...]:
    return any_layout(Drawn(draw))


def run(mix: Mix, seed: int, steps: int = STEPS) -> None:
    for number, step in enumerate(random_steps(seed, steps)):
        mix.take(step)
        if number % STEPS_BETWEEN_AUDITS == 0:
            mix.guest.check()
    mix.guest.check()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(), st.integers(1, 4), st.sampled_from(sorted(PROFILES)), st.integers(0, 1 << 32))
def test_any_layout_passes_its_audits(
    zones: tuple[ZoneGeometry, ...], cpus: int, kernel: str, seed: int
) -> None:
    with mixed_guest(zones, cpus, kernel) as mix:
        run(mix, seed)
        mix.settle()


def mixed_digest(seeds: int) -> str:
    """Answers, reports and final states of some layouts; for both modes of the core."""
    digest = hashlib.blake2b(digest_size=16)
    for seed in range(seeds):
        kernel = sorted(PROFILES)[seed % 2]
        with mixed_guest(any_layout(Chooser(seed)), 1 + seed % 4, kernel) as mix:
            run(mix, seed)
            digest.update(repr((mix.answers, mix.reports)).encode())
            digest.update(state_digest(mix.guest.segment).encode())
            mix.settle()
    return digest.hexdigest()


TWIN = (
    f"from tests.property.test_layouts import mixed_digest; print(mixed_digest({SEEDS_OF_TWINS}))"
)


def test_layouts_compiled_and_plain() -> None:
    found = set()
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", TWIN],
            cwd=ROOT,
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert len(found) == 1, found

"""What a comparison runs: variants by policy and by changed keys, and what is refused."""

import pytest

from pagesoak.base.errors import InputError
from pagesoak.engine.policy_list import policy_texts
from pagesoak.study.compare_plan import (
    SEEDS_MAX,
    VARIANTS_MAX,
    Plan,
    known_keys,
    make_plan,
    parse_changes,
)
from tests.compare_helper import scenario


def plan(policies: str, *changed: str, seeds: int = 2, baseline: str | None = None) -> Plan:
    return make_plan(scenario(), policies, changed=changed, seeds=seeds, baseline=baseline)


def labels(found: Plan) -> list[str]:
    return [variant.label for variant in found.variants]


def test_runs_go_seed_by_seed() -> None:
    found = plan("off,mainline", seeds=3)
    assert [tuple(run) for run in found.runs()] == [
        (0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3),
    ]  # fmt: skip


def test_seeds_begin_with_the_scenarios_own() -> None:
    ninth = scenario().with_overrides(seed=9)
    assert make_plan(ninth, "off,mainline", seeds=3).seeds == (9, 10, 11)


def test_options_of_policies_belong_to_them() -> None:
    found = plan("off, halving:budget=shift,driver-capacity:capacity=3")
    assert labels(found) == ["off", "halving:budget=shift", "driver-capacity:capacity=3"]
    assert [variant.scenario.reporting.policy for variant in found.variants] == labels(found)


def test_a_list_is_split_at_policies_not_at_options() -> None:
    assert policy_texts("a,b:x=1,y=2,c") == ["a", "b:x=1,y=2", "c"]


# ---- the baseline ----


def test_mainline_is_the_baseline_where_it_is_there() -> None:
    assert plan("off,halving,mainline").baseline == 2
    assert plan("off,halving").baseline == 0
    assert plan("off,mainline", baseline="off").baseline == 0


def test_a_changed_variant_can_be_the_baseline() -> None:
    found = plan("off,mainline", "guest.touch=false", baseline="mainline + touch=false")
    assert found.baseline == 2


def test_an_unknown_baseline_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"--baseline: 'mainlin'.*did you mean 'mainline'"):
        plan("off,mainline", baseline="mainlin")


# ---- changed keys ----


def test_a_changed_key_is_one_more_variant_of_the_baselines_policy() -> None:
    found = plan("off,mainline,halving", "host.latency_per_call=20ms")
    assert labels(found)[-1] == "mainline + latency_per_call=20ms"
    changed = found.variants[-1]
    assert changed.changes == {"host.latency_per_call": "20ms"}
    assert changed.scenario.host.latency_per_call_ns == 20_000_000
    assert changed.scenario.reporting.policy == "mainline"
    assert found.variants[1].scenario.host.latency_per_call_ns == 100_000_000


def test_another_policy_and_several_keys() -> None:
    found = plan("off,mainline", "halving:budget=shift + reporting.delay=1s + guest.touch=true")
    assert labels(found)[-1] == "halving:budget=shift + delay=1s + touch"
    assert found.variants[-1].scenario.reporting.delay_ns == 1_000_000_000


def test_keys_of_loads_have_their_number() -> None:
    found = plan("off,mainline", "load[0].think=2s")
    assert labels(found)[-1] == "mainline + load[0].think=2s"
    assert found.variants[-1].scenario.loads[0].think_ns == 2_000_000_000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("guest.touch=false", ("guest", "touch"), False),
        ("guest.kernel=6.12", ("guest", "kernel"), "6.12"),
        ('guest.kernel="6.12"', ("guest", "kernel"), "6.12"),
        ("reporting.capacity = 7", ("reporting", "capacity"), 7),
        ("host.latency_per_mib=600us", ("host", "latency_per_mib"), "600us"),
        ("guest.snapshot=a+b.free", ("guest", "snapshot"), "a+b.free"),
    ],
)
def test_values_are_tomls_or_plain_texts(text: str, key: tuple[str, str], value: object) -> None:
    assert parse_changes(text, scenario()) == (None, {key: value})


def test_every_key_of_the_schema_but_the_shared_ones_can_be_changed() -> None:
    known = known_keys(scenario())
    assert {"guest.touch", "host.error_every_calls", "load[0].hold", "virtual.lock"} <= set(known)
    assert not {"reporting.policy", "load[0].kind", "seed"} & set(known)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("guest.tuch=true", r"no key 'guest.tuch' \(did you mean 'guest.touch'"),
        ("touch=true", r"no key 'touch' \(did you mean 'guest.touch'"),
        ("load[7].think=1s", r"no key 'load\[7\].think' \(did you mean 'load\[0\].think'"),
        ("seed=3", "seed is the same for all: --seed"),
        ("reporting.policy=off", "reporting.policy is what --policies names"),
        ("guest.touch=maybe", r"mainline \+ touch=maybe: guest.touch: must be true or false"),
        ("host.latency_per_call=20", "must be a text with a unit"),
        ("guest.memory=1MiB", "guest.memory: must be from 16MiB"),
        ("guest.touch", "'guest.touch' is not KEY=VALUE"),
        ("", "'' is not KEY=VALUE"),
        ("+ guest.touch=true", "is not KEY=VALUE"),
        ("guest.touch=false + guest.touch=true", "guest.touch is given twice"),
        ("magic + guest.touch=true", "no policy named 'magic'"),
        ("host.latency_per_call=100ms", r"mainline \+ .* is the same as mainline"),
    ],
)
def test_changes_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"--with: .*{message}"):
        plan("off,mainline", text)


# ---- what else is refused ----


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ("mainline", "needs two at least"),
        ("off,mainline,off", "off is the same as off"),
        ("halving,halving:budget=div", "halving:budget=div is the same as halving"),
        ("off,magic", "no policy named 'magic'"),
        ("off,", "no policy named ''"),
        ("off,no.py:Share", "no such file"),
    ],
)
def test_policies_that_cannot_be_are_refused(policies: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(policies)


@pytest.mark.parametrize("seeds", [0, -1, SEEDS_MAX + 1])
def test_seeds_out_of_range_are_refused(seeds: int) -> None:
    with pytest.raises(InputError, match=f"--seeds: must be from 1 to {SEEDS_MAX}, not {seeds}"):
        plan("off,mainline", seeds=seeds)


def test_more_than_can_be_shown_are_refused() -> None:
    many = ",".join(f"driver-capacity:capacity={number + 1}" for number in range(VARIANTS_MAX + 1))
    with pytest.raises(InputError, match="17 are more than the 16"):
        plan(many)

"""Whether two environments are of one machine: their fingerprints, and sentences about them."""

import copy
import json

import pytest

from harness import machine
from results.machines import differences, same_software

STORED = {
    "python": "3.11.7",
    "versions": {"numpy": "2.4.6", "torch": "2.13.0", "triton": None},
    "fingerprint": {
        "id": "0123456789ab",
        "cpu": {"model": "Xeon", "cores": 2},
        "caches": {"L1d": 49152},
        "cpu_quota": None,
        "instruction_sets": ["fma", "avx2"],
        "gpus": [{"name": "H200", "driver": "570"}],
    },
}


def changed(**fields) -> dict:
    return {**STORED, "fingerprint": {**STORED["fingerprint"], **fields}}


def test_a_machine_is_comparable_with_itself():
    assert differences(STORED, json.loads(json.dumps(STORED))) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"cpu": {"model": "Epyc", "cores": 2}}, ["cpu model is Epyc, but was Xeon"]),
        ({"cpu": {"model": "Xeon"}}, ["cpu cores is absent, but was 2"]),
        ({"caches": {"L1d": 32768}}, ["caches L1d is 32768, but was 49152"]),
        ({"cpu_quota": 1.5}, ["cpu quota is 1.5, but was absent"]),
        ({"instruction_sets": ["fma"]}, ["instruction sets is fma, but was fma, avx2"]),
        (
            {"gpus": [{"name": "H200", "driver": "580"}]},
            ["gpus 0 driver is 580, but was 570"],
        ),
        (
            {"gpus": []},
            [
                "gpus 0 driver is absent, but was 570",
                "gpus 0 name is absent, but was H200",
            ],
        ),
        ({"id": "another"}, []),
        ({"a_newer_field": None}, []),
    ],
)
def test_each_difference_is_a_sentence(fields, expected):
    assert differences(changed(**fields), STORED) == expected


@pytest.mark.parametrize("fingerprint", [None, {}, [], "x", 3, {"id": "0123456789ab"}])
def test_a_missing_fingerprint_is_said(fingerprint):
    lacking = {**STORED, "fingerprint": fingerprint}
    sentence = "recorded no fingerprint of the machine"
    assert differences(lacking, STORED) == [f"the run {sentence}"]
    assert differences(STORED, lacking) == [f"the earlier run {sentence}"]
    assert len(differences({}, {})) == 2


def deep(levels: int):
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), True, 2**200, [[[]]], [None, {}], deep(2000), "\x1b[2J\n\ud800"],
    ids=["nan", "inf", "true", "huge", "lists", "empty", "deep", "control characters"],
)
def test_hostile_values_are_compared_and_shown(value):
    hostile = changed(cpu=value, **{"caches\n\x1b": value})
    assert differences(hostile, copy.copy(hostile)) == []
    told = differences(hostile, STORED)
    assert told
    for sentence in [*told, *differences(STORED, hostile)]:
        assert sentence.isprintable()
        assert len(sentence) < 600
    broken = {"versions": {"numpy": value, "": value}, "python": value}
    for sentence in [*same_software(broken, STORED), *same_software(STORED, broken)]:
        assert sentence.isprintable()


@pytest.mark.parametrize("environment", [None, [], "x", 3])
def test_an_environment_that_is_none_is_one_without_a_fingerprint(environment):
    assert len(differences(environment, environment)) == 2
    assert len(same_software(environment, environment)) == 2


def test_the_same_software():
    assert same_software(STORED, copy.deepcopy(STORED)) == []


def test_other_software():
    now = {
        "python": "3.12.1",
        "versions": {"numpy": None, "torch": "2.14.0", "triton": "3.5", "new": "1"},
    }
    assert same_software(now, STORED) == [
        "Python is 3.12.1, but was 3.11.7",
        "numpy is absent, but was 2.4.6",
        "torch is 2.14.0, but was 2.13.0",
        "triton is 3.5, but was absent",
    ]


def test_missing_versions_are_said():
    assert same_software({"python": "3.11.7"}, STORED) == [
        "the run recorded no version of any library"
    ]


# -- the fingerprint -------------------------------------------------------------------------------

MACHINE = {
    "started": "2026-01-01T00:00:00+00:00",
    "cpu": {
        "model": "Some CPU",
        "architecture": "x86_64",
        "cores": 2,
        "threads": 4,
        "affinity": [0, 1],
        "caches": {"L2": {"bytes": 1024, "shared": "0"}},
        "max_hz": 1,
        "governor": "powersave",
        "instruction_sets": ["fma"],
    },
    "control_group": {"cpus": None, "memory_bytes": None},
    "memory_bytes": 8 * 2**30,
    "load_average": [0.1, 0.1, 0.1],
    "system": "Linux",
    "kernel": "6.1",
    "libc": "glibc 2.36",
    "virtualisation": {"kind": "physical", "container": None},
    "gpus": [
        {"name": "A", "memory_bytes": 1, "driver": "1", "power_cap_w": 1.0, "temperature_c": 40}
    ],
    "versions": {"numpy": "1"},
}


def identity(*path, value) -> str:
    """The id of MACHINE with another value at a place."""
    changed = copy.deepcopy(MACHINE)
    part = changed
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return machine.fingerprint(changed)["id"]


SAME = machine.fingerprint(MACHINE)["id"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cpu model", "Another"),
        ("cpu architecture", "aarch64"),
        ("cpu cores", 3),
        ("cpu threads", 8),
        ("cpu affinity", [0]),
        ("cpu caches L2 bytes", 2048),
        ("cpu caches L3", {"bytes": 1}),
        ("cpu instruction_sets", ["fma", "avx2"]),
        ("control_group cpus", 1.5),
        ("memory_bytes", 9 * 2**30),
        ("system", "Darwin"),
        ("kernel", "6.2"),
        ("libc", "musl"),
        ("virtualisation kind", "virtual"),
        ("virtualisation container", "docker"),
        ("gpus", []),
        ("gpus 0 name", "B"),
        ("gpus 0 memory_bytes", 2),
        ("gpus 0 driver", "2"),
        ("gpus 0 power_cap_w", 2.0),
    ],
)
def test_each_field_changes_the_fingerprint(path, value):
    names = [int(name) if name == "0" else name for name in path.split()]
    assert identity(*names, value=value) != SAME


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("started", "2027"),
        ("load_average", [9.0, 9.0, 9.0]),
        ("memory_bytes", 8 * 2**30 - 2**20),
        ("cpu max_hz", 2),
        ("cpu governor", "performance"),
        ("cpu affinity", [0, 2]),
        ("gpus 0 temperature_c", 80),
        ("versions numpy", "2"),
        ("hostname", "another"),
    ],
)
def test_time_load_and_software_do_not(path, value):
    names = [int(name) if name == "0" else name for name in path.split()]
    assert identity(*names, value=value) == SAME


def test_a_fingerprint_is_deterministic_and_survives_storing():
    assert len(SAME) == 12
    assert int(SAME, 16) >= 0
    backwards = dict(reversed(list(MACHINE.items())))
    assert machine.fingerprint(json.loads(json.dumps(backwards)))["id"] == SAME


@pytest.mark.parametrize("value", [None, {}, [], "x", 3, float("nan")])
def test_a_fingerprint_of_something_else_is_one_too(value):
    assert machine.fingerprint({})["cpu"]["model"] is None
    assert machine.fingerprint(dict.fromkeys(MACHINE, value))["id"] != SAME


def test_a_difference_of_fingerprints_is_told():
    now = {"fingerprint": machine.fingerprint({**MACHINE, "gpus": [], "kernel": "6.2"})}
    before = {"fingerprint": machine.fingerprint(MACHINE)}
    assert differences(before, json.loads(json.dumps(before))) == []
    assert "kernel is 6.2, but was 6.1" in differences(now, before)
    assert "gpus 0 name is absent, but was A" in differences(now, before)

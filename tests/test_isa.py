"""Kernels are held down to a level of instruction sets, and what tells of a run says so."""

import re
import sys

import pytest

from adapters.registry import Registry
from harness import environment, isa, machine
from harness.machine import INSTRUCTION_SETS
from harness.pool import Pool, Role, Settings
from results.records import Facts
from tests.test_suites import NUMPY_ALONE, only_run, suites, toys

ALL = frozenset(INSTRUCTION_SETS)


def test_a_level_has_a_value_for_every_library():
    assert isa.environment("avx2", {}) == {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
    assert isa.environment("avx512_fp16", {})["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX512_BF16"
    assert isa.environment("native", {"XLA_FLAGS": "--x"}) == {}


def test_flags_that_are_set_already_stay():
    made = isa.environment("avx2", {"XLA_FLAGS": "--xla_dump_to=/tmp/x"})
    assert made["XLA_FLAGS"] == "--xla_dump_to=/tmp/x --xla_cpu_max_isa=AVX2"


def test_levels_and_instruction_sets_are_those_that_a_machine_is_described_by():
    assert {name for sets in isa.LEVELS.values() for name in sets} <= ALL


@pytest.mark.parametrize(
    ("library", "variables", "lost", "kept"),
    [
        ("onednn", {}, "", "amx_bf16"),
        ("onednn", {"ONEDNN_MAX_CPU_ISA": "avx512_core"}, "avx512_vnni amx_bf16", "avx512f avx2"),
        ("onednn", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "avx512_bf16", "avx512_vnni"),
        ("onednn", {"ONEDNN_MAX_CPU_ISA": "AVX10_1_512"}, "amx_bf16", "avx512_fp16"),
        ("onednn", {"ATEN_CPU_CAPABILITY": "avx2"}, "", "amx_bf16"),
        ("aten", {"ATEN_CPU_CAPABILITY": "default"}, "avx2 avx512f", "sve"),
        ("xla", {"XLA_FLAGS": "--a=1 --xla_cpu_max_isa=AVX2 --b"}, "avx512f", "avx2"),
        ("xla", {"XLA_FLAGS": "--a=1"}, "", "avx512f"),
        ("onednn", {"ONEDNN_MAX_CPU_ISA": "NONSENSE"}, "", "amx_bf16"),
    ],
)
def test_what_a_library_may_use_follows_from_its_own_variable(library, variables, lost, kept):
    left = isa.usable(ALL, library, variables)
    assert left.isdisjoint(lost.split())
    assert left >= set(kept.split())


@pytest.mark.parametrize("level", [level for level in isa.CHOICES if level != "native"])
def test_what_a_level_sets_is_what_is_read_back(level):
    order = list(isa.LEVELS)
    up_to = {s for each in order[: order.index(level) + 1] for s in isa.LEVELS[each]}
    for library in isa.SWITCHES:
        left = isa.usable(ALL, library, isa.environment(level, {}))
        assert {s for sets in isa.LEVELS.values() for s in sets} & left <= up_to, library


def test_a_machine_that_is_held_down_is_another_one():
    def fingerprint(**settings):
        return environment.describe(command=[], options=settings)["fingerprint"]

    assert fingerprint()["id"] == fingerprint(isa="native")["id"] != fingerprint(isa="avx2")["id"]
    assert fingerprint(isa="avx2")["isa"] == "avx2"


def test_a_processor_names_its_vendor(monkeypatch, tmp_path):
    (tmp_path / "proc").mkdir()
    text = "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: avx2 avx512f\n"
    (tmp_path / "proc/cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.cpu()["vendor"] == "AuthenticAMD"
    assert machine.named(machine.cpu()) == "AMD EPYC (AuthenticAMD): avx2 avx512f"


# -- a run -------------------------------------------------------------------------------------

ONE = ("-k", "test_operations and infer/attention/ and fp64")


def test_a_run_that_is_held_down_says_so_everywhere(tmp_path):
    chosen = "test_operations and infer/relu/ and fp32"
    done = suites(*toys("wraps_torch"), "--isa=avx2", "-k", chosen, results=tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(
        r"^kernels held down to avx2: ATEN_CPU_CAPABILITY=avx2 ONEDNN", done.stdout, re.M
    )
    run = only_run(tmp_path)
    assert run.environment["isa"] == run.environment["fingerprint"]["isa"] == "avx2"
    assert all("--isa avx2" in outcome.reproduce for outcome in run.outcomes)


def test_a_worker_that_is_held_down_uses_lesser_kernels(tmp_path):
    settings = Settings(
        registry=Registry.load(), python=sys.executable, scratch=tmp_path, threads=1,
        case_timeout=60.0, memory_limit=2**32, isa="avx2",
    )  # fmt: skip
    pool = Pool(settings)
    try:
        told = pool.client(Role("torch_eager", "judge")).request("libraries", timeout=60)
    finally:
        pool.close_all()
    assert told["cpu_capability"] in ("AVX2", "DEFAULT")  # the latter on a processor without


# -- known deviations --------------------------------------------------------------------------


def test_an_adapter_outside_the_project_has_the_deviations_of_its_framework(tmp_path):
    done = suites(*toys("wraps_torch"), *ONE, results=tmp_path)
    assert done.returncode == 0, done.stdout
    rows = [a for a in only_run(tmp_path).agreements if a.verdict == "deviation"]
    assert rows, done.stdout
    assert {(row.case.adapter, row.quantity, row.tensor) for row in rows} == {
        ("wraps_torch", "output", "NaN")
    }


@NUMPY_ALONE
def test_a_stale_deviation_is_a_note_unless_one_is_strict(tmp_path):
    done = suites(*toys("claims_torch"), *ONE, results=tmp_path / "lenient")
    assert done.returncode == 0, done.stdout
    assert "note: infer/attention/tiny/claims_torch/cpu/fp64/b1: a known deviation is stale: " \
        "output NaN is identical" in done.stdout  # fmt: skip
    run = only_run(tmp_path / "lenient")
    (told,) = [r.facts["deviations"] for r in run.records
               if isinstance(r, Facts) and "deviations" in r.facts]  # fmt: skip
    assert len(told["stale"]) == 1
    done = suites(*toys("claims_torch"), *ONE, "--strict-deviations", results=tmp_path / "strict")
    assert done.returncode == 1, done.stdout
    (outcome,) = only_run(tmp_path / "strict").outcomes
    assert outcome.status == "failed"
    assert "a known deviation is stale: output NaN is identical" in outcome.reason
    assert "--strict-deviations" in outcome.reproduce


# -- what is missing ---------------------------------------------------------------------------


def test_that_onednn_has_no_kernel_for_a_dtype_is_no_fault_of_tensorflow(tmp_path):
    chosen = "test_operations and infer/softmax/ and tf_graph and fp16"
    done = suites("--adapters=tf_graph", "--precisions=fp16", "--preset=standard", "--isa=avx2",
                  "-k", chosen, results=tmp_path)  # fmt: skip
    (outcome,) = only_run(tmp_path).outcomes
    assert outcome.status == "unsupported", done.stdout
    assert "could not create a primitive descriptor for the softmax" in outcome.reason

"""Small files in the forms in which other tools write them, version by version."""

import json
from pathlib import Path

INTEL = "Intel(R) Xeon(R) Platinum 8272CL CPU @ 2.60GHz"
AMD = "AMD EPYC 7B13"


def write(path: Path, document) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


# -- pytest-benchmark ------------------------------------------------------------------------------


def entry(name="test_x", median=0.1, *, data=None, scatter=0.01, **changes):
    """One benchmark: with its rounds in `data`, else with their quartiles alone."""
    stats = {
        "min": median * (1 - 2 * scatter), "max": median * (1 + 9 * scatter), "mean": median,
        "stddev": median * scatter, "rounds": 400, "median": median, "iqr": median * scatter,
        "q1": median * (1 - scatter / 2), "q3": median * (1 + scatter / 2), "iterations": 1,
        "ops": 1 / median,
    }  # fmt: skip
    if data is not None:
        stats |= {"data": data, "rounds": len(data)}
    options = {"disable_gc": False, "timer": "perf_counter", "min_rounds": 5, "max_time": 1.0,
               "min_time": 5e-06, "warmup": False}  # fmt: skip
    made = {"group": None, "name": name, "fullname": f"tests/b.py::{name}", "params": None,
            "param": None, "extra_info": {}, "options": options, "stats": stats}  # fmt: skip
    return {**made, **changes}


def pytest_benchmark(
    *entries, cpu=None, version="5.2.3", python="CPython", python_version="3.11.7",
    commit="a" * 40, dirty=False, started="2026-05-17T17:10:35.112423+00:00", **machine,
):  # fmt: skip
    """A file; `cpu` is what py-cpuinfo told."""
    return {
        "machine_info": {
            "node": "redacted", "processor": "x86_64", "machine": "x86_64",
            "python_implementation": python, "python_implementation_version": python_version,
            "python_version": python_version, "release": "5.11.0", "system": "Linux",
            "cpu": {"brand_raw": INTEL, "count": 2} if cpu is None else cpu, **machine,
        },
        "commit_info": {"id": commit, "dirty": dirty},
        "benchmarks": list(entries) or [entry()],
        "datetime": started,
        "version": version,
    }  # fmt: skip


def of_2_5(median=2.2e-07, started="2015-08-15T00:01:46.250433+00:00"):
    """pytest-benchmark 2.5: no processor, no version of the implementation, q1 above the median."""
    document = pytest_benchmark(
        entry("test_fast", median), version="2.5.0", python_version="2.7.3", started=started
    )
    for name in ("cpu", "python_implementation_version"):
        del document["machine_info"][name]
    document["benchmarks"][0]["stats"]["q1"] = median * 1.0001
    return document


def of_3_1(brand=INTEL, vendor="GenuineIntel", **changes):
    """pytest-benchmark 3.1 and 3.2, with py-cpuinfo before its version 6."""
    cpu = {"vendor_id": vendor, "brand": brand, "count": 2, "arch": "X86_64", "bits": 64,
           "raw_arch_string": "x86_64", "hz_advertised": "2.6000 GHz"}  # fmt: skip
    return pytest_benchmark(cpu=cpu, version="3.2.3", **changes)


# -- pyperf ----------------------------------------------------------------------------------------


def pyperf(*processes, name="sum", unit=None, **metadata):
    """A file of one benchmark, whose metadata pyperf keeps beside the list; the first process
    calibrates."""
    common = {
        "name": name, "loops": 8, "cpu_model_name": INTEL, "cpu_count": 2, "hostname": "redacted",
        "platform": "Linux-5.11.0-x86_64-with-glibc2.36", "python_implementation": "cpython",
        "python_version": "3.11.7 (64-bit)", "perf_version": "2.10.0", **metadata,
    }  # fmt: skip
    if unit:
        common["unit"] = unit
    runs = [{"metadata": {"date": "2026-11-30 18:52:27"}, "warmups": [[1, 99.0], [8, 98.0]]}]
    runs += [
        {"metadata": {"date": f"2026-11-30 18:53:{n:02}"}, "values": list(values),
         "warmups": [[8, 97.0]]}
        for n, values in enumerate(processes)
    ]  # fmt: skip
    return {"benchmarks": [{"runs": runs}], "metadata": common, "version": "1.0"}


# -- Google Benchmark ------------------------------------------------------------------------------


def repetition(name, time, *, unit="ns", index=0, **more):
    return {"name": name, "run_name": name, "run_type": "iteration", "repetitions": 3,
            "repetition_index": index, "threads": 1, "iterations": 1000, "real_time": time,
            "cpu_time": time * 0.9, "time_unit": unit, **more}  # fmt: skip


def aggregate(name, kind, time, *, unit="ns", **more):
    made = repetition(f"{name}_{kind}", time, unit=unit)
    del made["repetition_index"]
    return {**made, "run_name": name, "run_type": "aggregate", "aggregate_name": kind, **more}


def google_benchmark(*entries, host="vm", cpus=2, **context):
    return {
        "context": {
            "date": "2026-11-30T18:52:25+00:00", "host_name": host, "executable": "./bench",
            "num_cpus": cpus, "mhz_per_cpu": 2100, "cpu_scaling_enabled": False,
            "caches": [{"type": "Data", "level": 1, "size": 49152, "num_sharing": 1}],
            "load_avg": [1.0, 1.0, 1.0], "library_build_type": "release", **context,
        },
        "benchmarks": list(entries),
    }  # fmt: skip


# -- asv -------------------------------------------------------------------------------------------

COLUMNS = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a",
           "stats_ci_99_b", "stats_q_25", "stats_q_75", "stats_number", "stats_repeat", "samples",
           "profile"]  # fmt: skip


def asv(results, *, commit="c" * 40, cpu=INTEL, date=1796064740000, **changes):
    """A file of version 2; trailing columns may be missing."""
    params = {"arch": "x86_64", "cpu": cpu, "machine": "vm", "num_cpu": "2", "os": "Linux 6.1",
              "ram": "25325268992", "python": "3.11"}  # fmt: skip
    return {"commit_hash": commit, "env_name": "virtualenv-py3.11-numpy", "date": date,
            "params": params, "python": "3.11", "requirements": {"numpy": "2.4"}, "env_vars": {},
            "result_columns": COLUMNS, "results": results, "durations": {}, "version": 2,
            **changes}  # fmt: skip


def asv_folder(folder: Path, document, benchmarks=None) -> Path:
    """A results folder as asv keeps it, with what lies beside the results."""
    machine = {"arch": "x86_64", "cpu": INTEL, "machine": "vm", "num_cpu": "2", "os": "Linux 6.1",
               "ram": "25325268992", "version": 1}  # fmt: skip
    write(folder / "vm" / "machine.json", machine)
    write(folder / "vm" / "cccccccc-virtualenv-py3.11-numpy.json", document)
    described = {
        name: {"name": name, "type": "track", "unit": unit, "params": [], "version": "v"}
        for name, unit in (benchmarks or {"b.track_any": "unit"}).items()
    }
    write(folder / "benchmarks.json", {**described, "version": 2})
    return folder

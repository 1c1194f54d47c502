"""What is read from NVML, with a module in pynvml's place that does as it does."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from harness import gpu

H200 = "NVIDIA H200"


class NVMLError(Exception):
    pass


def a_gpu(uuid="GPU-aaaa-1", **values) -> dict:
    """Function name without `nvmlDeviceGet` -> what it returns for this GPU."""
    return {
        "Name": H200,
        "UUID": uuid,
        "CudaComputeCapability": (9, 0),
        "MemoryInfo": SimpleNamespace(total=150 * 2**30),
        "ClockInfo": 1980,
        "MaxClockInfo": 2000,
        "EnforcedPowerLimit": 700_000,
        "PowerManagementDefaultLimit": 700_000,
        "PowerManagementLimitConstraints": [200_000, 700_000],
        "PersistenceMode": 1,
        "EccMode": [1, 0],
        "MigMode": [0, 1],
        "ComputeMode": 3,
        "Temperature": 41,
        "PowerUsage": 123_456,
        "CurrentClocksEventReasons": 0,
        "ComputeRunningProcesses": [],
        **values,
    }


def running(pid, size=2**30) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=size)


@pytest.fixture
def install(monkeypatch):
    """`install(gpu, ...)` puts a pynvml with these GPUs in place; the handles are the dicts."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def result(value):
        if isinstance(value, Exception):
            raise value
        return value

    def installing(*gpus, start=None, text=str, driver="570.1"):
        names = {10: "python", 11: "trainer"}
        nvml = ModuleType("pynvml")
        nvml.NVMLError = NVMLError
        nvml.nvmlInit = lambda: result(start)
        nvml.nvmlDeviceGetCount = lambda: len(gpus)
        nvml.nvmlDeviceGetHandleByIndex = lambda index: gpus[index]
        nvml.nvmlSystemGetDriverVersion = lambda: text(driver)
        nvml.nvmlSystemGetCudaDriverVersion = lambda: 13010
        nvml.nvmlSystemGetProcessName = lambda pid: result(names.get(pid, NVMLError("not found")))
        for name in {name for one in gpus for name in one}:

            def get(handle, *_, name=name):
                value = result(handle.get(name, NVMLError("not supported")))
                return text(value) if isinstance(value, str) else value

            setattr(nvml, f"nvmlDeviceGet{name}", get)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return installing


def nothing_is_told() -> bool:
    return (
        gpu.describe() == [] == gpu.processes() == gpu.others([1])
        and gpu.sample() is None
        and gpu.process_bytes(1) is None
    )


def test_without_the_package_nothing_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nothing_is_told()


@pytest.mark.parametrize("error", [NVMLError("driver not loaded"), OSError("no library")])
def test_without_a_driver_nothing_is_told(install, error):
    install(a_gpu(), start=error)
    assert nothing_is_told()


def test_without_a_gpu_nothing_is_told(install):
    install()
    assert nothing_is_told()


def as_bytes(text: str) -> bytes:
    return text.encode()


@pytest.mark.parametrize("text", [str, as_bytes])
def test_a_gpu_is_described_in_si_units(install, text):
    install(a_gpu(), text=text)
    assert gpu.describe() == [
        {
            "name": H200,
            "uuid": "GPU-aaaa-1",
            "compute_capability": "9.0",
            "memory_bytes": 150 * 2**30,
            "driver": "570.1",
            "cuda_driver": "13.1",
            "graphics_hz": 1_980_000_000,
            "graphics_max_hz": 2_000_000_000,
            "memory_hz": 1_980_000_000,
            "memory_max_hz": 2_000_000_000,
            "power_cap_w": 700.0,
            "power_default_w": 700.0,
            "power_min_w": 200.0,
            "power_max_w": 700.0,
            "persistence": True,
            "ecc": True,
            "mig": False,
            "compute_mode": "exclusive_process",
            "temperature_c": 41,
        }
    ]
    assert json.dumps(gpu.describe())


def test_what_a_gpu_does_not_support_is_none(install):
    install({"UUID": "GPU-b"}, a_gpu())
    first = gpu.describe()[0]
    known = {"uuid", "driver", "cuda_driver"}
    assert {name for name, value in first.items() if value is not None} == known
    assert gpu.sample(0) == gpu.Sample(None, None, None, None, None)
    assert gpu.processes(0) == []


def test_a_mistake_in_the_program_is_not_hidden(install):
    install(a_gpu(Temperature=TypeError("a wrong argument")))
    with pytest.raises(TypeError, match="wrong argument"):
        gpu.sample()


THREE = [a_gpu(uuid, Name=uuid) for uuid in ("GPU-aa-1", "GPU-ab-2", "GPU-b-3")]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [1, 2, 3]),
        ("", []),
        ("-1", []),
        ("2,0", [3, 1]),
        (" 1 , 2 ", [2, 3]),
        ("0,7,1", [1]),
        ("99999999999999999999", []),
        ("GPU-b,GPU-ab-2", [3, 2]),
        ("GPU-a", []),
        ("GPU-", []),
        ("GPU-c", []),
        ("MIG-x", []),
        ("two", []),
        ("²", []),
    ],
)
def test_gpus_are_counted_as_cuda_counts_them(install, monkeypatch, visible, expected):
    install(*THREE)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [one["name"] for one in gpu.describe()]
    assert [int(name[-1]) for name in found] == expected


def test_a_mig_instance_is_found_by_its_uuid(install, monkeypatch):
    nvml = install(*THREE)
    nvml.nvmlDeviceGetHandleByUUID = {"MIG-x": a_gpu(Name="an instance")}.get
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-x")
    assert [one["name"] for one in gpu.describe()] == ["an instance"]


def test_an_index_out_of_range_is_nothing(install):
    install(a_gpu(ComputeRunningProcesses=[running(10)]))
    assert gpu.sample(1) is None
    assert gpu.sample(-1) is None
    assert gpu.processes(1) == []


def test_a_sample(install):
    install(a_gpu(CurrentClocksEventReasons=0x44))
    assert gpu.sample() == gpu.Sample(
        sm_hz=1_980_000_000,
        memory_hz=1_980_000_000,
        temperature_c=41,
        power_w=pytest.approx(123.456),
        throttle=("sw_power_cap", "hw_thermal_slowdown"),
    )


def test_reasons_have_had_another_name(install):
    old = {k: v for k, v in a_gpu().items() if k != "CurrentClocksEventReasons"}
    install(old | {"CurrentClocksThrottleReasons": 1})
    assert gpu.sample().throttle == ("gpu_idle",)
    # a package that knows the new name, with a driver that does not
    install(old | {"CurrentClocksEventReasons": NVMLError(), "CurrentClocksThrottleReasons": 8})
    assert gpu.sample().throttle == ("hw_slowdown",)


def test_reason_names():
    assert gpu.reason_names(0) == ()
    assert gpu.reason_names(0x1FF) == tuple(gpu.REASONS.values())
    assert gpu.reason_names(0x1001) == ("gpu_idle", "0x1000")


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (None, False),
        ([], False),
        (["gpu_idle", "applications_clocks_setting", "sync_boost"], False),
        (["display_clock_setting", "0x1000"], False),
        (["gpu_idle", "sw_thermal_slowdown"], True),
        (["hw_thermal_slowdown"], True),
        (["hw_power_brake_slowdown"], True),
        (["hw_slowdown"], True),
        (["sw_power_cap"], True),
    ],
)
def test_heat_and_power_throttle(reasons, expected):
    assert gpu.throttled(reasons) is expected


@pytest.fixture
def visible_pids(monkeypatch):
    """The processes that exist as far as this one can see."""
    pids: set[int] = set()
    monkeypatch.setattr(gpu.psutil, "pid_exists", pids.__contains__)
    return pids


def test_processes(install):
    install(a_gpu(ComputeRunningProcesses=[running(10), running(12, None)]))
    assert gpu.processes() == [
        {"pid": 10, "name": "python", "bytes": 2**30},
        {"pid": 12, "name": None, "bytes": None},
    ]


def test_processes_of_an_older_driver(install):
    install(
        a_gpu(
            ComputeRunningProcesses=NVMLError("function not found"),
            ComputeRunningProcesses_v2=[running(10)],
        )
    )
    assert [process["pid"] for process in gpu.processes()] == [10]


def test_the_memory_of_a_process_is_summed_over_gpus(install):
    install(
        a_gpu(ComputeRunningProcesses=[running(10, 3), running(11, 5), running(12, None)]),
        a_gpu(ComputeRunningProcesses=[running(10, 4)]),
    )
    assert gpu.process_bytes(10) == 7
    assert gpu.process_bytes(11) == 5
    assert gpu.process_bytes(12) is None  # on the GPU, but the driver does not say how much
    assert gpu.process_bytes(13) is None


def test_others_are_those_that_are_not_ours(install, visible_pids):
    visible_pids |= {10, 11, 12}
    install(a_gpu(ComputeRunningProcesses=[running(10), running(11, 3 * 2**29), running(12, None)]))
    assert gpu.others({10}) == ["pid 11 (trainer, 1.5 GiB)", "pid 12"]
    assert gpu.others({10, 11, 12}) == []


def test_a_process_of_another_pid_namespace_may_be_ours(install, visible_pids):
    # our process 7 is one of the two that the driver calls 4001 and 4002
    install(a_gpu(ComputeRunningProcesses=[running(4001), running(4002)]))
    assert gpu.others({7}) == ["pid 4002 (1.0 GiB)"]
    assert gpu.others({7, 8}) == []
    assert len(gpu.others(set())) == 2

"""What is read about the machine and the run, from given files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import environment, machine, processors

ROOT = Path(__file__).resolve().parent.parent

CPU = "sys/devices/system/cpu"
CPUINFO = """\
processor\t: 0
model name\t: Some CPU @ 2.60GHz
flags\t\t: fpu fma f16c avx2 amx_tile hypervisor avx512f_not

processor\t: 1
model name\t: Another CPU
flags\t\t: fpu
"""
#: /proc and /sys of a virtual machine.
FILES = {
    "proc/cpuinfo": CPUINFO,
    f"{CPU}/cpu0/cache/index0/level": "1\n",
    f"{CPU}/cpu0/cache/index0/type": "Data\n",
    f"{CPU}/cpu0/cache/index0/size": "48K\n",
    f"{CPU}/cpu0/cache/index0/shared_cpu_list": "0,4\n",
    f"{CPU}/cpu0/cache/index10/level": "3\n",
    f"{CPU}/cpu0/cache/index10/type": "Unified\n",
    f"{CPU}/cpu0/cache/index10/size": "2M\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
    f"{CPU}/cpu0/cpufreq/scaling_min_freq": "800000\n",
    f"{CPU}/cpu0/cpufreq/scaling_max_freq": "3600000\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    "sys/class/dmi/id/sys_vendor": "Some Cloud\n",
    "sys/class/dmi/id/product_name": "large\n",
    "sys/devices/system/node/node0/cpulist": "0-3\n",
    "sys/devices/system/node/node1/cpulist": "4-7\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/kernel/mm/transparent_hugepage/defrag": "always defer [defer+madvise] never\n",
    "proc/self/cgroup": "0::/user/job\n",
    "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
    "sys/fs/cgroup/user/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/user/job/memory.max": "1048576\n",
    "sys/fs/cgroup/user/memory.max": "max\n",
    "proc/stat": "cpu  10 0 5 100 50 0 0 25 0 0\ncpu0 1 2\ncpu1 1 2\nprocs_running 3\n",
    "proc/pressure/cpu": "some avg10=12.50 avg60=0.72 avg300=1.08 total=2500000\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty folder in place of `/`; `root(path=text, ...)` writes files below it."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)

    def write(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return write


def describe() -> dict:
    return environment.describe(command=["pytest"], options={"preset": "quick"})


def test_this_machine_is_described_as_json():
    found = describe()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["fingerprint"] == machine.fingerprint(found) == describe()["fingerprint"]
    assert json.dumps(environment.load(), allow_nan=False)
    assert found["preset"] == "quick"


def test_the_processor(root):
    root(FILES)
    found = machine.cpu()
    assert found["model"] == "Some CPU @ 2.60GHz"
    assert found["instruction_sets"] == ["f16c", "fma", "avx2", "amx_tile"]
    assert found["caches"] == {
        "L1d": {"bytes": 48 * 2**10, "shared": "0,4"},
        "L3": {"bytes": 2 * 2**20, "shared": None},
    }
    assert found["governor"] == "powersave"
    assert (found["min_hz"], found["max_hz"]) == (800_000_000, 3_600_000_000)
    assert found["turbo"] is True


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("intel_pstate/no_turbo", "1", False),
        ("cpufreq/boost", "1", True),
        ("cpufreq/boost", "0", False),
        ("cpufreq/boost", "yes", None),
    ],
)
def test_turbo(root, path, text, expected):
    root({f"{CPU}/{path}": text})
    assert machine.cpu()["turbo"] is expected


def test_an_arm_processor(root):
    root({"proc/cpuinfo": "processor : 0\nFeatures : fp asimd sve i8mm bf16\n"})
    assert machine.cpu()["instruction_sets"] == ["asimd", "i8mm", "bf16", "sve"]
    assert machine.virtualisation()["hypervisor"] is None


def test_memory_and_numa(root):
    root(FILES)
    memory = machine.memory()
    assert memory["total_bytes"] >= memory["available_bytes"] > 0
    assert memory["transparent_huge_pages"] == "madvise"
    assert memory["transparent_huge_pages_defrag"] == "defer+madvise"
    assert machine.numa() == {"node0": "0-3", "node1": "4-7"}


DMI = {path: text for path, text in FILES.items() if "dmi" in path}


@pytest.mark.parametrize(
    ("files", "kind", "container"),
    [
        ({}, None, None),
        ({"proc/cpuinfo": "flags : fpu"} | DMI, "physical", None),
        ({"proc/cpuinfo": "flags : hypervisor"}, "virtual", None),
        ({"proc/cpuinfo": "flags : hypervisor"} | DMI, "Some Cloud large", None),
        ({"sys/hypervisor/type": "xen\n"}, "xen", None),
        ({".dockerenv": ""}, None, "docker"),
        ({"run/.containerenv": ""}, None, "podman"),
        ({"proc/self/cgroup": "0::/kubepods/pod1"}, None, "kubepods"),
    ],
)
def test_virtualisation(root, files, kind, container):
    root(files)
    found = machine.virtualisation()
    assert (found["kind"], found["container"]) == (kind, container)


V1 = {
    "proc/self/cgroup": "3:memory:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/\n0::/\n",
    "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "4096\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (FILES, (1.5, 2**20)),  # the quota of the group around it
        (V1, (0.5, 4096)),
        ({}, (None, None)),
        ({**V1, "proc/self/cgroup": "2:cpu:/\n3:memory:/\n"}, (None, None)),
        # in a container, of a group that lies outside of what it sees
        ({**FILES, "proc/self/cgroup": "0::/../../user"}, (1.5, None)),
        ({**FILES, "sys/fs/cgroup/user/cpu.max": "150000 0"}, (None, 2**20)),
        ({**FILES, "sys/fs/cgroup/user/cpu.max": "x"}, (None, 2**20)),
    ],
)
def test_limits_of_control_groups(root, files, expected):
    root(files)
    assert tuple(machine.control_group().values()) == expected


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 64),
     ("9900000 100000", 64)],
)  # fmt: skip
def test_threads_follow_the_quota_of_a_container(root, monkeypatch, quota, cores):
    """`docker run --cpus=2` on 64 cores: two threads, not 64 that are stopped again and again."""
    monkeypatch.setattr(environment.psutil, "cpu_count", lambda logical=True: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(processors, "TOPOLOGY", root({}) / "none")
    root({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota + "\n"})
    assert environment.physical_cores() == cores
    chosen = processors.chosen(environment.physical_cores())
    assert chosen == (list(range(64))[-cores:] if cores < 64 else [])
    seconds, period = quota.split()
    v1 = "sys/fs/cgroup/cpu,cpuacct/docker/1"
    root({
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n",
        f"{v1}/cpu.cfs_quota_us": seconds.replace("max", "-1"), f"{v1}/cpu.cfs_period_us": period,
    })  # fmt: skip
    assert environment.physical_cores() == cores


def test_threads_follow_a_cpuset(root, monkeypatch):
    """The affinity mask has it: two hardware threads of one core are one core."""
    monkeypatch.setattr(environment.psutil, "cpu_count", lambda logical=True: 32)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 35, 4}, raising=False)
    folder = root({
        f"cpu{number}/topology/thread_siblings_list": "3,35\n" for number in (3, 35)
    })  # fmt: skip
    monkeypatch.setattr(processors, "TOPOLOGY", folder)
    assert environment.physical_cores() == 2


def test_the_memory_limit_follows_a_container(root, monkeypatch):
    whole = environment.psutil.virtual_memory().total
    root(FILES)
    assert environment.usable_memory() == 2**20
    root(V1)
    assert environment.usable_memory() == 4096
    root({"proc/self/cgroup": ""})
    assert environment.usable_memory() == whole


CONTROLLERS = Path("/sys/fs/cgroup")


def test_a_real_control_group_is_followed():
    """Version 1 or 2, where this process may make one."""
    unified = (CONTROLLERS / "cgroup.controllers").exists()
    group = CONTROLLERS / ("" if unified else "cpu") / f"assay-test-{os.getpid()}"
    try:
        group.mkdir()
        if unified:
            (group / "cpu.max").write_text("100000 100000")
        else:
            (group / "cpu.cfs_quota_us").write_text("100000")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    code = (
        f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "from harness import environment, machine\n"
        "print(machine.control_group()['cpus'], environment.physical_cores())"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        if "PermissionError" in done.stderr or "OSError" in done.stderr:
            pytest.skip("no process may be put into a control group here")
        assert done.stdout.split() == ["1.0", "1"], done.stderr
    finally:
        group.rmdir()


def everything() -> list:
    parts = (
        machine.cpu,
        machine.memory,
        machine.virtualisation,
        machine.control_group,
        machine.numa,
    )
    return [part() for part in (*parts, environment.load)]


HOSTILE = [
    "",
    "\x00\x1b[2J\r",
    b"\xff\xfe\x80",
    *("9" * length for length in (30, 10_000)),
    *"-1 nan 1e5 ١ K".split(),
    "x" * 2**21,
    ":::\n::\n0::" + "/../x" * 2000,
    "0::/\x00" + "/x" * 1500,
    "cpu cpu cpu cpu cpu cpu cpu cpu cpu",
    "some avg10=nan total=1\nfull avg10=1 total=x",
    "some avg10=0.00 avg60=0.00 avg300=0.00 total=" + "9" * 400,
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_files_are_not_believed(root, content):
    root(dict.fromkeys([*FILES, *V1], content))
    text = json.dumps(everything(), allow_nan=False)
    assert len(text) < 10_000
    assert "\\u001b" not in text
    assert json.dumps(describe(), allow_nan=False)


def test_missing_files_are_none(root):
    assert machine.cpu()["caches"] == {}
    assert machine.cpu()["instruction_sets"] is None
    load = environment.load()
    assert (load["runnable"], load["processors"]) == (None, None)
    assert load["pressure"] == {"cpu": None, "memory": None, "io": None}


def test_folders_in_place_of_files_and_files_in_place_of_folders(root):
    folder = root({f"{CPU}/cpu0/cache": "no folder", "sys/devices/system/node": "no folder"})
    for path in (path for path in FILES if path.startswith("proc")):
        (folder / path).mkdir(parents=True)
    assert machine.cpu()["caches"] == {}
    assert machine.numa() == {}
    assert json.dumps(everything())


def test_functions_of_the_system_may_fail(root, monkeypatch):
    def fails(*_args, **_options):
        raise OSError("no such thing")

    for name in ("cpu_count", "virtual_memory", "swap_memory"):
        monkeypatch.setattr(machine.psutil, name, fails)
    for name in ("getloadavg", "sched_getaffinity", "sysconf"):
        monkeypatch.setattr(os, name, fails)
    found = json.loads(json.dumps(everything()))
    assert found[0]["threads"] is None
    assert found[1]["total_bytes"] is None
    assert environment.load()["load_average"] is None


# -- environment variables -------------------------------------------------------------------------


def test_secrets_do_not_appear(monkeypatch):
    hidden = "hunter2"
    for name in ("TORCH_TOKEN", "JAX_API_KEY", "TF_password", "XLA_SECRET", "CUDA_CREDENTIALS"):
        monkeypatch.setenv(name, hidden)
    monkeypatch.setenv("ONNX_MIRROR", f"https://me:{hidden}@host/path")
    monkeypatch.setenv("ORT_STORE", f"https://host/?token={hidden}")
    monkeypatch.setenv("DATABASE", hidden)
    found = describe()
    assert hidden not in json.dumps(found)
    assert found["variables"]["TORCH_TOKEN"] is None
    assert "DATABASE" not in found["variables"]


def test_variables_that_change_results_are_kept():
    given = {"OMP_NUM_THREADS": "2", "CXX": "g++", "HOME": "/home/x", "XLA_FLAGS": "--a=b --c=d"}
    home = given.pop("HOME")
    assert environment.variables({**given, "HOME": home}) == given


def test_a_value_that_is_not_utf_8_can_be_written():
    found = environment.variables({"TF_X": os.fsdecode(b"\xff")})
    assert found["TF_X"].encode() == b"\\udcff"


# -- load ------------------------------------------------------------------------------------------


def test_load(root, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 50)
    root(FILES)
    found = environment.load()
    assert found["runnable"] == 3
    assert found["processors"] == {"idle_s": 3.0, "steal_s": 0.5, "count": 2}
    assert found["pressure"]["cpu"] == {
        "some": {"avg10": 0.125, "total_s": 2.5},
        "full": {"avg10": 0.0, "total_s": 0.0},
    }
    assert found["pressure"]["memory"] is None


def state(steal, pressed) -> dict:
    return {
        "processors": {"steal_s": steal, "count": 4},
        "pressure": {"cpu": {"some": {"total_s": pressed}}},
    }


@pytest.mark.parametrize(
    ("before", "after", "seconds", "expected"),
    [
        (state(1, 10), state(3, 11), 5, {"steal_share": 0.1, "cpu_pressure_share": 0.2}),
        (state(None, 10), state(3, 11), 5, {"cpu_pressure_share": 0.2}),
        (state(1, 10), state(3, "11"), 5, {"steal_share": 0.1}),
        (state(3, 11), state(1, 10), 5, {}),  # counters that went back
        (state(1, 10), state(3, 11), float("nan"), {}),
        (state(1, 1), {"processors": None, "pressure": {"cpu": None}}, 5, {}),
    ],
)
def test_conditions_between(before, after, seconds, expected):
    assert environment.conditions_between(before, after, seconds) == pytest.approx(expected)

"""The judge's own trial: liveness, the confusion table, the calibration."""

import dataclasses
import math
from contextlib import nullcontext

import numpy as np
import pytest

from adapters.faults import FAULTS
from adapters.registry import ORACLE
from harness import self_test as trials
from harness.client import WorkerFailure
from harness.pool import Role
from harness.protocol import load_tensors
from harness.requests import Requests
from harness.self_test import Plan, Run, SelfTest, Subject
from numerics import __main__ as command
from numerics import calibrate, judge, self_test
from numerics.calibrate import CalibrationError
from numerics.errors import normwise
from numerics.self_test import Findings, Movement, Planting, Row
from results.records import Agreement, Case, encode

X = np.array([3.0, 4.0])
LIVE, DEAD = Movement("output", 1e-3, 1e7), Movement("none", 0.0, 0.0)


def row(kind="honest", name="0", ratio=1.0, **more):
    told = {"adapter": "a", "model": "mlp", "mode": "train", "recipe": "", "precision": "fp32",
            "quantity": "gradient", "tensor": "w", "error": 1e-6, "floor": 1e-7,
            "verdict": judge.verdict_of(ratio or 0)}  # fmt: skip
    return Row(**{**told, "kind": kind, "name": name, "ratio": ratio, **more})


def planting(fault="f", adapter="a", *, movement=LIVE, **more):
    return Planting(fault, adapter, "mlp", "train", movement, **more)


# -- liveness --------------------------------------------------------------------------------------


def test_a_fault_that_moves_a_tensor_is_live():
    clean = {"output": X, "loss": np.array(1.0)}
    found = self_test.movement(clean, {**clean, "output": X * (1 + 1e-9)}, {})
    assert found.is_live
    assert found.tensor == "output"
    assert found.error == pytest.approx(1e-9)


def test_a_fault_that_moves_nothing_or_no_more_than_rounding_does_is_dead():
    clean = {"output": X}
    assert not self_test.movement(clean, clean, {}).is_live
    assert not self_test.movement(clean, {"output": X * (1 + 1e-11)}, {}).is_live
    moved = {"output": X * (1 + 1e-9)}
    assert not self_test.movement(clean, moved, {"output": 0.1}).is_live  # 20 x 0.1 x 2^-29


def test_the_odd_one_out_of_a_consensus_is_named():
    members = {"a": {"output": X}, "b": {"output": X}, "c": {"output": X * (1 + 1e-7)}}
    reference, odd, problem = self_test.odd_ones(members, {})
    assert reference is not None
    assert (odd, problem) == ({"c"}, "")
    reference, _, problem = self_test.odd_ones({n: members[n] for n in "ac"}, {})
    assert reference is None
    assert "a and c differ in output output" in problem


# -- the table -------------------------------------------------------------------------------------


def test_the_table_counts_both_ways_to_be_wrong():
    found = Findings(
        [row(), row(name="1", ratio=30.0), row("control", "ulp"), row("fault", "f", ratio=99.0)],
        [
            planting(caught=("fp64", "fp32")),
            planting("weak", "b", caught=("fp64",)),
            planting("missed", "c", accused=("a",)),
            planting("dead", "d", movement=DEAD),
        ],
        ["a mlp gone: crashed"],
    )
    lines = self_test.table(found)
    counts = [line.split()[-2:] for line in lines[1:5]]
    assert counts == [["2", "1"], ["1", "1"], ["0", "1"], ["1", "3"]]
    text = "\n".join(lines)
    for told in (
        "fp64 caught 2 of 3", "fp32 caught 1 of 3", "only fp64 caught: weak", "missed: missed in c",
        "mistrusted for it): dead in mlp", "wrongly accused: a by missed", "honest 1 a mlp",
        "ended in an error: a mlp gone: crashed",
    ):  # fmt: skip
        assert told in text


def test_what_cannot_be_judged_counts_as_a_false_alarm():
    found = Findings([row(verdict="mistrusted")], [])
    assert found.false_alarms("honest") == [row().run]


def test_rows_survive_their_file(tmp_path):
    rows = [row(), row("fault", "f", ratio=None, floor=None, error=math.inf, precision="fp64")]
    self_test.write(tmp_path / "rows.csv", rows)
    assert self_test.read(tmp_path / "rows.csv") == rows
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has columns"):
        self_test.read(tmp_path / "other.csv")


# -- what is run -----------------------------------------------------------------------------------


class Worker:
    """A client of an adapter that can do what `modes` says, and keeps what it was asked."""

    def __init__(self, asked, modes):
        self._asked, self._modes = asked, modes

    def request(self, name, **more):
        mode = more["spec"]["mode"] if "spec" in more else None
        if mode is not None and mode not in self._modes:
            raise WorkerFailure("unsupported", f"no {mode}")
        fault = more["spec"]["fault"] if mode else more.get("fault")
        self._asked.append((name, fault) if fault is not None else (name,))
        if name == "agree":
            np.savez(more["out"], output=X)
        return {}


@pytest.fixture
def trial(toys, monkeypatch):
    """A trial of workers that all give the same tensors, and what these were asked."""
    asked = {}

    class Lanes:
        def worker(self, adapter):
            modes = ("infer",) if adapter == "small" else ("train", "infer")
            return nullcontext(Worker(asked.setdefault(adapter, []), modes))

    def make(*adapters, faults=("gelu_tanh", "bias_zeroed"), thorough=False):
        plan = Plan(adapters, adapters[:2], ("mlp",), faults, 2, thorough)
        return SelfTest(toys, Lanes(), plan), asked

    monkeypatch.setattr(trials, "load_tensors", lambda path: dict(np.load(path)))
    return make


def test_a_seed_or_a_fault_of_data_compiles_nothing(trial):
    test, asked = trial("one", "two", faults=("bias_zeroed",))
    test._trains, test._infers = ["one"], []
    runs = [Run(Subject("mlp"), "one", "fp64", seed) for seed in (0, 1)]
    runs.append(Run(Subject("mlp"), "one", "fp64", fault="bias_zeroed"))
    runs.append(Run(Subject("mlp"), "one", "fp64", fault="loss_sum"))
    test._run_all(runs)
    assert [words for words in asked["one"] if words != ("agree",)] == [
        ("build", ""), ("reload", ""), ("reload", "bias_zeroed"), ("build", "loss_sum"),
    ]  # fmt: skip
    assert asked["one"].count(("agree",)) == 4


def test_a_reloaded_program_has_other_tensors_and_perhaps_a_fault(toys, tmp_path):
    case = Subject("mlp", "infer").case("backend", "fp64")
    worker = Requests("tests.toys.backend")
    inputs = [str(toys.inputs(case, seed=seed)) for seed in (0, 1)]

    def output():
        worker.agree(steps=[1], out=str(tmp_path / "t.npz"))
        return load_tensors(tmp_path / "t.npz")["output"]

    worker.build(spec=toys.spec(case, Role("backend", "judge")), inputs=inputs[0])
    sound = output()
    worker.reload(fault="weight_scaled", inputs=inputs[0])
    assert 1e-6 < normwise(output(), sound) < 1e-4
    worker.reload(fault="data_order", inputs=inputs[0])
    np.testing.assert_allclose(output(), np.roll(sound, 1, axis=0), rtol=1e-12)
    worker.reload(fault="", inputs=inputs[1])
    assert normwise(output(), sound) > 0.1
    worker.reload(fault="", inputs=inputs[0])
    np.testing.assert_array_equal(output(), sound)
    with pytest.raises(ValueError, match="loss_sum is a fault of the program"):
        worker.reload(fault="loss_sum", inputs=inputs[0])


def test_each_fault_is_planted_once_in_turn_or_everywhere(trial):
    names = ("bias_zeroed", "weight_scaled", "loss_sum", "gelu_tanh")
    for thorough, wanted in ((False, 4), (True, 3 + 3 + 2 + 3)):
        test, _ = trial("one", "two", "small", faults=names, thorough=thorough)
        test._trains, test._infers = ["one", "two"], ["small"]
        planted = test._assigned()
        assert len(planted) == wanted
        assert {name for name, _ in planted} == set(names)
        assert ("loss_sum", "small") not in planted  # inference has no loss


def test_two_members_cannot_tell_who_is_wrong(trial):
    for adapters, there in ((("one", "two", "small"), "one, two"), (("small",), "none")):
        test, _ = trial(*adapters)
        with pytest.raises(WorkerFailure, match=f"to tell who is wrong: {there}"):
            test.run()


def test_only_models_with_faults_are_tried(trial):
    plan = Plan.of(ORACLE, ["gpt", "mlp", "moe", "vit"], thorough=False)
    assert plan.models == ["mlp", "vit"]
    assert {FAULTS[name].model for name in plan.faults} == {"mlp", "vit"}
    test, _ = trial("one", "two", "small", faults=())
    with pytest.raises(WorkerFailure, match="and none of these is selected"):
        test.run()


# -- calibration -----------------------------------------------------------------------------------


def ratios(honest=10.0, faults=(40.0, 5.0)):
    return [
        row(ratio=2.0), row(ratio=honest, tensor="b"), row(name="1", ratio=3.0),
        row(ratio=1e9, verdict="null-gradient"), row(ratio=1e9, precision="fp64"),
        row("dead", "clip", ratio=1.0), row("weak", "slight", ratio=11.0),
        *(row("fault", f"fault {i}", ratio=ratio) for i, ratio in enumerate(faults)),
    ]  # fmt: skip


@pytest.fixture
def files(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{calibrate.START}\nold\n{calibrate.END}\n\nafter\n")
    return tmp_path / "run.csv", tmp_path / "kept.csv", page


def test_the_bound_is_the_geometric_mean_of_the_two_sides():
    found = calibrate.calibrate(ratios())
    assert found.bound == pytest.approx(20.0)
    assert found.gap == pytest.approx(4.0)
    assert found.fine
    assert [r.name for r in found.below] == ["fault 1"]
    assert [r.name for r in found.weak] == ["slight"]


def test_a_fault_counts_with_the_run_that_shows_it_least():
    rows = [*ratios(), row("fault", "fault 0", ratio=12.0, adapter="b")]
    found = calibrate.calibrate(rows)
    assert found.above[0].ratio == 12.0
    assert not found.fine
    assert calibrate.calibrate(calibrate.compact(rows)) == found


def test_calibrating_writes_between_the_markers_and_keeps_the_ratios(files, capsys):
    run, kept, page = files
    self_test.write(run, ratios())
    assert calibrate.main(run, ratios=kept, page=page) == 0
    text = page.read_text()
    assert text.startswith(f"before\n\n{calibrate.START}\n\n| float32")
    assert text.endswith(f"\n\n{calibrate.END}\n\nafter\n")
    assert "old" not in text
    assert "only float64 shows: fault 1 (5)." in text
    assert "set no bound: slight (11). If they did, the gap would be 1.1." in text
    assert calibrate.main(None, ratios=kept, page=page) == 0
    assert page.read_text() == text
    assert "| geometric mean | 20 |" in capsys.readouterr().out


def test_a_narrow_gap_refuses_to_judge(files, capsys):
    run, kept, page = files
    self_test.write(run, ratios(honest=10.0, faults=(19.0,)))
    assert calibrate.main(run, ratios=kept, page=page) == 1
    assert "refuse to judge: the gap is 1.9, but should be at least 2" in capsys.readouterr().out


def test_there_has_to_be_something_to_calibrate_with(files):
    with pytest.raises(CalibrationError, match="no honest runs"):
        calibrate.calibrate([row("fault", "f", ratio=9.0)])
    with pytest.raises(CalibrationError, match="no faults"):
        calibrate.calibrate([row()])
    with pytest.raises(CalibrationError, match="no fault is above"):
        calibrate.calibrate(ratios(faults=(1.0,)))
    _, _, page = files
    page.write_text("no markers")
    with pytest.raises(CalibrationError, match="to write between"):
        calibrate.rewrite(page, [])


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert command.main(["calibrate", "--from", str(tmp_path / "none.csv")]) == 2
    self_test.write(tmp_path / "rows.csv", [row()])
    assert command.main(["calibrate", "--from", str(tmp_path / "rows.csv")]) == 3
    assert "no faults in fp32" in capsys.readouterr().err


def test_the_bound_in_use_lies_in_the_gap_that_was_recorded():
    rows = self_test.read(calibrate.RATIOS)
    found = calibrate.calibrate(rows)
    assert found.fine
    assert (found.honest.ratio or 0) < judge.PRECISION_EQUAL < (found.above[0].ratio or 0)
    planted = {r.name: r.kind == "weak" for r in rows if r.kind in calibrate.PLANTED}
    assert planted == {name: FAULTS[name].weak for name in planted}


def agreement(**changes):
    case = Case("operations", "train", "gelu", "tiny", "jax_jit", "cpu", "fp32", 1)
    case = dataclasses.replace(case, **{k: v for k, v in changes.items() if hasattr(case, k)})
    told = {"ratio": 10.0, "verdict": "precision-equal"} | {
        k: v for k, v in changes.items() if not hasattr(case, k)
    }
    return encode(Agreement(case, "gradient", "tail: x", 6e-7, 6e-8, reference="numpy", **told))


def test_honest_programs_of_a_run_count_with_their_largest_ratio(tmp_path):
    path = tmp_path / "records.jsonl"
    lines = [
        agreement(),
        agreement(ratio=4.0, verdict="rounding-equal"),
        agreement(adapter="torch_eager", ratio=2.0, verdict="rounding-equal"),
        agreement(ratio=300.0, verdict="deviation"),
        agreement(ratio=300.0, verdict="divergent"),
        agreement(precision="bf16", ratio=15.0),
        agreement(ratio=None, verdict="bitwise"),
    ]
    path.write_text("\n".join(lines))
    found = calibrate.honest(path)
    assert [(row.adapter, row.ratio) for row in found] == [("torch_eager", 2.0), ("jax_jit", 10.0)]
    assert {row.kind for row in found} == {"honest"}

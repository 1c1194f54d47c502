"""What references took long to compute is found again, and never wrongly."""

import numpy as np
import pytest

from harness import memo
from harness.memo import Memo, digest
from harness.protocol import save_tensors

VALUE = {"a": np.arange(3.0)}


class Maker:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return VALUE


@pytest.fixture
def make():
    return Maker()


def test_a_question_is_answered_once(tmp_path, make):
    for _ in range(2):
        found = Memo(tmp_path, {"torch": "2"}).get({"case": 1}, make)
        np.testing.assert_array_equal(found["a"], VALUE["a"])
    assert make.calls == 1


@pytest.mark.parametrize(("about", "question"), [({"torch": "3"}, 1), ({"torch": "2"}, 2)])
def test_another_question_or_version_is_computed_anew(tmp_path, make, about, question):
    Memo(tmp_path, {"torch": "2"}).get({"case": 1}, make)
    Memo(tmp_path, about).get({"case": question}, make)
    assert make.calls == 2


def test_changed_sources_are_another_question(tmp_path, make, monkeypatch):
    Memo(tmp_path, {}).get({"case": 1}, make)
    monkeypatch.setattr(memo, "_digest_of_sources", lambda: "changed")
    Memo(tmp_path, {}).get({"case": 1}, make)
    assert make.calls == 2


@pytest.mark.parametrize("damage", [b"", b"not an archive", None])
def test_a_damaged_file_is_computed_anew(tmp_path, make, damage):
    kept = Memo(tmp_path, {})
    kept.get({}, make)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    np.testing.assert_array_equal(kept.get({}, make)["a"], VALUE["a"])
    assert make.calls == 2


def test_without_a_folder_or_where_nothing_can_be_written_nothing_is_kept(tmp_path, make):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for kept in (Memo(None, {}), Memo(blocked / "folder", {})):
        assert kept.get({}, make) is VALUE
    assert make.calls == 2


def test_the_last_space_of_a_disk_is_left_to_results(tmp_path, make, monkeypatch):
    monkeypatch.setattr(memo, "LEFT_BYTES", 2**62)
    for _ in range(2):
        Memo(tmp_path, {}).get({}, make)
    assert make.calls == 2


def test_the_least_recently_used_are_thrown_away(tmp_path, make, monkeypatch):
    first = Memo(tmp_path, {})
    for number in range(4):
        first.get({"case": number}, make)
    size = next(tmp_path.glob("*.npz")).stat().st_size
    monkeypatch.setattr(memo, "LIMIT_BYTES", 2 * size)
    Memo(tmp_path, {})
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_the_digest_of_inputs_is_that_of_their_values(tmp_path):
    def of(**tensors):
        path = tmp_path / "t.npz"
        save_tensors(path, tensors)
        return digest(path)

    a, b = np.ones(2), np.zeros(2)
    assert of(a=a, b=b) == of(b=b, a=a)
    assert len({of(a=a, b=b), of(a=b, b=a), of(a=a), of(a=a.astype("float32"), b=b)}) == 4

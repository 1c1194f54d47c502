"""The choice of exercises for adapters that take long to start a program."""

import pytest

from suites.conformance import essentials, mistakes
from suites.conformance.operations import exercises

SUBJECTS = sorted({exercise.subject for exercise in exercises()})


def test_the_cover_is_of_everything_and_prefers_what_notices_more_and_then_what_is_smaller():
    notices = {"a": {1, 2}, "b": {2, 3, 4}, "c": {1, 2}, "d": {4}, "e": set()}
    assert essentials.cover(notices, dict.fromkeys(notices, 1) | {"a": 2}) == ["b", "c"]
    assert essentials.cover({"a": set()}, {"a": 1}) == []


@pytest.mark.parametrize("subject", ["relu", "max", "softmax", "where", "slice"])
def test_what_was_chosen_notices_every_mistake_that_anything_notices(subject):
    for mode, notices in essentials.noticed(subject).items():
        asked = [e for e in exercises() if e.subject == subject and e.name in notices]
        chosen = [exercise.name for exercise in essentials.fewest(mode, asked)]
        assert set().union(*(notices[name] for name in chosen)) == set().union(*notices.values())
        assert len(chosen) < len(asked)
        noticed = [len(notices[name]) for name in chosen]
        assert noticed[0] == max(map(len, notices.values()))


def test_every_kind_of_mistake_is_noticed_somewhere():
    """One that nothing notices would decide nothing: it would be planted in vain."""
    left = set(mistakes.KINDS)
    for subject in ("softmax", "max", "layer_norm", "matmul", "exp"):
        left -= set().union(*essentials.noticed(subject)["infer"].values())
        left -= set().union(*essentials.noticed(subject)["train"].values())
    assert left == set()


def test_the_choice_is_that_of_today_s_tables():
    """It names exercises that there are, of every operation: after a change of the tables,
    `python -m suites.conformance.essentials` makes it anew."""
    chosen = essentials.stored()
    assert sorted(chosen) == SUBJECTS
    for subject, by_mode in chosen.items():
        names = {e.name for e in exercises() if e.subject == subject}
        differentiated = {e.name for e in exercises() if e.subject == subject and e.by}
        assert set(by_mode["infer"]) <= names, subject
        assert set(by_mode.get("train", ())) <= differentiated, subject
        assert by_mode["infer"], subject


def test_an_exercise_that_is_not_among_the_chosen_is_not_asked():
    asked = [e for e in exercises() if e.subject == "conv2d"]
    fewest = essentials.fewest("infer", asked)
    assert 1 < len(fewest) < len(asked)
    assert [e.name for e in fewest] == essentials.stored()["conv2d"]["infer"]

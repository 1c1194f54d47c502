"""Lines that no writer wrote become readable problems, never a crash."""

import json

import pytest

from results import store
from results.records import RecordError, decode, encode
from tests import sample_run

GOOD = next(r for r in sample_run.records(hostile=False) if type(r).__name__ == "Measurement")


def line(**changes) -> str:
    return json.dumps(json.loads(encode(GOOD)) | changes)


def case(**changes) -> dict:
    return {"case": json.loads(encode(GOOD))["case"] | changes}


HOSTILE_LINES = {
    "a kind that is a list": line(kind=["measurement"]),
    "a recipe that is a list": line(**case(recipe=[])),
    "a huge batch": line(**case(batch=2**70)),
    "a batch that is true": line(**case(batch=True)),
    "a huge value": line(values=[10**400]),
    "a negative time": line(values=[-1.0]),
    "a value that is NaN": line(values=["NaN"]),
    "a process that is a name": line(process="first"),
    "a negative process": line(process=-1),
    "no steps": line(steps_per_round=0),
    "a flag that is a number": line(flags=[1]),
    "facts that are a list": json.dumps({"kind": "facts", "schema": 1, **case(), "facts": []}),
    "half a character": line(**case(model="\ud800")),
    "too deep": "[" * 100_000,
    "a newer schema": line(schema=99),
    "a field too many": line(extra=1),
    "not JSON": "<script>",
    "an array": "[]",
}


@pytest.mark.parametrize("text", HOSTILE_LINES.values(), ids=HOSTILE_LINES.keys())
def test_a_hostile_line_is_refused_with_a_reason(text):
    with pytest.raises(RecordError, match=r"."):
        decode(text)


def test_a_good_line_is_not():
    assert decode(line()) == GOOD
    assert decode(line(**case(model="\ud83e\uddea"))).case.model == "🧪"


def test_a_file_full_of_them_is_read_to_its_end(tmp_path):
    folder = sample_run.write(tmp_path, hostile=False)
    count = len(store.read(folder).records)
    with (folder / store.RECORDS).open("a") as file:
        file.write("\n".join([*HOSTILE_LINES.values(), line(process=9)]) + "\n")
    run = store.read(folder)
    assert len(run.records) == count + 1
    assert len(run.problems) == len(HOSTILE_LINES)

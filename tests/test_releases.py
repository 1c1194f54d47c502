"""Releases that are known to be bad: the file, and where people are told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from adapters import releases
from reports import page
from results.store import Run
from tests.test_adapters_command import run, toys

ROOT = Path(__file__).resolve().parent.parent
ENTRY = """
[[release]]
distribution = "numpy"
versions = ">=1"
wrong = "adds up backwards"
instead = ""
link = "https://example.org/1"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "known_bad.toml"
    path.write_text(ENTRY)
    return path


def test_a_release_is_told_from_those_before_and_after():
    (told,) = releases.bad({"jaxlib": "0.10.2"})
    assert told.startswith("jaxlib 0.10.2 is known to be bad: ")
    assert told.endswith(
        "0.10.1 does not have it (https://github.com/jax-ml/jax/issues/39103)"
    )  # fmt: skip
    for version in ("0.10.1", "0.10.3", "1.0", "not a version", None):
        assert releases.bad({"jaxlib": version}) == []
    assert releases.bad({"numpy": "0.10.2"}) == []


def test_versions_are_those_of_the_metadata_and_no_framework_is_imported(file):
    import numpy

    assert releases.installed(path=file) == [{"numpy": numpy.__version__}]
    code = "import sys; from adapters import releases; releases.warnings(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "adapters.releases" in loaded
    assert not {"jax", "jaxlib", "torch", "tensorflow", "onnxruntime", "numpy"} & set(loaded)


def test_another_interpreter_is_asked_and_one_that_does_not_answer_is_left_out(file, tmp_path):
    other = tmp_path / "python"  # another name of this one
    other.symlink_to(sys.executable)
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    _, told, nothing = releases.installed([str(other), str(broken)], path=file)
    assert nothing == {}
    assert set(told) <= {"numpy"}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('versions = ">=1"', 'versions = "newer"', "Invalid specifier"),
        ('wrong = "adds up backwards"', 'wrong = ""', "wrong is ''"),
        ('link = "https://example.org/1"', "", "but should have distribution, versions"),
        ('instead = ""', 'instead = "2.0"', "2.0 is instead of >=1"),
        ("[[release]]", "[[release", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(file, old, new, problem):
    file.write_text(ENTRY.replace(old, new))
    with pytest.raises(releases.ReleaseError, match=r"known_bad\.toml") as error:
        releases.known(file)
    assert problem in str(error.value)


BAD = """
from tests.toys import backend


class Adapter(backend.Adapter):
    def versions(self):
        return {"numpy": "2.0", "jaxlib": "0.10.2"}
"""


def test_the_list_warns(tmp_path, monkeypatch):
    (tmp_path / "bad_release.py").write_text(BAD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options = [
        "--adapter-module=bad_release",
        "--adapters=bad_release,backend",
        *toys("backend")[:1],
    ]
    (bad, good) = json.loads(run("list", "--json", *options).stdout)["adapters"]
    assert [len(bad["known_bad"]), good["known_bad"]] == [1, []]
    told = " ".join(run("list", *options).stdout.split())
    assert "warning, bad_release: jaxlib 0.10.2 is known to be bad" in told


def test_the_site_warns():
    sentence = "jaxlib 0.10.2 is known to be bad: <b>"
    told = Run("r", Path("r"), {"known_bad": [sentence]}, ())
    assert "jaxlib 0.10.2 is known to be bad: &lt;b&gt;" in page.render([told])
    for hostile in (None, 7, "text", [None, 3], {}):
        page.render([Run("r", Path("r"), {"known_bad": hostile}, ())])

"""The action and the recipes of the manual are what GitHub and GitLab accept."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = [
    block
    for page in ("ci", "publish")
    for block in re.findall(
        r"```(yaml|toml|bash)\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.S
    )
]


def linted(schema, path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def yaml_blocks():
    return [text for kind, text in BLOCKS if kind == "yaml"]


@pytest.mark.parametrize("number", range(len(yaml_blocks())))
def test_a_recipe_fits_its_schema(number, tmp_path):
    text = yaml_blocks()[number]
    path = tmp_path / "recipe.yml"
    path.write_text(text)
    github = text.startswith("name:")
    code, told = linted(f"vendor.{'github-workflows' if github else 'gitlab-ci'}", path)
    assert code == 0, told


def test_the_action_fits_its_schema():
    code, told = linted("vendor.github-actions", ROOT / "action.yml")
    assert code == 0, told


def test_a_wrong_workflow_is_found(tmp_path):
    path = tmp_path / "recipe.yml"
    path.write_text("name: x\non: push\njobs:\n  a:\n    steps: 3\n")
    assert linted("vendor.github-workflows", path)[0] != 0


def test_inputs_that_recipes_give_are_those_that_the_action_takes():
    action = (ROOT / "action.yml").read_text()
    taken = set(re.findall(r"^  ([a-z-]+):\n    description", action, re.M))
    for text in yaml_blocks():
        for given in re.findall(r"uses: \./\n\s+with:\n((?:\s{10}.+\n)+)", text):
            assert {line.split(":")[0].strip() for line in given.splitlines()} <= taken


def test_the_shell_of_the_action_and_of_the_recipe_is_correct(tmp_path):
    action = (ROOT / "action.yml").read_text()
    scripts = [
        m.replace("\n        ", "\n") for m in re.findall(r"run: \|\n((?: {8}.*\n)+)", action)
    ]
    scripts += [text for kind, text in BLOCKS if kind == "bash"]
    assert len(scripts) == 3
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_the_policy_of_the_manual_is_one(tmp_path):
    from results.policy import read

    (text,) = [text for kind, text in BLOCKS if kind == "toml"]
    path = tmp_path / "gate.toml"
    path.write_text(text)
    assert read(path).everything["counts"] is None

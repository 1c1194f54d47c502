"""Names of adapters and models, and what is said about a wrong one."""

import pytest

from adapters.registry import BUILT_IN, ORACLE, Registry, UnknownName, choose


def test_built_in_adapters_are_modules_of_their_name():
    registry = Registry.load()
    assert registry.module("jax_jit") == "adapters.jax_jit"
    assert set(BUILT_IN) <= set(registry.modules)
    assert set(ORACLE) <= set(BUILT_IN)
    assert registry.module("torch_native") == "adapters.controls.torch_native"


def test_an_installed_entry_point_is_an_adapter(tmp_path, monkeypatch):
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[assay.adapters]\ntoy = toy_package.backend\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert Registry.load().module("toy") == "toy_package.backend"


def test_a_module_is_known_by_its_last_part_and_wins():
    registry = Registry.load(["somewhere.jax_jit", "elsewhere.mine"])
    assert registry.module("jax_jit") == "somewhere.jax_jit"
    assert registry.select(["mine"]) == ["mine"]


def test_nothing_wanted_is_everything():
    assert choose("model", [], ["a", "b"]) == ["a", "b"]
    assert choose("model", ["b"], ["a", "b"]) == ["b"]


def test_an_unknown_name_is_told_with_the_valid_ones():
    with pytest.raises(UnknownName) as caught:
        choose("model", ["vitt"], ["convnet", "vit"])
    told = "unknown model 'vitt': there are convnet, vit; did you mean 'vit'?"
    assert str(caught.value) == told
    with pytest.raises(UnknownName, match=r"there are convnet, vit$"):
        choose("model", ["xyz"], ["convnet", "vit"])

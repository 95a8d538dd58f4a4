import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from dat_runtime.errors import DataError  # noqa: E402
from export.forms.checkpoint import convert, tensor_names, weight_files  # noqa: E402


def two_files(folder: Path) -> Path:
    from safetensors.torch import save_file

    folder.mkdir()
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, folder / "model-1.safetensors")
    save_file({"c": torch.ones(4)}, folder / "model-2.safetensors")
    places = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    index = {"metadata": {"total_size": 36}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "code.py").write_text("import os")
    return folder


def test_files_are_changed_one_by_one_and_what_is_there_is_kept(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    source, said = two_files(tmp_path / "source"), []
    target = tmp_path / "target"
    target.mkdir()
    (target / "model-1.safetensors").write_bytes((source / "model-1.safetensors").read_bytes())
    convert(source, target, lambda n, w: {n: w * 2, f"{n}_scale": w[:1]}, said.append)
    assert said == ["file 1 of 2 is there already", "file 2 of 2 written"]
    assert load_file(target / "model-1.safetensors")["a"].tolist() == [1, 1]
    assert load_file(target / "model-2.safetensors")["c"].tolist() == [2] * 4
    index = json.loads((target / "model.safetensors.index.json").read_text())
    assert index["weight_map"]["c_scale"] == "model-2.safetensors"
    assert tensor_names(target) == {"a", "b", "c", "c_scale"}
    assert sorted(p.name for p in target.iterdir()) == [
        *("model-1.safetensors", "model-2.safetensors"),
        *("model.safetensors.index.json", "tokenizer.json"),
    ]


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither model\.safetensors nor"):
        weight_files(tmp_path)

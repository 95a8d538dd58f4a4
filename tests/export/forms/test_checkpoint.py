import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from dat_runtime.errors import DataError  # noqa: E402
from export.forms.checkpoint import (  # noqa: E402
    BESIDE,
    convert,
    model_folder,
    tensor_names,
    weight_files,
    write_config,
)


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
    words = rf"^{tmp_path}: holds neither model\.safetensors nor model\.safetensors\.index\.json$"
    with pytest.raises(DataError, match=words):
        weight_files(tmp_path)


def test_one_file_needs_no_index_and_is_readable_by_others(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    source, target, said = tmp_path / "source", tmp_path / "target", []
    for folder in (source, target):
        folder.mkdir()
    save_file({"a": torch.ones(2)}, source / "model.safetensors")
    for name in BESIDE:
        (source / name).write_text(name)
    convert(source, target, lambda n, w: {n: w}, said.append)
    assert said == ["file 1 of 1 written"]
    assert weight_files(target) == ["model.safetensors"]
    assert sorted(p.name for p in target.iterdir()) == sorted([*BESIDE, "model.safetensors"])
    assert all((target / name).read_text() == name for name in BESIDE)
    assert (target / "model.safetensors").stat().st_mode & 0o777 == 0o644
    with safe_open(target / "model.safetensors", "pt") as tensors:
        assert tensors.metadata() == {"format": "pt"}


def test_an_index_says_which_file_holds_what_and_how_much_all_are(tmp_path: Path) -> None:
    source, target = two_files(tmp_path / "source"), tmp_path / "target"
    target.mkdir()
    convert(source, target, lambda n, w: {n: w}, lambda _: None)
    index = json.loads((target / "model.safetensors.index.json").read_text())
    files = ("model-1.safetensors", "model-2.safetensors")
    assert index == {
        "metadata": {"total_size": sum((target / file).stat().st_size for file in files)},
        "weight_map": {"a": files[0], "b": files[0], "c": files[1]},
    }
    assert weight_files(target) == list(files)


def test_a_configuration_is_copied_with_its_changes(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    for folder in (source, target):
        folder.mkdir()
    (source / "config.json").write_text('{"x": 1, "y": 2}')
    write_config(source, target, y=3, z=None)
    assert (target / "config.json").read_text() == '{\n  "x": 1,\n  "y": 3,\n  "z": null\n}\n'


def test_a_model_is_a_folder_or_comes_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, dict[str, object]]] = []

    def fetch(name: str, **options: object) -> str:
        asked.append((name, options))
        if name == "a/none":
            raise OSError("no such model")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert model_folder(str(tmp_path), "main") == tmp_path
    assert asked == []
    assert model_folder("a/b", "main") == tmp_path
    wanted = ["*.safetensors", "model.safetensors.index.json", "config.json", *BESIDE]
    assert asked == [("a/b", {"revision": "main", "allow_patterns": wanted})]
    words = r"^a/none is no folder and cannot be fetched \(no such model\)$"
    with pytest.raises(DataError, match=words):
        model_folder("a/none", None)

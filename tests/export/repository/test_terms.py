"""The terms of a bundle: its figures, its modules, and which base it is of."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.edge.updates.offer import Terms, gate_digest
from dat_runtime.edge.updates.processor import processor_digest
from dat_runtime.errors import ConfigError, DataError, ModelError
from dat_runtime.manifest import VERSIONS, Manifest
from dat_runtime.stage import Stage
from export.repository import terms
from export.repository.terms import MOST_BYTES, read_metrics, terms_of
from tests.conftest import lora_tensors, safetensors


def scores(folder: Path, value: object) -> Path:
    path = folder / "scores.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_figures_come_without_their_intervals(tmp_path: Path) -> None:
    told = {
        "n": 40,
        "sev_f1": {"value": 0.9, "low": 0.8, "high": 1.0},
        "bbox_miou": {"value": None},
        "missing": None,
        "empty": {},
        "least": -1e300,
    }
    assert read_metrics(scores(tmp_path, told)) == {"n": 40, "sev_f1": 0.9, "least": -1e300}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "is no scores.json of eval.score"),
        ({"x": 1}, "has no n: it is no scores.json of eval.score"),
        ({"n": "many"}, "n is 'many', expected a number from -1e+300 to 1e+300"),
        ({"n": 1, "x": {"value": True}}, "x is True, expected a number from -1e+300 to 1e+300"),
        ('{"n": 1, "n": 2}', "is not JSON (duplicate key)"),
        (" " * (MOST_BYTES + 1), "larger than 1,048,576 bytes"),
    ],
    ids=["a list", "no n", "a text", "a flag", "twice", "too large"],
)
def test_what_is_no_scores_is_refused(tmp_path: Path, value: object, words: str) -> None:
    path = scores(tmp_path, value)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {words}')}$"):
        read_metrics(path)


def test_scores_that_are_missing_say_what_makes_them(tmp_path: Path) -> None:
    words = f"^{tmp_path}/none: is missing: make eval makes it, or eval.score$"
    with pytest.raises(DataError, match=words):
        read_metrics(tmp_path / "none")


def adapter(folder: Path, alpha: object = 4) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(safetensors(lora_tensors()))
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha, "more": 1}))
    return folder


def test_alpha_and_modules_are_the_adapter_s(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    assert terms._alpha(folder / "adapter_config.json") == 4
    assert terms._modules(folder / "adapter_model.safetensors") == ("q_proj",)
    path = adapter(tmp_path / "b", 0) / "adapter_config.json"
    words = f"{path}: lora_alpha is 0, expected a number above 0 up to 1e+06"
    with pytest.raises(DataError, match=f"^{re.escape(words)}$"):
        terms._alpha(path)
    path.write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(DataError, match="larger than 1,048,576 bytes"):
        terms._alpha(path)
    for name, content in (("none", None), ("short", b"x")):
        weights = tmp_path / name
        if content is not None:
            weights.write_bytes(content)
        with pytest.raises(ModelError, match=f"^{weights}: "):
            terms._modules(weights)


def test_the_terms_are_those_of_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, base = tmp_path / "bundle", tmp_path / "base"
    adapter(bundle / "adapter")
    with Stage(base, kind="base", inputs={}, config={}) as folder:
        (folder / "preprocessor_config.json").write_text("{}")
    config = {"base": "base", "revision": manifest.digest(base, "base"), "max_pixels": 1}
    outputs = {"gate/a": "1" * 64, "adapter/b": "2" * 64}
    told = Manifest("bundle", {}, config, "", VERSIONS | {"more": 9}, outputs)
    opened = SimpleNamespace(manifest=told, adapter=SimpleNamespace(rank=2))
    monkeypatch.setattr(terms, "open_bundle", {bundle: opened}.__getitem__)
    path = scores(tmp_path, {"n": 5})
    given: dict[str, Any] = {"release": 7, "runtime": "1.2", "rollout": 0.5}
    assert terms_of(bundle, str(base), path, **given) == Terms(
        base="base",
        base_revision=config["revision"],
        processor=processor_digest(base),
        rank=2,
        alpha=4.0,
        modules=("q_proj",),
        gate=gate_digest(outputs),
        metrics={"n": 5},
        **VERSIONS,
        **given,
    )
    del config["revision"]
    words = f"{bundle}/manifest.json: config: revision is missing"
    with pytest.raises(DataError, match=f"^{re.escape(words)}$"):
        terms_of(bundle, str(base), path, **given)


def test_a_base_is_a_folder_of_that_very_model(tmp_path: Path) -> None:
    with Stage(tmp_path / "base", kind="base", inputs={}, config={}) as folder:
        (folder / "config.json").write_text("{}")
    digest = manifest.digest(tmp_path / "base", "base")
    assert terms._base_folder(str(tmp_path / "base"), "base", digest) == tmp_path / "base"
    words = f"{tmp_path}/base is another base than the bundle's, base at {'0' * 64}: "
    with pytest.raises(ConfigError, match=f"^{re.escape(words)}."):
        terms._base_folder(str(tmp_path / "base"), "base", "0" * 64)


def test_a_base_of_the_hub_is_looked_for_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []
    found: dict[str, object] = {}

    def look(name: str, file: str, revision: str) -> object:
        asked.append((name, file, revision))
        return found.get(file)

    hub: Any = ModuleType("huggingface_hub")
    hub.try_to_load_from_cache = look
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    for base, name in (("other/base", "me/base"), ("base", "base"), ("a/b/c", "a/b/c")):
        words = f"^{base} is neither a folder nor the bundle's base, {name}$"
        with pytest.raises(ConfigError, match=words):
            terms._base_folder(base, name, "main")
    assert asked == []
    words = r"^me/base, revision main, is not in this machine's cache: name its folder$"
    with pytest.raises(ConfigError, match=words):
        terms._base_folder("me/base", "me/base", "main")
    files = ("preprocessor_config.json", "processor_config.json")
    assert asked == [("me/base", file, "main") for file in files]
    found["processor_config.json"] = str(tmp_path / "processor_config.json")
    found["preprocessor_config.json"] = object()  # known not to be there
    assert terms._base_folder("me/base", "me/base", "main") == tmp_path

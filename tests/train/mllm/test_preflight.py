import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError, ModelError
from tests.conftest import lora_tensors, safetensors
from tests.train.conftest import write_info
from train.mllm import lengths, preflight
from train.mllm.run_settings import RunSettings

COMMIT = "cc594898137f460bfe9f0759e9844b3ce807cfb5"
OTHER = "0" * 40
HUB = "Qwen/Qwen2.5-VL-7B-Instruct"


def ignore(line: str) -> None:
    pass


def of_base(name: str, revision: str = "main") -> RunSettings:
    return RunSettings(model_name_or_path=name, model_revision=revision)


def test_the_report_states_lengths_memory_disk_and_the_samples_hash(settings, tmp_path) -> None:
    report = preflight.check(settings, tmp_path, ignore)
    file = Path(settings.dataset_dir) / "boxed_train.json"
    assert report.dataset == manifest.digest(file)
    assert (tmp_path / "lengths.png").is_file()
    first, second = report.lines()
    assert "16 samples" in first
    assert "no card here" in second
    assert report.dataset[:12] in second
    kept = report.as_json()
    assert kept["dataset"] == {"samples": 16, "sha256": report.dataset}
    assert kept["memory"]["peak"] == report.memory.peak


def test_two_sets_in_one_are_measured_together_and_each_decides_the_digest(
    settings, tmp_path
) -> None:
    folder = tmp_path / "instructions"
    shutil.copytree(settings.dataset_dir, folder)
    boxed = json.loads((folder / "boxed_train.json").read_text())
    boxed[0]["messages"][1]["content"] += " and more" * 50
    (folder / "raw_train.json").write_text(json.dumps(boxed[:3]))
    write_info(folder, "boxed_train", "raw_train")
    alone, both = (
        preflight.check(replace(settings, dataset_dir=str(folder), dataset=name), tmp_path, ignore)
        for name in ("boxed_train", "boxed_train, raw_train")
    )
    assert len(both.lengths.tokens) == 19
    assert both.lengths.tokens[:16] == alone.lengths.tokens
    assert both.lengths.tokens[16] == max(both.lengths.tokens) > max(alone.lengths.tokens)
    assert both.memory.peak > alone.memory.peak
    assert both.dataset != alone.dataset == manifest.digest(folder / "boxed_train.json")
    with pytest.raises(DataError, match="raw_train is named twice"):
        lengths.samples_files(folder, "raw_train,boxed_train,raw_train")
    with pytest.raises(DataError, match="no data set 'raw'"):
        lengths.samples_files(folder, "boxed_train,raw")


def test_a_cut_sample_ends_the_check(settings, tmp_path) -> None:
    with pytest.raises(DataError, match="would be cut at cutoff_len 50"):
        preflight.check(replace(settings, cutoff_len=50), tmp_path, ignore)


def test_a_hub_name_needs_a_pinned_revision():
    assert preflight.base_folder(of_base(HUB, COMMIT)) is None
    with pytest.raises(ConfigError, match="pin the 40-digit commit"):
        preflight.base_folder(of_base(HUB))


def test_a_base_that_is_no_qwen_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="neither a folder nor"):
        preflight.base_folder(of_base(str(tmp_path / "missing")))
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(ModelError, match="'llava', expected 'qwen2_5_vl'"):
        preflight.base_folder(of_base(str(tmp_path)))


def write_adapter(folder: Path, base: str, revision: str | None) -> Path:
    folder.mkdir()
    stated = {"base_model_name_or_path": base, "revision": revision}
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    return folder


@pytest.mark.parametrize("key", preflight.EARLIER)
def test_going_on_from_an_adapter_of_another_base_is_refused_by_name(tmp_path, tiny_base, key):
    here = of_base(str(tiny_base))
    right = write_adapter(tmp_path / "right", "base", manifest.digest(tiny_base))
    preflight.demand_same_base(replace(here, **{key: str(right)}))
    wrong = write_adapter(tmp_path / "wrong", HUB, COMMIT)
    with pytest.raises(ModelError, match=f"wrong was trained for {HUB} at revision {COMMIT}"):
        preflight.demand_same_base(replace(here, **{key: str(wrong)}))
    hub = replace(of_base(HUB, OTHER), **{key: str(wrong)})
    with pytest.raises(ModelError, match=f"this base is {HUB}: it is at revision {OTHER}"):
        preflight.demand_same_base(hub)
    preflight.demand_same_base(replace(hub, model_revision=COMMIT))


def test_going_on_from_an_adapter_that_would_not_load_whole_is_refused(settings, tmp_path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "adapter_model.safetensors").write_bytes(safetensors(lora_tensors()))
    stated = {"r": 2, "target_modules": ["q_proj"]}
    (earlier / "adapter_config.json").write_text(json.dumps(stated))
    with pytest.raises(ModelError, match="1 of 1 modules have no place in the base"):
        preflight.check(replace(settings, adapter_name_or_path=str(earlier)), tmp_path, ignore)


def test_a_checkpoint_of_another_base_is_refused_by_its_name(tmp_path, tiny_base):
    """PEFT leaves the revision open in checkpoints."""
    wrong = write_adapter(tmp_path / "checkpoint-5", "/models/other", None)
    going_on = replace(of_base(str(tiny_base)), resume_from_checkpoint=str(wrong))
    with pytest.raises(ModelError, match="was trained for /models/other, this base is"):
        preflight.demand_same_base(going_on)
    with pytest.raises(ModelError, match="does not hold an adapter of PEFT"):
        preflight.demand_same_base(replace(going_on, resume_from_checkpoint=str(tmp_path)))
    preflight.demand_same_base(replace(going_on, resume_from_checkpoint="True"))


def test_a_cached_base_of_another_revision_is_refused_by_name(tmp_path, monkeypatch):
    from huggingface_hub import constants

    snapshots = tmp_path / "models--Qwen--Qwen2.5-VL-7B-Instruct" / "snapshots"
    (snapshots / OTHER).mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=f"the cache holds revision {OTHER}.*pins {COMMIT}"):
        preflight.base_folder(of_base(HUB, COMMIT))
    (snapshots / COMMIT).mkdir()
    assert preflight.base_folder(of_base(HUB, COMMIT)) is None


def test_a_wrong_pixel_limit_ends_the_check(settings, tmp_path) -> None:
    """And with it the stage, as a sample that would be cut does in `tests/train/test_lora.py`."""
    with pytest.raises(DataError, match="image_max_pixels 10000: set them to"):
        preflight.check(replace(settings, image_max_pixels=10000), tmp_path, ignore)

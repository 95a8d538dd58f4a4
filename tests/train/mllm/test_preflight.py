import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG
from dat_runtime.errors import ConfigError, DataError, ManifestError, ModelError
from dat_runtime.family import QWEN2_5_VL, QWEN3_VL
from dat_runtime.stage import Stage
from tests.conftest import lora_tensors, safetensors
from tests.train.conftest import lora_of_shipped_base, write_info
from train.mllm import lengths, preflight, resources
from train.mllm.lengths import Lengths
from train.mllm.memory import Estimate
from train.mllm.resources import Card
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


MEMORY = Estimate({"weights": 5_000_000_000}, {"layers": 2_000_000_000},
                  {"vision tower": 1, "loss": 1_600_000_000})  # fmt: skip


def test_a_report_is_told_in_two_lines_and_kept_in_full() -> None:
    card = Card("A100", 40_000_000_000, 1)
    report = preflight.Report(
        Lengths((10, 80), 100), MEMORY, card, 2_340_000_000, "0123456789abcdef", 1.26
    )
    measured = "2 samples, tokens median 80, 95 % 10, longest 80; none cut (cutoff_len 100)"
    told = "; disk 2.3 GB; samples' sha256 0123456789ab"
    assert report.lines() == [
        measured,
        f"peak memory, estimated: 8.6 GB, 22% of 40.0 GB (A100){told}",
    ]
    assert replace(report, card=None).lines() == [
        measured,
        f"peak memory, estimated: 8.6 GB, no card here to compare it with{told}",
    ]
    assert report.as_json() == {
        "preflight_seconds": 1.3,
        "tokens": report.lengths.as_json(),
        "memory": {
            "peak": 8_600_000_000,
            "parts": {
                "weights": 5_000_000_000,
                "layers": 2_000_000_000,
                "vision tower": 1,
                "loss": 1_600_000_000,
            },
        },
        "dataset": {"samples": 2, "sha256": "0123456789abcdef"},
    }


def test_a_check_measures_estimates_and_compares(shipped_settings, tmp_path, monkeypatch) -> None:
    titles = []
    drawn = Lengths.save_plot
    monkeypatch.setattr(Lengths, "save_plot", lambda *given: titles.append(given) or drawn(*given))
    report = preflight.check(shipped_settings, tmp_path, ignore)
    assert titles == [(report.lengths, tmp_path / "lengths.png", "boxed_train: 16 samples")]
    assert (tmp_path / "lengths.png").is_file()
    assert report.lengths == lengths.measure(shipped_settings, ignore)
    sizes = resources.model_sizes(shipped_settings)
    assert report.memory == resources.estimated(shipped_settings, sizes, report.lengths, None)
    assert report.card is None
    assert report.disk == resources.disk_needed(shipped_settings, sizes, 16, 1)
    assert report.dataset == manifest.digest(Path(shipped_settings.dataset_dir, "boxed_train.json"))
    assert 0 < report.seconds < 60


def test_a_check_refuses_what_no_card_holds_unless_told_not_to(
    shipped_settings, tmp_path, monkeypatch
) -> None:
    seen = Lengths((100,) * 64, 1024, (16,) * 64, (30,) * 64)
    monkeypatch.setattr(lengths, "measure", lambda settings, report_progress: seen)
    monkeypatch.setattr(Lengths, "save_plot", lambda *given: None)
    small = Card("small", 1000, 4)
    monkeypatch.setattr(resources, "find_card", lambda settings: small)
    with pytest.raises(ConfigError, match=r"are more than the 0\.0 GB of small"):
        preflight.check(shipped_settings, tmp_path, ignore)
    # With no limit of checkpoints their number follows from that of the processes.
    settings = replace(shipped_settings, num_train_epochs=4, save_steps=1)
    report = preflight.check(settings, tmp_path, ignore, ignore_memory=True)
    sizes = resources.model_sizes(settings)
    assert report.card is small
    assert report.memory == resources.estimated(settings, sizes, seen, small)
    assert report.disk == resources.disk_needed(settings, sizes, 64, 4)
    assert report.disk < resources.disk_needed(settings, sizes, 64, 1)


def test_several_sets_have_one_digest_in_their_order(tmp_path) -> None:
    files = {name: tmp_path / name for name in ("a", "b")}
    for file in files.values():
        file.write_text(file.name)
    each = [manifest.digest(file) for file in files.values()]
    assert preflight._digest({"a": files["a"]}) == each[0]
    assert preflight._digest(files) == hashlib.sha256("".join(each).encode()).hexdigest()


def test_a_folder_or_a_pinned_hub_name_is_a_base(tmp_path, monkeypatch) -> None:
    shipped = Path("train/shipped_base")
    assert preflight.base_folder(of_base(str(shipped))) == shipped
    for name in ("qwen", "a/b/c", "a b/c"):
        with pytest.raises(ConfigError) as refused:
            preflight.base_folder(of_base(name, COMMIT))
        assert str(refused.value) == f"{name} is neither a folder nor a model's hub name"
    for revision in ("main", COMMIT[:39], COMMIT + "0", COMMIT.upper()):
        with pytest.raises(ConfigError) as refused:
            preflight.base_folder(of_base(HUB, revision))
        assert str(refused.value) == (
            f"model_revision is {revision!r}: pin the 40-digit commit of {HUB}, so that the "
            "adapter states which base it belongs to"
        )


@pytest.mark.parametrize("offline", ["constant", "variable", "neither"])
def test_a_base_that_nothing_may_download_has_to_be_in_the_cache(
    tmp_path, monkeypatch, offline
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline == "constant")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if offline == "variable" else "0")
    preflight.demand_cached_or_online(HUB, COMMIT)  # nothing is cached: the download says why not
    snapshots = tmp_path / "models--Qwen--Qwen2.5-VL-7B-Instruct" / "snapshots"
    for revision in ("2" * 40, "1" * 40):
        (snapshots / revision).mkdir(parents=True)
    if offline == "neither":
        preflight.demand_cached_or_online(HUB, COMMIT)
        return
    with pytest.raises(ConfigError) as refused:
        preflight.demand_cached_or_online(HUB, COMMIT)
    assert str(refused.value) == (
        f"{HUB}: the cache holds revision {'1' * 40}, {'2' * 40}, model_revision pins {COMMIT} and "
        "HF_HUB_OFFLINE forbids its download: allow it, or pin the revision that is there"
    )
    preflight.demand_cached_or_online(HUB, "1" * 40)


def test_instructions_in_another_familys_words_are_refused(tmp_path) -> None:
    out = tmp_path / "instructions"
    with Stage(out, kind="instructions", inputs={}, config={}, versions=[QWEN3_VL.name]):
        pass
    settings = RunSettings(dataset_dir=str(out), template=QWEN3_VL.template)
    preflight.demand_prompts(settings)
    with pytest.raises(ConfigError) as refused:
        preflight.demand_prompts(replace(settings, template=QWEN2_5_VL.template))
    assert str(refused.value) == (
        f"{out} asks as Qwen3-VL is asked, template qwen2_vl is that of Qwen2.5-VL, which counts "
        "coordinates otherwise: data.prep.instruct --family qwen2_5_vl"
    )
    with Stage(tmp_path / "other", kind="lora", inputs={}, config={}):
        pass
    with pytest.raises(ManifestError, match="holds 'lora', expected 'instructions'"):
        preflight.demand_prompts(replace(settings, dataset_dir=str(tmp_path / "other")))


def test_each_earlier_adapter_is_compared_with_the_base(tmp_path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    mine = write_adapter(tmp_path / "mine", "base", manifest.digest(base, "base"))
    of_a_checkpoint = write_adapter(tmp_path / "checkpoint-5", "/elsewhere/base", None)
    other = write_adapter(tmp_path / "other", "base", "f" * 64)
    here = of_base(str(base))
    several = f"{mine} , {of_a_checkpoint}"
    preflight.demand_same_base(replace(here, adapter_name_or_path=several))
    for word in ("true", " False ", ""):
        preflight.demand_same_base(replace(here, resume_from_checkpoint=word))
    with pytest.raises(ModelError) as refused:
        preflight.demand_same_base(replace(here, adapter_name_or_path=f"{several},{other}"))
    assert str(refused.value) == (
        f"adapter_name_or_path: {other} was trained for base at revision {'f' * 64}, this base is "
        f"{base}: it has the digest {manifest.digest(base, 'base')}; go on with the base that it "
        "was trained for, or begin anew"
    )
    renamed = of_base(str(base.rename(tmp_path / "new")))
    with pytest.raises(ModelError) as refused:
        preflight.demand_same_base(replace(renamed, resume_from_checkpoint=str(of_a_checkpoint)))
    assert str(refused.value) == (
        f"resume_from_checkpoint: {of_a_checkpoint} was trained for /elsewhere/base, this base is "
        f"{tmp_path / 'new'}: go on with the base that it was trained for, or begin anew"
    )


@pytest.mark.parametrize("stated", [None, "[]", "{}", "no JSON"])
def test_a_folder_without_an_adapters_configuration_is_named(tmp_path, stated) -> None:
    if stated is not None:
        (tmp_path / CONFIG).write_text(stated)
    with pytest.raises(ModelError) as refused:
        preflight.demand_same_base(replace(of_base(HUB), resume_from_checkpoint=str(tmp_path)))
    complaint = f"resume_from_checkpoint: {tmp_path} does not hold an adapter of PEFT ("
    assert str(refused.value).startswith(complaint)


def test_every_earlier_adapter_has_its_place_in_the_base(tmp_path) -> None:
    for name, layers in (("whole", 4), ("part", 2)):
        (tmp_path / name).mkdir()
        lora_of_shipped_base(tmp_path / name, layers=layers)
    here = of_base("train/shipped_base")
    preflight.demand_earlier_whole(here)
    both = f"{tmp_path / 'whole'}, {tmp_path / 'whole'} "
    preflight.demand_earlier_whole(replace(here, adapter_name_or_path=both))
    with pytest.raises(ModelError, match="holds nothing for 2 of 4 modules"):
        preflight.demand_earlier_whole(
            replace(here, adapter_name_or_path=f"{both},{tmp_path / 'part'}")
        )


def test_a_bases_revision_is_its_digest_or_its_commit() -> None:
    shipped = Path("train/shipped_base")
    digest = manifest.digest(shipped, "base")
    assert preflight.base_revision(of_base(str(shipped), COMMIT)) == digest
    assert preflight.base_revision(of_base(HUB, COMMIT)) == COMMIT

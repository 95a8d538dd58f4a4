"""The tower's training: its forward, that it learns, and that it goes on after a kill."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime.errors import DataError
from data.prep import primer

SIDE = 84  # three units


def test_pictures_are_laid_out_as_the_image_processor_does() -> None:
    import torch
    from transformers import AutoProcessor

    from train.mllm.seeing import patches

    settings = AutoProcessor.from_pretrained("train/shipped_base").image_processor
    drawn = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)
    ours = patches(list(drawn), settings.image_mean, settings.image_std)
    for image, rows in zip(drawn, ours.chunk(2), strict=True):
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        theirs = settings(images=[rgb], return_tensors="pt")["pixel_values"]
        assert torch.allclose(rows, theirs, atol=1e-5)


def untrained_tower() -> Any:
    import torch
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

    torch.manual_seed(5)
    config = Qwen2_5_VLVisionConfig(
        depth=2, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=24,
        window_size=112, fullatt_block_indexes=[0, 1],
    )  # fmt: skip
    tower = modeling.Qwen2_5_VisionTransformerPretrainedModel(config)
    for weight in tower.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return tower


def test_our_forward_gives_what_the_towers_own_gives() -> None:
    """Within what bfloat16 leaves of a product, for pictures that stand in one batch."""
    import torch

    from train.mllm.seeing import features

    tower = untrained_tower()
    pixels = torch.randn(2 * 36, 1176, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = tower(pixels, torch.tensor([[1, 6, 6]] * 2)).pooler_output
        ours = features(tower, pixels, 2).flatten(0, 1)
        apart = features(tower, pixels[36:], 1).flatten(0, 1)
    assert (ours - theirs).abs().mean() < 0.02 * theirs.abs().mean()
    assert torch.allclose(apart, ours[9:], atol=1e-5)


TRAITS = {"severe": 2, "overturned": 2, "alone": 2, "colour": 3}
BIN = 14


def write_views(folder: Path, count: int, side: int = 56) -> dict[str, Any]:
    """Of pictures of noise a primer's files for the tower; what stands in them."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    (folder / "views.bin").write_bytes(b"".join(encoded))
    units = (side // 28) ** 2
    presence = rng.integers(0, 2, (count, units, 3)).astype(np.uint8)
    corners = rng.integers(0, side // BIN, (count, units, 3, 4)).astype(np.int8)
    corners[presence == 0] = -1
    traits = rng.integers(0, list(TRAITS.values()), (count, units, 4)).astype(np.int8)
    traits[presence[..., 0] == 0] = -1
    columns = {"presence": presence, "corners": corners, "traits": traits}
    ends = np.cumsum([0, *map(len, encoded)])
    np.savez_compressed(folder / "units.npz", ends=ends, **columns)
    things = ["wrecks", "other", "vehicles", "marks"]
    meaning = {"side": side, "unit": 28, "bin": BIN, "things": things, "traits": TRAITS}
    (folder / "units.json").write_text(json.dumps(meaning))
    return {"images": images, **columns}


def test_views_are_read_with_what_their_units_show(tmp_path: Path) -> None:
    import torch

    from train.mllm.seeing import Reader, Views

    written = write_views(tmp_path, 5)
    views = Views(tmp_path)
    assert (len(views), views.side, views.bin) == (5, 56, 14)
    assert views.things == ["wrecks", "vehicles", "marks"]
    assert views.traits == TRAITS
    numbers = np.array([4, 0, 2])
    for found, number in zip(views.images(numbers), numbers, strict=True):
        np.testing.assert_array_equal(found, written["images"][number])
    told = views.told(numbers)
    assert [part.dtype for part in told] == [torch.float32, torch.int64, torch.int64]
    for part, name in zip(told, ("presence", "corners", "traits"), strict=True):
        np.testing.assert_array_equal(part.numpy(), written[name][numbers])
    reader = Reader(24, views)
    assert reader.sizes == [3, *[4] * 12, 2, 2, 2, 3]
    read = reader(torch.zeros(2, 4, 24))
    assert [part.shape for part in read] == [(2, 4, size) for size in reader.sizes]


def test_views_that_are_not_a_primers_are_refused(tmp_path: Path) -> None:
    from train.mllm.seeing import Views

    write_views(tmp_path, 2)
    meaning = json.loads((tmp_path / "units.json").read_text())
    turned = dict(reversed(TRAITS.items()))
    (tmp_path / "units.json").write_text(json.dumps({**meaning, "traits": turned}))
    with pytest.raises(DataError) as refused:
        Views(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: does not hold a primer's views (its traits are not severe, overturned, "
        "alone, colour)"
    )
    del meaning["bin"]
    (tmp_path / "units.json").write_text(json.dumps(meaning))
    with pytest.raises(DataError, match="does not hold a primer's views \\('bin'\\)"):
        Views(tmp_path)


def test_the_loss_weighs_presence_corners_and_traits(tmp_path: Path) -> None:
    import torch

    from train.mllm.seeing import Reader, Views, loss

    write_views(tmp_path, 4)
    views = Views(tmp_path)
    torch.manual_seed(0)
    read = Reader(8, views)(3 * torch.randn(4, 4, 8))
    told = views.told(np.arange(4))
    presence, corners, traits = (part.numpy().reshape(16, -1) for part in told)
    given = [part.detach().double().numpy().reshape(16, -1) for part in read]

    def log_shares(logits: np.ndarray) -> np.ndarray:
        return logits - np.log(np.exp(logits).sum())

    right = np.where(presence == 1, given[0], -given[0])
    there = 3 * np.log1p(np.exp(-right)).mean()
    assert loss(read, told).item() != pytest.approx(there)
    wanted = there
    for which, weight in enumerate((0.5, 0.25, 0.35)):
        for k in range(4):
            column = 4 * which + k
            lost = []
            for unit in np.flatnonzero(corners[:, 4 * which] >= 0):
                near = np.exp(-np.abs(np.arange(4) - corners[unit, column]) / 0.6)
                near /= near.sum()
                lost.append(-(near * log_shares(given[1 + column][unit])).sum())
            wanted += weight * np.mean(lost)
    for k, weight in enumerate((1.0, 1.0, 0.3, 0.3)):
        known = np.flatnonzero(traits[:, k] >= 0)
        lost = [-log_shares(given[13 + k][unit])[traits[unit, k]] for unit in known]
        wanted += weight * np.mean(lost)
    assert loss(read, told).item() == pytest.approx(wanted, rel=1e-5)
    nothing = [told[0], torch.full_like(told[1], -1), torch.full_like(told[2], -1)]
    assert loss(read, nothing).item() == pytest.approx(there, rel=1e-5)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.01), (49, 0.5), (99, 1.0), (100, 1.0), (500, 1.0), (999, 1.0)],
)
def test_the_rate_warms_up_and_falls_by_half_a_cosine(step: int, rate: float) -> None:
    from train.mllm import seeing

    fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / 1000))
    assert seeing._rate(step, 1000) == pytest.approx(rate * fall)


def test_boxes_are_the_middles_of_their_bins_and_overlap_as_boxes_do() -> None:
    import torch

    from train.mllm import seeing

    logits = torch.tensor([[0.0, 0.0, 0.0], [-90.0, -90.0, 90.0], [0.0, math.log(3), -90.0]])
    assert seeing._middle(logits).tolist() == pytest.approx([1.5, 2.5, 1.25])
    one = [[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0.2, 0.2], [3, 3, 1, 1], [0, 0, 4, 2]]
    other = [[1, 1, 3, 3], [2, 2, 3, 3], [0, 0, 0.2, 0.2], [3, 3, 1, 1], [1, 0, 3, 2]]
    shared = seeing._iou(torch.tensor(one).float(), torch.tensor(other).float())
    assert shared.tolist() == pytest.approx([1 / 7, 0, 0.4, 0, 0.5])


def test_matrices_are_taught_by_muon_and_the_rest_by_adamw() -> None:
    import torch

    from train.mllm import seeing

    tower = untrained_tower()
    reader = torch.nn.Linear(24, 3)
    muon, adamw = seeing._optimizers(tower, reader)
    assert (type(muon).__name__, type(adamw).__name__) == ("Muon", "AdamW")
    (matrices,), (rest,) = muon.param_groups, adamw.param_groups
    assert (matrices["lr"], matrices["weight_decay"], matrices["momentum"]) == (0.02, 0.01, 0.95)
    assert (rest["lr"], rest["weight_decay"], rest["betas"]) == (2e-3, 0.01, (0.9, 0.98))
    assert {weight.ndim for weight in matrices["params"]} == {2}
    assert len(matrices["params"]) == 2 * 5 + 2
    of_reader = {id(weight) for weight in reader.parameters()}
    assert {id(weight) for weight in rest["params"] if weight.ndim == 2} < of_reader
    both = [id(weight) for group in (matrices, rest) for weight in group["params"]]
    assert sorted(both) == sorted([*map(id, tower.parameters()), *of_reader])


def test_a_step_is_cut_to_a_length_of_five_and_takes_the_rate() -> None:
    import torch

    from train.mllm import seeing

    one, other = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizers = [torch.optim.SGD([weight], lr=9) for weight in (one, other)]
    one.grad, other.grad = torch.tensor([30.0]), torch.tensor([40.0])
    seeing._step(optimizers, 0.5)
    assert one.item() == pytest.approx(-0.02 * 0.5 * 3, rel=1e-4)
    assert other.item() == pytest.approx(-2e-3 * 0.5 * 4, rel=1e-4)
    assert one.grad is other.grad is None


def test_what_the_tower_sees_is_measured_by_frames_units_and_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from train.mllm import seeing

    write_views(tmp_path, 6)
    views = seeing.Views(tmp_path)
    presence, corners, traits = views.told(np.arange(6))
    presence[:] = 0
    presence[:4, 1, 0] = 1  # four of six pictures show a collision, in one unit each
    traits[:], corners[:] = -1, -1
    for view in range(4):
        traits[view, 1] = torch.tensor([view % 2, 0, 1, 2])
        corners[view, 1, 0] = torch.tensor([0, 0, 2, 3])
    views._told = [part.numpy() for part in (presence, corners, traits)]
    monkeypatch.setattr(seeing, "BATCH", 4)
    asked = []
    modes = []

    def seen(tower: Any, processor: Any, given: Any, numbers: Any) -> Any:
        asked.append(numbers.tolist())
        return torch.as_tensor(numbers)

    def reader(numbers: Any) -> list[Any]:
        shown = presence[numbers] * 2 - 1
        shown[numbers == 3] = -1  # a collision that is not seen
        shown[numbers == 5, 2, 0] = 1  # one where there is none
        shown[..., 1:] = 9
        boxes = corners[numbers, :, 0].clamp(min=0)
        boxes[numbers == 2, 1, 2] = 1  # half as wide
        told = [torch.nn.functional.one_hot(boxes[..., k], 4) * 90.0 for k in range(4)]
        severe = traits[numbers][..., 0].clamp(min=0)
        severe[numbers == 1] = 0
        named = torch.nn.functional.one_hot(severe, 2)
        return [shown, *told, *told * 2, named, named, named, named]

    monkeypatch.setattr(seeing, "_seen", seen)
    tower = SimpleNamespace(eval=lambda: modes.append("eval"), train=lambda: modes.append("train"))
    found = seeing.measure(tower, reader, None, views, 6)
    assert asked == [[0, 1, 2, 3], [4, 5]]
    assert modes == ["eval", "train"]
    assert found == {"frames": round(4 / 6, 4), "severity": 0.75, "iou": 0.875}


def test_the_tower_learns_step_by_step_and_goes_on_where_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from train.mllm import seeing

    write_views(tmp_path, 12)
    monkeypatch.setattr(seeing, "BATCH", 4)
    monkeypatch.setattr(seeing, "SAVED_EVERY", 2)
    monkeypatch.setattr(seeing, "WARM_UP", 1)
    settings = SimpleNamespace(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    processor = SimpleNamespace(image_processor=settings)

    def learn(into: str, tower: Any, steps: int = 3) -> dict[str, float]:
        (tmp_path / into).mkdir(exist_ok=True)
        model = SimpleNamespace(model=SimpleNamespace(visual=tower), device="cpu")
        return seeing.learn(model, processor, tmp_path, tmp_path / into, steps, 7, "base")

    whole = untrained_tower()
    report = learn("whole", whole)
    assert list(report) == ["steps", "held_out", "frames", "severity", "iou"]
    assert (report["steps"], report["held_out"]) == (3, 3)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[base] tower: step 3/3, loss ")
    assert line.endswith(", 0 min left")
    saved = torch.load(tmp_path / "whole" / "seeing.pt")
    assert saved["step"] == 3
    assert [path.name for path in (tmp_path / "whole").iterdir()] == ["seeing.pt"]

    class Killed(Exception):
        pass

    save = seeing._save

    def save_and_die(*given: Any) -> None:
        save(*given)
        raise Killed

    monkeypatch.setattr(seeing, "_save", save_and_die)
    with pytest.raises(Killed):
        learn("cut", untrained_tower())
    monkeypatch.setattr(seeing, "_save", save)
    assert torch.load(tmp_path / "cut" / "seeing.pt")["step"] == 2
    resumed = untrained_tower()
    assert learn("cut", resumed) == report
    weights, untaught = whole.state_dict(), untrained_tower().state_dict()
    for name, weight in resumed.state_dict().items():
        assert torch.equal(weight, weights[name])
        assert not torch.equal(weight, untaught[name])
    other = untrained_tower()
    monkeypatch.setattr(seeing, "WARM_UP", 100)
    learn("slower", other)
    assert not torch.equal(other.patch_embed.proj.weight, whole.patch_embed.proj.weight)


@pytest.mark.slow
def test_it_learns_and_a_run_that_was_cut_off_ends_as_one_in_one_piece(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    from train.mllm import seeing

    made = ["--scenes", "24", "--words", "20", "--jobs", "1", "--size", str(SIDE)]
    assert primer.main(["--out", str(tmp_path / "primer"), *made]) == 0
    monkeypatch.setattr(seeing, "BATCH", 4)
    monkeypatch.setattr(seeing, "SAVED_EVERY", 2)
    monkeypatch.setattr(seeing, "WARM_UP", 1)
    processor = AutoProcessor.from_pretrained(tiny_base)

    def model() -> object:
        return Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_base, dtype=torch.float32)

    def learn(into: str, taught: object) -> dict[str, float]:
        (tmp_path / into).mkdir(exist_ok=True)
        return seeing.learn(taught, processor, tmp_path / "primer", tmp_path / into, 6, 0, "base")

    whole = model()
    report = learn("whole", whole)
    assert set(report) == {"steps", "held_out", "frames", "severity", "iou"}

    class Killed(Exception):
        pass

    saved = seeing._save

    def save_and_die(*given: object) -> None:
        saved(*given)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(seeing, "_save", save_and_die)
    with pytest.raises(Killed):
        learn("cut", model())
    monkeypatch.setattr(seeing, "_save", saved)
    resumed = model()
    learn("cut", resumed)
    ours, theirs = (m.model.visual.state_dict() for m in (resumed, whole))  # type: ignore[attr-defined]
    untaught = model().model.visual.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not all(torch.equal(ours[name], untaught[name]) for name in ours)

"""The tower's training: its forward, that it learns, and that it goes on after a kill."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.prep import primer

pytestmark = pytest.mark.slow  # torch and Transformers take seconds to import

SIDE = 84  # three units


def test_pictures_are_laid_out_as_the_image_processor_does(tiny_base: Path) -> None:
    import torch
    from transformers import AutoProcessor

    from train.mllm.seeing import patches

    settings = AutoProcessor.from_pretrained(tiny_base).image_processor
    drawn = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)
    ours = patches(list(drawn), settings.image_mean, settings.image_std)
    for image, rows in zip(drawn, ours.chunk(2), strict=True):
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        theirs = settings(images=[rgb], return_tensors="pt")["pixel_values"]
        assert torch.allclose(rows, theirs, atol=1e-5)


def test_our_forward_gives_what_the_towers_own_gives(tiny_base: Path) -> None:
    """Within what bfloat16 leaves of a product, for pictures that stand in one batch."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    from train.mllm.seeing import features

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_base, dtype=torch.float32)
    tower = model.model.visual
    pixels = torch.randn(2 * 36, 1176, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = tower(pixels, torch.tensor([[1, 6, 6]] * 2)).pooler_output
        ours = features(tower, pixels, 2).flatten(0, 1)
        apart = features(tower, pixels[36:], 1).flatten(0, 1)
    assert (ours - theirs).abs().mean() < 0.02 * theirs.abs().mean()
    assert torch.allclose(apart, ours[9:], atol=1e-5)


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

"""The tower's training: what its units are told, and that it learns and goes on after a kill."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.types import Box, Size
from data.prep import primer
from data.prep.rendering.frames import Wreck
from data.prep.rendering.primer_scenes import COLOURS, Mark, View

pytestmark = pytest.mark.slow  # torch and Transformers take seconds to import

SIDE = 84  # three units
FRAME = Size(SIDE, SIDE)


def view(
    wrecks: tuple[Wreck, ...] = (), vehicles: tuple[Box, ...] = (), marks: tuple[Mark, ...] = ()
) -> View:
    return View(np.zeros((SIDE, SIDE, 3), np.uint8), wrecks, vehicles, marks)


def test_a_unit_is_told_of_the_collision_that_it_shows() -> None:
    from train.mllm.units import BIN, NOT_THERE, targets

    wreck = Wreck(Box(28, 30, 84, 50, FRAME), "severe", 2, True, False, "dark")
    told = targets(view(wrecks=(wreck,)))
    presence = told.presence.reshape(3, 3, 3)
    assert presence[..., 0].tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert not presence[..., 1:].any()
    corners = told.corners.reshape(3, 3, 3, 4)
    assert corners[1, 2, 0].tolist() == [28 // BIN, 30 // BIN, SIDE // BIN - 1, 50 // BIN]
    assert (corners[0] == NOT_THERE).all()
    assert told.traits.reshape(3, 3, 6)[1, 1].tolist() == [1, 1, 0, 2, 0, NOT_THERE]


def test_of_two_vehicles_the_smaller_one_is_told_and_a_small_one_in_its_middle() -> None:
    from train.mllm.units import targets

    large, small = Box(0, 0, 84, 84, FRAME), Box(30, 30, 40, 40, FRAME)
    told = targets(view(vehicles=(small, large)))
    corners = told.corners.reshape(3, 3, 3, 4)
    assert corners[1, 1, 1].tolist() == [7, 7, 10, 10]
    assert corners[0, 0, 1].tolist() == [0, 0, 20, 20]


def test_a_drawn_box_is_told_along_its_lines_with_its_colour() -> None:
    from train.mllm.units import targets

    told = targets(view(marks=(Mark("red", Box(2, 2, 82, 82, FRAME)),)))
    lines = told.presence.reshape(3, 3, 3)[..., 2]
    assert lines.tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    colours = told.traits.reshape(3, 3, 6)[..., 5]
    assert set(colours[lines > 0].tolist()) == {list(COLOURS).index("red")}


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

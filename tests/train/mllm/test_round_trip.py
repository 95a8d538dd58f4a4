"""Coordinates on their way: label, sample, LLaMA-Factory's batch, back to the camera's pixels.

For a square, a wide, a tall and a tiny image, through LLaMA-Factory's own preprocessing and through
the Transformers processor as eval.predict uses it.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dat_runtime import answer, schema
from dat_runtime.truth import Frame, read_split
from dat_runtime.types import Box, Size
from data.prep import instruct
from eval.answers.asks import read_asks
from eval.answers.model import encode
from tests.data.prep.prepared_builder import SIZES, write_data

PATCH = 14


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set with a frame of each size, and the samples that are made of it."""
    folder = write_data(tmp_path_factory.mktemp("set") / "data")
    made = ["--out", str(folder.with_name("instructions")), "--max-pixels", "12544"]
    assert instruct.main(["--data", str(folder), "--detections", "labels", *made]) == 0
    return folder


def labelled(data: Path, split: str) -> dict[str, Frame]:
    return {frame.image_id: frame for frame in read_split(data, split)}


def in_camera(text: str, seen: Size, frame: Frame) -> Box:
    """The one box of an answer about an image of the size `seen`, in the camera's pixels."""
    size = frame.size
    verdict = schema.check(answer.in_frame(text, seen, size), size.width, size.height)
    assert verdict.rule
    assert not verdict.violation
    assert verdict.assessment is not None
    return verdict.assessment.accidents[0].box


def assert_same(found: Box, wanted: Box, seen: Size) -> None:
    """To a pixel of the image that the model sees, or of the camera where that is coarser."""
    pixel = max(1.0, wanted.frame.width / seen.width, wanted.frame.height / seen.height)
    for edge in ("x1", "y1", "x2", "y2"):
        assert abs(getattr(found, edge) - getattr(wanted, edge)) <= pixel


def llama_factory_batch(
    base: Path, instructions: Path, out: Path, **keys: object
) -> dict[str, Any]:
    """The training batch of all samples, with the decoded targets under `texts`."""
    from llamafactory.data import (
        SFTDataCollatorWith4DAttentionMask,
        get_dataset,
        get_template_and_fix_tokenizer,
    )
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    config = yaml.safe_load(Path("configs/lora/smoke.yaml").read_text())
    paths = {"model_name_or_path": str(base), "output_dir": str(out), "overwrite_cache": True}
    folder = {"dataset_dir": str(instructions), "media_dir": str(instructions)}
    model, arguments, training, _, _ = get_train_args({**config, **paths, **folder, **keys})
    loaded = load_tokenizer(model)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], arguments)
    samples = get_dataset(template, model, arguments, training, stage="sft", **loaded)
    rows = [samples["train_dataset"][i] for i in range(len(SIZES))]
    tokenizer = loaded["tokenizer"]
    collate = SFTDataCollatorWith4DAttentionMask(template=template, **loaded)
    learnt = [[token for token in row["labels"] if token >= 0] for row in rows]
    texts = [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in learnt]
    return {**collate(rows), "texts": texts}


@pytest.mark.slow
def test_what_llama_factory_trains_on_leads_back_to_the_labels(
    data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    made = (tiny_base, data.with_name("instructions"), tmp_path / "out")
    frames = labelled(data, "train")
    assert len(frames) == len(SIZES)
    assert_leads_back(llama_factory_batch(*made), frames)
    with pytest.raises(AssertionError):
        assert_leads_back(llama_factory_batch(*made, image_max_pixels=5000), frames)


def assert_leads_back(batch: dict[str, Any], frames: dict[str, Frame]) -> None:
    grids = batch["image_grid_thw"].tolist()
    for (_, rows, columns), text, frame in zip(grids, batch["texts"], frames.values(), strict=True):
        seen = Size(columns * PATCH, rows * PATCH)
        assert_same(in_camera(text, seen, frame), frame.accidents[0].box, seen)


@pytest.mark.slow
def test_the_transformers_processor_sees_each_image_in_the_pixels_of_its_prompt(
    data: Path, tiny_base: Path
) -> None:
    from transformers import AutoProcessor

    asks = read_asks(data.with_name("instructions"), "boxed")
    frames = labelled(data, "test")
    encoded = encode(AutoProcessor.from_pretrained(tiny_base), asks)
    for (_, rows, columns), ask in zip(encoded["image_grid_thw"].tolist(), asks, strict=True):
        assert (columns * PATCH, rows * PATCH) == (ask.frame.width, ask.frame.height)
        told = ask.prompt.partition("moderate 1.00 ")[2]
        x1, y1, x2, y2 = yaml.safe_load(told)
        wanted = frames[ask.id].accidents[0].box
        assert_same(Box(x1, y1, x2, y2, ask.frame).to(wanted.frame), wanted, ask.frame)

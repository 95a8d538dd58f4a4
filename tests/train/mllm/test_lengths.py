import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dat_runtime.draw import model_frame
from dat_runtime.errors import DataError, ModelError
from dat_runtime.types import Size
from train.mllm import lengths
from train.mllm.lengths import Lengths
from train.mllm.run_settings import RunSettings


def ignore(line: str) -> None:
    pass


def test_tokens_are_counted_as_llama_factory_and_transformers_count_them(settings):
    from PIL import Image

    folder = Path(settings.dataset_dir)
    sample = json.loads((folder / "boxed_train.json").read_text())[0]
    processor = lengths.load_processor(settings.model_name_or_path, "main")
    user = sample["messages"][0]["content"].replace(
        "<image>", "<|vision_start|><|image_pad|><|vision_end|>"
    )
    text = (
        f"<|im_start|>system\n{sample['system']}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        f"<|im_start|>assistant\n{sample['messages'][1]['content']}<|im_end|>\n"
    )
    image = Image.open(folder / sample["images"][0])
    encoded = processor(images=[image], text=[text], return_tensors="pt")

    measured = lengths.measure(settings, ignore)

    assert measured.tokens[0] == encoded["input_ids"].shape[1]
    assert (encoded["input_ids"] == processor.image_token_id).sum() == 16
    assert measured.image_tokens == (16,) * 16
    assert measured.answer_tokens[0] == learnt_by_llama_factory(settings, sample, processor)
    assert "16 samples" in measured.summary()
    assert "none cut" in measured.summary()


def learnt_by_llama_factory(settings, sample, processor) -> int:
    """Labels of a sample, in LLaMA-Factory's own template and masking."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.hparams import DataArguments

    given = DataArguments(template="qwen2_vl", cutoff_len=1024)
    template = get_template_and_fix_tokenizer(processor.tokenizer, given)
    encoder = SupervisedDatasetProcessor(template, processor.tokenizer, processor, given)
    user, assistant = sample["messages"]
    _, labels = encoder._encode_data_example(
        prompt=[{"role": "user", "content": user["content"].replace("<image>", "")}],
        response=[{"role": "assistant", "content": assistant["content"]}],
        system=sample["system"], tools=None, images=[], videos=[], audios=[],
    )  # fmt: skip
    return sum(label != -100 for label in labels)


def test_a_sample_that_would_be_cut_is_refused_by_name(settings):
    longest = max(lengths.measure(settings, ignore).tokens)
    lengths.measure(replace(settings, cutoff_len=longest), ignore)

    with pytest.raises(
        DataError,
        match=r"sample 'f0' of boxed_train has \d+ tokens.*of 16 samples in all.*raise cutoff_len",
    ):
        lengths.measure(replace(settings, cutoff_len=longest - 1), ignore)


def test_a_pixel_limit_that_would_shrink_an_image_is_refused(settings):
    with pytest.raises(DataError, match=r"'f0'.*112 x 112.*image_max_pixels 10000"):
        lengths.measure(replace(settings, image_max_pixels=10_000), ignore)


@pytest.mark.parametrize("frame", [Size(640, 640), Size(1920, 600), Size(60, 60), Size(70, 400)])
def test_an_image_at_its_model_frame_is_never_resized_again(settings, tiny_base, frame):
    from llamafactory.data.mm_plugin import get_mm_plugin
    from PIL import Image

    sent = model_frame(frame, settings.image_max_pixels)
    processor = lengths.load_processor(str(tiny_base), "main")
    picture = Image.new("RGB", (sent.width, sent.height))
    plugin = get_mm_plugin("qwen2_vl", image_token="<|image_pad|>")
    limits = {key: getattr(settings, key) for key in ("image_max_pixels", "image_min_pixels")}

    (regular,) = plugin._regularize_images([picture], **limits)["images"]
    grid = processor.image_processor(images=[regular], return_tensors="pt")["image_grid_thw"]

    assert regular.size == (sent.width, sent.height)
    assert grid.tolist() == [[1, sent.height // 14, sent.width // 14]]
    assert lengths.resize_problem(sent, processor.image_processor, settings) is None


def test_an_image_off_the_grid_of_28_is_refused(settings, tiny_base):
    processor = lengths.load_processor(str(tiny_base), "main")
    problem = lengths.resize_problem(Size(100, 100), processor.image_processor, settings)
    assert problem is not None
    assert "112 x 112" in problem


def test_an_unknown_data_set_is_refused_with_those_there_are(settings):
    with pytest.raises(DataError, match="no data set 'boxed'; there are: boxed_train"):
        lengths.measure(replace(settings, dataset="boxed"), ignore)


def test_a_missing_image_is_refused_by_its_path(settings, tmp_path):
    copy = tmp_path / "instructions"
    shutil.copytree(settings.dataset_dir, copy)
    (copy / "images" / "f3.png").unlink()
    with pytest.raises(DataError, match=r"f3\.png: no picture"):
        lengths.measure(replace(settings, dataset_dir=str(copy)), ignore)


def test_the_histogram_holds_every_sample():
    report = Lengths((10, 80, 73, 1), 100).as_json()
    assert report == {
        "cutoff_len": 100,
        "cut": 0,
        "longest": 80,
        "bin": 10,
        "bins": [2, 0, 0, 0, 0, 0, 0, 2],
    }


def test_sizes_are_read_from_the_header_alone(tmp_path):
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.zeros((28, 56, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:40])
    assert lengths.image_size(path) == Size(56, 28)


def test_the_histogram_is_drawn_with_the_limit(tmp_path):
    path = tmp_path / "lengths.png"
    Lengths((10, 80, 73, 1), 100, (4, 4, 4, 1)).save_plot(path, "four samples")
    picture = cv2.imread(str(path))
    Lengths((10, 80, 73, 1), 500, (4, 4, 4, 1)).save_plot(path, "four samples")
    assert picture.shape[0] > 300
    assert not np.array_equal(picture, cv2.imread(str(path)))


def test_the_distribution_is_told_in_a_line():
    tokens = tuple(range(1, 101))
    assert Lengths(tokens, 100).summary() == (
        "100 samples, tokens median 51, 95 % 95, longest 100; none cut (cutoff_len 100)"
    )
    assert Lengths(tokens[::-1], 98).summary().endswith("longest 100; 2 cut (cutoff_len 98)")
    assert Lengths((7,), 9).as_json()["bins"] == [0, 0, 0, 0, 0, 0, 1, 0]
    assert Lengths((9,), 8).as_json()["cut"] == 1


class Processor:
    """A token a word; the template writes a word for each part that is no text."""

    image_processor = SimpleNamespace(patch_size=14, merge_size=2)

    def apply_chat_template(self, chat):
        words = []
        for message in chat:
            words.append(f"<{message['role']}>")
            for part in message["content"]:
                words.append(part["text"] if part["type"] == "text" else "<picture>")
        return " ".join(words)

    def tokenizer(self, text):
        return {"input_ids": text.replace("<|im_end|>", " <|im_end|>").split()}


def sharegpt(folder, *answers):
    """Samples of two pictures, of 2 x 1 and of 2 x 2 squares of 28 pixels."""
    for name, size in (("a.png", (28, 56, 3)), ("b.png", (56, 56, 3))):
        cv2.imwrite(str(folder / name), np.zeros(size, np.uint8))
    samples = []
    for i, answer in enumerate(answers):
        turns = [{"content": "<image><image>what is there"}, {"content": answer}]
        about = {"image_id": f"f{i}", "system": "look well", "images": ["a.png", "b.png"]}
        samples.append({**about, "messages": turns})
    (folder / "boxed.json").write_text(json.dumps(samples))
    (folder / "none.json").write_text("[]")
    named = {"boxed_train": {"file_name": "boxed.json"}, "none": {"file_name": "none.json"}}
    (folder / "dataset_info.json").write_text(json.dumps(named))
    return RunSettings(dataset_dir=str(folder), dataset="boxed_train", cutoff_len=17)


@pytest.fixture
def counted(monkeypatch):
    """Without the base's own processor, which takes seconds to import."""
    monkeypatch.setattr(lengths, "load_processor", lambda base, revision: Processor())
    monkeypatch.setattr(lengths, "resize_problem", lambda size, processor, settings: None)


def test_every_token_of_a_sample_counts(tmp_path, counted):
    measured = lengths.measure(sharegpt(tmp_path, "nothing", "two words"), ignore)
    # Three roles, two words of the system, three of the question, 2 + 4 of pictures, the answer.
    assert measured == Lengths((15, 16), 17, (6, 6), (2, 3))


def test_what_would_be_cut_is_told_with_how_many_more(tmp_path, counted):
    settings = sharegpt(tmp_path, "one", "one two three four", "one two three four five")
    with pytest.raises(DataError) as refused:
        lengths.measure(settings, ignore)
    assert str(refused.value) == (
        "sample 'f1' of boxed_train has 18 tokens and would be cut at cutoff_len 17, 2 of 3 "
        "samples in all, the longest has 19: raise cutoff_len, or make the instructions with a "
        "smaller --max-pixels"
    )


def test_a_picture_that_would_be_resized_names_its_sample(tmp_path, counted, monkeypatch):
    monkeypatch.setattr(
        lengths, "resize_problem", lambda size, *_: "is wide" if size.height == 56 else None
    )
    with pytest.raises(DataError, match=r"^sample 'f0' of boxed_train: is wide$"):
        lengths.measure(sharegpt(tmp_path, "one"), ignore)


def test_progress_is_told_from_time_to_time(tmp_path, counted, monkeypatch):
    monkeypatch.setattr(lengths, "PROGRESS_EVERY", 2)
    told = []
    lengths.measure(sharegpt(tmp_path, *["one"] * 5), told.append)
    assert told == ["2/5 samples checked", "4/5 samples checked"]


@pytest.mark.parametrize(
    ("datasets", "complaint"),
    [
        ("boxed_train, boxed_train", "the data set boxed_train is named twice in 'boxed_train, "),
        ("boxed_train,raw", "no data set 'raw'; there are: boxed_train, none"),
        ("none", "holds no sample"),
    ],
)
def test_data_sets_are_refused_by_name(tmp_path, datasets, complaint):
    sharegpt(tmp_path, "one")
    with pytest.raises(DataError, match=complaint):
        lengths.read_samples(tmp_path, datasets)


def test_data_sets_come_one_after_the_other(tmp_path):
    sharegpt(tmp_path, "one", "two")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    (tmp_path / "dataset_info.json").write_text(json.dumps({**info, "again": info["boxed_train"]}))
    found = lengths.read_samples(tmp_path, "boxed_train, again")
    assert [sample["image_id"] for sample in found] == ["f0", "f1", "f0", "f1"]
    assert list(lengths.samples_files(tmp_path, " again ,boxed_train")) == ["again", "boxed_train"]


@pytest.mark.parametrize("info", ["1", '{"boxed_train": {}}', '{"boxed_train": 1}'])
def test_a_list_of_data_sets_that_is_none_is_named(tmp_path, info):
    (tmp_path / "dataset_info.json").write_text(info)
    with pytest.raises(DataError, match=r"dataset_info.json: is not a dataset_info.json of LLaMA"):
        lengths.samples_file(tmp_path, "boxed_train")


def test_the_histogram_names_what_it_shows(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *given, **keys: drawn.append((self, given)))
    Lengths((10, 80, 73, 1), 100, (4, 4, 4, 1)).save_plot(tmp_path / "a.png", "four samples")
    Lengths((10, 80), 40, (0, 0)).save_plot(tmp_path / "b.png", "two samples")
    (one, given), (other, _) = drawn
    assert given == (tmp_path / "a.png",)
    assert one.get_size_inches().tolist() == [5, 3.4]
    axes = one.axes[0]
    assert axes.get_title() == "four samples"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens", "samples")
    whole, images = (bars.patches for bars in axes.containers)
    assert (len(whole), len(images)) == (60, 60)
    assert [bar.get_height() for bar in whole if bar.get_height()] == [1, 1, 1, 1]
    assert [bar.get_height() for bar in images if bar.get_height()] == [1, 3]
    assert whole[0].get_x() == pytest.approx(0, abs=1e-9)
    assert whole[-1].get_x() + whole[-1].get_width() == pytest.approx(100)
    assert (whole[0].get_alpha(), images[0].get_alpha()) == (None, 0.6)
    (limit,) = axes.lines
    assert list(limit.get_xdata()) == [100, 100]
    assert (limit.get_color(), limit.get_linestyle()) == ("black", "--")
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(legend) == ["cutoff_len", "its image", "whole sample"]
    (whole,) = other.axes[0].containers  # no picture, and a sample longer than the limit
    assert whole[-1].get_x() + whole[-1].get_width() == pytest.approx(80)


OUTSIDE = (
    "is outside image_min_pixels 3136 and image_max_pixels 14112: set them to what the "
    "instructions were made with (--max-pixels)"
)


@pytest.mark.parametrize(
    ("size", "limits", "why"),
    [
        (Size(56, 56), (3136, 14112), None),
        (Size(168, 84), (3136, 14112), None),
        (Size(168, 112), (3136, 14112), OUTSIDE),
        (Size(28, 84), (3136, 14112), OUTSIDE),
        (Size(100, 71), (3136, 14112), "would be resized to 112 x 84 by the base's processor"),
        (Size(112, 112), (3136, 12000), "would be resized to 84 x 84 by the base's processor"),
        (Size(140, 84), (13000, 14112), "would be resized to 168 x 112 by the base's processor"),
    ],
)
def test_a_picture_that_is_resized_again_is_told_of(size, limits, why):
    """The settings' limits act first, then the processor's."""
    settings = RunSettings(image_max_pixels=14112, image_min_pixels=3136)
    edges = dict(zip(("shortest_edge", "longest_edge"), limits, strict=True))
    processor = SimpleNamespace(size=edges, patch_size=14, merge_size=2)
    told = f"its image of {size.width} x {size.height} pixels {why}"
    assert lengths.resize_problem(size, processor, settings) == (why and told)


def test_a_base_without_a_processor_is_named(tmp_path):
    processor = lengths.load_processor("train/shipped_base", "main")
    assert type(processor).__name__ == "Qwen2_5_VLProcessor"
    with pytest.raises(ModelError, match=rf"^{tmp_path}: its processor cannot be loaded \("):
        lengths.load_processor(str(tmp_path), "main")


def test_a_processor_is_that_of_the_bases_revision(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        lengths, "load_processor", lambda *given: asked.append(given) or Processor()
    )
    monkeypatch.setattr(lengths, "resize_problem", lambda size, processor, settings: None)
    settings = replace(sharegpt(tmp_path, "one"), model_name_or_path="a/base", model_revision="abc")
    lengths.measure(settings, ignore)
    assert asked == [("a/base", "abc")]


def test_a_set_without_samples_names_its_file(tmp_path):
    sharegpt(tmp_path, "one")
    with pytest.raises(DataError) as refused:
        lengths.read_samples(tmp_path, "none")
    assert str(refused.value) == f"{tmp_path / 'none.json'}: holds no sample"

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dat_runtime.draw import model_frame
from dat_runtime.errors import DataError
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

"""Lengths of the samples as the model sees them, with the base's own processor; none may be cut."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.edge.source import header_size
from dat_runtime.errors import DataError, ModelError
from dat_runtime.files import read_json
from dat_runtime.types import Size
from train.mllm.run_settings import RunSettings

PLOT = "lengths.png"

ANSWER_END = "<|im_end|>\n"
"""Learnt with an answer: how LLaMA-Factory's template ends it."""

BINS = 8
"""Of the histogram in run.json."""

PROGRESS_EVERY = 2000
"""Samples; that many are checked in a few seconds."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of the samples as the model sees them.

    Attributes:
        tokens: image, prompt and answer together, per sample.
        image_tokens: of its images alone.
        answer_tokens: of its answer alone, which is what is learnt.
        cutoff: the most that LLaMA-Factory leaves whole.
    """

    tokens: tuple[int, ...]
    cutoff: int
    image_tokens: tuple[int, ...] = ()
    answer_tokens: tuple[int, ...] = ()

    @property
    def cut(self) -> int:
        """How many samples would be cut."""
        return sum(tokens > self.cutoff for tokens in self.tokens)

    def summary(self) -> str:
        """The distribution in one line, for the terminal."""
        ordered = sorted(self.tokens)
        median = ordered[len(ordered) // 2]
        p95 = ordered[int(0.95 * (len(ordered) - 1))]
        return (
            f"{len(ordered)} samples, tokens median {median}, 95 % {p95}, longest {ordered[-1]}; "
            f"{self.cut or 'none'} cut (cutoff_len {self.cutoff})"
        )

    def as_json(self) -> dict[str, Any]:
        """The histogram in eight bins up to the longest, and the limit.

        A bin holds its upper edge and not its lower one, so the longest sample is in the last.
        """
        longest = max(self.tokens)
        width = -(-longest // BINS)
        bins = [0] * BINS
        for tokens in self.tokens:
            bins[(tokens - 1) // width] += 1
        return {
            "cutoff_len": self.cutoff,
            "cut": self.cut,
            "longest": longest,
            "bin": width,
            "bins": bins,
        }

    def save_plot(self, path: Path, title: str) -> None:
        """A histogram of the tokens and the limit, as PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.4), layout="constrained")  # 10 points are legible on a phone
        axes = figure.subplots()
        shown = {"bins": 60, "range": (0, max(self.cutoff, *self.tokens))}
        # One scale of bins for both, so that the images' tokens can be compared with all.
        axes.hist(self.tokens, **shown, label="whole sample")
        if any(self.image_tokens):
            axes.hist(self.image_tokens, **shown, alpha=0.6, label="its image")
        axes.axvline(self.cutoff, color="black", linestyle="--", label="cutoff_len")
        axes.set(xlabel="tokens", ylabel="samples", title=title)
        axes.legend(loc="upper center")  # "best" is searched for, and warns when that takes long
        figure.savefig(path, dpi=110, metadata={"Software": None})


def samples_files(instructions: Path, datasets: str) -> dict[str, Path]:
    """The file of each data set, by its name.

    Args:
        datasets: one name or several, with commas between them, as LLaMA-Factory takes them.

    Raises:
        DataError: one is not listed, or named twice.
    """
    names = [name.strip() for name in datasets.split(",")]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"the data set {name} is named twice in {datasets!r}")
    return {name: samples_file(instructions, name) for name in names}


def samples_file(instructions: Path, dataset: str) -> Path:
    """The file of a data set that dataset_info.json lists.

    Raises:
        DataError: the data set is not listed, or the list is not LLaMA-Factory's.
    """
    info_path = instructions / "dataset_info.json"
    info = read_json(info_path)
    try:
        if dataset not in info:
            names = ", ".join(sorted(info))
            raise DataError(f"no data set {dataset!r}; there are: {names}", info_path)
        return instructions / str(info[dataset]["file_name"])
    except (KeyError, TypeError) as error:
        raise DataError(
            f"is not a dataset_info.json of LLaMA-Factory ({error!r})", info_path
        ) from None


def read_samples(instructions: Path, datasets: str) -> list[dict[str, Any]]:
    """The samples of one data set or of several, one after the other.

    Raises:
        DataError: one is not listed, or its file is not ShareGPT.
    """
    samples: list[dict[str, Any]] = []
    for path in samples_files(instructions, datasets).values():
        found = read_json(path)
        if not found:
            raise DataError("holds no sample", path)
        samples += found
    return samples


def measure(settings: RunSettings, report_progress: Callable[[str], None]) -> Lengths:
    """The length of every sample, with the base's own processor.

    Args:
        report_progress: takes a line from time to time.

    Raises:
        DataError: names the sample that would be cut, or whose image would be resized again.
        ModelError: the base's processor cannot be loaded.
    """
    instructions, dataset = Path(settings.dataset_dir), settings.dataset
    samples = read_samples(instructions, dataset)
    processor = load_processor(settings.model_name_or_path, settings.model_revision)
    tokens, image_tokens, answer_tokens = [], [], []
    for number, sample in enumerate(samples, start=1):
        sizes = [image_size(instructions / image) for image in sample["images"]]
        for size in sizes:
            problem = resize_problem(size, processor.image_processor, settings)
            if problem is not None:
                raise DataError(f"sample {sample['image_id']!r} of {dataset}: {problem}")
        tokens.append(count_tokens(sample, sizes, processor))
        image_tokens.append(sum(_image_tokens(size, processor) for size in sizes))
        answer_tokens.append(count_answer(sample, processor))
        if number % PROGRESS_EVERY == 0:
            report_progress(f"{number}/{len(samples)} samples checked")
    measured = Lengths(
        tuple(tokens), settings.cutoff_len, tuple(image_tokens), tuple(answer_tokens)
    )
    _demand_none_cut(measured, samples, dataset)
    return measured


def _demand_none_cut(measured: Lengths, samples: Sequence[Mapping[str, Any]], dataset: str) -> None:
    for sample, tokens in zip(samples, measured.tokens, strict=True):
        if tokens > measured.cutoff:
            raise DataError(
                f"sample {sample['image_id']!r} of {dataset} has {tokens} tokens and would be cut "
                f"at cutoff_len {measured.cutoff}, {measured.cut} of {len(samples)} samples in "
                f"all, the longest has {max(measured.tokens)}: raise cutoff_len, or make the "
                "instructions with a smaller --max-pixels"
            )


def load_processor(base: str, revision: str) -> Any:
    """The processor of a base model, from its folder or the hub."""
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(base, revision=revision)
    except (OSError, ValueError) as error:
        raise ModelError(f"{base}: its processor cannot be loaded ({error})") from None


def image_size(path: Path) -> Size:
    """Width and height from the file's header.

    Raises:
        DataError: there is no such file, or it is no picture.
    """
    try:
        return header_size(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"no picture ({error})", path) from None


def resize_problem(size: Size, image_processor: Any, settings: RunSettings) -> str | None:
    """Why an image would be resized again before the model sees it, `None` when it would not.

    LLaMA-Factory's limits act first, then the processor's.
    """
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    image = f"its image of {size.width} x {size.height} pixels"
    most, least = settings.image_max_pixels, settings.image_min_pixels
    if not least <= size.pixels <= most:
        return (
            f"{image} is outside image_min_pixels {least} and image_max_pixels {most}: set them to "
            "what the instructions were made with (--max-pixels)"
        )
    limits = image_processor.size
    factor = image_processor.patch_size * image_processor.merge_size
    height, width = smart_resize(
        size.height, size.width, factor, limits["shortest_edge"], limits["longest_edge"]
    )
    if (width, height) != (size.width, size.height):
        return f"{image} would be resized to {width} x {height} by the base's processor"
    return None


def count_tokens(sample: Mapping[str, Any], sizes: Sequence[Size], processor: Any) -> int:
    """Tokens of one ShareGPT sample: chat template, image, prompt and answer."""
    user, assistant = sample["messages"]
    question = user["content"].replace("<image>", "")
    content = [{"type": "image"} for _ in sizes]
    content.append({"type": "text", "text": question})
    text = processor.apply_chat_template(
        [
            {"role": "system", "content": [{"type": "text", "text": sample["system"]}]},
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": assistant["content"]}]},
        ]
    )
    # The template writes one placeholder for an image; the processor repeats it.
    repeated = sum(_image_tokens(size, processor) - 1 for size in sizes)
    return len(processor.tokenizer(text)["input_ids"]) + repeated


def count_answer(sample: Mapping[str, Any], processor: Any) -> int:
    """Tokens of one ShareGPT sample that have a label."""
    _, assistant = sample["messages"]
    return len(processor.tokenizer(assistant["content"] + ANSWER_END)["input_ids"])


def _image_tokens(size: Size, processor: Any) -> int:
    """A token stands for `merge` x `merge` patches of the image."""
    patch, merge = processor.image_processor.patch_size, processor.image_processor.merge_size
    return int(size.pixels // (patch * merge) ** 2)

"""Lengths of the samples as the model sees them, with the base's own processor; none may be cut."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.edge.source import header_size
from dat_runtime.errors import DataError, ModelError
from dat_runtime.types import Size

PLOT = "lengths.png"


@dataclass(frozen=True)
class Lengths:
    """Tokens of the samples as the model sees them.

    Attributes:
        tokens: image, prompt and answer together, per sample.
        image_tokens: of its images alone.
        cutoff: the most that LLaMA-Factory leaves whole.
    """

    tokens: tuple[int, ...]
    cutoff: int
    image_tokens: tuple[int, ...] = ()

    @property
    def cut(self) -> int:
        """How many samples would be cut."""
        return sum(tokens > self.cutoff for tokens in self.tokens)

    def summary(self) -> str:
        ordered = sorted(self.tokens)
        median, p95 = ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))]
        return (
            f"{len(ordered)} samples, tokens median {median}, 95 % {p95}, longest {ordered[-1]}; "
            f"{self.cut or 'none'} cut (cutoff_len {self.cutoff})"
        )

    def as_json(self) -> dict[str, Any]:
        """The histogram in eight bins up to the longest, and what the limit was."""
        width = -(-max(self.tokens) // 8)
        bins = [sum(t > i * width and t <= (i + 1) * width for t in self.tokens) for i in range(8)]
        return {
            "cutoff_len": self.cutoff,
            "cut": self.cut,
            "longest": max(self.tokens),
            "bin": width,
            "bins": bins,
        }

    def save_plot(self, path: Path, title: str) -> None:
        """A histogram of the tokens and the limit, as PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axes = figure.subplots()
        shown = {"bins": 60, "range": (0, max(self.cutoff, *self.tokens))}
        axes.hist(self.tokens, **shown, label="whole sample")
        if any(self.image_tokens):
            axes.hist(self.image_tokens, **shown, alpha=0.6, label="its image")
        axes.axvline(self.cutoff, color="black", linestyle="--", label="cutoff_len")
        axes.set(xlabel="tokens", ylabel="samples", title=title)
        axes.legend()
        figure.savefig(path, dpi=110, metadata={"Software": None})


def samples_file(instructions: Path, dataset: str) -> Path:
    """The file of a data set that dataset_info.json lists.

    Raises:
        DataError: it does not list it.
    """
    info_path = instructions / "dataset_info.json"
    try:
        info = json.loads(info_path.read_text("utf-8"))
        if dataset not in info:
            names = ", ".join(sorted(info))
            raise DataError(f"no data set {dataset!r}; there are: {names}", info_path)
        return instructions / str(info[dataset]["file_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a LLaMA-Factory dataset_info.json ({error!r})", info_path) from None


def read_samples(instructions: Path, dataset: str) -> list[dict[str, Any]]:
    """The samples of a data set.

    Raises:
        DataError: it is not listed, or the file is not ShareGPT.
    """
    path = samples_file(instructions, dataset)
    try:
        samples: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", path) from None
    if not samples:
        raise DataError("holds no sample", path)
    return samples


def measure(config: Mapping[str, Any], say: Callable[[str], None]) -> Lengths:
    """The length of every sample, with the base's own processor.

    Raises:
        DataError: names the sample that would be cut, or whose image would be resized again.
        ModelError: the base's processor cannot be loaded.
    """
    instructions, dataset = Path(config["dataset_dir"]), config["dataset"]
    samples = read_samples(instructions, dataset)
    processor = load_processor(config["model_name_or_path"], config.get("model_revision", "main"))
    tokens, image_tokens = [], []
    for number, sample in enumerate(samples, start=1):
        sizes = [image_size(instructions / image) for image in sample["images"]]
        for size in sizes:
            if problem := resize_problem(size, processor.image_processor, config):
                raise DataError(f"sample {sample['image_id']!r} of {dataset}: {problem}")
        tokens.append(count_tokens(sample, sizes, processor))
        image_tokens.append(sum(_image_tokens(size, processor) for size in sizes))
        if number % 2000 == 0:
            say(f"{number}/{len(samples)} samples checked")
    found = Lengths(tuple(tokens), config.get("cutoff_len", 2048), tuple(image_tokens))
    if found.cut:
        at = next(i for i, count in enumerate(tokens) if count > found.cutoff)
        raise DataError(
            f"sample {samples[at]['image_id']!r} of {dataset} has {tokens[at]} tokens and would be "
            f"cut at cutoff_len {found.cutoff}, {found.cut} of {len(samples)} samples in all, the "
            f"longest has {max(tokens)}: raise cutoff_len, or make the instructions with a smaller "
            "--max-pixels"
        )
    return found


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


def resize_problem(size: Size, image_processor: Any, config: Mapping[str, Any]) -> str | None:
    """Why an image would be resized again before the model sees it, `None` when it would not.

    LLaMA-Factory's limits act first (its defaults are 768 x 768 and 32 x 32), then the processor's.
    """
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    image = f"its image of {size.width} x {size.height} pixels"
    most = config.get("image_max_pixels", 768 * 768)
    least = config.get("image_min_pixels", 32 * 32)
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
    content = [{"type": "image"} for _ in sizes]
    content.append({"type": "text", "text": user["content"].replace("<image>", "")})
    text = processor.apply_chat_template(
        [
            {"role": "system", "content": [{"type": "text", "text": sample["system"]}]},
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": assistant["content"]}]},
        ]
    )
    pads = sum(_image_tokens(size, processor) - 1 for size in sizes)  # one is in the text
    return len(processor.tokenizer(text)["input_ids"]) + pads


def _image_tokens(size: Size, processor: Any) -> int:
    patch, merge = processor.image_processor.patch_size, processor.image_processor.merge_size
    return int(size.pixels // (patch * merge) ** 2)

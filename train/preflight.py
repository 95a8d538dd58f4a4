"""What is checked before a LoRA run spends an hour: the base, and every sample against it."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.edge.source import header_size
from dat_runtime.errors import ConfigError, DataError, ModelError
from dat_runtime.types import Size

MODEL_TYPE = "qwen2_5_vl"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Lengths:
    """Tokens of the samples as the model sees them: image, prompt and answer together."""

    tokens: tuple[int, ...]
    cutoff: int

    def summary(self) -> str:
        ordered = sorted(self.tokens)
        median, p95 = ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))]
        return (
            f"{len(ordered)} samples, tokens median {median}, 95 % {p95}, longest {ordered[-1]}; "
            f"none is cut (cutoff_len {self.cutoff})"
        )

    def as_json(self) -> dict[str, Any]:
        """The histogram in eight bins up to the longest, and what the limit was."""
        width = -(-max(self.tokens) // 8)
        bins = [sum(t > i * width and t <= (i + 1) * width for t in self.tokens) for i in range(8)]
        return {"cutoff_len": self.cutoff, "longest": max(self.tokens), "bin": width, "bins": bins}


def base_folder(name: str, config: Mapping[str, Any]) -> Path | None:
    """The folder of a local base model; `None` for a hub name.

    Raises:
        ModelError: the folder holds no Qwen2.5-VL.
        ConfigError: the name is neither, or the hub name comes without a pinned revision.
    """
    folder = Path(name)
    if folder.is_dir():
        demand_model_type(folder / "config.json")
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ConfigError(f"{name} is neither a folder nor a model's hub name")
    revision = config.get("model_revision")
    if not isinstance(revision, str) or not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"model_revision is {revision!r}: pin the 40-digit commit of {name}, so that the "
            "adapter says what it belongs to"
        )
    return None


def demand_model_type(path: Path) -> None:
    """Refuse a folder whose config.json describes another architecture."""
    try:
        found = json.loads(path.read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: no model configuration ({error})") from None
    if found != MODEL_TYPE:
        raise ModelError(f"{path}: model_type is {found!r}, expected {MODEL_TYPE!r}")


def read_samples(instructions: Path, dataset: str) -> list[dict[str, Any]]:
    """The samples of a data set that dataset_info.json lists.

    Raises:
        DataError: it does not list it, or the file is not ShareGPT.
    """
    info_path = instructions / "dataset_info.json"
    try:
        info = json.loads(info_path.read_text("utf-8"))
        if dataset not in info:
            names = ", ".join(sorted(info))
            raise DataError(f"no data set {dataset!r}; there are: {names}", info_path)
        path = instructions / info[dataset]["file_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a LLaMA-Factory dataset_info.json ({error!r})", info_path) from None
    try:
        samples: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", path) from None
    if not samples:
        raise DataError("holds no sample", path)
    return samples


def check(config: Mapping[str, Any], say: Callable[[str], None]) -> Lengths:
    """The length of every sample, with the base's own processor.

    Raises:
        DataError: names the sample that would be cut, or whose image would be resized again.
        ModelError: the base's processor cannot be loaded.
    """
    instructions, dataset = Path(config["dataset_dir"]), config["dataset"]
    samples = read_samples(instructions, dataset)
    processor = load_processor(config["model_name_or_path"], config.get("model_revision", "main"))
    cutoff = config.get("cutoff_len", 2048)
    tokens = []
    for number, sample in enumerate(samples, start=1):
        name = f"sample {sample['image_id']!r} of {dataset}"
        sizes = [image_size(instructions / image) for image in sample["images"]]
        for size in sizes:
            if problem := resize_problem(size, processor.image_processor, config):
                raise DataError(f"{name}: {problem}")
        tokens.append(count_tokens(sample, sizes, processor))
        if tokens[-1] > cutoff:
            raise DataError(
                f"{name} has {tokens[-1]} tokens and would be cut at cutoff_len {cutoff}: raise "
                "cutoff_len, or make the instructions with a smaller --max-pixels"
            )
        if number % 2000 == 0:
            say(f"{number}/{len(samples)} samples checked")
    return Lengths(tuple(tokens), cutoff)


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
    patch, merge = processor.image_processor.patch_size, processor.image_processor.merge_size
    pads = sum(size.pixels // (patch * merge) ** 2 - 1 for size in sizes)  # one is in the text
    return len(processor.tokenizer(text)["input_ids"]) + pads

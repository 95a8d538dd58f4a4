"""A vision-language model in this process: loading it, and turning questions into its inputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime import manifest
from dat_runtime.adapter import read_adapter
from dat_runtime.adapter_place import demand_whole
from dat_runtime.base_identity import difference
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.family import FAMILIES
from dat_runtime.files import read_json
from eval.answers.asks import Ask


class Loaded(NamedTuple):
    """A model on its device, ready to generate, and its processor."""

    model: Any
    processor: Any


def demand_there(name: str, revision: str | None) -> Path:
    """The config.json of a model; one that cannot be had is refused before seconds of imports.

    Raises:
        ConfigError: there is no such folder, and no such model in the cache or on the hub.
    """
    from httpx import HTTPError
    from huggingface_hub import hf_hub_download

    if (Path(name) / "config.json").is_file():
        return Path(name) / "config.json"
    if Path(name).is_dir():
        raise ConfigError(f"{name} holds no model (no config.json)")
    try:
        return Path(hf_hub_download(name, "config.json", revision=revision))
    except (OSError, ValueError, HTTPError) as error:
        why = str(error).strip().partition("\n")[0]
        raise ConfigError(f"cannot load {name}: no such folder, and of the hub: {why}") from None


def demand_family(instructions: Path, name: str, revision: str | None) -> None:
    """Refuse to ask a model in the words and coordinates of another family.

    A model of another architecture than those in `dat_runtime.family` is asked as it is.

    Raises:
        ConfigError: says with which instructions it can be asked, or that it cannot be had.
    """
    of_model = FAMILIES.get(read_json(demand_there(name, revision), ConfigError).get("model_type"))
    asked = manifest.read(instructions, "instructions").family
    if of_model not in (None, asked):
        raise ConfigError(
            f"{name} is a {of_model.title}, {instructions} asks as {asked.title} is asked, in "
            f"other coordinates: data.prep.instruct --family {of_model.name} makes its own"
        )


def load(name: str, revision: str | None, adapter: Path | None) -> Loaded:
    """The model of a folder or of the hub, with a LoRA adapter if one is named.

    Raises:
        ConfigError: model or adapter cannot be loaded.
        ModelError: the adapter belongs to another base.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    if adapter:
        demand_base(name, revision, adapter)

    transformers.utils.logging.disable_progress_bar()
    if torch.cuda.is_available():
        device, dtype = "cuda", torch.bfloat16
    else:
        device, dtype = "cpu", torch.float32
    try:
        processor = transformers.AutoProcessor.from_pretrained(name, revision=revision)
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            name,
            revision=revision,
            dtype=dtype,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"cannot load {name}: {error}") from None
    model.generation_config = without_defaults(model.generation_config)
    if adapter:
        model = with_adapter(model, adapter)
    # Generation goes on at the right end of each row, so a batch is padded on the left.
    processor.tokenizer.padding_side = "left"
    return Loaded(model.to(device).eval(), processor)


def without_defaults(config: Any) -> Any:
    """A generation configuration that keeps only the tokens at which answers begin and end.

    `generate` takes whatever it is not told from the model's own file, and Qwen2.5-VL-7B's holds
    `repetition_penalty: 1.05`: a figure that occurs twice in an answer would get less likely.
    """
    from transformers import GenerationConfig

    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(config, name) for name in names})


def demand_room(loaded: Loaded, asks: Sequence[Ask], max_new_tokens: int) -> None:
    """Refuse a limit at which a right answer would be cut.

    Raises:
        ConfigError: the true answer of a frame has more tokens.
    """
    longest = max(asks, key=lambda ask: len(ask.truth))
    tokens = len(loaded.processor.tokenizer(longest.truth)["input_ids"]) + 1  # and the end
    if tokens > max_new_tokens:
        raise ConfigError(
            f"the true answer of {longest.id} has {tokens} tokens, and --max-new-tokens is "
            f"{max_new_tokens}: raise it, or leave it out"
        )


def with_adapter(model: Any, adapter: Path) -> Any:
    """The model with a LoRA adapter on it, the whole of it.

    Raises:
        ConfigError: it cannot be loaded.
        ModelError: a part of it has no place in the model.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    demand_whole(adapter, dict(model.named_modules()))
    try:
        return PeftModel.from_pretrained(model, str(adapter)).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"cannot load {adapter}: {error}") from None


def demand_base(name: str, revision: str | None, adapter: Path) -> str | None:
    """The revision at which to load the base; `None` for a folder, which has only one.

    Raises:
        ModelError: the adapter's files are broken, or it states another base or revision.
    """
    stated = read_adapter(adapter)
    load_at = None
    if Path(name).is_dir():
        why = difference(Path(name), stated.base, stated.revision)
    elif stated.base != name:
        raise ModelError(
            f"{adapter} was trained for {stated.base}, not for {name}: name its own base, or "
            "train an adapter for this one"
        )
    else:
        load_at = revision or stated.revision
        why = None if load_at == stated.revision else f"{load_at} is asked for"
    if why is not None:
        raise ModelError(
            f"{adapter} was trained for {stated.base} at revision {stated.revision}, {name} is "
            f"another base: {why}. Use the base that it was trained for, or train it again"
        )
    return load_at


def verify_adapter(adapter: Path) -> None:
    """Verify a bundle's adapter with its bundle; another folder's manifest is its own.

    Raises:
        ManifestError: the bundle is not what its manifest states, or has another prompt.
    """
    bundle = adapter.parent
    if not (adapter / manifest.NAME).is_file() and (bundle / manifest.NAME).is_file():
        manifest.verify(bundle)


def ends_of(model: Any) -> list[int]:
    """The tokens at which generation ends."""
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [ends]


def encode(processor: Any, batch: Sequence[Ask]) -> Any:
    """The batch as model inputs, the images at their stored sizes.

    Raises:
        ConfigError: the processor would resize an image, so that coordinates would no longer fit.
    """
    from PIL import Image

    images = [Image.open(ask.image).convert("RGB") for ask in batch]
    texts = [
        processor.apply_chat_template(chat(ask), tokenize=False, add_generation_prompt=True)
        for ask in batch
    ]
    encoded = processor(images=images, text=texts, padding=True, return_tensors="pt")
    patch = processor.image_processor.patch_size
    grids = encoded["image_grid_thw"].tolist()
    for ask, image, (_, rows, columns) in zip(batch, images, grids, strict=True):
        seen = (columns * patch, rows * patch)
        if seen != image.size:
            raise ConfigError(
                f"{ask.image} is {image.width} x {image.height}, the model's processor "
                f"makes it {seen[0]} x {seen[1]}: make the instruction data with a "
                "smaller --max-pixels, or raise the processor's pixel limit"
            )
    return encoded


def chat(ask: Ask) -> list[dict[str, Any]]:
    """The messages of one question, the image before the text as in training."""
    system = {"type": "text", "text": ask.system}
    prompt = {"type": "text", "text": ask.prompt}
    return [
        {"role": "system", "content": [system]},
        {"role": "user", "content": [{"type": "image"}, prompt]},
    ]

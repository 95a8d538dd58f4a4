"""The model that a codec is made for: loaded with its adapter, and never changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.adapter import read_adapter
from dat_runtime.base_identity import difference
from dat_runtime.errors import ConfigError, ModelError
from train.mllm import preflight
from train.mllm.run_settings import RunSettings


@dataclass(frozen=True)
class Backbone:
    """What is stated of the model.

    Attributes:
        path: folder or hub name.
        base: its name without a path, as adapters state it.
        revision: commit, or the digest of a folder.
        adapter: folder, where one is applied.
    """

    path: str
    base: str
    revision: str
    adapter: Path | None

    @property
    def is_folder(self) -> bool:
        return Path(self.path).is_dir()

    def as_json(self) -> dict[str, Any]:
        """For codec.json."""
        adapter = manifest.digest(self.adapter) if self.adapter else None
        return {"base": self.base, "revision": self.revision, "adapter": adapter}


def backbone_of(path: str, adapter: Path | None, revision: str | None) -> Backbone:
    """The base and adapter that are named, which must belong together.

    Raises:
        ConfigError: there is no such base, or the configuration pins no revision of it.
        ModelError: it is no Qwen2.5-VL, or the adapter is broken or belongs to another base.
    """
    stated = read_adapter(adapter) if adapter else None
    if revision is None and stated is not None:
        revision = stated.revision
    settings = RunSettings(model_name_or_path=path, model_revision=revision or "main")
    folder = preflight.base_folder(settings)
    if stated is None:
        name = path if folder is None else folder.resolve().name
        return Backbone(path, name, preflight.base_revision(settings), None)
    if folder is not None:
        why = difference(folder, stated.base, stated.revision)
    else:
        same = (path, revision) == (stated.base, stated.revision)
        why = None if same else f"{path} at {revision} is asked for"
    if why is not None:
        raise ModelError(
            f"{adapter} was trained for {stated.base} at revision {stated.revision}, {path} is "
            f"another base: {why}. Use the base that it was trained for, or train it again"
        )
    return Backbone(path, stated.base, stated.revision, adapter)


def load_frozen(backbone: Backbone) -> tuple[Any, Any]:
    """Model and processor; no weight of it learns. On a card if there is one, then in bfloat16.

    Raises:
        ConfigError: the model or the adapter cannot be loaded.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    transformers.utils.logging.disable_progress_bar()
    on_card = torch.cuda.is_available()
    revision = None if backbone.is_folder else backbone.revision
    try:
        processor = transformers.AutoProcessor.from_pretrained(backbone.path, revision=revision)
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            backbone.path,
            revision=revision,
            dtype=torch.bfloat16 if on_card else torch.float32,
            attn_implementation="sdpa",
        )
        if backbone.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(backbone.adapter))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"cannot load {backbone.path}: {error}") from None
    model.requires_grad_(False)
    return model.to("cuda" if on_card else "cpu").eval(), processor

"""A trained codec's folder (`dat_runtime.codec_folder`), written and read with its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.codec_folder import (
    FILE,
    KIND,
    VERSION,
    WEIGHTS,
    Description,
    codec_id,
    read_description,
)
from dat_runtime.errors import ModelError
from dat_runtime.files import write_json
from dat_runtime.prompt import PROMPT_VERSION


def write_codec(folder: Path, codec: Any, fields: Mapping[str, Any]) -> Description:
    """Write weights and codec.json; `fields` lack `version`, `id`, `prompt` and the sizes."""
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous() for name, t in codec.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    shape = codec.shape
    sizes = {"features": shape.features, "width": shape.width, "spatial": shape.spatial}
    stated = {"version": VERSION, **fields, **sizes, "prompt": PROMPT_VERSION}
    stated["id"] = codec_id(stated, folder / WEIGHTS)
    write_json(folder / FILE, stated, sort_keys=True)
    return read_description(folder)


def read_codec(folder: Path) -> tuple[Description, Any]:
    """The codec of a folder of `train.offload`, ready to decode.

    Raises:
        ManifestError: a file is missing, or is not what the manifest lists.
        ModelError: codec.json is wrong, or the weights do not fit it.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from train.offloading.codec import Codec, Shape

    manifest.verify(folder, KIND)
    description = read_description(folder)
    stated = description.fields
    codec = Codec(
        Shape(stated["features"], stated["channels"][-1], stated["width"], stated["spatial"])
    )
    try:
        tensors = load_file(folder / WEIGHTS)
        codec.load_state_dict(tensors)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"does not fit {FILE} ({error})", folder / WEIGHTS) from None
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise ModelError("holds NaN or infinity", folder / WEIGHTS)
    return description, codec.eval().requires_grad_(False)

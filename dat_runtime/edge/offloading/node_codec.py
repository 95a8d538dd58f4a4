"""A trained codec as a node opens it: verified, with an encoder for each size of picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dat_runtime import manifest
from dat_runtime.codec_folder import KIND, Description, encoder_file, read_description
from dat_runtime.edge.engines import Floats
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.offload import PATCH
from dat_runtime.prompt import PROMPT_VERSION
from dat_runtime.types import Size

MAX_ENCODER_BYTES = 1 << 31
"""Of one graph: the first 21 blocks of a 7B's tower are 1.7 GB in float32."""


@dataclass(frozen=True)
class NodeCodec:
    """A codec that was verified.

    Attributes:
        encoders: graph file by the size of the picture that it takes.
        bytes: of all graphs.
    """

    description: Description
    encoders: Mapping[Size, Path]
    bytes: int

    @property
    def colours(self) -> tuple[Floats, Floats]:
        """Mean and deviation, of red, green and blue."""
        stated = self.description.fields
        return np.array(stated["mean"], np.float32), np.array(stated["std"], np.float32)


def open_codec(folder: Path) -> NodeCodec:
    """The codec in a folder of `train.offload`, after all of it was hashed; nothing is run.

    Raises:
        ManifestError: a file is missing, or is not what the manifest lists.
        ModelError: codec.json is wrong, or a graph is missing or too large.
        ConfigError: it was trained with another prompt or another patch than this release has.
    """
    manifest.verify(folder, KIND)
    description = read_description(folder)
    stated = description.fields
    if stated["prompt"] != PROMPT_VERSION or stated["patch"] != PATCH:
        raise ConfigError(
            f"was trained with prompt {stated['prompt']} and patches of {stated['patch']} pixels, "
            f"this release has {PROMPT_VERSION} and {PATCH}: train a codec for it",
            folder,
        )
    encoders, total = {}, 0
    for grid in description.grids:
        path = folder / encoder_file(grid)
        if not path.is_file():
            raise ModelError("is missing: codec.json states its grid", path)
        size = path.stat().st_size
        if size > MAX_ENCODER_BYTES:
            raise ModelError(f"has {size:,} bytes, at most {MAX_ENCODER_BYTES:,} are opened", path)
        encoders[Size(grid[1] * PATCH, grid[0] * PATCH)] = path
        total += size
    return NodeCodec(description, encoders, total)

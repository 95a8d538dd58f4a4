"""The sizes of a base, read from its config.json, and the weights that follow from them.

The classes here are Qwen2.5-VL's. Another family has its own, which say where it differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dat_runtime.errors import ConfigError
from dat_runtime.family import QWEN2_5_VL

PATCH_VALUES = 3 * 2 * 14 * 14
"""Numbers of one patch: channels x frames x height x width."""

SEVEN_B: Mapping[str, Any] = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "num_heads": 16,
        "intermediate_size": 3420,
        "out_hidden_size": 3584,
        "spatial_merge_size": 2,
    },
}
"""The sizes in config.json of Qwen2.5-VL-7B-Instruct."""


@dataclass(frozen=True)
class Text:
    """The language model."""

    hidden: int
    layers: int
    heads: int
    queries: int
    """Width of the queries: all heads times their size."""
    keys: int
    """Width of the keys, and of the values: heads that hold them times their size."""
    inner: int
    vocabulary: int
    tied: bool

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.queries // self.heads

    @property
    def normed(self) -> int:
        """Width of what a layer norms in its attention."""
        return 0

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """Name -> (inputs, outputs) of the linear modules of a layer."""
        h, q, k, i = self.hidden, self.queries, self.keys, self.inner
        return {
            "q_proj": (h, q),
            "k_proj": (h, k),
            "v_proj": (h, k),
            "o_proj": (q, h),
            "gate_proj": (h, i),
            "up_proj": (h, i),
            "down_proj": (i, h),
        }

    @property
    def linear(self) -> int:
        """Weights of all layers' linear modules."""
        return self.layers * sum(i * o for i, o in self.modules.values())

    @property
    def other(self) -> int:
        """Weights that are never quantized: embeddings, output head, biases, norms.

        A layer has two norms beside its attention, the model one more at its end.
        """
        embeddings = self.vocabulary * self.hidden
        output_head = 0 if self.tied else self.vocabulary * self.hidden
        norms = 2 * self.hidden
        return embeddings + output_head + self.layers * (self.in_attention + norms) + self.hidden

    @property
    def in_attention(self) -> int:
        """Weights of a layer's attention beside its linear modules: biases of q, k and v."""
        return self.queries + 2 * self.keys


@dataclass(frozen=True)
class Vision:
    """The vision tower and its merger (LLaMA-Factory's projector)."""

    depth: int
    hidden: int
    heads: int
    inner: int
    out: int
    merge: int

    @property
    def patch_values(self) -> int:
        """Numbers of one patch."""
        return PATCH_VALUES

    @property
    def mergers(self) -> int:
        """How often patches are merged."""
        return 1

    @property
    def mlp_saved(self) -> int:
        """Numbers per patch that autograd saves of a block's MLP: SiLU's input, both factors."""
        return 3 * self.inner

    @property
    def linear(self) -> int:
        """Weights of the linear modules: the blocks' and the merger's.

        A block has queries, keys, values and output (4dd), gate, up and down projection (3di). The
        merger takes `merge` x `merge` patches as one.
        """
        d, i = self.hidden, self.inner
        blocks = self.depth * (4 * d * d + 3 * d * i)
        merged = d * self.merge**2
        return blocks + merged * merged + merged * self.out

    @property
    def other(self) -> int:
        """Weights of the patch embedding, biases and norms."""
        d, i = self.hidden, self.inner
        embedding = PATCH_VALUES * d
        # One number per output of each linear module, in the order of `linear`.
        block_biases = self.depth * (3 * d + d + 2 * i + d)
        merger_biases = d * self.merge**2 + self.out
        norms = self.depth * 2 * d + d
        return embedding + block_biases + norms + merger_biases


Parts = tuple[type[Text], type[Vision]]

PARTS: Mapping[str, Parts] = {QWEN2_5_VL.name: (Text, Vision)}
"""The two parts of a model, by the name of its family."""


def read_model(config: Mapping[str, Any]) -> tuple[Text, Vision]:
    """The sizes in a config.json, in the hub's flat form or Transformers 5's.

    Raises:
        ConfigError: a size is missing.
    """
    family = config.get("model_type", QWEN2_5_VL.name)
    text_class, vision_class = PARTS[family]
    t = config.get("text_config", config)
    v = config.get("vision_config", {})
    try:
        head = t.get("head_dim") or t["hidden_size"] // t["num_attention_heads"]
        text = text_class(
            hidden=t["hidden_size"],
            layers=t["num_hidden_layers"],
            heads=t["num_attention_heads"],
            queries=t["num_attention_heads"] * head,
            keys=t["num_key_value_heads"] * head,
            inner=t["intermediate_size"],
            vocabulary=t["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", t.get("tie_word_embeddings", False))),
        )
        vision = vision_class(
            depth=v["depth"],
            hidden=v["hidden_size"],
            heads=v["num_heads"],
            inner=v["intermediate_size"],
            out=v["out_hidden_size"],
            merge=v.get("spatial_merge_size", 2),
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"config.json is not that of {family}: {error!r} is missing") from None
    return text, vision

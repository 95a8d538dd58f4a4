"""Qwen2.5-VL: Transformers' classes, and the sizes of its parts with the weights that follow.

Another family has a module like this one, which says where it differs (`train.mllm.families`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODELING = "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl"
TOWER = "Qwen2_5_VisionTransformerPretrainedModel"
ATTENTION = "Qwen2_5_VLVisionAttention"
MODEL = "Qwen2_5_VLForConditionalGeneration"
OUTPUT = "Qwen2_5_VLCausalLMOutputWithPast"


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

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "Text":
        """Of a config.json, in the hub's flat form or Transformers 5's.

        Raises:
            KeyError, TypeError: a size is missing.
        """
        t = config.get("text_config", config)
        head = t.get("head_dim") or t["hidden_size"] // t["num_attention_heads"]
        return cls(
            hidden=t["hidden_size"],
            layers=t["num_hidden_layers"],
            heads=t["num_attention_heads"],
            queries=t["num_attention_heads"] * head,
            keys=t["num_key_value_heads"] * head,
            inner=t["intermediate_size"],
            vocabulary=t["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", t.get("tie_word_embeddings", False))),
        )

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

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "Vision":
        """As `Text.read`."""
        return cls(**cls.sizes(config.get("vision_config", {})))

    @staticmethod
    def sizes(v: Mapping[str, Any]) -> dict[str, int]:
        """The fields, from the part of config.json that is the tower's."""
        return {
            "depth": v["depth"],
            "hidden": v["hidden_size"],
            "heads": v["num_heads"],
            "inner": v["intermediate_size"],
            "out": v["out_hidden_size"],
            "merge": v.get("spatial_merge_size", 2),
        }

    @property
    def patch_values(self) -> int:
        """Numbers of one patch: channels x frames x height x width."""
        return 3 * 2 * 14 * 14

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
        embedding = self.patch_values * d
        # One number per output of each linear module, in the order of `linear`.
        block_biases = self.depth * (3 * d + d + 2 * i + d)
        merger_biases = d * self.merge**2 + self.out
        norms = self.depth * 2 * d + d
        return embedding + block_biases + norms + merger_biases

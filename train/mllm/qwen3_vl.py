"""Qwen3-VL, where it differs from Qwen2.5-VL: Transformers' classes, sizes, weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.mllm import qwen2_5_vl

MODELING = "transformers.models.qwen3_vl.modeling_qwen3_vl"
TOWER = "Qwen3VLVisionModel"
ATTENTION = "Qwen3VLVisionAttention"
MODEL = "Qwen3VLForConditionalGeneration"
OUTPUT = "Qwen3VLCausalLMOutputWithPast"


class Text(qwen2_5_vl.Text):
    """The language model: no biases; each head's queries and keys are normed."""

    @property
    def normed(self) -> int:
        return self.queries + self.keys

    @property
    def in_attention(self) -> int:
        """Weights of a layer's attention beside its linear modules: the norms of q and k."""
        return 2 * self.head


@dataclass(frozen=True)
class Vision(qwen2_5_vl.Vision):
    """The vision tower, with a merger at its end and one for each layer that DeepStack takes.

    Attributes:
        positions: learnt ones, interpolated to the grid of an image.
        deepstack: layers whose patches are merged for the language model too.
    """

    positions: int
    deepstack: int

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "Vision":
        v = config["vision_config"]
        stack = len(v["deepstack_visual_indexes"])
        return cls(**cls.sizes(v), positions=v["num_position_embeddings"], deepstack=stack)

    @property
    def patch_values(self) -> int:
        return 3 * 2 * 16 * 16

    @property
    def mergers(self) -> int:
        return 1 + self.deepstack

    @property
    def mlp_saved(self) -> int:
        """GELU's input; the MLP has no gate."""
        return self.inner

    @property
    def linear(self) -> int:
        d, merged = self.hidden, self.hidden * self.merge**2
        blocks = self.depth * (4 * d * d + 2 * d * self.inner)
        return blocks + self.mergers * (merged * merged + merged * self.out)

    @property
    def other(self) -> int:
        """Weights of the embeddings of patches and positions, biases and norms.

        A norm has a weight and a bias; those of DeepStack's mergers come after the merging.
        """
        d, merged = self.hidden, self.hidden * self.merge**2
        embeddings = self.patch_values * d + d + self.positions * d
        block_biases = 3 * d + d + self.inner + d
        block_norms = 2 * 2 * d
        merger_biases = self.mergers * (merged + self.out)
        merger_norms = 2 * d + self.deepstack * 2 * merged
        return embeddings + self.depth * (block_biases + block_norms) + merger_biases + merger_norms

"""The half that a weak node runs, as one ONNX graph: head and encoder for pictures of one grid.

    patches   float32 (N, 1176), as the model's processor makes them
    bits      uint8 (C, positions), 0 or 1, of the widest code

What the grid decides (windows, rotary positions) is fixed in the graph, so ONNX Runtime is all that
the node needs.
"""

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dat_runtime.errors import ModelError
from train.offloading.codec import Codec
from train.offloading.learning import Learner
from train.offloading.samples import Grid, Sample, pictures
from train.offloading.tower import Tower, head, layout_of

OPSET = 17
PATCHES, BITS = "patches", "bits"

MOST_DIFFERING = 1e-3
"""Share of bits that may differ between torch and ONNX Runtime: X' near 0, summed in another order.
"""


class NodeHalf(nn.Module):
    """Head and encoder of one grid."""

    def __init__(self, tower: Tower, codec: Codec, grid: Grid, block: int) -> None:
        super().__init__()
        self.tower = tower
        self.codec = codec
        self.block = block
        self.grid_thw = torch.tensor([[1, *grid]])
        self.layout = layout_of(tower, self.grid_thw)

    def forward(self, patches: Tensor) -> Tensor:
        features = head(self.tower, patches, self.grid_thw, self.block, self.layout)
        return self.codec.bits(features).transpose(0, 1).to(torch.uint8)


def node_half(learner: Learner, grid: Grid) -> NodeHalf:
    """A float32 copy on the CPU of what a node of that grid runs."""
    tower = learner.tower
    tail_blocks = tower.blocks[learner.settings.block :]
    # Only the blocks that a node has are copied: the others are most of a 7B's tower.
    kept: dict[int, Any] = {id(block): nn.Identity() for block in tail_blocks}
    kept[id(tower.merger)] = nn.Identity()
    own = copy.deepcopy(tower, kept).float().cpu()
    own.config._attn_implementation = "eager"  # plain products, which ONNX has
    codec = copy.deepcopy(learner.codec).float().cpu()
    return NodeHalf(own, codec, grid, learner.settings.block).eval().requires_grad_(False)


def export(half: NodeHalf, path: Path) -> None:
    """Write the graph."""
    patches = torch.zeros(int(half.grid_thw.prod()), half.tower.patch_embed.proj.weight[0].numel())
    with warnings.catch_warnings():
        # Of the tracer: what follows from the grid becomes a constant, as it should here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            half,
            (patches,),
            str(path),
            input_names=[PATCHES],
            output_names=[BITS],
            opset_version=OPSET,
            dynamo=False,
        )


def compare(
    half: NodeHalf, path: Path, processor: Any, samples: Sequence[Sample]
) -> dict[str, int]:
    """Count the bits in which ONNX Runtime and torch differ on some pictures.

    Raises:
        ModelError: more than a thousandth do.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    differing = total = 0
    for sample in samples:
        patches, _ = pictures(processor, [sample])
        with torch.no_grad():
            expected = half(patches).numpy()
        (found,) = session.run([BITS], {PATCHES: patches.numpy()})
        differing += int(np.count_nonzero(found != expected))
        total += expected.size
    if differing > MOST_DIFFERING * total:
        raise ModelError(
            f"{path.name}: {differing:,} of {total:,} bits differ from torch's: the export is wrong"
        )
    return {"bits": total, "differing": differing}

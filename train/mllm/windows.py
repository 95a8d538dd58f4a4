"""Attention of a vision tower with all windows of one length in one call.

Transformers 5.6 calls attention once for each window of up to 64 patches under `sdpa`, and waits
for the card in every block to know where windows end. An image of 644 x 644 pixels has 36 windows
in each of the 28 windowed blocks of Qwen2.5-VL-7B, so one forward pass is a thousand small calls:
55 ms an image on an H200, of which its products need about five. Here the windows of one length are
a batch: of images of one size there are four lengths at most. Every window sees what it saw.
"""

from functools import wraps
from importlib import import_module
from itertools import pairwise
from typing import Any

SDPA = "sdpa"


def attend_at_once() -> None:
    """Let the vision towers of every family attend so."""
    from train.mllm.families import MODULES

    for family in MODULES.values():
        _replace(import_module(family.MODELING), family.ATTENTION)


def _replace(modeling: Any, name: str) -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    Attention = getattr(modeling, name)
    original_forward = Attention.forward

    @wraps(original_forward)
    def forward(
        self: Any, hidden_states: Any, cu_seqlens: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        positions = kwargs.get("position_embeddings")
        if args or positions is None or self.config._attn_implementation != SDPA:
            upstream: torch.Tensor = original_forward(
                self, hidden_states, cu_seqlens, *args, **kwargs
            )
            return upstream
        split = self.qkv(hidden_states).view(len(hidden_states), 3, self.num_heads, -1)
        q, k, v = split.unbind(1)
        q, k = modeling.apply_rotary_pos_emb_vision(q, k, *positions)
        mixed = torch.empty_like(v)
        for rows in windows(cu_seqlens):
            heads = [each[rows].transpose(1, 2) for each in (q, k, v)]
            seen = scaled_dot_product_attention(*heads, scale=self.scaling)
            mixed[rows] = seen.transpose(1, 2)
        projected: torch.Tensor = self.proj(mixed.flatten(1))
        return projected

    Attention.forward = forward


def windows(bounds: Any) -> list[Any]:
    """The rows of the windows, int64 (windows, length), for each length that occurs.

    A tower hands the same tensor to block after block, so what was found stays with it.

    Args:
        bounds: int32 (windows + 1), where windows begin, and the end of the last one.
    """
    import torch

    found: list[Any] | None = getattr(bounds, "rows_of_windows", None)
    if found is None:
        starts: dict[int, list[int]] = {}
        for start, end in pairwise(bounds.tolist()):
            starts.setdefault(end - start, []).append(start)
        found = [
            torch.tensor(those, device=bounds.device)[:, None]
            + torch.arange(length, device=bounds.device)
            for length, those in starts.items()
        ]
        bounds.rows_of_windows = found
    return found

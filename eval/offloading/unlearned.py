"""What one would send without learning a codec: features in 8 bits along their principal axes, and
signs of random directions with the best linear decoder. Both are fitted on training pictures.
"""

from typing import Any, NamedTuple

from eval.offloading.ways import Way, floats

RANGE = 4.0
"""Standard deviations that 8 bits span on either side."""

RIDGE = 1e-3
"""Of the least squares, as a share of the samples: directions are nearly dependent."""


class Spread(NamedTuple):
    """Training features (n, D), with mean 0 and variance 1 in each channel, and how they became so.

    The channels are scaled because some are a thousand times as large as others.
    """

    scaled: Any
    centre: Any
    spread: Any


def spread_of(features: Any) -> Spread:
    """Of training features (n, D)."""
    centre, spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    return Spread((features - centre) / spread, centre, spread)


def principal(training: Spread, axes: int, block: int) -> Way:
    """The first principal axes, 8 bits a value."""
    import torch

    _, directions = torch.linalg.eigh(training.scaled.T @ training.scaled)
    basis = directions[:, -axes:]  # eigenvalues rise
    step = RANGE * (training.scaled @ basis).std(dim=0) / 127

    def change(features: Any) -> tuple[Any, int]:
        projected = ((features - training.centre) / training.spread) @ basis
        sent = (projected / step).round().clamp(-127, 127)
        back = (sent * step) @ basis.T * training.spread + training.centre
        return back, sent.numel()

    return floats(f"features, 8 bits on {axes} axes", "float", block, change)


def signs(training: Spread, bits: int, block: int, seed: int = 0) -> Way:
    """Signs of so many random directions a patch, and the linear decoder of least squares."""
    import torch

    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(training.scaled.shape[1], bits, generator=random)
    directions = directions.to(training.scaled.device)

    def code(scaled: Any) -> Any:
        return torch.where(scaled @ directions > 0, 1.0, -1.0)

    known = code(training.scaled)
    gram = known.T @ known + RIDGE * len(known) * torch.eye(bits, device=known.device)
    decoder = torch.linalg.solve(gram, known.T @ training.scaled)

    def change(features: Any) -> tuple[Any, int]:
        sent = code((features - training.centre) / training.spread)
        back = (sent @ decoder) * training.spread + training.centre
        return back, -(-sent.numel() // 8)

    return floats(f"signs, {bits} bits a patch, not learnt", "sign", block, change)

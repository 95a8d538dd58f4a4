"""The next global adapter from the increments of a round (DAT §3.1), in product space.

W = g + η Σ cᵢ (BᵢAᵢ − g), with each update's scale in its B and cᵢ from `screening`. Three ways to
write W as factors again:

    svd     the best approximation of the start's rank (Eckart-Young): thin QR of both stacked
            factors, SVD of the small matrix between them
    stack   W itself; its rank is the sum of all ranks
    fedavg  A and B averaged each for itself. mean(B) mean(A) is not mean(B A): it is refused where
            it is further from W than half of what W changes
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dat_runtime.adapter import MAX_RANK
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.federation.factors import (
    Matrix,
    Start,
    Weights,
    squared_norm,
    stacked,
    write_weights,
)
from dat_runtime.federation.screening import Products

MODES = ("svd", "stack", "fedavg")

MOST_DEVIATION = 0.5
"""Of `fedavg` from the exact average, in lengths of what the round changes. Beyond, a node may have
sent factors of very unequal size: their product is ordinary, their averages are not."""

Progress = Callable[[int, int], None]
"""Takes the number of modules done, and of all."""


@dataclass
class Outcome:
    """What was written, measured in sums over the modules.

    Attributes:
        rank: of the written adapter.
        energy: ‖W‖².
        change: ‖W − g‖².
        error: ‖written − W‖², before the rounding to the file's type.
    """

    rank: int
    energy: float = field(default=0.0)
    change: float = field(default=0.0)
    error: float = field(default=0.0)

    def as_json(self) -> dict[str, float]:
        """For the report: shares of the energy and of the round's change."""
        return {
            "rank": self.rank,
            "change": float(np.sqrt(self.change)),
            "lost_energy": self.error / self.energy if self.energy else 0.0,
            "lost_of_change": float(np.sqrt(self.error / self.change)) if self.change else 0.0,
        }


def products_of(
    start: Start, clients: Sequence[Weights], progress: Progress = lambda done, all: None
) -> Products:
    """<Δᵢ, Δⱼ> of the clients' increments, (K, K), as sums of tr((BᵢᵀBⱼ)(AⱼAᵢᵀ)).

    A client with NaN or infinity has no finite entry, and changes nobody else's.

    Args:
        clients: with the start's modules, shapes and rank.
    """
    rank = start.adapter.rank
    everyone = [start.weights, *clients]
    products = np.zeros((len(everyone), len(everyone)))
    squared_sizes = np.zeros(len(everyone))
    modules = start.weights.modules
    for done, module in enumerate(modules, 1):
        factors = [weights.factors(module) for weights in everyone]
        b, a = stacked([(1.0, *pair) for pair in factors])
        with np.errstate(invalid="ignore", over="ignore"):
            blocks = (b.T @ b) * (a @ a.T)
            products += blocks.reshape(len(everyone), rank, -1, rank).sum(axis=(1, 3))
            terms = np.sqrt(blocks.diagonal()).reshape(len(everyone), rank)
            squared_sizes += terms.sum(axis=1) ** 2
        progress(done, len(modules))
    with np.errstate(invalid="ignore"):
        to_start = products[1:, :1]
        gram = products[1:, 1:] - to_start - to_start.T + products[0, 0]
    scale = start.adapter.scale
    return Products(scale**2 * gram, scale * np.sqrt(squared_sizes[1:]))


def write_aggregate(
    path: Path,
    start: Start,
    clients: Sequence[Weights],
    coefficients: Sequence[float] | NDArray[np.float64],
    mode: str,
    rate: float = 1.0,
    progress: Progress = lambda done, all: None,
) -> Outcome:
    """Write the factors of W; its scale is the start's.

    Args:
        coefficients: one for each client; 0 leaves it out.
        rate: η.

    Raises:
        ConfigError: the stacked rank is larger than an adapter may have.
        ModelError: a weight is too large for the start's type; or `fedavg` is not near the average.
    """
    average = _Average.of(start, clients, coefficients, rate)
    outcome = Outcome(average.rank if mode == "stack" else start.adapter.rank)
    if outcome.rank > MAX_RANK:
        raise ConfigError(
            f"stacked, {len(average.parts)} adapters have rank {outcome.rank}, the most is "
            f"{MAX_RANK}: use svd"
        )
    modules = average.modules(mode, outcome, progress)
    write_weights(path, modules, start.weights, outcome.rank)
    if mode == "fedavg" and outcome.error > MOST_DEVIATION**2 * outcome.change:
        deviation = np.sqrt(outcome.error / outcome.change) if outcome.change else np.inf
        raise ModelError(
            f"fedavg lies {deviation:.3g} of the round's change away from the exact average, at "
            f"most {MOST_DEVIATION} will do: use svd"
        )
    return outcome


@dataclass(frozen=True)
class _Average:
    """W as a weighted sum of adapters, the start among them where its weight is not 0."""

    start: Start
    parts: list[tuple[float, Weights]]

    @classmethod
    def of(
        cls,
        start: Start,
        clients: Sequence[Weights],
        coefficients: Sequence[float] | NDArray[np.float64],
        rate: float,
    ) -> "_Average":
        weights = [rate * float(c) for c in coefficients]
        parts = [(w, client) for w, client in zip(weights, clients, strict=True) if w]
        of_start = 1.0 - sum(weights)
        if abs(of_start) > 1e-12:  # else what is left of 1 is rounding
            parts.insert(0, (of_start, start.weights))
        return cls(start, parts)

    @property
    def rank(self) -> int:
        return len(self.parts) * self.start.adapter.rank

    def modules(
        self, mode: str, outcome: Outcome, progress: Progress
    ) -> Iterator[tuple[str, Matrix, Matrix]]:
        """Name, B and A of each module; adds to `outcome` what they are."""
        names = self.start.weights.modules
        for done, name in enumerate(names, 1):
            factors = [(weight, *weights.factors(name)) for weight, weights in self.parts]
            b, a = _balanced(*stacked(factors))
            start = self.start.weights.factors(name)
            scale = self.start.adapter.scale
            outcome.change += scale**2 * _squared_distance((b, a), start)
            outcome.energy += scale**2 * squared_norm(b, a)
            written = (b, a)
            if mode == "svd":
                *written_factors, error = truncated(b, a, self.start.adapter.rank)
                written = (written_factors[0], written_factors[1])
                outcome.error += scale**2 * error
            elif mode == "fedavg":
                written = _factor_mean(factors)
                outcome.error += scale**2 * _squared_distance(written, (b, a))
            yield name, *written
            progress(done, len(names))


def _balanced(b: Matrix, a: Matrix) -> tuple[Matrix, Matrix]:
    """Factors of the same product in which a column of B is as long as its row of A.

    A node may send B at 1e30 and A at 1e-30, beside which all others would be rounded away.
    """
    columns = np.linalg.norm(b, axis=0)
    rows = np.linalg.norm(a, axis=1)
    whole = (columns > 0) & (rows > 0)
    ratios = np.sqrt(np.where(whole, rows, 1.0) / np.where(whole, columns, 1.0))
    return b * ratios, a / ratios[:, None]


def truncated(b: Matrix, a: Matrix, rank: int) -> tuple[Matrix, Matrix, float]:
    """The factors of the nearest matrix of a rank to B A, alike in size, and the squared distance.

    Where B A has a smaller rank, columns of B and rows of A are zeros.
    """
    if b.shape[1] <= rank:
        return _padded(b, rank, 1), _padded(a, rank, 0), 0.0
    left, inner_left = np.linalg.qr(b)
    right, inner_right = np.linalg.qr(a.T)
    u, singular, v = np.linalg.svd(inner_left @ inner_right.T, full_matrices=False)
    root = np.sqrt(singular[:rank])
    lost = float(np.sum(singular[rank:] ** 2))
    new_b = left @ (u[:, :rank] * root)
    new_a = (root[:, None] * v[:rank]) @ right.T
    return _padded(new_b, rank, 1), _padded(new_a, rank, 0), lost


def _padded(matrix: Matrix, rank: int, axis: int) -> Matrix:
    missing = rank - matrix.shape[axis]
    if not missing:
        return matrix
    width = [(0, 0), (0, 0)]
    width[axis] = (0, missing)
    return np.pad(matrix, width)


def _factor_mean(factors: Sequence[tuple[float, Matrix, Matrix]]) -> tuple[Matrix, Matrix]:
    """Both factors averaged, as the paper's federated averaging does it."""
    b, a = np.zeros_like(factors[0][1]), np.zeros_like(factors[0][2])
    for weight, one_b, one_a in factors:
        b += weight * one_b
        a += weight * one_a
    return b, a


def _squared_distance(one: tuple[Matrix, Matrix], other: tuple[Matrix, Matrix]) -> float:
    """‖B₁A₁ − B₂A₂‖²; not below 0, where rounding would put it."""
    b, a = stacked([(1.0, *one), (-1.0, *other)])
    return max(squared_norm(b, a), 0.0)

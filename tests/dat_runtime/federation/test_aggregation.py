from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.adapter import read_adapter
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.federation.aggregation import (
    MODES,
    Outcome,
    products_of,
    truncated,
    write_aggregate,
)
from dat_runtime.federation.factors import read_start
from dat_runtime.federation.screening import screen
from tests.dat_runtime.federation.fleet import (
    ALPHA,
    RANK,
    Factors,
    merged,
    random_factors,
    read_factors,
    trained,
    write_adapter,
)


class Clients:
    """A start and adapters that were trained from it, on disk."""

    def __init__(self, root: Path, adapters: list[Factors], start: Factors):
        self.root = root
        self.start = read_start(write_adapter(root / "start", start))
        self.adapters = [
            read_start(write_adapter(root / f"client{i}", f)) for i, f in enumerate(adapters)
        ]

    @property
    def weights(self) -> list:
        return [adapter.weights for adapter in self.adapters]

    def increments(self) -> np.ndarray:
        start = merged(read_factors(self.start.folder))
        return np.array([merged(read_factors(a.folder)) - start for a in self.adapters])

    def aggregate(self, coefficients: list[float], mode: str, rate: float = 1.0) -> Outcome:
        out = self.root / "out"
        write_adapter(out, read_factors(self.start.folder))
        path = out / "adapter_model.safetensors"
        outcome = write_aggregate(path, self.start, self.weights, coefficients, mode, rate)
        scaled = {"r": outcome.rank, "lora_alpha": ALPHA * outcome.rank // RANK}
        write_config(out, scaled)
        assert read_adapter(out).rank == outcome.rank
        return outcome

    def written(self) -> np.ndarray:
        return merged(read_factors(self.root / "out"))


def write_config(folder: Path, changed: dict[str, int]) -> None:
    factors = read_factors(folder)
    write_adapter(folder, factors, **changed)


def make_clients(root: Path, count: int, seed: int = 0, step: float = 0.1) -> Clients:
    rng = np.random.default_rng(seed)
    start = random_factors(rng)
    return Clients(root, [trained(start, rng, step) for _ in range(count)], start)


def test_the_gram_matrix_is_that_of_the_increments(tmp_path: Path) -> None:
    clients = make_clients(tmp_path, 4)
    increments = clients.increments()
    gram = products_of(clients.start, clients.weights).gram
    np.testing.assert_allclose(gram, increments @ increments.T, rtol=1e-9)


@pytest.mark.parametrize("scale", [2, 3])
def test_sizes_and_products_are_in_units_of_the_weights(tmp_path: Path, scale: int) -> None:
    """Twice is the same as squared at a scale of 2, so there is another one."""
    rng = np.random.default_rng(0)
    start = random_factors(rng)
    adapters = [trained(start, rng) for _ in range(3)]
    alpha = {"lora_alpha": scale * RANK}
    read = [
        read_start(write_adapter(tmp_path / f"{i}", f, **alpha))
        for i, f in enumerate([start, *adapters])
    ]
    seen: list[tuple[int, int]] = []
    weights = [adapter.weights for adapter in read[1:]]
    products = products_of(read[0], weights, lambda done, of: seen.append((done, of)))
    factors = [read_factors(adapter.folder) for adapter in read]
    steps = np.array([merged(f, scale) - merged(factors[0], scale) for f in factors[1:]])
    np.testing.assert_allclose(products.gram, steps @ steps.T, rtol=1e-9)
    sizes = []
    for client in factors[1:]:
        terms = [np.linalg.norm(b, axis=0) @ np.linalg.norm(a, axis=1) for b, a in client.values()]
        sizes.append(scale * np.linalg.norm(terms))
    np.testing.assert_allclose(products.sizes, sizes, rtol=1e-9)
    assert seen == [(done, len(start)) for done in range(1, len(start) + 1)]

    seen.clear()
    for mode in MODES:
        out = write_adapter(tmp_path / mode, start, **alpha) / "adapter_model.safetensors"
        outcome = write_aggregate(
            out, read[0], weights, [0.5, 0.25, 0.25], mode, 1.0, lambda *now: seen.append(now)
        )
        exact = np.array([0.5, 0.25, 0.25]) @ steps
        assert np.sqrt(outcome.change) == pytest.approx(np.linalg.norm(exact), rel=1e-6)
        whole = np.linalg.norm(exact + merged(factors[0], scale))
        assert np.sqrt(outcome.energy) == pytest.approx(whole, rel=1e-6)
        if mode != "stack":
            given = read_factors(out.parent)
            lost = np.linalg.norm(merged(given, scale) - exact - merged(factors[0], scale))
            assert np.sqrt(outcome.error) == pytest.approx(lost, rel=1e-3)
    assert seen == [(done, len(start)) for done in range(1, len(start) + 1)] * len(MODES)


def test_an_outcome_is_told_in_shares() -> None:
    assert Outcome(4, energy=8.0, change=4.0, error=1.0).as_json() == {
        "rank": 4, "change": 2.0, "lost_energy": 0.125, "lost_of_change": 0.5,
    }  # fmt: skip
    assert Outcome(4).as_json() == {
        "rank": 4, "change": 0.0, "lost_energy": 0.0, "lost_of_change": 0.0,
    }  # fmt: skip


def test_a_client_with_nan_leaves_the_products_of_the_others_alone(tmp_path: Path) -> None:
    clients = make_clients(tmp_path, 4)
    sound = products_of(clients.start, clients.weights).gram
    factors = read_factors(clients.adapters[1].folder)
    first = min(factors)
    factors[first][0][0, 0] = np.nan
    # A start may not hold NaN; what a node sends is looked at here and not before.
    write_adapter(clients.adapters[1].folder, factors)
    gram = products_of(clients.start, clients.weights).gram
    assert np.isnan(gram[1]).all()
    assert np.isnan(gram[:, 1]).all()
    others = np.ix_([0, 2, 3], [0, 2, 3])
    np.testing.assert_array_equal(gram[others], sound[others])


@pytest.mark.parametrize("mode", MODES)
def test_one_client_is_its_own_average(tmp_path: Path, mode: str) -> None:
    clients = make_clients(tmp_path, 1)
    outcome = clients.aggregate([1.0], mode)
    assert outcome.rank == RANK
    assert outcome.as_json()["lost_energy"] == pytest.approx(0, abs=1e-12)
    client = merged(read_factors(clients.adapters[0].folder))
    np.testing.assert_allclose(clients.written(), client, atol=2e-6)


def test_stacked_the_weighted_mean_is_exact(tmp_path: Path) -> None:
    clients = make_clients(tmp_path, 3)
    weights = np.array([0.5, 0.3, 0.2])
    outcome = clients.aggregate(list(weights), "stack")
    assert outcome.rank == 3 * RANK  # the weights add up to 1, so the start is not in it
    start = merged(read_factors(clients.start.folder))
    wanted = start + weights @ clients.increments()
    np.testing.assert_allclose(clients.written(), wanted, atol=1e-5)


def test_half_a_step_lies_half_way(tmp_path: Path) -> None:
    clients = make_clients(tmp_path, 3)
    weights = np.array([0.5, 0.3, 0.2])
    outcome = clients.aggregate(list(weights), "stack", rate=0.5)
    assert outcome.rank == 4 * RANK
    start = merged(read_factors(clients.start.folder))
    wanted = start + 0.5 * (weights @ clients.increments())
    np.testing.assert_allclose(clients.written(), wanted, atol=1e-5)
    assert outcome.as_json()["change"] == pytest.approx(np.linalg.norm(wanted - start), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 7))
def test_no_matrix_of_the_rank_is_nearer(seed: int, stacked_rank: int, rank: int) -> None:
    """Eckart-Young: the squared error is the sum of the squared singular values left out."""
    rng = np.random.default_rng(seed)
    b, a = rng.normal(size=(7, stacked_rank)), rng.normal(size=(stacked_rank, 5))
    new_b, new_a, lost = truncated(b, a, rank)
    assert (new_b.shape, new_a.shape) == ((7, rank), (rank, 5))
    singular = np.linalg.svd(b @ a, compute_uv=False)
    error = np.linalg.norm(b @ a - new_b @ new_a) ** 2
    best = np.sum(singular[rank:] ** 2)
    assert error == pytest.approx(best, rel=1e-9, abs=1e-20)
    assert lost == pytest.approx(best, rel=1e-9, abs=1e-20)


def test_svd_states_what_it_lost(tmp_path: Path) -> None:
    clients = make_clients(tmp_path, 5)
    outcome = clients.aggregate([0.2] * 5, "svd")
    start = merged(read_factors(clients.start.folder))
    exact = start + clients.increments().mean(0)
    lost = np.linalg.norm(clients.written() - exact)
    stated = outcome.as_json()
    assert stated["lost_energy"] == pytest.approx((lost / np.linalg.norm(exact)) ** 2, rel=1e-4)
    assert stated["lost_of_change"] == pytest.approx(lost / np.linalg.norm(exact - start), rel=1e-4)


def gauged(factors: Factors, rng: np.random.Generator, size: float = 1.0) -> Factors:
    """Other factors of the same products: B M and M⁻¹ A."""
    changed = {}
    for module, (b, a) in factors.items():
        m = size * (rng.normal(size=(RANK, RANK)) + 3 * np.eye(RANK))
        changed[module] = (b @ m, np.linalg.solve(m, a))
    return changed


@pytest.mark.parametrize("mode", ["svd", "stack"])
def test_neither_order_nor_factorisation_matters(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(4)
    start = random_factors(rng)
    adapters = [trained(start, rng) for _ in range(4)]
    samples = [100, 200, 300, 50]
    results = []
    for name, order, change in (
        ("plain", [0, 1, 2, 3], lambda f: f),
        ("turned", [2, 0, 3, 1], lambda f: f),
        ("gauged", [0, 1, 2, 3], lambda f: gauged(f, rng)),
    ):
        clients = Clients(tmp_path / name, [change(adapters[i]) for i in order], start)
        screened = screen(products_of(clients.start, clients.weights), [samples[i] for i in order])
        clients.aggregate(list(screened.coefficients), mode)
        results.append(clients.written())
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], atol=1e-5)


def test_averaged_factors_are_near_the_average_after_a_small_step_only(tmp_path: Path) -> None:
    small = make_clients(tmp_path / "small", 4, step=0.01).aggregate([0.25] * 4, "fedavg")
    assert 0 < small.as_json()["lost_of_change"] < 0.05
    large = make_clients(tmp_path / "large", 4, step=1.0).aggregate([0.25] * 4, "fedavg")
    assert large.as_json()["lost_of_change"] > 0.1


def test_a_client_with_factors_of_unequal_size_does_not_break_fedavg(tmp_path: Path) -> None:
    """Its product is ordinary, so the screening cannot see it."""
    rng = np.random.default_rng(0)
    start = random_factors(rng)
    adapters = [trained(start, rng, 0.01) for _ in range(4)]
    adapters[0] = gauged(adapters[0], rng, size=1e-4)
    clients = Clients(tmp_path, adapters, start)
    screened = screen(products_of(clients.start, clients.weights), [100] * 4)
    assert all(verdict.refused is None for verdict in screened.verdicts)
    with pytest.raises(ModelError, match="use svd"):
        clients.aggregate(list(screened.coefficients), "fedavg")
    clients.aggregate(list(screened.coefficients), "svd")


def test_too_many_adapters_to_stack_are_refused(tmp_path: Path) -> None:
    clients = make_clients(tmp_path, 1)
    many = clients.weights * 400
    path = tmp_path / "x.safetensors"
    with pytest.raises(ConfigError, match="have rank 1200, the most is 1024: use svd"):
        write_aggregate(path, clients.start, many, [1 / 400] * 400, "stack")


@pytest.mark.parametrize("mode", ["svd", "stack"])
def test_factors_of_extreme_sizes_round_nobody_away(tmp_path: Path, mode: str) -> None:
    """B at 1e25 and A at 1e-25: an ordinary product, beside which the others' B would vanish."""
    rng = np.random.default_rng(0)
    start = random_factors(rng)
    adapters = [trained(start, rng) for _ in range(4)]
    plain = Clients(tmp_path / "plain", adapters, start)
    plain.aggregate([0.25] * 4, mode)
    adapters[0] = {m: (b * 1e25, a * 1e-25) for m, (b, a) in adapters[0].items()}
    clients = Clients(tmp_path / "extreme", adapters, start)
    screened = screen(products_of(clients.start, clients.weights), [100] * 4)
    assert all(verdict.refused is None for verdict in screened.verdicts)
    clients.aggregate(list(screened.coefficients), mode)
    np.testing.assert_allclose(clients.written(), plain.written(), atol=1e-5)


def test_factors_whose_terms_cancel_are_refused(tmp_path: Path) -> None:
    """Their sum is an ordinary update, in exact arithmetic; what float64 makes of it is not."""
    rng = np.random.default_rng(0)
    start = random_factors(rng)
    adapters = [trained(start, rng) for _ in range(4)]
    for module, (b, a) in adapters[0].items():
        b, a = b.copy(), a.copy()
        b[:, 0], a[0] = 1e4 * rng.normal(size=len(b)), 1e4 * rng.normal(size=a.shape[1])
        b[:, 1], a[1] = -b[:, 0], a[0]
        adapters[0][module] = (b, a)
    clients = Clients(tmp_path, adapters, start)
    screened = screen(products_of(clients.start, clients.weights), [100] * 4)
    assert [v.refused is None for v in screened.verdicts] == [False, True, True, True]
    assert "they cancel one another" in str(screened.verdicts[0].refused)

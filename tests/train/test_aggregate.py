"""A round from the nodes' files to the next adapter, through the commands."""

import json
import os
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dat_runtime import manifest
from dat_runtime.adapter import read_adapter
from dat_runtime.federation.factors import read_start
from dat_runtime.federation.screening import CLIP
from dat_runtime.files import write_json
from tests.dat_runtime.federation.fleet import (
    RANK,
    SCALE,
    Factors,
    Fleet,
    make_fleet,
    merged,
    read_factors,
    trained,
)
from train import aggregate

ROOT = Path(__file__).parents[2]


def arguments(fleet: Fleet, *more: str, out: str = "out") -> list[str]:
    write_json(fleet.root / "round.json", asdict(fleet.opened))
    paths = {
        "--round": fleet.root / "round.json",
        "--start": fleet.start.folder,
        "--nodes": fleet.write_registry(),
        "--increments": fleet.inbox,
        "--out": fleet.root / out,
    }
    return [str(part) for pair in paths.items() for part in pair] + list(more)


def scaled(start: Factors, factors: Factors, by: float) -> Factors:
    """An adapter whose increment points where that of `factors` does, `by` times as long.

    Its factors are those of the first order: B A changes by B₀ δA + δB A₀.
    """
    return {
        m: (start[m][0] + by * (b - start[m][0]), start[m][1] + by * (a - start[m][1]))
        for m, (b, a) in factors.items()
    }


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Four nodes that trained with different samples."""
    made = make_fleet(tmp_path, 4)
    rng = np.random.default_rng(1)
    for i, node in enumerate(made.keys):
        made.send(node, trained(made.start_factors, rng), samples=100 * (i + 1))
    return made


def mean_of(fleet: Fleet, weights: list[float]) -> np.ndarray:
    sent = [merged(read_factors(fleet.root / "trained" / node)) for node in fleet.keys]
    return np.array(weights) @ np.array(sent)


def test_stacked_the_next_adapter_is_the_weighted_mean(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    run = arguments(fleet, "--mode", "stack")
    assert aggregate.main(run) == 0
    out = fleet.root / "out"
    adapter = read_adapter(out)
    assert (adapter.rank, adapter.scale) == (4 * RANK, SCALE)
    wanted = mean_of(fleet, [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(merged(read_factors(out)), wanted, atol=1e-5)
    assert "4 nodes of 4 heard, 0 files refused; rank 12" in capsys.readouterr().out
    assert aggregate.main(run) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["svd", "fedavg"])
def test_the_next_adapter_has_the_form_of_the_start(fleet: Fleet, mode: str) -> None:
    assert aggregate.main(arguments(fleet, "--mode", mode)) == 0
    out = fleet.root / "out"
    assert read_start(out).weights.shapes == fleet.start.weights.shapes
    config = json.loads((out / "adapter_config.json").read_text())
    assert config == json.loads((fleet.start.folder / "adapter_config.json").read_text())
    report = json.loads((out / "federation.json").read_text())
    wanted = mean_of(fleet, [0.1, 0.2, 0.3, 0.4])
    change = np.linalg.norm(wanted - merged(fleet.start_factors))
    lost = np.linalg.norm(merged(read_factors(out)) - wanted) / change
    assert report["outcome"]["lost_of_change"] == pytest.approx(lost, rel=1e-4)
    verified = manifest.verify(out, "lora")
    came = {f"increments/{path.name}" for path in fleet.inbox.iterdir()}
    assert verified.inputs.keys() == {"start", "round", "nodes", *came}
    assert verified.config["instructions"] == {"classes": ["moderate", "severe"]}
    card = (out / "README.md").read_text()
    assert card.startswith("---\nbase_model: base\n---\n")
    assert "increments of 4 of 4 registered nodes" in card


def test_the_next_adapter_goes_into_a_bundle(
    tmp_path: Path, fleet: Fleet, gate_folder: Path, base_folder: Path
) -> None:
    from dat_runtime.edge.bundle import open_bundle
    from export.bundle import make_bundle

    start = fleet.start.folder
    revision = manifest.digest(base_folder)
    config = json.loads((start / "adapter_config.json").read_text()) | {"revision": revision}
    own = make_fleet(tmp_path / "own", 1)
    (own.start.folder / "adapter_config.json").write_text(json.dumps(config))
    seal(own.start.folder)
    again = Fleet(own.root, read_start(own.start.folder), own.opened, own.keys)
    again.opened = replace(again.opened, revision=revision, start=round_start(again.start.folder))
    adapter = trained(again.start_factors, np.random.default_rng(1))
    send_for(again, "node-00", adapter, revision)
    assert aggregate.main(arguments(again)) == 0
    make_bundle(gate_folder, again.root / "out", str(base_folder), tmp_path / "bundle")
    assert open_bundle(tmp_path / "bundle").adapter.rank == RANK


def round_start(folder: Path) -> str:
    from dat_runtime.federation.round import start_digest

    return start_digest(folder)


def seal(folder: Path) -> None:
    """Bring the manifest into line with the files."""
    made = manifest.read(folder)
    manifest.write(folder, replace(made, outputs=manifest.file_digests(folder)))


def send_for(fleet: Fleet, node: str, factors: Factors, revision: str) -> None:
    from dat_runtime.federation.increment import write_increment
    from tests.dat_runtime.federation.fleet import write_adapter

    adapter = write_adapter(fleet.root / "trained" / node, factors, revision=revision)
    fleet.inbox.mkdir()
    path = fleet.inbox / f"{node}.increment"
    write_increment(path, adapter, fleet.opened, fleet.start, node, 9, fleet.keys[node])


def poison(factors: Factors) -> Factors:
    changed = {m: (b.copy(), a) for m, (b, a) in factors.items()}
    changed[min(changed)][0][0, 0] = np.nan
    return changed


def hostile_fleet(root: Path) -> Fleet:
    """51 honest nodes; 12 that send ×100, 12 the sign flipped, 12 NaN, 7 a replay, 6 a wrong id."""
    fleet = make_fleet(root, 100)
    rng = np.random.default_rng(2)
    start = fleet.start_factors
    stranger = Ed25519PrivateKey.generate()
    for i, node in enumerate(fleet.keys):
        factors = trained(start, rng)
        if i < 12:
            fleet.send(node, scaled(start, factors, 100.0), samples=10**9)
        elif i < 24:
            fleet.send(node, scaled(start, factors, -1.0), samples=10**9)
        elif i < 36:
            send_nan(fleet, node, poison(factors))
        elif i < 43:
            fleet.send(node, factors, opened=replace(fleet.opened, round=2))
        elif i < 49:
            fleet.send(node, factors, key=stranger)
        else:
            fleet.send(node, factors, samples=100)
    return fleet


def send_nan(fleet: Fleet, node: str, factors: Factors) -> None:
    """The node's own tool refuses NaN: so weights of a tool of its own, signed."""
    from safetensors.numpy import save

    from dat_runtime.federation.increment import MAGIC
    from dat_runtime.federation.keys import key_id
    from dat_runtime.manifest import VERSIONS

    tensors = {}
    for module, (b, a) in factors.items():
        tensors[f"{module}.lora_A.weight"] = np.ascontiguousarray(a, np.float32)
        tensors[f"{module}.lora_B.weight"] = np.ascontiguousarray(b, np.float32)
    weights = save(tensors)
    (fleet.root / "nan").write_bytes(weights)
    key = fleet.keys[node]
    statement = json.dumps(
        {
            "node": node,
            "samples": 100,
            "versions": VERSIONS,
            "weights": manifest.digest(fleet.root / "nan"),
            **asdict(fleet.opened),
        }
    )
    envelope = {
        "statement": statement,
        "key": key_id(key.public_key()),
        "signature": key.sign(MAGIC + statement.encode()).hex(),
    }
    content = MAGIC + json.dumps(envelope).encode() + b"\n" + weights
    (fleet.inbox / f"{node}.increment").write_bytes(content)


def test_49_hostile_nodes_of_100_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = hostile_fleet(tmp_path)
    assert aggregate.main(arguments(fleet, "--mode", "stack")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "refused node" in line]
    assert len(lines) == 49
    reasons = {
        "node-00": "times the median",
        "node-12": "points against most others",
        "node-24": "holds NaN or infinity",
        "node-36": "not of this round: round is 2, expected 3",
        "node-43": "which no node is registered with",
    }
    for node, reason in reasons.items():
        (line,) = [line for line in lines if f"{node}.increment" in line]
        assert reason in line
    honest = [node for i, node in enumerate(fleet.keys) if i >= 49]
    sent = np.array([merged(read_factors(fleet.root / "trained" / node)) for node in honest])
    report = json.loads((fleet.root / "out" / "federation.json").read_text())
    assert [client["node"] for client in report["clients"]] == honest
    distance = np.linalg.norm(merged(read_factors(fleet.root / "out")) - sent.mean(0))
    assert distance <= report["bound"]
    # None of the hostile ones has any share, and no honest one was clipped: the mean is exact.
    assert distance <= 1e-5 * np.sqrt(sent.shape[1])
    increments = np.linalg.norm(sent - merged(fleet.start_factors), axis=1)
    assert increments.max() < CLIP * report["median_norm"]


def test_colluding_nodes_move_the_adapter_no_further_than_the_bound(tmp_path: Path) -> None:
    """49 of 100 agree on one increment of ordinary length and angle: nothing gives them away."""
    fleet = make_fleet(tmp_path, 100)
    rng = np.random.default_rng(2)
    start = fleet.start_factors
    target = scaled(start, trained(start, np.random.default_rng(1234)), 1.5)
    for i, node in enumerate(fleet.keys):
        colluding = i < 49
        fleet.send(node, target if colluding else trained(start, rng), 900 if colluding else 100)
    assert aggregate.main(arguments(fleet, "--mode", "svd")) == 0
    report = json.loads((tmp_path / "out" / "federation.json").read_text())
    assert report["refused"] == 0
    sent = [merged(read_factors(tmp_path / "trained" / f"node-{i}")) for i in range(49, 100)]
    lost = report["outcome"]["lost_of_change"] * report["outcome"]["change"]
    distance = np.linalg.norm(merged(read_factors(tmp_path / "out")) - np.mean(sent, 0))
    assert distance <= report["bound"] + lost


def test_half_the_rate_goes_half_the_way(fleet: Fleet) -> None:
    assert aggregate.main(arguments(fleet, "--mode", "stack", "--rate", "0.5")) == 0
    start = merged(fleet.start_factors)
    wanted = start + 0.5 * (mean_of(fleet, [0.1, 0.2, 0.3, 0.4]) - start)
    np.testing.assert_allclose(merged(read_factors(fleet.root / "out")), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--rate", "0"], "--rate 0.0: expected more than 0 and at most 1"),
        (["--rate", "nan"], "expected more than 0"),
        (["--nodes", "absent"], "absent"),
        (["--increments", "absent"], "absent"),
        (["--round", "absent"], "absent"),
        (["--start", "absent"], "absent"),
    ],
)
def test_what_cannot_be_aggregated_is_said_in_one_line(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], more: list[str], reason: str
) -> None:
    assert aggregate.main(arguments(fleet, *more)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert reason in error
    assert not (fleet.root / "out").exists()


def test_a_round_of_another_start_is_refused(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.opened = replace(fleet.opened, start="0" * 64)
    assert aggregate.main(arguments(fleet)) == 1
    assert "round 3 of" in (error := capsys.readouterr().err)
    assert "starts from another adapter" in error


def test_a_round_in_which_nobody_counts_makes_nothing(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(fleet.inbox)
    fleet.inbox.mkdir()
    (fleet.inbox / "x\x1b[31m.increment").write_bytes(b"GIF89a")
    assert aggregate.main(arguments(fleet)) == 1
    printed = capsys.readouterr()
    assert "holds no increment that counts for round 3: 1 refused" in printed.err
    assert r"refused x\x1b[31m.increment: not an increment" in printed.out
    assert not (fleet.root / "out").exists()


def test_nothing_that_a_stranger_puts_into_the_inbox_keeps_the_nodes_out(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aggregate.main(arguments(fleet, out="alone")) == 0
    # Of another stage; 64 GB to hash; lines of its own; what has no end.
    (fleet.inbox / "manifest.json").write_text('{"kind": "data"}')
    for name in ("large.increment", "large.bin"):
        (fleet.inbox / name).touch()
        os.truncate(fleet.inbox / name, 1 << 36)
    (fleet.inbox / "x\n[out] 9 nodes heard.increment").write_bytes(b"x")
    os.mkfifo(fleet.inbox / "pipe.increment")
    (fleet.inbox / "link.increment").symlink_to("/dev/zero")
    capsys.readouterr()
    assert aggregate.main(arguments(fleet)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("[out] refused ") for line in lines) == 6
    assert r"[out] refused x\n[out] 9 nodes heard.increment: not an increment" in "\n".join(lines)
    weights = "adapter_model.safetensors"
    alone, beside = (fleet.root / name / weights for name in ("alone", "out"))
    assert beside.read_bytes() == alone.read_bytes()


def test_an_increment_that_comes_later_is_averaged_by_the_same_command(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    last = next(iter(fleet.inbox.glob("*.increment")))
    content = last.read_bytes()
    last.unlink()
    assert aggregate.main(arguments(fleet)) == 0
    last.write_bytes(content)
    assert aggregate.main(arguments(fleet)) == 0
    assert aggregate.main(arguments(fleet)) == 0
    said = capsys.readouterr().out
    assert "3 nodes of 4 heard" in said
    assert "4 nodes of 4 heard" in said
    assert said.splitlines()[-1].startswith("[out] up to date")


def test_make_scores_a_round_beside_its_start_and_promotes_nothing() -> None:
    command = ["make", "-n", "aggregate", "ROUND=3", "OUT=runs/x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--round runs/x/round-3/round.json" in done.stdout
    assert '--require "parse>=@runs/x/round-3/scores-start/scores.json"' in done.stdout
    assert "promote" not in done.stdout

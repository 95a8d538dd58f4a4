import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dat_runtime import manifest
from dat_runtime.federation.factors import read_start
from dat_runtime.federation.increment import read_increment
from dat_runtime.federation.round import read_round
from dat_runtime.files import write_json
from tests.dat_runtime.federation.fleet import Fleet, make_fleet, trained, write_adapter
from train import increment


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Node:
    """One that trained from a fleet's adapter, as `train.lora` leaves it."""

    def __init__(self, fleet: Fleet):
        self.fleet = fleet
        root = fleet.root
        self.out = root / "node-00.increment"
        self.adapter = write_adapter(
            root / "lora", trained(fleet.start_factors, np.random.default_rng(1))
        )
        self.trained_from({"adapter_name_or_path": str(fleet.start.folder), "stage": "sft"})
        self.trained_on({"dataset": {"samples": 812, "sha256": "0"}, "seconds": 1.5})
        self.key = root / "key.pem"
        self.key.touch(mode=0o600)
        self.key.write_bytes(pem(fleet.keys["node-00"]))
        self.open_round()

    def open_round(self, **changes: object) -> None:
        write_json(self.fleet.root / "round.json", asdict(replace(self.fleet.opened, **changes)))

    def trained_from(self, config: dict[str, str]) -> None:
        (self.adapter / "config.yaml").write_text(json.dumps(config))

    def trained_on(self, report: object) -> None:
        (self.adapter / "run.json").write_text(json.dumps(report))

    def run(self) -> int:
        paths = {
            "--round": self.fleet.root / "round.json",
            "--adapter": self.adapter,
            "--key": self.key,
            "--out": self.out,
        }
        named = [str(part) for pair in paths.items() for part in pair]
        return increment.main([*named, "--node", "node-00"])


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(make_fleet(tmp_path, 2))


def test_the_aggregator_reads_what_the_node_signed(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.run() == 0
    fleet = node.fleet
    read = read_increment(node.out, fleet.registry(), fleet.opened, fleet.start)
    assert (read.node, read.samples) == ("node-00", 812)
    assert "[node-00] round 3, 812 samples" in capsys.readouterr().out


def test_a_single_sample_is_enough(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.trained_on({"dataset": {"samples": 1}})
    assert node.run() == 0
    assert "round 3, 1 samples" in capsys.readouterr().out


def no_start(node: Node) -> None:
    node.trained_from({})


def no_configuration(node: Node) -> None:
    (node.adapter / "config.yaml").unlink()


def another_start(node: Node) -> None:
    other = make_fleet(node.fleet.root / "other", 1, seed=5)
    node.trained_from({"adapter_name_or_path": str(other.start.folder)})


def absent_start(node: Node) -> None:
    node.trained_from({"adapter_name_or_path": str(node.fleet.root / "gone")})


def another_round(node: Node) -> None:
    node.open_round(start="0" * 64)


def no_samples(node: Node) -> None:
    node.trained_on({})


def nothing_trained(node: Node) -> None:
    node.trained_on({"dataset": {"samples": 0}})


def no_key(node: Node) -> None:
    node.key.write_text("no key")


def no_folder(node: Node) -> None:
    node.out = node.fleet.root / "gone" / "x.increment"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            no_start,
            "lora/config.yaml: adapter_name_or_path is missing: train from the round's adapter, "
            "adapter_name_or_path=FOLDER\n",
        ),
        (no_configuration, "lora/config.yaml: "),
        (another_start, "starts from another adapter: start is"),
        (absent_start, "gone/adapter_config.json: cannot be read"),
        (another_round, "starts from another adapter: start is"),
        (no_samples, "lora/run.json: dataset is missing\n"),
        (nothing_trained, "lora/run.json: dataset: samples is 0, expected a whole number from 1"),
        (no_key, "no private key in PEM"),
        (no_folder, "x.increment: cannot be written"),
    ],
)
def test_what_cannot_be_signed_is_said_in_one_line(
    node: Node, change, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(node)
    assert node.run() == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert reason in error
    assert not node.out.exists()


def write_start(folder: Path, base: Path) -> None:
    """An adapter of the tiny base as PEFT writes it, with random factors."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(model, lora)
    for name, parameter in tuned.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.01)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    stated = json.loads((folder / "adapter_config.json").read_text())
    stated |= {"base_model_name_or_path": base.name, "revision": manifest.digest(base)}
    (folder / "adapter_config.json").write_text(json.dumps(stated))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_llamafactory_trains_further_from_the_rounds_adapter_is_signed(
    tiny_base: Path, instructions: Path, tmp_path: Path
) -> None:
    from train import lora
    from train import round as opening

    start, adapter = tmp_path / "start", tmp_path / "lora-node"
    write_start(start, tiny_base)
    paths = {"--instructions": instructions, "--base": tiny_base, "--out": adapter}
    named = [str(part) for pair in paths.items() for part in pair]
    settings = ["--config", "configs/lora/smoke.yaml", "--dataset", "boxed_train"]
    overrides = [f"adapter_name_or_path={start}", "max_steps=2", "logging_steps=1"]
    assert lora.main([*settings, *named, *overrides]) == 0
    opened, key, out = tmp_path / "round.json", tmp_path / "key.pem", tmp_path / "n.increment"
    assert opening.main(["--start", str(start), "--number", "1", "--out", str(opened)]) == 0
    private = Ed25519PrivateKey.generate()
    key.touch(mode=0o600)
    key.write_bytes(pem(private))
    paths = {"--round": opened, "--adapter": adapter, "--key": key, "--out": out}
    named = [str(part) for pair in paths.items() for part in pair]
    assert increment.main([*named, "--node", "n"]) == 0
    read = read_increment(out, {"n": private.public_key()}, read_round(opened), read_start(start))
    assert read.samples == 16

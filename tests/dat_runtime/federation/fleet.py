"""A small adapter, nodes that trained it further, and their keys."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dat_runtime.federation.factors import Start, read_start
from dat_runtime.federation.increment import write_increment
from dat_runtime.federation.round import Round, open_round
from dat_runtime.stage import Stage

Factors = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Module -> B (out, r), A (r, in)."""

SHAPES = {
    "base_model.model.model.layers.0.self_attn.q_proj": (12, 10),
    "base_model.model.model.layers.1.mlp.down_proj": (9, 14),
}
RANK, ALPHA = 3, 6
SCALE = ALPHA / RANK


def random_factors(rng: np.random.Generator, size: float = 1.0) -> Factors:
    return {
        module: (size * rng.normal(size=(out, RANK)), size * rng.normal(size=(RANK, into)))
        for module, (out, into) in SHAPES.items()
    }


def trained(start: Factors, rng: np.random.Generator, step: float = 0.1) -> Factors:
    """The start after a step in both factors, half of it the same for all nodes."""
    together = random_factors(np.random.default_rng(99), step)
    alone = random_factors(rng, step)
    return {
        m: (start[m][0] + together[m][0] + alone[m][0], start[m][1] + together[m][1] + alone[m][1])
        for m in start
    }


def write_adapter(folder: Path, factors: Factors, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for module, (b, a) in factors.items():
        tensors[f"{module}.lora_A.weight"] = np.ascontiguousarray(a, np.float32)
        tensors[f"{module}.lora_B.weight"] = np.ascontiguousarray(b, np.float32)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    stated = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "down_proj"],
        "base_model_name_or_path": "base",
        "revision": "a" * 64,
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    return folder


def read_factors(folder: Path) -> Factors:
    """As the safetensors library reads them."""
    tensors = load_file(folder / "adapter_model.safetensors")
    modules = {name.partition(".lora_")[0] for name in tensors}
    return {
        m: (
            tensors[f"{m}.lora_B.weight"].astype(np.float64),
            tensors[f"{m}.lora_A.weight"].astype(np.float64),
        )
        for m in modules
    }


def merged(factors: Factors, scale: float = SCALE) -> NDArray[np.float64]:
    """What the adapter adds to the base's weights, all modules as one vector."""
    return np.concatenate(
        [scale * (factors[m][0] @ factors[m][1]).ravel() for m in sorted(factors)]
    )


@dataclass
class Fleet:
    """A global adapter, an open round and the keys of its nodes."""

    root: Path
    start: Start
    opened: Round
    keys: dict[str, Ed25519PrivateKey]

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def start_factors(self) -> Factors:
        return read_factors(self.start.folder)

    def send(
        self,
        node: str,
        factors: Factors,
        samples: int = 100,
        *,
        opened: Round | None = None,
        start: Start | None = None,
        key: Ed25519PrivateKey | None = None,
        name: str = "",
    ) -> Path:
        """Sign an adapter as a node and put it into the inbox."""
        adapter = write_adapter(self.root / "trained" / node, factors)
        self.inbox.mkdir(exist_ok=True)
        path = self.inbox / f"{name or node}.increment"
        write_increment(
            path,
            adapter,
            opened or self.opened,
            start or self.start,
            node,
            samples,
            key or self.keys[node],
        )
        return path

    def registry(self) -> dict[str, object]:
        return {node: key.public_key() for node, key in self.keys.items()}

    def write_registry(self) -> Path:
        folder = self.root / "nodes"
        folder.mkdir(exist_ok=True)
        for node, key in self.keys.items():
            pem = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            (folder / f"{node}.pem").write_bytes(pem)
        return folder


def make_fleet(root: Path, nodes: int, seed: int = 0) -> Fleet:
    """A fleet that starts from an adapter as `train.lora` leaves it."""
    factors = random_factors(np.random.default_rng(seed))
    stated = {"instructions": {"classes": ["moderate", "severe"]}}
    with Stage(root / "start", kind="lora", inputs={}, config=stated) as folder:
        write_adapter(folder, factors)
        (folder / "README.md").write_text("---\nbase_model: base\n---\n# Adapter\n")
        (folder / "config.yaml").write_text("image_max_pixels: 12544\n")
    start = read_start(root / "start")
    keys = {f"node-{i:02}": Ed25519PrivateKey.generate() for i in range(nodes)}
    return Fleet(root, start, open_round(3, start), keys)

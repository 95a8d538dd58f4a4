"""Bundles for figures of switching: a tiny one, and others that differ in their adapter alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from dat_runtime import adapter, manifest
from dat_runtime.edge.bundle import KIND
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from tests.conftest import SIDE, constant_gate, lora_tensors, safetensors

BASE = {"base": "base", "revision": "0" * 64}


def tiny_bundle(out: Path) -> Path:
    """A bundle whose gate sees one severe accident in every picture; its adapter has 24 values."""
    (out / "gate").mkdir(parents=True)
    (out / "adapter").mkdir()
    settings = GateSettings(("moderate", "severe"), SIDE)
    (out / "gate" / GATE_FILE).write_text(json.dumps(settings.as_json()))
    (out / "gate" / "gate.onnx").write_bytes(constant_gate([[32, 32, 16, 8, 0.1, 0.9]]))
    (out / "adapter" / adapter.WEIGHTS).write_bytes(safetensors(lora_tensors()))
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": BASE["base"],
        "revision": BASE["revision"],
    }
    (out / "adapter" / adapter.CONFIG).write_text(json.dumps(config))
    (out / "adapter" / "README.md").write_text("# Adapter\n")
    (out / "README.md").write_text("# Bundle\n")
    outputs = manifest.file_digests(out)
    told = manifest.Manifest(
        KIND, {}, {**BASE, "max_pixels": 12544}, "0" * 64, manifest.VERSIONS, outputs
    )
    manifest.write(out, told)
    return out


def variant(bundle: Path, out: Path, number: int) -> Path:
    """A copy of a bundle whose adapter has other weights: the bits of its last value."""
    shutil.copytree(bundle, out)
    weights = out / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    # The low byte of a little-endian float: finite before, finite after.
    width = 4 if b'"F32"' in content[:4096] else 2
    content[-width] = (content[-width] + number) % 256
    weights.write_bytes(content)
    told = manifest.read(out)
    manifest.write(out, replace(told, outputs=manifest.file_digests(out)))
    return out

"""Bundles that differ from one bundle in their adapter's weights alone, sealed anew."""

import shutil
from dataclasses import replace
from pathlib import Path

from dat_runtime import manifest


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

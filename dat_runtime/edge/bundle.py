"""A bundle: the gate, the adapter and the versions that belong together, as shipped to a node.

manifest.json  README.md
gate/          gate.json gate.onnx
adapter/       adapter_model.safetensors adapter_config.json README.md
"""

from dataclasses import dataclass
from pathlib import Path

from dat_runtime import adapter, manifest
from dat_runtime.adapter import Adapter, read_adapter
from dat_runtime.edge.detector import OnnxDetector
from dat_runtime.edge.settings import GATE_FILE
from dat_runtime.errors import ManifestError

KIND = "bundle"
GATE_FILES = (GATE_FILE, "gate.onnx")
ADAPTER_FILES = (adapter.WEIGHTS, adapter.CONFIG, "README.md")
FILES = frozenset(
    {"README.md", *(f"gate/{f}" for f in GATE_FILES), *(f"adapter/{f}" for f in ADAPTER_FILES)}
)
"""All that a bundle may hold beside its manifest, and has to."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was verified.

    Attributes:
        manifest: what it was made of, and the versions of prompt, schema and drawing.
        detector: the gate, loaded.
        adapter: base model, rank and size of the adapter.
        max_pixels: the pixel limit of the images that the adapter was tuned on.
        sizes: bytes per file.
    """

    manifest: manifest.Manifest
    detector: OnnxDetector
    adapter: Adapter
    max_pixels: int
    sizes: dict[str, int]


def open_bundle(folder: Path) -> Bundle:
    """The bundle in a folder, after all of it was checked; nothing in it is executed.

    Raises:
        ManifestError: a file is missing, changed, a link, or none of a bundle's files; or the
            bundle was made with other versions of prompt, schema or drawing.
        ModelError: the gate or the adapter is broken.
    """
    _check_files(folder)
    verified = manifest.verify(folder, KIND)
    max_pixels = verified.config.get("max_pixels")
    if type(max_pixels) is not int or max_pixels < 1:
        raise ManifestError(f"{folder / manifest.NAME}: config holds no max_pixels")
    return Bundle(
        manifest=verified,
        detector=OnnxDetector.load(folder / "gate"),
        adapter=read_adapter(folder / "adapter"),
        max_pixels=max_pixels,
        sizes={name: (folder / name).stat().st_size for name in sorted(FILES)},
    )


def _check_files(folder: Path) -> None:
    """Refuse what is no bundle's file before anything is read."""
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder")
    found = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ManifestError(f"{path} is not a plain file")
        if path.is_file():
            found.add(name)
        elif name not in ("gate", "adapter"):
            raise ManifestError(f"{path} does not belong into a bundle")
    if extra := sorted(found - FILES - {manifest.NAME}):
        raise ManifestError(f"{folder / extra[0]} does not belong into a bundle")
    if missing := sorted((FILES | {manifest.NAME}) - found):
        raise ManifestError(f"{folder / missing[0]} is missing")

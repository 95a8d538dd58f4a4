"""A bundle: the gate, the adapter and the versions that belong together, as shipped to a node.

manifest.json  README.md
gate/          gate.json, and the model that it names: .onnx, or .xml and .bin
adapter/       adapter_model.safetensors adapter_config.json README.md
"""

from dataclasses import dataclass
from pathlib import Path

from dat_runtime import adapter, manifest
from dat_runtime.adapter import Adapter, read_adapter
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.engines import model_files
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ManifestError

KIND = "bundle"
ADAPTER_FILES = (adapter.WEIGHTS, adapter.CONFIG, "README.md")


def gate_files(model: str) -> tuple[str, ...]:
    """The files of a gate with a model of that file name, as a node needs it."""
    return (GATE_FILE, *model_files(model))


def bundle_files(model: str) -> frozenset[str]:
    """All that a bundle with that gate may hold beside its manifest, and has to."""
    gate = (f"gate/{name}" for name in gate_files(model))
    return frozenset({"README.md", *gate, *(f"adapter/{name}" for name in ADAPTER_FILES)})


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
    detector: YoloDetector
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
    allowed = _check_files(folder)
    verified = manifest.verify(folder, KIND)
    max_pixels = verified.config.get("max_pixels")
    if type(max_pixels) is not int or max_pixels < 1:
        raise ManifestError(f"{folder / manifest.NAME}: config holds no max_pixels")
    return Bundle(
        manifest=verified,
        detector=YoloDetector.load(folder / "gate"),
        adapter=read_adapter(folder / "adapter"),
        max_pixels=max_pixels,
        sizes={name: (folder / name).stat().st_size for name in sorted(allowed)},
    )


def _check_files(folder: Path) -> frozenset[str]:
    """Refuse what is no bundle's file before anything but gate.json is read; the files it has."""
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
    if f"gate/{GATE_FILE}" not in found:
        raise ManifestError(f"{folder / 'gate' / GATE_FILE} is missing")
    allowed = bundle_files(GateSettings.read(folder / "gate" / GATE_FILE).model)
    if extra := sorted(found - allowed - {manifest.NAME}):
        raise ManifestError(f"{folder / extra[0]} does not belong into a bundle")
    if missing := sorted((allowed | {manifest.NAME}) - found):
        raise ManifestError(f"{folder / missing[0]} is missing")
    return allowed

"""A bundle: a gate and an adapter that belong together, with their versions, as shipped to a node.

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
from dat_runtime.fields import checked, whole

KIND = "bundle"
ADAPTER_FILES = (adapter.WEIGHTS, adapter.CONFIG, "README.md")

_CONFIG = {"max_pixels": whole(1)}
"""What a node reads of the manifest's configuration."""


def gate_files(model: str) -> tuple[str, ...]:
    """The files of a gate with a model of that file name, as a node needs it."""
    return (GATE_FILE, *model_files(model))


def bundle_files(model: str) -> frozenset[str]:
    """The files of a bundle with that gate, beside its manifest: all of them and no others."""
    files = {"README.md"}
    files.update(f"gate/{name}" for name in gate_files(model))
    files.update(f"adapter/{name}" for name in ADAPTER_FILES)
    return frozenset(files)


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
        ManifestError: a file is missing, changed, a link, or does not belong in a bundle; or the
            bundle was made with other versions of prompt, schema or drawing.
        ModelError: the gate or the adapter is broken.
    """
    allowed = _check_files(folder)
    verified = manifest.verify(folder, KIND)
    try:
        config = checked(verified.config, _CONFIG, "config", further_keys=True)
    except ValueError as error:
        raise ManifestError(str(error), folder / manifest.NAME) from None
    return Bundle(
        manifest=verified,
        detector=YoloDetector.load(folder / "gate"),
        adapter=read_adapter(folder / "adapter"),
        max_pixels=config["max_pixels"],
        sizes={name: (folder / name).stat().st_size for name in sorted(allowed)},
    )


def _check_files(folder: Path) -> frozenset[str]:
    """The bundle's files, after all that does not belong was refused; only gate.json is read."""
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder")
    present = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ManifestError(f"{path} is not a plain file")
        if path.is_file():
            present.add(name)
        elif name not in ("gate", "adapter"):
            raise ManifestError(f"{path} does not belong in a bundle")
    if f"gate/{GATE_FILE}" not in present:
        raise ManifestError(f"{folder / 'gate' / GATE_FILE} is missing")
    allowed = bundle_files(GateSettings.read(folder / "gate" / GATE_FILE).model)
    extra = sorted(present - allowed - {manifest.NAME})
    if extra:
        raise ManifestError(f"{folder / extra[0]} does not belong in a bundle")
    missing = sorted((allowed | {manifest.NAME}) - present)
    if missing:
        raise ManifestError(f"{folder / missing[0]} is missing")
    return allowed

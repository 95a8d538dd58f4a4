"""A bundle: a gate and an adapter that belong together, with their versions, as shipped to a node.

manifest.json  README.md
gate/          gate.json, and the model that it names: .onnx, or .xml and .bin
adapter/       adapter_model.safetensors adapter_config.json README.md

Whoever can write a bundle can make its manifest fit, so nothing in it is believed: every file is
bounded before it is opened (docs/decisions/022-what-a-node-opens.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dat_runtime import adapter, manifest
from dat_runtime.adapter import MODEL_NAME, REVISION, Adapter, read_adapter
from dat_runtime.draw import MIN_PIXELS
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.engines import model_files
from dat_runtime.edge.gate_model.trial import Trial, check_file
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ManifestError
from dat_runtime.family import Family
from dat_runtime.fields import Rule, checked, text_like, whole

KIND = "bundle"
ADAPTER_FILES = (adapter.WEIGHTS, adapter.CONFIG, "README.md")

MOST_PIXELS = 12_845_056
"""The most that Qwen2.5-VL's own processor takes: 16,384 patches of 28 x 28."""

_MAX_TEXT_BYTES = 1 << 18
"""Of manifest, cards and settings: a real one has a few kilobytes."""

_MAX_BYTES = {".onnx": 1 << 30, ".bin": 1 << 30, ".xml": 1 << 24, ".safetensors": 1 << 32}
_FOLDERS = ("gate", "adapter")

NOT_FIT = "not_fit_for_use"
"""Key of the manifest's configuration: why a bundle is a rehearsal only. A fit one has none."""

_CONFIG = {
    "base": MODEL_NAME,
    "revision": REVISION,
    "max_pixels": whole(MIN_PIXELS, MOST_PIXELS),
    "gate": text_like(r"[\w.-]{1,100}", "the name of a gate's folder"),
    NOT_FIT: text_like(r"[ -~]{1,1000}", "up to 1,000 printable characters"),
}
_SHA256 = text_like(r"[0-9a-f]{64}", "a sha256")
_PARTS = frozenset({"gate", "adapter", "base", "cascade"})
_INPUTS = Rule(
    lambda v: v.keys() <= _PARTS and all(map(_SHA256.holds, v.values())),
    f"the sha256 of {', '.join(sorted(_PARTS))}",
)
"""What `export.bundle` states of its inputs."""


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
        not_fit: why it is not fit for use; `None`: it is, as far as whoever made it knew.
    """

    manifest: manifest.Manifest
    detector: YoloDetector
    adapter: Adapter
    max_pixels: int
    sizes: dict[str, int]
    not_fit: str | None = None

    @property
    def family(self) -> Family:
        """The family of the adapter's base: how the MLLM is asked, and in what it counts."""
        return self.manifest.family


def open_bundle(folder: Path) -> Bundle:
    """The bundle in a folder, after all of it was checked; nothing in it is executed.

    The gate's model runs first in a child with limits of time and memory, while the rest is read.

    Raises:
        ManifestError: a file is missing, changed, a link, too large, or does not belong in a
            bundle; or the bundle was made with other versions of prompt, schema or drawing.
        ModelError: the gate or the adapter is broken, or is none that this project makes.
    """
    settings, sizes = _check_files(folder)
    model = folder / "gate" / settings.model
    check_file(model, settings)
    with Trial(model, settings.imgsz) as trial:
        verified, tuned = check_parts(folder)
        trial.demand()
    return Bundle(
        manifest=verified,
        detector=YoloDetector.load(folder / "gate"),
        adapter=tuned,
        max_pixels=verified.config["max_pixels"],
        sizes=sizes,
        not_fit=verified.config.get(NOT_FIT),
    )


def check_parts(folder: Path) -> tuple[manifest.Manifest, Adapter]:
    """Manifest and adapter, after every file was hashed and every weight looked at.

    Raises:
        ManifestError, ModelError: as `open_bundle`.
    """
    path = folder / manifest.NAME
    stated = manifest.read(folder, KIND)
    try:
        config = checked(stated.config, _CONFIG, "config", ("gate", NOT_FIT))
        checked(vars(stated), {"inputs": _INPUTS, "code": _SHA256}, "", further_keys=True)
    except ValueError as error:
        raise ManifestError(str(error), path) from None
    tuned = read_adapter(folder / "adapter")
    if (tuned.base, tuned.revision) != (config["base"], config["revision"]):
        raise ManifestError(
            f"states the base {config['base']}, revision {config['revision']}; the adapter in it "
            f"is for {tuned.base}, revision {tuned.revision}: make the bundle again",
            path,
        )
    if unsaid := sorted(manifest.VERSIONS.keys() - stated.versions.keys()):
        raise ManifestError(f"states no version of {' and '.join(unsaid)}: make it again", path)
    return manifest.verify(folder, KIND), tuned


def _check_files(folder: Path) -> tuple[GateSettings, dict[str, int]]:
    """The gate's settings and the bytes of each file, after all that does not belong was refused.

    Only gate.json is read.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder")
    if not (folder / "gate" / GATE_FILE).is_file():
        raise ManifestError(f"{folder / 'gate' / GATE_FILE} is missing")
    settings = GateSettings.read(folder / "gate" / GATE_FILE)
    allowed = bundle_files(settings.model)
    sizes = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name not in allowed and name != manifest.NAME:
            raise ManifestError(f"{path} does not belong in a bundle")
        size, most = path.stat().st_size, _MAX_BYTES.get(path.suffix, _MAX_TEXT_BYTES)
        if size > most:
            raise ManifestError(f"{path} has {size:,} bytes, at most {most:,} are opened")
        sizes[name] = size
    missing = sorted((allowed | {manifest.NAME}) - sizes.keys())
    if missing:
        raise ManifestError(f"{folder / missing[0]} is missing")
    return settings, {name: sizes[name] for name in sorted(allowed)}


def _files(folder: Path) -> Iterator[Path]:
    """The files of a bundle's folders, one by one: a folder may hold a million."""
    for path in folder.iterdir():
        if path.name in _FOLDERS and path.is_dir() and not path.is_symlink():
            yield from map(_plain, path.iterdir())
        else:
            yield _plain(path)


def _plain(path: Path) -> Path:
    if path.is_dir() and not path.is_symlink():
        raise ManifestError(f"{path} does not belong in a bundle")
    if path.is_symlink() or not path.is_file():
        raise ManifestError(f"{path} is not a plain file")
    return path

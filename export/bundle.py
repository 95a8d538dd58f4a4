"""The bundle that is shipped to edge nodes: the gate, the adapter, and what they belong to.

    python -m export.bundle --gate OUT/gate --adapter OUT/lora-boxed --base NAME \\
        --proof OUT/proof-boxed --out OUT/bundle

It holds gate, adapter, their settings and cards, and nothing else: no base model, nothing that
executes. `dat-runtime verify OUT/bundle` checks it anywhere. A bundle that is there with a gate of
another name is kept, unless --replace-gate is given.

--proof names the folder in which eval.proof --answers judged this adapter and this gate. Without a
verdict that they are fit for use nothing is made, unless --accept-untrained is given: the bundle
then states that it is not fit for use, and every command that shows or installs it says so.
"""

import html
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import adapter, manifest
from dat_runtime.base_identity import difference
from dat_runtime.command import command
from dat_runtime.draw import MIN_PIXELS
from dat_runtime.edge.bundle import ADAPTER_FILES, KIND, MOST_PIXELS, NOT_FIT, gate_files
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.engines import model_files
from dat_runtime.edge.gate_model.trial import Trial, check_file
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ConfigError, DataError, ModelError, reports_errors
from dat_runtime.fields import checked, whole
from dat_runtime.files import read_json, read_yaml, write_atomically
from dat_runtime.stage import Stage

_PIXELS = {"image_max_pixels": whole(MIN_PIXELS, MOST_PIXELS)}
TRAINING = "config.yaml"
"""The resolved LLaMA-Factory configuration beside an adapter."""

JUDGING = (
    "make export judges them, and so do eval.predict --part val and eval.proof --answers (the "
    "commands are in docs/export.md)"
)

README = """\
# DAT bundle

{warning}For edge nodes that run `dat-runtime`. Check it with `dat-runtime verify <this folder>`.

- `gate/`: the detector ({model}) and how its answers are used (`gate.json`).
- `adapter/`: LoRA weights for {base}, revision {revision}; the base model is not in here.
- `manifest.json`: sha256 of every file and input; versions of prompt, schema and drawing
  ({versions}). Images for the adapter have at most {max_pixels} pixels.

## Licences
- Gate: trained and exported with Ultralytics (AGPL-3.0), whose maintainers hold that the licence
  covers weights and exports too. Who ships the gate complies with it, or holds their enterprise
  licence, or replaces the gate: any detector with the same `gate.json` contract will do.
- Adapter: derived from the base model; the base model's licence applies (Apache-2.0 for
  Qwen2.5-VL-7B-Instruct, research only for the 3B).
- Both were trained on data with licences of their own: see the data report of the training.
"""


@dataclass(frozen=True)
class Base:
    """The model that the adapter belongs to.

    Attributes:
        name: without any path of the machine.
        revision: the pinned commit; of a folder, its digest.
        folder: None for a model of the hub.
    """

    name: str
    revision: str
    folder: Path | None


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("export.bundle", __doc__)
    parser.add_argument("--gate", type=Path, required=True, help="folder made by train.gate")
    parser.add_argument("--adapter", type=Path, required=True, help="folder made by train.lora")
    parser.add_argument("--base", required=True, help="the base model: its hub name or a folder")
    parser.add_argument("--cascade", type=Path, help="thresholds fitted by eval.cascade for --gate")
    parser.add_argument("--proof", type=Path, help="of eval.proof --answers, for this adapter")
    parser.add_argument(
        "--accept-untrained", action="store_true", help="ship a rehearsal, which says so"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--replace-gate", action="store_true", help="though the bundle there has another gate"
    )
    args = parser.parse_args(argv)
    if not args.replace_gate:
        _demand_same_form(args.out, args.gate)
    not_fit = _unfitness(args.proof, args.adapter, args.gate)
    if not_fit is not None and not args.accept_untrained:
        raise ModelError(
            f"no bundle: {args.adapter} with {args.gate} is not fit for use: {not_fit}. "
            "--accept-untrained ships a rehearsal, which says so"
        )
    make_bundle(args.gate, args.adapter, args.base, args.out, args.cascade, not_fit)
    return 0


def _unfitness(proof: Path | None, lora: Path, gate: Path) -> str | None:
    """Why adapter and gate are not fit for use, by their proof; `None`: they are.

    Raises:
        ManifestError: the proof was changed.
        ConfigError: it is about another adapter or another gate.
    """
    if proof is None:
        return f"no proof was given (--proof); {JUDGING}"
    if manifest.verify(proof, "proof").inputs.get("adapter") != manifest.digest(lora):
        raise ConfigError(f"{proof} is about another adapter than {lora}: run eval.proof for it")
    judged = read_json(proof / "proof.json").get("fitness")
    if judged is None:
        return f"the proof judged no answers; {JUDGING}"
    # An exported form was held to the gate that it was made from.
    gates = (manifest.digest(gate), manifest.read(gate, "gate").inputs.get("gate"))
    if judged["gate_digest"] and judged["gate_digest"] not in gates:
        raise ConfigError(
            f"{proof} is about answers that another gate guided than {gate}: make the instructions "
            "with this one, and run the stages after them again"
        )
    reasons = "; ".join(judged["reasons"]) or None
    # One may quote a model's answer, and a node reads no bundle that states more than ASCII.
    return reasons and reasons.encode("ascii", "backslashreplace").decode()


def _demand_same_form(out: Path, gate: Path) -> None:
    """Refuse to put, say, the float gate back into the place of the INT8 gate that was shipped."""
    if not (out / manifest.NAME).is_file():
        return
    there = manifest.read(out, KIND).config.get("gate")
    if there not in (None, gate.resolve().name):
        raise ConfigError(
            f"{out} holds the gate {there}, and {gate} is another: name the one to ship (make "
            f"export GATE={there}, or GATE={gate.name}), or give --replace-gate"
        )


def make_bundle(
    gate: Path,
    lora: Path,
    base_name: str,
    out: Path,
    cascade: Path | None = None,
    not_fit: str | None = None,
) -> None:
    """Check that all parts belong together, and write the bundle unless it is there already.

    Args:
        cascade: its gate.json takes the place of the gate's own.
        not_fit: why the bundle is a rehearsal only, which it then states.

    Raises:
        ManifestError: a folder is not what its manifest states.
        ConfigError: the adapter has another base or was tuned with a gate of other classes, or the
            cascade was fitted for another gate.
        ModelError: the gate or the adapter is broken.
        DataError: the adapter's configuration does not state what a node needs.
    """
    manifest.verify(gate, "gate")
    settings = GateSettings.read(gate / GATE_FILE)
    _demand_classes(manifest.verify(lora, "lora"), settings.names, gate)
    config = _training_config(lora / TRAINING)
    tuned = adapter.read_adapter(lora)
    base = _base(base_name, config, lora / TRAINING, tuned)
    max_pixels = config["image_max_pixels"]
    inputs = {"gate": gate, "adapter": lora}
    if base.folder is not None:
        inputs["base"] = base.folder
    if cascade is not None:
        _demand_same_gate(cascade, gate)
        inputs["cascade"] = cascade
    stage = Stage(
        out,
        kind=KIND,
        inputs=inputs,
        config={
            "base": base.name,
            "revision": base.revision,
            "max_pixels": max_pixels,
            "gate": gate.resolve().name,
            **({} if not_fit is None else {NOT_FIT: not_fit[:1000]}),
        },
        code=[__file__],
        versions=manifest.VERSIONS,
    )
    if (tuned.base, tuned.revision) != (base.name, base.revision):
        raise ConfigError(
            f"{lora} was tuned on another base model: {tuned.base}, revision {tuned.revision}, and "
            f"{base_name} is {base.name}, revision {base.revision}"
        )
    if stage.up_to_date():
        return
    with stage as folder:
        _copy(gate, gate_files(settings.model), folder / "gate")
        if cascade is not None:
            shutil.copyfile(cascade / GATE_FILE, folder / "gate" / GATE_FILE)
        _copy(lora, ADAPTER_FILES, folder / "adapter")
        write_atomically(folder / "README.md", _readme(base, max_pixels, settings.model, not_fit))
        # As a node will: what it would refuse is not shipped.
        detector = _tried(folder / "gate", settings)
        print(
            f"[bundle] gate {detector.settings.imgsz} px; adapter rank {tuned.rank}, "
            f"{tuned.parameters:,} parameters, for {tuned.base}",
            flush=True,
        )
        if not_fit is not None:
            print(f"[bundle] NOT FIT FOR USE: {not_fit}", flush=True)


def _tried(gate: Path, settings: GateSettings) -> YoloDetector:
    model = gate / settings.model
    check_file(model, settings)
    with Trial(model, settings.imgsz) as trial:
        trial.demand()
    return YoloDetector.load(gate)


def _demand_classes(tuned: manifest.Manifest, classes: list[str], gate: Path) -> None:
    """Refuse an adapter whose prompts named other classes than this gate's."""
    tuned_classes = tuned.config.get("instructions", {}).get("classes")
    if tuned_classes != classes:
        raise ConfigError(
            f"the adapter was tuned on detections of {tuned_classes}, {gate} has {classes}: make "
            "the instructions with this gate and train the adapter again"
        )


def _demand_same_gate(cascade: Path, gate: Path) -> None:
    """Refuse thresholds that were fitted on the scores of another gate."""
    if manifest.verify(cascade, "cascade").inputs.get("gate") != manifest.digest(gate):
        raise ConfigError(
            f"{cascade} was fitted for another gate than {gate}: run eval.gating and eval.cascade "
            "for this one"
        )


def _training_config(path: Path) -> dict[str, Any]:
    """LLaMA-Factory's keys, the pixel limit among them: a node has to keep to it."""
    config = read_yaml(path, DataError)
    try:
        return checked(config, _PIXELS, "", further_keys=True)
    except ValueError as error:
        raise DataError(str(error), path) from None


def _base(name: str, config: dict[str, Any], path: Path, tuned: adapter.Adapter) -> Base:
    """The base that is named; of a folder with the adapter's own base, as the adapter names it.

    Another folder is named by its last part and its content; a hub name needs a pinned revision.
    """
    if Path(name).is_dir():
        folder = Path(name)
        if difference(folder, tuned.base, tuned.revision) is None:
            return Base(tuned.base, tuned.revision, folder)
        return Base(folder.resolve().name, manifest.digest(folder, "base"), folder)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ConfigError(f"{name} is neither a folder nor a model's hub name")
    revision = config.get("model_revision")
    if not isinstance(revision, str) or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise DataError(f"model_revision is {revision!r}, expected the commit of {name}", path)
    return Base(name, revision, None)


def _copy(source: Path, names: Sequence[str], target: Path) -> None:
    target.mkdir()
    for name in names:
        if not (source / name).is_file():
            raise DataError("is missing", source / name)
        shutil.copyfile(source / name, target / name)


def _readme(base: Base, max_pixels: int, model: str, not_fit: str | None) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in manifest.VERSIONS.items())
    return README.format(
        base=base.name,
        revision=base.revision,
        versions=versions,
        max_pixels=f"{max_pixels:,}",
        model=" and ".join(f"`{name}`" for name in model_files(model)),
        # What quotes a model's answer is no markup of ours.
        warning=f"**Not fit for use**: {html.escape(not_fit, quote=False)}.\n\n" if not_fit else "",
    )


if __name__ == "__main__":
    raise SystemExit(main())

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dat_runtime import manifest
from dat_runtime.cascade import Band, Logistic, Routing
from dat_runtime.edge.bundle import bundle_files, open_bundle
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import DatError
from dat_runtime.manifest import digest
from dat_runtime.stage import Stage
from export.bundle import main, make_bundle
from tests.conftest import SIDE


def proof(gate: Path, adapter: Path, out: Path, *reasons: str) -> Path:
    """As eval.proof --answers leaves it; without reasons the two are fit for use."""
    judged = {"gate_digest": digest(gate), "reasons": reasons}
    with Stage(out, kind="proof", inputs={"adapter": adapter}, config={}) as folder:
        (folder / "proof.json").write_text(json.dumps({"fitness": judged}))
    return out


def arguments(gate: Path, adapter: Path, base: object, out: Path) -> list[str]:
    return [
        *("--gate", str(gate), "--adapter", str(adapter)),
        *("--proof", str(proof(gate, adapter, adapter.with_name("proof")))),
        *("--base", str(base), "--out", str(out)),
    ]


def test_a_bundle_opens_and_holds_only_what_a_node_needs(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder)
    found = {p.relative_to(bundle_folder).as_posix() for p in bundle_folder.rglob("*.*")}
    assert found == bundle_files("gate.onnx") | {"manifest.json"}
    assert bundle.max_pixels == 12544
    assert (bundle.adapter.base, bundle.adapter.rank, bundle.adapter.tensors) == ("base", 2, 2)


def test_what_is_not_proved_fit_makes_no_bundle_but_a_rehearsal(
    gate_folder: Path,
    base_folder: Path,
    make_lora: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lora, out = make_lora(), tmp_path / "bundle"
    given = arguments(gate_folder, lora, base_folder, out)
    unfit = proof(gate_folder, lora, tmp_path / "unfit", "never an alert does as well", "no gate")
    judged_none = tmp_path / "none"
    with Stage(judged_none, kind="proof", inputs={"adapter": lora}, config={}) as folder:
        (folder / "proof.json").write_text("{}")
    at = given.index("--proof")
    for words, other in (
        ("not fit for use: never an alert does as well; no gate", ["--proof", str(unfit)]),
        ("not fit for use: the proof judged no answers", ["--proof", str(judged_none)]),
        ("not fit for use: no proof was given", []),
    ):
        changed = [*given[:at], *other, *given[at + 2 :]]
        assert main(changed) == 1
        assert words in capsys.readouterr().err
        assert not out.exists()
        assert main([*changed, "--accept-untrained"]) == 0
        assert words.partition(": ")[2] in (open_bundle(out).not_fit or "")
        shutil.rmtree(out)
    quoted = proof(gate_folder, lora, tmp_path / "quoted", "an answer is '<b>\u4e8b\u6545'")
    assert main([*given[:at], "--proof", str(quoted), *given[at + 2 :], "--accept-untrained"]) == 0
    assert open_bundle(out).not_fit == r"an answer is '<b>\u4e8b\u6545'"
    assert "an answer is '&lt;b>" in (out / "README.md").read_text().replace("&gt;", ">")
    shutil.rmtree(out)
    assert main([*given, "--accept-untrained"]) == 0
    assert open_bundle(out).not_fit is None


def test_a_proof_of_another_adapter_or_gate_ships_nothing(
    gate_folder: Path,
    base_folder: Path,
    make_lora: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = arguments(gate_folder, make_lora(), base_folder, tmp_path / "bundle")
    lora = make_lora(**{"README.md": "# Another\n"})
    assert main(given) == 1
    words = f"{tmp_path}/proof is about another adapter than {lora}: run eval.proof for it\n"
    assert words in capsys.readouterr().err
    proof(base_folder, lora, tmp_path / "proof")  # guided by whatever is in that folder
    assert main(given) == 1
    words = (
        f"{tmp_path}/proof is about answers that another gate guided than {gate_folder}: make the "
        "instructions with this one, and run the stages after them again\n"
    )
    assert words in capsys.readouterr().err
    exported = tmp_path / "gate-int8"
    with Stage(exported, kind="gate", inputs={"gate": gate_folder}, config={}) as folder:
        for name in ("gate.json", "gate.onnx"):
            (folder / name).write_bytes((gate_folder / name).read_bytes())
    proof(gate_folder, lora, tmp_path / "proof")
    given[given.index("--gate") + 1] = str(exported)
    assert main(given) == 0


def test_no_path_of_the_machine_is_left_in_a_bundle(made_bundle: Path) -> None:
    config = json.loads((made_bundle / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    assert len(config["revision"]) == 64
    for path in made_bundle.rglob("*.*"):
        assert str(made_bundle.parent).encode() not in path.read_bytes(), path


def test_the_same_bundle_is_not_made_twice(
    bundle_folder: Path,
    gate_folder: Path,
    base_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lora = tmp_path / "lora-boxed"
    assert main(arguments(gate_folder, lora, base_folder, bundle_folder)) == 0
    assert "up to date" in capsys.readouterr().out


def test_the_gate_that_was_shipped_is_not_silently_put_back(
    bundle_folder: Path,
    gate_folder: Path,
    base_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = gate_folder.rename(tmp_path / "gate-int8")
    given = arguments(other, tmp_path / "lora-boxed", base_folder, bundle_folder)
    assert main(given) == 1
    words = (
        f"holds the gate gate, and {other} is another: name the one to ship (make export GATE=gate,"
    )
    assert words in capsys.readouterr().err
    assert main([*given, "--replace-gate"]) == 0
    assert main(given) == 0
    assert open_bundle(bundle_folder).manifest.config["gate"] == "gate-int8"


def fitted_cascade(gate: Path, out: Path) -> Path:
    """As eval.cascade leaves it: thresholds in the gate's own settings."""
    settings = GateSettings.read(gate / "gate.json")
    routing = Routing(0.25, Band(0.4, 0.8), Logistic(1.5, 0.2))
    with Stage(out, kind="cascade", inputs={"gate": gate}, config={}) as folder:
        (folder / "gate.json").write_text(json.dumps(replace(settings, routing=routing).as_json()))
    return out


def test_fitted_thresholds_are_shipped_and_obeyed(
    gate_folder: Path, base_folder: Path, make_lora: Callable[..., Path], tmp_path: Path
) -> None:
    cascade = fitted_cascade(gate_folder, tmp_path / "cascade")
    out = tmp_path / "bundle"
    given = arguments(gate_folder, make_lora(), base_folder, out)
    assert main([*given, "--cascade", str(cascade)]) == 0
    routing = open_bundle(out).detector.settings.routing
    assert routing.band == Band(0.4, 0.8)
    assert [routing.decide(s) for s in (0.2, 0.5, 0.9)] == ["drop", "ask", "report"]


def test_a_gate_of_one_class_is_not_shipped_with_an_adapter_tuned_on_two(
    gate_folder: Path,
    base_folder: Path,
    make_lora: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = json.loads((gate_folder / "gate.json").read_text()) | {"classes": ["accident"]}
    with Stage(gate_folder, kind="gate", inputs={}, config={}) as folder:
        (folder / "gate.json").write_text(json.dumps(settings))
    assert main(arguments(gate_folder, make_lora(), base_folder, tmp_path / "bundle")) == 1
    words = (
        f"the adapter was tuned on detections of ['moderate', 'severe'], {gate_folder} has "
        "['accident']: make the instructions with this gate and train the adapter again\n"
    )
    assert words in capsys.readouterr().err


def test_thresholds_of_another_gate_are_not_shipped(
    gate_folder: Path,
    base_folder: Path,
    make_lora: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cascade = fitted_cascade(gate_folder, tmp_path / "cascade")
    with Stage(gate_folder, kind="gate", inputs={}, config={"trained": "again"}) as folder:
        for name in ("gate.json", "gate.onnx"):
            (folder / name).write_bytes((gate_folder / name).read_bytes())
    given = arguments(gate_folder, make_lora(), base_folder, tmp_path / "bundle")
    assert main([*given, "--cascade", str(cascade)]) == 1
    words = (
        f"{cascade} was fitted for another gate than {gate_folder}: run eval.gating and "
        "eval.cascade for this one\n"
    )
    assert words in capsys.readouterr().err


def test_a_hub_name_needs_a_pinned_revision(
    gate_folder: Path, make_lora: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    pinned = "image_max_pixels: 12544\nmodel_revision: " + "ab" * 20
    assert main(arguments(gate_folder, make_lora(), "Qwen/Some-VL", out)) == 1
    of_hub = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    named = {"base_model_name_or_path": "Qwen/Some-VL", "revision": "ab" * 20}
    config = json.dumps(of_hub | named)
    lora = make_lora(config=config, **{"config.yaml": pinned})
    assert main(arguments(gate_folder, lora, "Qwen/Some-VL", out)) == 0
    assert open_bundle(out).adapter.revision == "ab" * 20


def spoil_gate(gate: Path, lora: Path, base: Path) -> None:
    (gate / "gate.onnx").write_bytes(b"changed")


def spoil_base(gate: Path, lora: Path, base: Path) -> None:
    (base / "manifest.json").write_text(
        (base / "manifest.json").read_text().replace('"config.json"', '"other.json"')
    )


@pytest.mark.parametrize(
    ("spoil", "words"), [(spoil_gate, "gate.onnx changed"), (spoil_base, "another base model")]
)
def test_changed_inputs_are_refused_and_nothing_is_written(
    spoil: Callable[..., None],
    words: str,
    gate_folder: Path,
    base_folder: Path,
    make_lora: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lora, out = make_lora(), tmp_path / "bundle"
    spoil(gate_folder, lora, base_folder)
    assert main(arguments(gate_folder, lora, base_folder, out)) == 1
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("bundle*"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"weights": b"not safetensors at all"}, "adapter_model.safetensors: no header"),
        ({"config": "{}"}, "peft_type is missing"),
        ({"config.yaml": "image_max_pixels: many"}, "image_max_pixels is 'many'"),
        ({"config.yaml": "[1, 2"}, "not YAML"),
    ],
)
def test_a_broken_adapter_is_refused_and_nothing_is_left(
    files: dict[str, str | bytes],
    words: str,
    gate_folder: Path,
    base_folder: Path,
    make_lora: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "bundle"
    assert main(arguments(gate_folder, make_lora(**files), base_folder, out)) == 1
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("bundle*"))


def as_another_kind(folder: Path) -> None:
    """The same files, as another stage would have left them."""
    names = [path.name for path in folder.iterdir() if path.name != "manifest.json"]
    inputs = manifest.read(folder).inputs
    kept = {name: (folder / name).read_bytes() for name in names}
    with Stage(folder, kind="trace", inputs={}, config={}) as again:
        for name, content in kept.items():
            (again / name).write_bytes(content)
    stated = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(stated | {"inputs": inputs}))


@pytest.mark.parametrize("part", ["gate", "lora", "proof", "cascade", "bundle"])
def test_a_folder_of_another_kind_is_no_part_of_a_bundle(
    part: str,
    gate_folder: Path,
    base_folder: Path,
    make_lora: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lora, out = make_lora(), tmp_path / "bundle"
    cascade = fitted_cascade(gate_folder, tmp_path / "cascade")
    given = [*arguments(gate_folder, lora, base_folder, out), "--cascade", str(cascade)]
    with Stage(out, kind="bundle", inputs={}, config={}):
        pass
    folders = {"gate": gate_folder, "lora": lora, "bundle": out}
    changed = folders.get(part, tmp_path / part)
    as_another_kind(changed)
    assert main(given) == 1
    assert f"{changed} holds 'trace', expected '{part}'\n" in capsys.readouterr().err


def test_a_bundle_states_what_it_was_made_of_and_its_readme_says_it(
    gate_folder: Path,
    base_folder: Path,
    make_lora: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lora, out = make_lora(), tmp_path / "bundle"
    cascade = fitted_cascade(gate_folder, tmp_path / "cascade")
    make_bundle(gate_folder, lora, str(base_folder), out, cascade, "<no> proof" + "." * 1000)
    stated = manifest.read(out, "bundle")
    folders = {"gate": gate_folder, "adapter": lora, "base": base_folder, "cascade": cascade}
    assert stated.inputs == {name: digest(folder) for name, folder in folders.items()}
    revision = digest(base_folder, "base")
    assert stated.config == {
        "base": "base",
        "revision": revision,
        "max_pixels": 12544,
        "gate": "gate",
        "not_fit_for_use": "<no> proof" + "." * 990,
    }
    assert stated.versions == manifest.VERSIONS
    said = capsys.readouterr().out
    assert f"[bundle] gate {SIDE} px; adapter rank 2, " in said
    assert " parameters, for base\n[bundle] NOT FIT FOR USE: <no> proof." in said
    versions = ", ".join(f"{name} {number}" for name, number in manifest.VERSIONS.items())
    start = "# DAT bundle\n\n**Not fit for use**: &lt;no&gt; proof"
    told = (out / "README.md").read_text()
    assert told.startswith(start)
    rest = (
        ".\n\nFor edge nodes that run `dat-runtime`. Check it with `dat-runtime verify <this "
        "folder>`.\n\n- `gate/`: the detector (`gate.onnx`) and how its answers are used "
        f"(`gate.json`).\n- `adapter/`: LoRA weights for base, revision {revision}; the base model "
        "is not in here.\n- `manifest.json`: sha256 of every file and input; versions of prompt, "
        f"schema and drawing\n  ({versions}). Images for the adapter have at most 12,544 pixels.\n"
    )
    assert told[len(start) + 1000 :].startswith(rest)


def test_what_does_not_belong_together_is_told_in_a_whole_sentence(
    gate_folder: Path, base_folder: Path, make_lora: Callable[..., Path], tmp_path: Path
) -> None:
    def refusal(base: object, lora: Path) -> str:
        with pytest.raises(DatError) as refused:
            make_bundle(gate_folder, lora, str(base), tmp_path / "bundle")
        return str(refused.value)

    lora = make_lora()
    other = shutil.copytree(base_folder, tmp_path / "other")
    (other / "model.safetensors").write_bytes(b"other weights")
    (other / "manifest.json").unlink()
    ours, theirs = digest(base_folder, "base"), digest(other, "base")
    assert refusal(other, lora) == (
        f"{lora} was tuned on another base model: base, revision {ours}, and {other} is other, "
        f"revision {theirs}"
    )
    assert refusal("a/b/c", lora) == "a/b/c is neither a folder nor a model's hub name"
    config = lora / "config.yaml"
    assert refusal("Some/Model", lora) == (
        f"{config}: model_revision is None, expected the commit of Some/Model"
    )
    short = make_lora(**{"config.yaml": f"image_max_pixels: 12544\nmodel_revision: {'a' * 39}\n"})
    assert refusal("Some/Model", short) == (
        f"{config}: model_revision is '{'a' * 39}', expected the commit of Some/Model"
    )
    many = make_lora(**{"config.yaml": "image_max_pixels: many\n"})
    assert refusal(base_folder, many).startswith(f"{config}: image_max_pixels is 'many', expected")

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.edge.bundle import open_bundle
from dat_runtime.errors import DatError, ManifestError
from dat_runtime.manifest import NAME, digest
from tests.dat_runtime.edge.gate_model.hostile_models import endless, one_node, onnx


def list_again(bundle: Path) -> None:
    """Bring the manifest into line with the files, as an attacker could."""
    value = json.loads((bundle / NAME).read_text())
    files = [p for p in bundle.rglob("*") if p.is_file() and p.name != NAME]
    value["outputs"] = {p.relative_to(bundle).as_posix(): digest(p) for p in files}
    (bundle / NAME).write_text(json.dumps(value))


def add_code(bundle: Path) -> None:
    (bundle / "adapter" / "adapter_model.bin").write_bytes(b"a pickle")


def add_folder(bundle: Path) -> None:
    (bundle / "gate" / "more").mkdir()


def break_gate(bundle: Path) -> None:
    (bundle / "gate" / "gate.onnx").write_bytes(b"no model")


def name_other_model(bundle: Path) -> None:
    path = bundle / "gate" / "gate.json"
    path.write_text(path.read_text().replace("gate.onnx", "../adapter/x.onnx"))


def name_openvino_model(bundle: Path) -> None:
    path = bundle / "gate" / "gate.json"
    path.write_text(path.read_text().replace("gate.onnx", "gate.xml"))


def leave_out_openvino_weights(bundle: Path) -> None:
    name_openvino_model(bundle)
    (bundle / "gate" / "gate.onnx").rename(bundle / "gate" / "gate.xml")


def break_weights(bundle: Path) -> None:
    (bundle / "adapter" / "adapter_model.safetensors").write_bytes(bytes(100))


def remove_config(bundle: Path) -> None:
    (bundle / "adapter" / "adapter_config.json").unlink()


def change_manifest(bundle: Path, **changes: Any) -> None:
    value = json.loads((bundle / NAME).read_text())
    for place, change in changes.items():
        value[place] |= change
    (bundle / NAME).write_text(json.dumps(value))


def many_inputs(bundle: Path) -> None:
    """2.5 million inputs took 773 MB."""
    inputs = {f"input{i}": "0" * 64 for i in range(4000)}
    change_manifest(bundle, inputs=inputs)


def state_a_key_twice(bundle: Path) -> None:
    text = (bundle / NAME).read_text()
    (bundle / NAME).write_text(text.replace('"kind"', '"kind": "gate", "kind"', 1))


def loop_forever(bundle: Path) -> None:
    (bundle / "gate" / "gate.onnx").write_bytes(endless())


def answer_scores_of_5(bundle: Path) -> None:
    rows = np.full((1, 6, 84), 5, np.float32)
    node = onnx.helper.make_node(
        "Constant", [], ["output0"], value=onnx.numpy_helper.from_array(rows)
    )
    (bundle / "gate" / "gate.onnx").write_bytes(one_node(node, {}))


def fill_the_card(bundle: Path) -> None:
    (bundle / "README.md").write_bytes(bytes((1 << 18) + 1))


def change_config(bundle: Path, **changes: object) -> None:
    path = bundle / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_verified_bundle_has_its_gate_ready(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder)
    (found,) = bundle.detector.detect(np.zeros((32, 64, 3), np.uint8))
    assert found.severity == "severe"
    assert bundle.sizes["gate/gate.onnx"] > 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (add_code, r"adapter_model\.bin does not belong"),
        (add_folder, "more does not belong"),
        (break_gate, r"gate\.onnx: not a gate's model"),
        (name_other_model, "expected the name of an .onnx or .xml file"),
        (name_openvino_model, r"gate\.onnx does not belong"),
        (leave_out_openvino_weights, r"gate\.bin is missing"),
        (break_weights, r"adapter_model\.safetensors: no header"),
        (remove_config, r"adapter_config\.json is missing"),
        (fill_the_card, r"README\.md has 262,145 bytes, at most 262,144 are opened"),
        (many_inputs, "manifest.json has .* bytes, at most 262,144 are opened"),
        (lambda b: change_manifest(b, inputs={"more": "0" * 64}), "inputs is .*, expected the sha"),
        (lambda b: change_manifest(b, inputs={"gate": "no sha256"}), "inputs is .*, expected the"),
        (
            lambda b: change_manifest(b, config={"max_pixels": 1}),
            "max_pixels is 1, expected a whole",
        ),
        (lambda b: change_manifest(b, config={"max_pixels": 10**9}), "max_pixels is 1000000000"),
        (lambda b: change_manifest(b, config={"not_fit_for_use": "a\nb"}), "not_fit_for_use is 'a"),
        (
            lambda b: change_manifest(b, config={"not_fit_for_use": "a" * 1001}),
            "not_fit_for_use is",
        ),
        (lambda b: change_manifest(b, config={"not_fit_for_use": None}), "not_fit_for_use is None"),
        (
            lambda b: change_manifest(b, config={"base": "../x"}),
            "base is '../x', expected a model's",
        ),
        (lambda b: change_manifest(b, config={"base": "http://h/x"}), "base is 'http://h/x'"),
        (lambda b: change_manifest(b, config={"base": "other"}), "states the base other, revision"),
        (lambda b: change_manifest(b, config={"run": "code"}), "config: unknown key 'run'"),
        (
            lambda b: change_config(b, revision="ab" * 20),
            "the adapter in it is for base, revision ab",
        ),
        (lambda b: change_config(b, lora_alpha=1e9), "lora_alpha is 1000000000.0 at rank 2"),
        (loop_forever, "gate's model: an attribute has field 6"),
        (answer_scores_of_5, "scores are from 5 to 5, expected 0 to 1"),
    ],
)
def test_a_bundle_is_refused_even_if_its_manifest_was_made_to_fit(
    bundle_folder: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(bundle_folder)
    list_again(bundle_folder)
    with pytest.raises(DatError, match=words):
        open_bundle(bundle_folder)


def test_a_manifest_that_states_a_key_twice_is_refused(bundle_folder: Path) -> None:
    state_a_key_twice(bundle_folder)
    with pytest.raises(ManifestError, match="duplicate key"):
        open_bundle(bundle_folder)


def test_a_folder_of_many_files_ends_at_the_first_that_does_not_belong(
    bundle_folder: Path,
) -> None:
    for i in range(50):
        (bundle_folder / "adapter" / f"{i}.bin").touch()
    with pytest.raises(ManifestError, match=r"\d+\.bin does not belong"):
        open_bundle(bundle_folder)


def test_a_changed_file_is_found_by_the_manifest(bundle_folder: Path) -> None:
    (bundle_folder / "README.md").write_text("another licence")
    with pytest.raises(ManifestError, match=r"README\.md changed"):
        open_bundle(bundle_folder)


def test_links_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes((bundle_folder / "README.md").read_bytes())
    (bundle_folder / "README.md").unlink()
    (bundle_folder / "README.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match="not a plain file"):
        open_bundle(bundle_folder)


def test_a_folder_of_another_kind_is_refused(gate_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        open_bundle(gate_folder)
    with pytest.raises(ManifestError, match="is not a folder"):
        open_bundle(tmp_path / "nothing")


def test_a_manifest_that_says_it_is_something_else_is_refused_though_all_else_fits(
    bundle_folder: Path,
) -> None:
    value = json.loads((bundle_folder / NAME).read_text())
    (bundle_folder / NAME).write_text(json.dumps(value | {"kind": "gate"}))
    with pytest.raises(ManifestError, match="holds 'gate', expected 'bundle'"):
        open_bundle(bundle_folder)


def test_the_pixel_limit_must_be_stated(bundle_folder: Path) -> None:
    value = json.loads((bundle_folder / NAME).read_text())
    del value["config"]["max_pixels"]
    (bundle_folder / NAME).write_text(json.dumps(value))
    with pytest.raises(ManifestError, match="config: max_pixels is missing"):
        open_bundle(bundle_folder)

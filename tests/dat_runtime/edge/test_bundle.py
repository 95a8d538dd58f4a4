import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dat_runtime.edge.bundle import open_bundle
from dat_runtime.errors import DatError, ManifestError
from dat_runtime.manifest import NAME, digest


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


def test_a_verified_bundle_has_its_gate_ready(bundle_folder: Path) -> None:
    import numpy as np

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
    ],
)
def test_a_bundle_is_refused_even_if_its_manifest_was_made_to_fit(
    bundle_folder: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(bundle_folder)
    list_again(bundle_folder)
    with pytest.raises(DatError, match=words):
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


def test_the_pixel_limit_must_be_stated(bundle_folder: Path) -> None:
    value = json.loads((bundle_folder / NAME).read_text())
    del value["config"]["max_pixels"]
    (bundle_folder / NAME).write_text(json.dumps(value))
    with pytest.raises(ManifestError, match="config: max_pixels is missing"):
        open_bundle(bundle_folder)

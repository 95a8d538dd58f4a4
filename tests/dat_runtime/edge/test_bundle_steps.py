"""What of a bundle is looked at, in which order, and the bounds of its files."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.edge import bundle as module
from dat_runtime.edge.bundle import MOST_PIXELS, Bundle, bundle_files, check_parts, open_bundle
from dat_runtime.errors import ManifestError
from dat_runtime.manifest import VERSIONS, Manifest

SHA = "ab" * 32
CONFIG = {"base": "Qwen/X", "revision": "0" * 40, "max_pixels": 12_544}
MADE = Manifest("bundle", {"gate": SHA, "cascade": SHA}, CONFIG, SHA, dict(VERSIONS), {})
ADAPTER = SimpleNamespace(base="Qwen/X", revision="0" * 40)


def test_a_bundle_is_opened_after_all_of_it_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Any] = []

    class Trial:
        def __init__(self, *about: Any):
            steps.append(("trial", *about))

        def __enter__(self) -> "Trial":
            return self

        def __exit__(self, *_: object) -> None:
            steps.append("trial ends")

        def demand(self) -> None:
            steps.append("demand")

    settings = SimpleNamespace(model="gate.onnx", imgsz=640)
    checked = replace(MADE, config=CONFIG | {"not_fit_for_use": "never trained"})
    monkeypatch.setattr(module, "_check_files", {tmp_path: (settings, {"README.md": 7})}.get)
    monkeypatch.setattr(module, "check_file", lambda *about: steps.append(("file", *about)))
    monkeypatch.setattr(module, "Trial", Trial)
    monkeypatch.setattr(
        module, "check_parts", lambda folder: steps.append(folder) or (checked, "adapter")
    )
    monkeypatch.setattr(module.YoloDetector, "load", {tmp_path / "gate": "detector"}.__getitem__)
    found = open_bundle(tmp_path)
    parts: Any = ("detector", "adapter")
    assert found == Bundle(checked, *parts, 12_544, {"README.md": 7}, "never trained")
    assert found.family is checked.family
    model = tmp_path / "gate" / "gate.onnx"
    trial = [("trial", model, 640), tmp_path, "demand", "trial ends"]
    assert steps == [("file", model, settings), *trial]
    checked = MADE
    assert open_bundle(tmp_path).not_fit is None


class Stated:
    """A folder whose manifest and adapter are these."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, made: Manifest, tuned: Any = ADAPTER):
        self.asked: list[Any] = []
        monkeypatch.setattr(module.manifest, "read", self._asked("read", made))
        monkeypatch.setattr(module.manifest, "verify", self._asked("verify", "verified"))
        monkeypatch.setattr(module, "read_adapter", self._asked("adapter", tuned))

    def _asked(self, name: str, answer: Any) -> Any:
        return lambda *about: self.asked.append((name, *about)) or answer


def refused(folder: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        check_parts(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    "more", [{}, {"gate": "gate-1.2_x"}, {"not_fit_for_use": "x"}, {"max_pixels": MOST_PIXELS}]
)
def test_manifest_and_adapter_are_given_where_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    stated = Stated(monkeypatch, replace(MADE, config=CONFIG | more))
    assert check_parts(tmp_path) == ("verified", ADAPTER)
    assert stated.asked == [
        ("read", tmp_path, "bundle"),
        ("adapter", tmp_path / "adapter"),
        ("verify", tmp_path, "bundle"),
    ]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            replace(MADE, config=CONFIG | {"gate": "a/b"}),
            "config: gate is 'a/b', expected the name of",
        ),
        (replace(MADE, config={}), "config: base is missing"),
        (
            replace(MADE, config=CONFIG | {"max_pixels": MOST_PIXELS + 1}),
            "config: max_pixels is 12845057",
        ),
        (replace(MADE, code="ab"), "code is 'ab', expected a sha256"),
        (replace(MADE, inputs={"gate": SHA, "x": SHA}), "adapter, base, cascade, gate"),
    ],
)
def test_a_manifest_that_states_something_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Manifest, words: str
) -> None:
    Stated(monkeypatch, made)
    said = refused(tmp_path)
    assert said.startswith(f"{tmp_path / 'manifest.json'}: ")
    assert words in said


@pytest.mark.parametrize(("base", "revision"), [("other", "0" * 40), ("Qwen/X", "1" * 40)])
def test_an_adapter_of_another_base_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, revision: str
) -> None:
    Stated(monkeypatch, MADE, SimpleNamespace(base=base, revision=revision))
    assert refused(tmp_path) == (
        f"{tmp_path / 'manifest.json'}: states the base Qwen/X, revision {'0' * 40}; the adapter "
        f"in it is for {base}, revision {revision}: make the bundle again"
    )


def test_versions_that_are_not_stated_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *others = sorted(VERSIONS)
    Stated(monkeypatch, replace(MADE, versions={name: VERSIONS[name] for name in others}))
    words = f"states no version of {first} and {second}: make it again"
    assert refused(tmp_path) == f"{tmp_path / 'manifest.json'}: {words}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a bundle, empty, with a gate's settings that name gate.xml."""
    for name in (*bundle_files("gate.xml"), "manifest.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    settings = SimpleNamespace(model="gate.xml")
    gate = tmp_path / "gate" / "gate.json"
    monkeypatch.setattr(module.GateSettings, "read", {gate: settings}.__getitem__)
    return tmp_path


FILES = [
    "README.md",
    "adapter/README.md",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "gate/gate.bin",
    "gate/gate.json",
    "gate/gate.xml",
]


def test_the_files_of_a_bundle_and_their_bytes(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"1234567")
    settings, sizes = module._check_files(folder)
    assert settings.model == "gate.xml"
    assert list(sizes.items()) == [(name, 7 * (name == "README.md")) for name in FILES]
    assert bundle_files("gate.onnx") == {*FILES[:4], "gate/gate.json", "gate/gate.onnx"}


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("gate/gate.xml", 1 << 24),
        ("gate/gate.bin", 1 << 30),
        ("adapter/adapter_model.safetensors", 1 << 32),
        ("adapter/adapter_config.json", 1 << 18),
        ("gate/gate.json", 1 << 18),
        ("manifest.json", 1 << 18),
    ],
)
def test_each_file_is_bounded_before_it_is_opened(folder: Path, name: str, most: int) -> None:
    os.truncate(folder / name, most)  # a hole: it takes no room
    module._check_files(folder)
    os.truncate(folder / name, most + 1)
    words = f"{folder / name} has {most + 1:,} bytes, at most {most:,} are opened"
    with pytest.raises(ManifestError) as caught:
        module._check_files(folder)
    assert str(caught.value) == words


def test_what_is_missing_and_what_does_not_belong_is_named(folder: Path) -> None:
    def error() -> str:
        with pytest.raises(ManifestError) as caught:
            module._check_files(folder)
        return str(caught.value)

    for name in ("manifest.json", "gate/gate.bin", "README.md"):  # the first by name is told
        (folder / name).unlink()
        assert error() == f"{folder / name} is missing"
    (folder / "gate" / "gate.json").unlink()
    assert error() == f"{folder / 'gate' / 'gate.json'} is missing"
    with pytest.raises(ManifestError) as caught:
        module._check_files(folder / "none")
    assert str(caught.value) == f"{folder / 'none'} is not a folder"


@pytest.mark.parametrize("place", ["more", "gate/more", "gate/adapter"])
def test_no_folder_and_no_file_more_belongs_there(folder: Path, place: str) -> None:
    path = folder / place
    for make in (path.touch, path.mkdir):
        make()
        with pytest.raises(ManifestError) as caught:
            module._check_files(folder)
        assert str(caught.value) == f"{path} does not belong in a bundle"
        path.unlink() if path.is_file() else path.rmdir()


def test_only_plain_files_are_taken(folder: Path, tmp_path: Path) -> None:
    target = folder / "gate" / "gate.json"
    for path, make in (
        (folder / "README.md", lambda path: path.symlink_to(target)),
        (folder / "adapter" / "README.md", os.mkfifo),
        (folder / "gate" / "gate.bin", lambda path: path.symlink_to(folder / "adapter")),
    ):
        path.unlink()
        make(path)
        with pytest.raises(ManifestError) as caught:
            module._check_files(folder)
        assert str(caught.value) == f"{path} is not a plain file"
        path.unlink()
        path.touch()
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    (folder / "adapter").rename(elsewhere)
    (folder / "adapter").symlink_to(elsewhere)
    with pytest.raises(ManifestError, match="adapter is not a plain file"):
        module._check_files(folder)

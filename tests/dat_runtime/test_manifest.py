import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.errors import ManifestError
from dat_runtime.manifest import NAME, VERSIONS, Manifest, digest, read, verify
from tests.dat_runtime.stage_folders import change, make, stage


def test_a_finished_folder_verifies_and_lists_its_files(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    assert NAME == "manifest.json"
    assert sorted(verify(out, "data").outputs) == ["b.txt", "deep/a.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_same_work_gives_the_same_manifest_anywhere(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "elsewhere" / "two")
    assert (one / NAME).read_bytes() == (two / NAME).read_bytes()


def remove(out: Path) -> None:
    (out / "deep" / "a.txt").unlink()


def add(out: Path) -> None:
    (out / "deep" / "new.txt").write_text("n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change, r"b\.txt changed"),
        (remove, r"a\.txt is missing"),
        (add, r"new\.txt is not listed"),
    ],
)
def test_every_change_of_a_folder_is_found_and_named(
    tmp_path: Path, spoil: Any, words: str
) -> None:
    out = make(tmp_path / "out")
    spoil(out)
    with pytest.raises(ManifestError, match=words):
        verify(out)
    assert not stage(out).up_to_date()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"kind": 1}', "[" * 100_000, "\udcff"],
    ids=["empty", "array", "no keys", "few keys", "deep", "not UTF-8"],
)
def test_a_file_that_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ManifestError, match=r"is not (a manifest|JSON|UTF-8)") as refusal:
        read(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / NAME}:")
    assert str(refusal.value).endswith(f": make {tmp_path} again")


def test_fields_of_a_wrong_type_are_named(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    value = json.loads((out / NAME).read_text()) | {"outputs": ["b.txt"]}
    (out / NAME).write_text(json.dumps(value))
    with pytest.raises(ManifestError, match=r"outputs is .*, expected an object\): make .* again"):
        verify(out)


def test_a_missing_manifest_and_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="run the stage that makes"):
        read(tmp_path)
    with pytest.raises(ManifestError, match=r"python -m train\.gate makes it"):
        read(tmp_path, "gate")
    with pytest.raises(ManifestError, match=r"no such file or folder: python -m data\.prep"):
        make(tmp_path / "out", inputs={"data": tmp_path / "nothing"})
    with pytest.raises(ManifestError, match="holds 'data', expected 'gate'"):
        verify(make(tmp_path / "out"), "gate")


def prompt_changed(folder: Path) -> None:
    """As if the folder had been made with another prompt."""
    value = json.loads((folder / NAME).read_text())
    value["versions"]["prompt"] += 1
    (folder / NAME).write_text(json.dumps(value))


def test_other_versions_of_prompt_schema_or_drawing_are_refused(tmp_path: Path) -> None:
    out = make(tmp_path / "out", versions=VERSIONS)
    prompt_changed(out)
    theirs = {"prompt": read(out).versions["prompt"]}
    with pytest.raises(ManifestError) as refused:
        verify(out)
    assert str(refused.value) == (
        f"{out} was made with versions {theirs}, this library has {{'prompt': "
        f"{VERSIONS['prompt']}}}: make it again, or use the library it was made with"
    )


def test_what_depends_on_the_prompt_states_it_and_nothing_else_does(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    instructions = make(tmp_path / "instructions", versions=["prompt"], inputs={"data": data})
    adapter = make(tmp_path / "adapter", inputs={"instructions": instructions})
    answers = make(tmp_path / "answers", inputs={"i": instructions, "a": adapter})
    stated = [read(folder).versions.keys() for folder in (data, instructions, adapter, answers)]
    assert stated == [set(), {"prompt"}, {"prompt"}, {"prompt"}]


def test_an_adapter_of_another_prompt_is_not_paired_with_instructions(tmp_path: Path) -> None:
    instructions = make(tmp_path / "instructions", versions=["prompt"])
    adapter = make(tmp_path / "adapter", inputs={"instructions": instructions})
    prompt_changed(adapter)
    with pytest.raises(ManifestError, match=r"adapter was made with versions \{'prompt'"):
        make(tmp_path / "answers", inputs={"i": instructions, "a": adapter})


def test_the_digest_of_a_stage_folder_is_that_of_its_listed_outputs(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two", config={"n": 2})
    assert digest(one) == digest(two)
    listed = json.dumps(read(one).outputs, sort_keys=True).encode()
    assert digest(one) == hashlib.sha256(listed).hexdigest()
    with pytest.raises(ManifestError, match="no such file"):
        digest(tmp_path / "nothing")


def test_a_file_that_cannot_be_read_is_named() -> None:
    unreadable = Path("/proc/self/mem")  # its first page is never mapped
    if not unreadable.is_file():
        pytest.skip("no such file on this system")
    with pytest.raises(ManifestError, match="mem: cannot be read"):
        digest(unreadable)


def made(**changes: Any) -> Manifest:
    stated = {
        "kind": "data",
        "inputs": {"source": "a" * 64},
        "config": {"seed": 1, "deep": {"er": [1, 2]}, "none": {}},
        "code": "b" * 64,
        "versions": {"schema": 1},
        "outputs": {"x": "c"},
    }
    return Manifest(**{**stated, **changes})


def test_two_recipes_differ_in_what_they_do_not_share_and_outputs_do_not_count() -> None:
    assert made().differences(made(outputs={})) == {}
    config = {"seed": 1, "deep": {"er": [1, 3], "more": "x" * 64}, "none": {"some": True}}
    new = made(kind="gate", inputs={"source": "d" * 64, "trace": "e" * 64}, config=config)
    assert made().differences(new) == {
        "deep.er": "[1, 2] → [1, 3]",
        "deep.more": "nothing → xxxxxxxxxxxx",
        "inputs.source": "aaaaaaaaaaaa → dddddddddddd",
        "inputs.trace": "nothing → eeeeeeeeeeee",
        "kind": "'data' → 'gate'",
        "none": "{} → nothing",
        "none.some": "nothing → True",
    }
    assert list(new.differences(made()))[:2] == ["deep.er", "deep.more"]


def test_of_a_models_folder_only_what_makes_it_that_model_counts(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model-1.safetensors").write_bytes(b"w")
    (base / "tokenizer.json").mkdir()
    model, whole = digest(base, "base"), digest(base)
    outputs = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in (("config.json", b"{}"), ("model-1.safetensors", b"w"))
    }
    assert model == hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()
    assert model == whole
    for name in ("README.md", ".cache.json", "config.json.lock"):
        (base / name).write_text("x")
    assert digest(base, "base") == model
    assert digest(base) != whole


def test_a_large_file_is_read_again_only_where_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "LARGE", 4)
    for content, later in ((b"abc", b"xyz"), (b"abcd", b"wxyz")):
        file = tmp_path / f"{len(content)}.bin"
        file.write_bytes(content)
        before = file.stat()
        assert manifest.weights_digest(file) == hashlib.sha256(content).hexdigest()
        file.write_bytes(later)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        is_read_again = manifest.weights_digest(file) == hashlib.sha256(later).hexdigest()
        assert is_read_again == (len(content) < 4)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert manifest.weights_digest(file) == hashlib.sha256(later).hexdigest()


def test_what_is_not_there_is_named_with_what_makes_it(tmp_path: Path) -> None:
    for path, kind, advice in (
        (tmp_path / "gate", "gate", ": python -m train.gate makes it"),
        (tmp_path / "x", "no stage", ""),
        (tmp_path / "x", None, ""),
    ):
        with pytest.raises(ManifestError) as refused:
            digest(path, kind)
        assert str(refused.value) == f"{path}: no such file or folder{advice}"
    assert manifest.how_to_make(tmp_path, None) == f"run the stage that makes {tmp_path}"


def test_a_manifest_lies_sorted(tmp_path: Path) -> None:
    manifest.write(tmp_path, made())
    text = (tmp_path / NAME).read_text()
    assert list(json.loads(text)) == ["code", "config", "inputs", "kind", "outputs", "versions"]
    assert read(tmp_path) == made()

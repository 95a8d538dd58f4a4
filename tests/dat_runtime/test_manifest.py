import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import ManifestError
from dat_runtime.manifest import NAME, VERSIONS, digest, read, verify
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
    with pytest.raises(ManifestError, match=r"was made with versions \{'prompt': \d+\}, this"):
        verify(out)


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
    with pytest.raises(ManifestError, match="no such file"):
        digest(tmp_path / "nothing")


def test_a_file_that_cannot_be_read_is_named() -> None:
    unreadable = Path("/proc/self/mem")  # its first page is never mapped
    if not unreadable.is_file():
        pytest.skip("no such file on this system")
    with pytest.raises(ManifestError, match="mem: cannot be read"):
        digest(unreadable)

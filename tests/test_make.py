"""What the Makefile refuses before it does harm."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("word", ["SOURCE=/tmp/my data", "OUT=runs/a b", "PROFILE=tiny"])
def test_a_variable_that_would_break_commands_is_refused(word: str) -> None:
    done = make("-n", "data", word)
    assert done.returncode
    assert word.split("=")[0] in done.stderr


def test_clean_removes_folders_under_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    done = make("clean", f"OUT={tmp_path / 'kept'}")
    assert done.returncode
    assert (tmp_path / "kept").is_dir()


def test_the_paper_profile_never_renders_its_data() -> None:
    assert "needs the public sets" in make("-n", "data", "PROFILE=paper").stdout


def test_the_paper_profile_gives_every_row_the_pinned_base() -> None:
    lines = make("-n", "eval", "PROFILE=paper", "SOURCE=/data/dat").stdout.splitlines()
    rows = [line for line in lines if "eval.predict" in line]
    assert len(rows) == 6
    assert all("--revision cc594898137f460bfe9f0759e9844b3ce807cfb5" in row for row in rows)


@pytest.mark.parametrize("said", ["", "0", "1"])
def test_only_a_1_replaces_work_or_ships_what_is_not_fit(said: str) -> None:
    words = (f"RESTART={said}", f"ACCEPT_UNTRAINED={said}")
    commands = make("-n", "export", *words).stdout
    assert ("--restart" in commands) == ("--accept-untrained" in commands) == (said == "1")


def test_every_proof_of_a_rehearsal_takes_answers_off_the_schema() -> None:
    """After 20 steps a model may write anything, and no proof may end what another let pass."""
    given = ("SOURCE=/data/dat", "ACCEPT_UNTRAINED=1")
    commands = make("-n", "train-lora", "export", *given).stdout.replace("\\\n", " ").splitlines()
    proofs = [command for command in commands if "eval.proof" in command]
    assert len(proofs) == 3  # the boxed adapter, the raw one, that of the bundle
    assert all("--accept-untrained" in command for command in proofs)


@pytest.mark.parametrize("words", ["--detections labels", "--detections=labels"])
def test_detections_of_the_labels_take_no_gate(words: str) -> None:
    def instruct(*options: str) -> str:
        return make("-n", "instructions", *options).stdout.partition("data.prep.instruct")[2]

    assert "--gate" in instruct()
    assert words in instruct(f"INSTRUCT_SET={words}")
    assert "--gate" not in instruct(f"INSTRUCT_SET={words}")


def test_the_shipped_base_is_taken_unless_one_is_to_be_made() -> None:
    """The repository holds it; from scratch the primer comes first."""
    shipped = make("-n", "lora-boxed").stdout
    assert "--base train/shipped_base" in shipped
    assert "data.prep.primer" not in shipped
    scratch = make("-n", "lora-boxed", "BASE_FROM=scratch").stdout
    assert "data.prep.primer" in scratch
    assert "--base runs/smoke/base" in scratch
    refused = make("-n", "lora-boxed", "BASE_FROM=hub")
    assert refused.returncode
    assert "shipped or scratch" in refused.stderr


def test_what_was_measured_of_codes_reaches_their_table() -> None:
    """Each folder with its option, where make fills only the first place of a pattern."""
    shown = make("-n", "eval-offload").stdout
    assert "--codes runs/smoke/codes --codec runs/smoke/codec" in shown
    assert "--instructions runs/smoke/instructions" in shown


def test_the_pipeline_looks_first_at_what_can_fail() -> None:
    mistyped = make("pipeline", "PROFILE=paper", "SOURCE=/data/dat", "GATE_SET=epoch=2")
    assert mistyped.returncode
    assert "epoch is no key of Ultralytics: is epochs meant?" in mistyped.stderr
    lines = make("-n", "pipeline", "PROFILE=paper", "SOURCE=/data/dat").stdout.splitlines()
    assert "train.check" in lines[0]
    assert "--base Qwen/Qwen2.5-VL-7B-Instruct" in "".join(lines[:4])

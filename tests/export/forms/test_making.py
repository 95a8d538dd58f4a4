"""The making of a form's folder, with a conversion and a proof that take no time."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.adapter import read_adapter
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.stage import Stage
from export import merged, quantised
from export.forms import card, hub, making
from export.forms.making import add_arguments, demand_base, make_form, prove
from tests.conftest import lora_tensors, safetensors

REPORT = {
    "samples": ["a"],
    "same_answers": 1,
    "answers": {},
    "agreement": {"tokens": 7, "mean": 0.1, "largest": 0.2, "same_choice": 1.0},
}


def adapter(folder: Path, base: str = "me/base", revision: str = "0" * 40) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(safetensors(lora_tensors()))
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": base,
        "revision": revision,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def parsed(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.fixture
def given(tmp_path: Path) -> list[object]:
    """Options of a form of an adapter whose base is on the hub."""
    (tmp_path / "instructions").mkdir()
    (tmp_path / "instructions" / "a.json").write_text("[]")
    return [
        *("--base", "me/base", "--adapter", adapter(tmp_path / "lora")),
        *("--instructions", tmp_path / "instructions", "--out", tmp_path / "out"),
    ]


def test_the_options_of_a_form_have_these_defaults(given: list[object], tmp_path: Path) -> None:
    assert vars(parsed(*given)) == {
        "base": "me/base",
        "adapter": tmp_path / "lora",
        "instructions": tmp_path / "instructions",
        "inputs": "boxed",
        "samples": 16,
        "require": [],
        "out": tmp_path / "out",
        "push_to_hub": None,
        "restart": False,
    }
    more = ("--inputs", "raw", "--samples", "5", "--require", "a>=1", "b>=2", "--restart")
    told = parsed(*given, *more, "--push-to-hub", "me/mine")
    assert (told.inputs, told.samples, told.require) == ("raw", 5, ["a>=1", "b>=2"])
    assert (told.push_to_hub, told.restart) == ("me/mine", True)
    for index in (0, 2, 4, 6):
        with pytest.raises(SystemExit):
            parsed(*given[:index], *given[index + 2 :])
    with pytest.raises(SystemExit):
        parsed(*given, "--inputs", "other")


HELP = """\
--base: folder or hub name of the base model
--adapter: of train.lora or a bundle
--instructions: for the proof
--inputs: None
--samples: of the proof, held out (16)
--require METRIC>=VALUE: refuse a form whose answers score less, e.g. 'sev_f1>=0.9'; as in \
eval.score
--out: folder to make
--push-to-hub OWNER/NAME: publish it there, private
--restart: replace what another recipe made or began in --out
"""


def test_each_option_of_a_form_is_explained() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    lines = [
        f"{' '.join([*action.option_strings, action.metavar or '']).strip()}: {action.help}\n"
        for action in parser._actions
    ]
    assert "".join(lines) == HELP


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> list[list[object]]:
    """The commands of proofs, each of which writes its report."""
    asked: list[list[object]] = []

    def run(command: list[object]) -> None:
        asked.append(command)
        out = Path(str(command[command.index("--out") + 1]))
        out.mkdir()
        (out / "proof.json").write_text(json.dumps(REPORT))

    monkeypatch.setattr(making, "_run", run)
    return asked


def convert(folder: Path, adapter: Any, say: Any) -> None:
    assert folder.name == "model"
    (folder / "model.safetensors").write_text(f"{adapter.base}, rank {adapter.rank}")
    say("converted")


def make(given: list[object], *more: object, inputs: Any = None) -> argparse.Namespace:
    args = parsed(*given, *more)
    make_form(args, "merged", "The words.", card.__file__, convert, inputs or {})
    return args


def test_a_form_is_converted_proved_and_described(
    given: list[object],
    proofs: list[list[object]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other"
    other.write_text("x")
    args = make(given, "--inputs", "raw", "--samples", "5", inputs={"more": other})
    assert sorted(path.name for path in args.out.iterdir()) == [
        *("README.md", "manifest.json", "model.safetensors", "proof.json")
    ]
    assert (args.out / "model.safetensors").read_text() == "me/base, rank 2"
    assert json.loads((args.out / "proof.json").read_text()) == REPORT
    words = card.form_card("merged", "The words.", read_adapter(args.adapter), REPORT)
    assert (args.out / "README.md").read_text() == words
    told = manifest.verify(args.out, "merged")
    assert sorted(told.inputs) == ["adapter", "instructions", "more"]
    assert told.config == {
        "base": "me/base",
        "revision": "0" * 40,
        "inputs": "raw",
        "samples": 5,
    }
    assert "[out] converted\n" in capsys.readouterr().out
    (command,) = proofs
    assert command[:3] == [sys.executable, "-m", "eval.proof"]
    out = command.pop()
    assert command[3:] == [
        *("--instructions", args.instructions, "--inputs", "raw", "--base", "me/base"),
        *("--adapter", args.adapter, "--form", args.out.with_name("out.partial") / "model"),
        *("--samples", "5", "--out"),
    ]
    assert isinstance(out, Path)
    assert (out.name, out.parent.exists()) == ("out", False)


def test_a_form_that_is_there_is_proved_again_only_where_more_is_required(
    given: list[object], proofs: list[list[object]]
) -> None:
    args = make(given)
    make(given)
    assert len(proofs) == 1
    make(given, "--require", "a>=1", "b>=2")
    assert proofs[1][-3:] == ["--require", "a>=1", "b>=2"]
    assert proofs[1][proofs[1].index("--form") + 1] == args.out


def test_a_form_of_other_settings_is_replaced_when_told_alone(
    given: list[object], proofs: list[list[object]]
) -> None:
    make(given)
    with pytest.raises(ConfigError, match=r"samples: 16 → 5\. --restart"):
        make(given, "--samples", "5")
    make(given, "--samples", "5", "--restart")
    assert len(proofs) == 2


def test_a_form_that_is_refused_keeps_its_weights_beside_and_goes_on(
    given: list[object], monkeypatch: pytest.MonkeyPatch, proofs: list[list[object]], tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("the proof failed: other weights")

    with monkeypatch.context() as patched:
        patched.setattr(making, "_run", refuse)
        with pytest.raises(ModelError, match="other weights"):
            make(given)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial" / "model" / "model.safetensors").is_file()
    make(given)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_form_is_published_when_asked_for_and_asked_about_before_the_work(
    given: list[object],
    proofs: list[list[object]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    asked: list[tuple[object, ...]] = []

    def push(folder: Path, name: str) -> str:
        asked.append((folder, name, folder.is_dir()))
        return "https://hub/me/mine"

    monkeypatch.setattr(hub, "demand_access", lambda name: asked.append((name, len(proofs))))
    monkeypatch.setattr(hub, "push", push)
    make(given)
    assert asked == []
    make(given, "--push-to-hub", "me/mine")
    assert asked == [("me/mine", 1), (tmp_path / "out", "me/mine", True)]
    assert capsys.readouterr().out.endswith("[out] published: https://hub/me/mine\n")


def test_another_base_than_the_adapter_s_is_refused_before_the_work(
    given: list[object], proofs: list[list[object]], tmp_path: Path
) -> None:
    folder = tmp_path / "lora"
    demand_base("me/base", read_adapter(folder), folder)
    words = (
        f"{folder} was trained for me/base at revision {'0' * 40}, and BASE is another model: name"
        " its own base"
    )
    with Stage(tmp_path / "base", kind="base", inputs={}, config={}) as base:
        (base / "config.json").write_text("{}")
    for name in ("me/other", str(tmp_path / "base")):
        with pytest.raises(ConfigError, match=f"^{re.escape(words.replace('BASE', name))}$"):
            make(["--base", name, *given[2:]])
    assert proofs == []


def test_a_base_in_a_folder_is_an_input_and_its_path_is_whole(
    given: list[object], proofs: list[list[object]], tmp_path: Path
) -> None:
    with Stage(tmp_path / "base", kind="base", inputs={}, config={}) as base:
        (base / "config.json").write_text("{}")
    own = adapter(tmp_path / "own", "base", manifest.digest(tmp_path / "base", "base"))
    args = make(["--base", tmp_path / "base", "--adapter", own, *given[4:]])
    told = manifest.read(args.out)
    assert told.inputs["base"] == manifest.digest(tmp_path / "base", "base")
    assert proofs[0][proofs[0].index("--base") + 1] == tmp_path / "base"


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("noise\nerror: first\nmore\nerror: second\n", "second"),
        ("x" * 600 + " \n", "x" * 498),
        ("Traceback\n", "Traceback"),
    ],
)
def test_a_proof_that_fails_is_told_in_its_own_words(
    stderr: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[object, dict[str, object]]] = []

    def run(command: object, **options: object) -> SimpleNamespace:
        ran.append((command, options))
        return SimpleNamespace(returncode=len(ran) - 1, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    making._run(["a", Path("b")])
    root = Path(making.__file__).parents[2]
    options = {"cwd": root, "stderr": subprocess.PIPE, "text": True}
    assert ran == [(["a", f"{tmp_path}/b"], options)]
    with pytest.raises(ModelError, match=f"^the proof failed: {words}$"):
        making._run(["a"])


def test_a_proof_is_read_from_a_folder_of_its_own(
    given: list[object], proofs: list[list[object]], tmp_path: Path
) -> None:
    assert prove(parsed(*given), tmp_path / "form") == REPORT
    assert proofs[0][proofs[0].index("--form") + 1] == tmp_path / "form"
    assert "--require" not in proofs[0]


Made = list[tuple[Any, ...]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    forms: Made = []
    monkeypatch.setattr(making, "make_form", lambda *given: forms.append(given))
    return forms


def test_the_merged_form_is_the_base_with_the_adapter(
    given: list[object], made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from export.forms import checkpoint, merging

    assert merged.main([str(word) for word in given]) == 0
    args, name, what, code, convert, inputs = made[0]
    assert (name, what, Path(code).name, inputs) == ("merged", card.MERGED, "merged.py", {})
    assert args.out == tmp_path / "out"
    done: Made = []
    monkeypatch.setattr(checkpoint, "model_folder", lambda *given: given)
    monkeypatch.setattr(merging, "merge", lambda *given: done.append(given))
    assert merged.main([str(word) for word in given]) == 0
    convert = made[1][4]
    convert(tmp_path, SimpleNamespace(revision="main"), print)
    assert done == [(("me/base", "main"), tmp_path / "lora", tmp_path, print)]


def test_the_quantised_form_is_made_of_a_merged_one(
    given: list[object],
    made: Made,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from export.forms import fp8

    words = [str(word) for word in given]
    with pytest.raises(SystemExit):
        quantised.main(words)
    words = ["--merged", str(tmp_path / "merged"), *words]
    assert quantised.main(words) == 1
    assert "merged" in capsys.readouterr().err
    with Stage(tmp_path / "merged", kind="fp8", inputs={}, config={}) as folder:
        (folder / "a").write_text("a")
    assert quantised.main(words) == 1
    assert "holds 'fp8', expected 'merged'" in capsys.readouterr().err
    with Stage(tmp_path / "merged", kind="merged", inputs={}, config={}) as folder:
        (folder / "a").write_text("a")
    done: Made = []
    monkeypatch.setattr(fp8, "quantise", lambda *given: done.append(given))
    assert quantised.main(words) == 0
    ((_, name, what, code, convert, inputs),) = made
    assert (name, what, Path(code).name) == ("fp8", card.FP8, "quantised.py")
    assert inputs == {"merged": tmp_path / "merged"}
    convert(tmp_path, object(), print)
    assert done == [(tmp_path / "merged", tmp_path, print)]

"""The making of a form's folder: converted, held to its adapter, described, and only then there."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dat_runtime.adapter import read_adapter
from dat_runtime.errors import ConfigError
from dat_runtime.files import read_json, write_atomically, write_json
from dat_runtime.stage import Stage
from eval.answers.likelihood import read_questions, spread
from eval.answers.model import demand_base
from eval.proving import forms
from eval.understanding.requirements import parse_requirement
from export.forms import hub
from export.forms.card import form_card

PART = "val"
PROOF = "proof.json"
Say = Callable[[str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every form's command is told."""
    parser.add_argument("--base", required=True, help="folder or hub name of the base model")
    parser.add_argument("--adapter", type=Path, required=True, help="of train.lora or a bundle")
    parser.add_argument("--instructions", type=Path, required=True, help="for the proof")
    parser.add_argument("--inputs", choices=("boxed", "raw"), default="boxed")
    parser.add_argument("--samples", type=int, default=16, help="of the proof, held out (16)")
    parser.add_argument(
        "--require",
        nargs="+",
        default=[],
        metavar="METRIC>=VALUE",
        help="refuse a form whose answers score less, e.g. 'sev_f1>=0.9'; as in eval.score",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="publish it there, private")


def make_form(
    args: argparse.Namespace,
    name: str,
    what: str,
    code: str,
    convert: Callable[[Path, Say], None],
    inputs: Mapping[str, Path],
) -> None:
    """Make the folder unless it is there already, and publish it if that was asked for.

    Args:
        args: those of `add_arguments`.
        name, what: what the card calls the form, and says of it.
        code: the file of the command.
        convert: writes the weights into a folder; goes on where it was cut off.
        inputs: what it reads, beside adapter, base and instructions.

    Raises:
        ModelError: the form is not the adapter on its base; its weights are kept beside `out`.
        RequirementError: its answers score less than required.
        ConfigError: it cannot be published.
    """
    if args.samples < 4:
        raise ConfigError(f"--samples {args.samples}: an interval needs at least 4")
    required = [parse_requirement(text) for text in args.require]
    if args.push_to_hub:
        hub.demand_access(args.push_to_hub)
    revision = demand_base(args.base, None, args.adapter)
    adapter = read_adapter(args.adapter)
    stage = Stage(
        args.out,
        kind=name,
        inputs={**_inputs(args), **inputs},
        config={
            "base": adapter.base,
            "revision": adapter.revision,
            "inputs": args.inputs,
            "samples": args.samples,
        },
        code=[code],
        resumable=True,
    )

    def say(line: str) -> None:
        print(f"[{args.out.name}] {line}", flush=True)

    if stage.up_to_date():
        forms.demand_scores(read_json(args.out / PROOF), required)
    else:
        questions = spread(read_questions(args.instructions, args.inputs, PART), args.samples)
        with stage as folder:
            convert(folder, say)
            report = forms.hold(args.base, revision, args.adapter, folder, questions, say)
            forms.demand_scores(report, required)
            write_json(folder / PROOF, report)
            write_atomically(folder / "README.md", form_card(name, what, adapter, report))
        for line in forms.summary(report):
            say(line)
    if args.push_to_hub:
        say(f"published: {hub.push(args.out, args.push_to_hub)}")


def _inputs(args: argparse.Namespace) -> dict[str, Path]:
    inputs: dict[str, Any] = {"adapter": args.adapter, "instructions": args.instructions}
    if Path(args.base).is_dir():
        inputs["base"] = Path(args.base)
    return inputs

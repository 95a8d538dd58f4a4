"""The making of a form's folder: converted, held to its adapter, described, and only then there."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime.adapter import Adapter, read_adapter
from dat_runtime.base_identity import difference
from dat_runtime.command import add_restart
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.files import read_json, write_atomically, write_json
from dat_runtime.stage import Stage
from export.forms import hub
from export.forms.card import form_card

PROOF = "proof.json"
MODEL = "model"
"""Where the form lies until it is proved."""

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
    add_restart(parser)


def make_form(
    args: argparse.Namespace,
    name: str,
    what: str,
    code: str,
    convert: Callable[[Path, Adapter, Say], None],
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
        ModelError: the form is not the adapter on its base, or its answers score less than
            required; its weights are kept beside `out`.
        ConfigError: the adapter has another base, the form cannot be published, or `out` holds
            that of another adapter.
    """
    if args.push_to_hub:
        hub.demand_access(args.push_to_hub)
    adapter = read_adapter(args.adapter)
    demand_base(args.base, adapter, args.adapter)
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
        restart=args.restart,
    )

    def say(line: str) -> None:
        print(f"[{args.out.name}] {line}", flush=True)

    if stage.up_to_date():
        if args.require:
            prove(args, args.out)
    else:
        with stage as folder:
            model = folder / MODEL
            model.mkdir(exist_ok=True)
            convert(model, adapter, say)
            report = prove(args, model)
            for file in model.iterdir():
                file.replace(folder / file.name)
            model.rmdir()
            write_json(folder / PROOF, report)
            write_atomically(folder / "README.md", form_card(name, what, adapter, report))
    if args.push_to_hub:
        say(f"published: {hub.push(args.out, args.push_to_hub)}")


def demand_base(name: str, adapter: Adapter, where: Path) -> None:
    """Refuse another base than the adapter's, before anything is computed.

    Raises:
        ConfigError: names both.
    """
    if Path(name).is_dir():
        fits = difference(Path(name), adapter.base, adapter.revision) is None
    else:
        fits = name == adapter.base
    if not fits:
        raise ConfigError(
            f"{where} was trained for {adapter.base} at revision {adapter.revision}, and {name} is "
            "another model: name its own base"
        )


def prove(args: argparse.Namespace, form: Path) -> dict[str, Any]:
    """What `eval.proof --form` says of a form; stages know each other by their files alone.

    Raises:
        ModelError: with its words; it refused the form.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / args.out.name
        base = Path(args.base) if Path(args.base).is_dir() else args.base
        options: list[str | Path] = [
            *("--instructions", args.instructions, "--inputs", args.inputs, "--base", base),
            *("--adapter", args.adapter, "--form", form, "--samples", str(args.samples)),
            *("--out", out),
        ]
        if args.require:
            options += ["--require", *args.require]
        _run([sys.executable, "-m", "eval.proof", *options])
        report: dict[str, Any] = read_json(out / PROOF)
    return report


def _run(command: Sequence[str | Path]) -> None:
    root = Path(__file__).parents[2]
    absolute = [str(part.absolute()) if isinstance(part, Path) else part for part in command]
    done = subprocess.run(absolute, cwd=root, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        said = lines[-1].removeprefix("error: ") if lines else done.stderr[-500:].strip()
        raise ModelError(f"the proof failed: {said}")


def _inputs(args: argparse.Namespace) -> dict[str, Path]:
    inputs: dict[str, Any] = {"adapter": args.adapter, "instructions": args.instructions}
    if Path(args.base).is_dir():
        inputs["base"] = Path(args.base)
    return inputs

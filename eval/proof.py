"""Proof that an adapter does what it was trained for, on held-out samples.

    python -m eval.proof --instructions OUT/instructions --inputs boxed --base BASE \\
        --adapter OUT/lora-boxed --out OUT/proof-boxed [--samples 16]

It is an error unless, on samples of the validation part,
    1. greedy answers with the adapter differ from the base's;
    2. the true answers are likelier with it: the mean negative log-likelihood falls, and the
       bootstrap interval of the change lies below 0. Its own answers are not worse: for schema,
       count and boxes no interval of the difference lies on the worse side. Half of them at least
       fit the schema;
    3. weights into which the adapter is merged, from its file alone and as a server does it, give
       the same log-probabilities, within a tolerance;
and, where --answers names what eval.predict --part val had from the adapter,
    4. they are better, by an interval, than answers that need no MLLM (never an alert, always the
       commonest accidents, the gate alone) in SevF1 or Count EM, and worse in neither; and the gate
       does not surely miss half of the accident frames. --accept-untrained lets a rehearsal go on:
       proof.json states why it is not fit for use, and export.bundle writes that into the bundle.
Writes proof.json. The adapter is a folder of train.lora or that of a bundle (OUT/bundle/adapter).

With --form it holds another form of the tuned model to the adapter on its base: a folder of
export.merged or export.quantised, or the answers that eval.predict --part val had from a server of
any other form. Likelihoods must agree within that form's tolerance, its answers be no worse, and
the scores that --require names be reached.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import read_json, write_json
from dat_runtime.stage import Stage
from eval.answers.likelihood import read_questions, spread
from eval.answers.model import demand_base, demand_family, load, verify_adapter
from eval.proving import forms
from eval.proving.fitness import demand_answers_of, demand_fit, fitness
from eval.proving.forms import answers_in, demand_scores
from eval.proving.prove import Say, demand_form, prove, summary
from eval.understanding.requirements import parse_requirement

PART = "val"


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("eval.proof", __doc__)
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--inputs", choices=("boxed", "raw"), required=True)
    parser.add_argument("--base", required=True, help="folder or hub name of the base model")
    parser.add_argument("--adapter", type=Path, required=True, help="of train.lora or a bundle")
    parser.add_argument("--samples", type=int, default=16, help="held-out samples (16)")
    parser.add_argument("--answers", type=Path, help="of eval.predict --part val --adapter ADAPTER")
    parser.add_argument(
        "--accept-untrained", action="store_true", help="go on with what is not fit for use"
    )
    parser.add_argument("--form", type=Path, help="of export, or answers of eval.predict")
    parser.add_argument(
        "--require", nargs="+", default=[], metavar="METRIC>=VALUE", help="as in eval.score"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.require and args.form is None:
        raise ConfigError("--require is about the scores of a --form")
    if args.form is not None and args.answers is not None:
        raise ConfigError("--answers are the adapter's own: name those of a form by --form")
    required = [parse_requirement(text) for text in args.require]
    if args.samples < 4:
        raise ConfigError(f"--samples {args.samples}: an interval needs at least 4")
    base_name = "folder" if Path(args.base).is_dir() else args.base
    stage = Stage(
        args.out,
        kind="proof",
        inputs=_inputs(args),
        config={"inputs": args.inputs, "samples": args.samples, "base": base_name},
        code=[__file__],
    )
    if stage.up_to_date():
        report = read_json(args.out / "proof.json")
        if args.form is not None:
            demand_scores(report, required)
        elif not args.accept_untrained:  # what was accepted once is not accepted for ever
            if args.answers is not None:
                demand_fit(report["fitness"], args.adapter)
            demand_form(report["misfit"], args.adapter)
        return 0
    say = _sayer(args.out.name)
    revision = demand_base(args.base, None, args.adapter)
    demand_family(args.instructions, args.base, revision)
    everything = read_questions(args.instructions, args.inputs, PART)
    judged = None
    if args.answers is not None:  # before a model is loaded, which may take minutes
        demand_answers_of(args.answers, args.adapter, args.instructions, args.inputs)
        texts = answers_in(args.answers, everything)
        judged = fitness(args.instructions, PART, everything, texts)
        if not args.accept_untrained:
            demand_fit(judged, args.adapter)
    questions = spread(everything, args.samples)
    with stage as folder:
        if args.form is None:
            base = load(args.base, revision, None)
            report = prove(base, args.adapter, questions, say, rehearsal=args.accept_untrained)
            if judged is not None and report["misfit"] is not None:
                judged["reasons"].append(report["misfit"])
            report["fitness"] = judged
            lines = summary(report)
        else:
            report = forms.hold(args.base, revision, args.adapter, args.form, questions, say)
            demand_scores(report, required)
            lines = forms.summary(report)
        write_json(folder / "proof.json", report)
    for line in lines:
        say(line)
    return 0


def _inputs(args: argparse.Namespace) -> dict[str, Path]:
    """The folders that the proof is about."""
    verify_adapter(args.adapter)
    inputs = {"instructions": args.instructions, "adapter": args.adapter}
    if Path(args.base).is_dir():
        inputs["base"] = Path(args.base)
    if args.form is not None:
        inputs["form"] = args.form
    if args.answers is not None:
        inputs["answers"] = args.answers
    return inputs


def _sayer(name: str) -> Say:
    def say(line: str) -> None:
        print(f"[{name}] {line}", flush=True)

    return say


if __name__ == "__main__":
    raise SystemExit(main())

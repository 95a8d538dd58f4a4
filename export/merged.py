"""The base with the adapter merged into its weights, for servers that take no adapter.

    python -m export.merged --base BASE --adapter OUT/lora-boxed \\
        --instructions OUT/instructions --out OUT/merged [--require 'sev_f1>=0.9']

Safetensors in bfloat16 with a card; file by file, so the model is never whole in memory, and a run
that was cut off goes on. Then eval.proof's --form holds it to the adapter on its base: it is there
only if both are one model and its answers are no worse, and reach what --require demands.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime.adapter import Adapter
from dat_runtime.command import command
from dat_runtime.errors import reports_errors


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("export.merged", __doc__)
    from export.forms.making import Say, add_arguments, make_form

    add_arguments(parser)
    args = parser.parse_args(argv)
    from export.forms.card import MERGED
    from export.forms.checkpoint import model_folder
    from export.forms.merging import merge

    def convert(folder: Path, adapter: Adapter, say: Say) -> None:
        merge(model_folder(args.base, adapter.revision), args.adapter, folder, say)

    make_form(args, "merged", MERGED, __file__, convert, {})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

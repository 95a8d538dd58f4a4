"""The merged model with FP8 weights, half the size, for servers such as vLLM.

    python -m export.quantised --merged OUT/merged --base BASE --adapter OUT/lora-boxed \\
        --instructions OUT/instructions --out OUT/fp8 [--require 'sev_f1>=0.9']

Needs no calibration data and no card. As export.merged it is held to the adapter on its base, with
the arithmetic of a server that multiplies in FP8; docs/export.md has the forms that other tools
make (AWQ, GGUF), and how those are held to it.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.adapter import Adapter
from dat_runtime.command import command
from dat_runtime.errors import reports_errors


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("export.quantised", __doc__)
    from export.forms.making import Say, add_arguments, make_form

    parser.add_argument("--merged", type=Path, required=True, help="folder made by export.merged")
    add_arguments(parser)
    args = parser.parse_args(argv)
    from export.forms.card import FP8
    from export.forms.fp8 import quantise

    manifest.read(args.merged, "merged")

    def convert(folder: Path, _adapter: Adapter, say: Say) -> None:
        quantise(args.merged, folder, say)

    make_form(args, "fp8", FP8, __file__, convert, {"merged": args.merged})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

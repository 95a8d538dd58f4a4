"""Fetch the public sets with your own account, for `data.prep.build --source`.

    python -m data.prep.download public --out SRC
    python -m data.prep.download kaggle OWNER/NAME --out SRC
    python -m data.prep.download roboflow WORKSPACE/PROJECT/VERSION --out SRC

Kaggle: KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or ~/.kaggle/kaggle.json.
Roboflow: ROBOFLOW_API_KEY. Read and accept each set's licence on its page first.
A download that was cut off continues where it stopped; a set that is there is not fetched again.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from data.prep.downloading.services import PUBLIC, fetch_kaggle, fetch_roboflow, kaggle, roboflow


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("data.prep.download", __doc__)
    parser.add_argument("service", choices=("public", "kaggle", "roboflow"))
    parser.add_argument("name", nargs="?", help="OWNER/NAME or WORKSPACE/PROJECT/VERSION")
    parser.add_argument("--out", type=Path, required=True, help="folder to put the sets into")
    args = parser.parse_args(argv)
    if (args.service == "public") == bool(args.name):
        raise ConfigError("`public` takes no name, `kaggle` and `roboflow` need one")
    if args.service == "roboflow":
        fetch_roboflow(args.name, args.out, roboflow(os.environ))
    else:
        service = kaggle(os.environ)
        names = (args.name,)
        if args.service == "public":
            names = PUBLIC
        for name in names:
            fetch_kaggle(name, args.out, service)
    print(f"[download] done; next: python -m data.prep.build --source {args.out} --out OUT/data")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

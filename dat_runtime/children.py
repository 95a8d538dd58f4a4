"""What a child process of ours is given to find this package."""

import os
from pathlib import Path


def environment() -> dict[str, str]:
    """This process's own, with this package first on the path, wherever it was imported from.

    ONNX Runtime tells its vendor nothing there either.
    """
    package = str(Path(__file__).resolve().parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "ORT_DISABLE_TELEMETRY": "1"}

"""Which image processor a base model has: the same weights see other pixels through another one."""

import hashlib
from pathlib import Path

from dat_runtime.errors import DataError
from dat_runtime.files import read_bytes

FILES = ("preprocessor_config.json", "processor_config.json")
"""Of Transformers, the older and the newer one; a base has one of them, or both."""

MOST_BYTES = 1 << 20


def processor_digest(base: Path) -> str:
    """One digest of the files in a base model's folder that say how it reads an image.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    names = [name for name in FILES if (base / name).is_file()]
    if not names:
        raise DataError(f"{base} holds no {' or '.join(FILES)}: name the base model's folder")
    lines = []
    for name in names:
        content = read_bytes(base / name, DataError, most_bytes=MOST_BYTES)
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()

"""LLaMA-Factory's `dataset_info.json`: the file and the field names of each data set."""

from collections.abc import Iterable
from typing import Any


def dataset_info(names: Iterable[str]) -> dict[str, Any]:
    """The description of data sets in the ShareGPT form; the set `name` is in `<name>.json`."""
    columns = {"messages": "messages", "images": "images", "system": "system"}
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
    }
    info = {}
    for name in names:
        info[name] = {
            "file_name": f"{name}.json",
            "formatting": "sharegpt",
            "columns": columns,
            "tags": tags,
        }
    return info

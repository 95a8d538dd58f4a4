import io
import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.adapter import MAX_HEADER_BYTES, _only, read_adapter, read_header
from dat_runtime.errors import ModelError

A = "base_model.model.layers.0.q_proj.lora_A.weight"
B = "base_model.model.layers.0.q_proj.lora_B.weight"
REVISION = "ab" * 20
CONFIG = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "base",
    "revision": REVISION,
}


def entry(shape: list[int], begin: int, dtype: str = "F32") -> dict[str, Any]:
    size = int(np.prod(shape)) * (4 if dtype == "F32" else 2)
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + size]}


HEADER = {A: entry([2, 8], 0), B: entry([4, 2], 64)}
DATA = np.ones(24, "<f4").tobytes()


def file_of(header: object, data: bytes = DATA) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def folder_of(folder: Path, weights: bytes, config: object = CONFIG) -> Path:
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_a_sound_adapter_says_what_it_holds(tmp_path: Path) -> None:
    adapter = read_adapter(folder_of(tmp_path, file_of({"__metadata__": {"a": "b"}, **HEADER})))
    assert (adapter.base, adapter.revision, adapter.rank) == ("base", REVISION, 2)
    assert (adapter.tensors, adapter.parameters, adapter.dtypes) == (2, 24, ("F32",))
    assert adapter.scale == 4 / 2


LARGEST = np.finfo("<f4").max


def test_two_modules_of_two_sizes_and_the_largest_finite_weights_are_read(tmp_path: Path) -> None:
    k_proj = {
        A.replace("q_proj", "k_proj"): entry([2, 1], 96),
        B.replace("q_proj", "k_proj"): entry([1, 2], 104),
    }
    data = np.resize(np.array([LARGEST, -LARGEST, -1], "<f4"), 28).tobytes()
    changed = CONFIG | {"target_modules": ["k_proj", "q_proj"]}
    adapter = read_adapter(folder_of(tmp_path, file_of(HEADER | k_proj, data), changed))
    assert (adapter.tensors, adapter.parameters) == (4, 28)


def test_infinity_is_found_far_from_the_beginning(tmp_path: Path) -> None:
    header = {A: entry([2, 40_000], 0), B: entry([4, 2], 320_000)}
    data = np.zeros(80_008, "<f4")
    data[79_999] = np.inf
    with pytest.raises(ModelError, match=r"lora_A\.weight: holds NaN or infinity"):
        read_adapter(folder_of(tmp_path, file_of(header, data.tobytes())))


def test_files_of_the_safetensors_library_are_read(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    tensors = {A: np.ones((2, 8), np.float16), B: np.ones((4, 2), np.float16)}
    assert read_adapter(folder_of(tmp_path, numpy_files.save(tensors))).dtypes == ("F16",)


def other_size() -> dict[str, Any]:
    """A second layer of another size than the first."""
    others = {
        A.replace(".0.", ".1."): entry([2, 4], 96),
        B.replace(".0.", ".1."): entry([8, 2], 128),
    }
    return HEADER | others


def million_tensors() -> bytes:
    """12.8 s in the safetensors library."""
    return b'{"__metadata__":{}' + b',"a":{}' * 1_000_000 + b"}"


DUPLICATE = json.dumps(HEADER)[:-1] + f', "{A}": {json.dumps(entry([2, 8], 0))}}}'


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (b"", "no header"),
        (b"\x05", "no header"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + bytes(MAX_HEADER_BYTES + 1), "no header"),
        (struct.pack("<Q", 1 << 63) + b"{}", "no header"),
        (struct.pack("<Q", 3) + b"{}", "no header"),
        (file_of(b"{nonsense"), "not JSON"),
        (file_of(b"[" * 200_000), "not JSON"),
        (file_of(DUPLICATE.encode()), "duplicate key"),
        (file_of([1]), ": the header is not an object$"),
        (file_of({}, b""), ": no tensor in it$"),
        (file_of({A: 3}), f"{A}: 3 is not an object with the keys dtype, shape, data_offsets"),
        (file_of({A: entry([2, 8], 0) | {"dtype": "I64"}}), "dtype is 'I64', expected one of F32"),
        (
            file_of({A: entry([2, 8], 0) | {"shape": [2, -8]}}),
            "each a whole number from 0",
        ),
        (file_of({A: entry([2, 8], 0) | {"shape": [2, 9]}}), "64 bytes for F32"),
        (file_of({A: entry([2, 8], 0), B: entry([4, 2], 60)}), "expected 64"),
        (
            file_of(HEADER | {B: entry([4, 2], 64) | {"shape": [4, 3]}}),
            r"lora_B\.weight: 32 bytes for F32 \[4, 3\], expected 48$",
        ),
        (file_of(HEADER, DATA + b"more"), "bytes of data"),
        (file_of(HEADER, DATA[:-4]), "bytes of data"),
        (file_of({"model.embed.weight": entry([2, 12], 0)}), "not the name of a LoRA weight"),
        (file_of({A: entry([3, 8], 0)}), "at rank 2"),
        (file_of({A: entry([2, 0], 0)}, b""), r"shape \[2, 0\] at rank 2"),
        (file_of({A: entry([2, 12], 0)}), "only lora_A"),
        (
            file_of({"__metadata__": {"a": 1}, **HEADER}),
            ": the header: __metadata__ is {'a': 1}, expected at most",
        ),
        (
            file_of({"__metadata__": "text", **HEADER}),
            ": the header: __metadata__ is 'text', expected an object",
        ),
        (file_of({"__metadata__": dict.fromkeys(map(str, range(17)), ""), **HEADER}), "16 texts"),
        (file_of({A: entry([2, 8], 0), B: entry([4, 2], 64, "F16")}, DATA[:80]), "F16 beside F32"),
        (file_of(other_size(), bytes(192)), r"1.q_proj is \[8, 4\], .*0.q_proj \[4, 8\]"),
        (file_of(million_tensors(), b""), "no header of 2 to 1048576 bytes"),
        (file_of(HEADER, DATA[:-4] + struct.pack("<f", float("nan"))), "NaN or infinity"),
        (file_of(HEADER, struct.pack("<f", float("-inf")) + DATA[4:]), "NaN or infinity"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # some files are megabytes
)
def test_hostile_weights_are_refused_by_name(tmp_path: Path, weights: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words) as refusal:
        read_adapter(folder_of(tmp_path, weights))
    assert "adapter_model.safetensors" in str(refusal.value)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_infinity_is_found_in_half_precision(tmp_path: Path, dtype: str) -> None:
    header = {A: entry([2, 8], 0, dtype), B: entry([4, 2], 32, dtype)}
    infinity = {"F16": 0x7C00, "BF16": 0x7F80}[dtype]
    data = struct.pack("<24H", *[0x3C00] * 23, infinity)
    with pytest.raises(ModelError, match="NaN or infinity"):
        read_adapter(folder_of(tmp_path, file_of(header, data)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA', expected LORA"),
        ({"base_model_name_or_path": "/home/someone/model"}, "base_model_name_or_path"),
        ({"base_model_name_or_path": "../model"}, "base_model_name_or_path"),
        ({"revision": None}, "revision is None"),
        ({"revision": ""}, "revision is ''"),
        ({"base_model_name_or_path": "C:\\model"}, "expected a model's name, not a path"),
        ({"r": 0}, "r is 0"),
        ({"r": True}, "r is True"),
        ({"base_model_name_or_path": "a/../b"}, "base_model_name_or_path"),
        ({"base_model_name_or_path": "https://host/model"}, "base_model_name_or_path"),
        ({"base_model_name_or_path": "a/b/c"}, "base_model_name_or_path"),
        ({"base_model_name_or_path": ".."}, "base_model_name_or_path"),
        ({"revision": "main"}, "revision is 'main', expected a commit, or a folder's sha256"),
        ({"lora_alpha": 1e9}, "lora_alpha is 1000000000.0 at rank 2, expected at most 64 times"),
        ({"lora_alpha": 129}, "lora_alpha is 129 at rank 2"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_dropout": 2}, "lora_dropout is 2"),
        ({"target_modules": ".*"}, r"target_modules is '\.\*', expected a list"),
        ({"target_modules": ["(a+)+"]}, "target_modules"),
        ({"target_modules": []}, "target_modules"),
        ({"target_modules": ["q_proj", "k_proj"]}, "no weights for k_proj"),
        ({"target_modules": ["k_proj"]}, "q_proj: target_modules does not name it"),
        ({"rank_pattern": {"q_proj": 9}}, "rank_pattern is {'q_proj': 9}, expected {}"),
        ({"alpha_pattern": {"q_proj": 9}}, "alpha_pattern"),
        ({"use_dora": True}, "use_dora is True, expected False"),
        ({"use_dora": 0}, "use_dora is 0, expected False"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\], expected None"),
        ({"auto_mapping": {"parent_library": "os"}}, "auto_mapping"),
        ({"layer_replication": [[0, 9]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"loaded_from": "elsewhere"}, r"config\.json: unknown key 'loaded_from'"),
    ],
)
def test_a_configuration_must_state_kind_base_revision_and_rank(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelError, match=r"adapter_(config\.json|model\.safetensors): ") as refusal:
        read_adapter(folder_of(tmp_path, file_of(HEADER), CONFIG | change))
    assert re.search(words, str(refusal.value))


def test_what_is_left_alone_holds_that_very_value() -> None:
    rule = _only(False)
    assert [rule.holds(value) for value in (False, 0, True)] == [True, False, False]
    assert rule.expected == "False"


def test_limits_belong_to_what_is_allowed(tmp_path: Path) -> None:
    changed = CONFIG | {"lora_alpha": 128, "use_rslora": True, "lora_dropout": 1}
    assert read_adapter(folder_of(tmp_path, file_of(HEADER), changed)).scale == 128 / 2**0.5


def test_a_key_stated_twice_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, file_of(HEADER))
    text = json.dumps(CONFIG).replace('"r": 2', '"r": 4, "r": 2')
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"adapter_config\.json: is not JSON \(duplicate key\)"):
        read_adapter(folder)


@pytest.mark.parametrize(
    "target", ["q_proj", "0.q_proj", "layers.0.q_proj", "model.layers.0.q_proj"]
)
def test_a_target_names_a_module_by_its_end_as_in_peft(tmp_path: Path, target: str) -> None:
    changed = CONFIG | {"target_modules": [target]}
    if target.startswith("model."):
        with pytest.raises(ModelError, match="does not name it"):
            read_adapter(folder_of(tmp_path, file_of(HEADER), changed))
    else:
        assert read_adapter(folder_of(tmp_path, file_of(HEADER), changed)).tensors == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter_config\.json: cannot be read"):
        read_adapter(tmp_path)
    (folder_of(tmp_path, b"") / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: cannot be read \(No such"):
        read_adapter(tmp_path)


def test_a_configuration_of_more_than_64_kib_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, file_of(HEADER))
    text = json.dumps(CONFIG)
    (folder / "adapter_config.json").write_text(text.ljust(65_536))
    assert read_adapter(folder).rank == 2
    (folder / "adapter_config.json").write_text(text.ljust(65_537))
    with pytest.raises(ModelError, match=r"adapter_config\.json: larger than 65,536"):
        read_adapter(folder)


def test_a_pipe_in_the_place_of_weights_is_not_opened(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, file_of(HEADER))
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"safetensors: is not a plain file, and might never"):
        read_adapter(folder)


def test_reading_a_header_leaves_the_file_at_its_data() -> None:
    content = file_of(HEADER)
    file = io.BytesIO(content)
    assert [t.name for t in read_header(file, len(content))] == [A, B]
    assert file.read() == DATA

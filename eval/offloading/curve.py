"""Our own accuracy by bytes, as `eval.codes` measured it, and the look-up table that a node reads.

An answer of the gate alone is scored like the others: on the same frames, by the same metrics.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime import fields, manifest
from dat_runtime.codec_folder import Description, read_description
from dat_runtime.errors import DataError
from dat_runtime.files import read_json, read_json_lines
from dat_runtime.offload_table import PICTURES, Row, Table
from eval.offloading.accuracy import METRICS
from eval.offloading.ways import CAMERA_SIZE
from eval.understanding import trivial
from eval.understanding.metrics import measure
from eval.understanding.records import read_truth
from eval.understanding.scores import scores_of

MEASURE = "count_em"
"""What the node's table calls accuracy; the controller's targets are in it."""

SEEN = "merger_error"
"""How far what the language model sees is from that of the boxed picture; less is better."""

_PARTS = ("head", "encoder", "decoder", "tail", "answer")
_REPORT = {
    "codec": fields.NAME,
    "rows": fields.LIST,
    "picture": fields.OBJECT,
    "milliseconds": fields.OBJECT,
}
_ROW = {
    "name": fields.NAME,
    "kind": fields.NAME,
    "bytes": fields.number(0),
    "bytes_max": fields.whole(0),
    "channels": fields.optional(fields.whole(1)),
    "quality": fields.optional(fields.whole(0, 100)),
    "n": fields.whole(1),
    SEEN: fields.number(0),
    **dict.fromkeys(METRICS, fields.OBJECT),
}
_INTERVAL = dict.fromkeys(("value", "low", "high"), fields.optional(fields.SHARE))
_MILLISECONDS = dict.fromkeys(_PARTS, fields.number(0))


@dataclass(frozen=True)
class Curve:
    """What was measured.

    Attributes:
        rows: of accuracy.json, the gate alone before them.
        seconds: of head, encoder, decoder, tail and of the language model's answers.
        goal: of accuracy.json, codes against pictures by paired bootstrap; None without one.
        picture_matters: whether answers depend on the picture; else they tell no way from another.
    """

    rows: list[dict[str, Any]]
    codec: Description
    seconds: Mapping[str, float]
    goal: Mapping[str, Any] | None
    picture_matters: bool

    @property
    def frames(self) -> int:
        return int(self.rows[0]["n"])


def read_curve(codes: Path, codec: Path, instructions: Path) -> Curve:
    """The curve of a folder of `eval.codes`, of the codec and about the frames that it names.

    Raises:
        DataError: accuracy.json is not what `eval.codes` writes, or of another codec; or the
            instructions have no gate's boxes, or are others than those that were answered.
        ManifestError, ModelError: a folder is not what its manifest, or codec.json, says.
    """
    made = manifest.verify(codes, kind="codes")
    for name, folder in (("codec", codec), ("instructions", instructions)):
        if made.inputs.get(name) != manifest.digest(folder):
            raise DataError(f"was made with another {name} than {folder}: name that one", codes)
    path = codes / "accuracy.json"
    report = read_json(path, strict=True)
    try:
        fields.checked(report, _REPORT, "", further_keys=True)
        fields.checked(report["milliseconds"], _MILLISECONDS, "milliseconds", further_keys=True)
        fields.checked(report["picture"], {"matters": fields.FLAG}, "picture", further_keys=True)
        for i, row in enumerate(report["rows"]):
            fields.checked(row, _ROW, f"rows[{i}]", further_keys=True)
            for metric in METRICS:
                fields.checked(row[metric], _INTERVAL, f"rows[{i}].{metric}")
    except ValueError as error:
        raise DataError(str(error), path) from None
    seconds = {part: report["milliseconds"][part] / 1000 for part in _PARTS}
    answers = [
        line
        for path in sorted((codes / "answers").glob("*.jsonl"))
        for _, line in read_json_lines(path)
    ]
    if not answers:
        raise DataError("holds no answers", codes / "answers")
    asked = {line["image_id"] for line in answers}
    return Curve(
        rows=[_gate(instructions, asked), *report["rows"]],
        codec=read_description(codec),
        seconds=seconds,
        goal=report.get("goal"),
        picture_matters=report["picture"]["matters"],
    )


def _gate(instructions: Path, asked: Collection[str]) -> dict[str, Any]:
    """The gate's own answers as a row: they take no byte beyond the alert."""
    frames = [f for f in read_truth(instructions / "truth.jsonl") if f.image_id in asked]
    told = trivial.answers(instructions, frames, "test").get("gate")
    if told is None:
        raise DataError(
            "holds the labels' boxes, no gate's: the gate alone has no row", instructions
        )
    scores = scores_of(measure(frames, told))
    row = {"name": "gate alone", "kind": "gate", "bytes": 0, "bytes_max": 0}
    figures = {metric: scores[metric] for metric in METRICS}
    return row | {"channels": None, "quality": None, "n": scores["n"], SEEN: None} | figures


def table_of(curve: Curve, measured_on: str) -> Table:
    """The look-up table of a node with this codec.

    Raises:
        DataError: a row that every table must have is missing, or has no accuracy.
    """
    rows = [row for measured in curve.rows if (row := _row(measured, curve)) is not None]
    try:
        return Table.of(Table(MEASURE, measured_on, tuple(rows), curve.codec.id).as_json())
    except ValueError as error:
        raise DataError(f"what was measured makes no look-up table: {error}") from None


def _row(measured: Mapping[str, Any], curve: Curve) -> Row | None:
    """A row of the table; None for what no node sends: floats, unlearned bits, the camera's size,
    lossless.
    """
    seconds = curve.seconds
    name, accuracy = measured["name"], measured[MEASURE]["value"]
    if measured["kind"] == "gate":
        return Row(name, "edge", 0, accuracy)
    size = measured["bytes_max"]
    if measured["kind"] == "code":
        return Row(
            name,
            "code",
            size,
            accuracy,
            edge_s=seconds["head"],
            encode_s=seconds["encoder"],
            decode_s=seconds["decoder"],
            server_s=seconds["tail"] + seconds["answer"],
            offload_point=curve.codec.block,
            spatial=curve.codec.spatial,
            channels=measured["channels"],
        )
    if measured["kind"] in PICTURES and not name.endswith(CAMERA_SIZE):
        whole = seconds["head"] + seconds["tail"] + seconds["answer"]
        kind, quality = measured["kind"], measured["quality"]
        return Row(name, kind, size, accuracy, server_s=whole, quality=quality)
    return None


@dataclass(frozen=True)
class Lead:
    """From so many bytes on, what the best way is that fits.

    Attributes:
        kind: "code" or "picture"; where both are equally good, the picture.
        best: the row that is the best at the lead's end.
    """

    kind: str
    from_bytes: float
    best: Mapping[str, Any]


def _value(row: Mapping[str, Any], metric: str) -> float | None:
    found = row[metric]
    value: float | None = found["value"] if isinstance(found, Mapping) else found
    return value


def leads(rows: Sequence[Mapping[str, Any]], metric: str) -> list[Lead]:
    """Whether a code or a JPEG or WebP leads, by the bytes that there are, up to the next lead."""
    known = [row for row in rows if _value(row, metric) is not None]
    codes = [row for row in known if row["kind"] == "code"]
    pictures = [row for row in known if row["kind"] in PICTURES]

    def worth(row: Mapping[str, Any]) -> tuple[float, float]:
        value = _value(row, metric)
        assert value is not None
        return (-value if metric == SEEN else value), -row["bytes"]

    found: list[Lead] = []
    for size in sorted({row["bytes"] for row in codes + pictures}):
        code = max((r for r in codes if r["bytes"] <= size), key=worth, default=None)
        picture = max((r for r in pictures if r["bytes"] <= size), key=worth, default=None)
        is_code = picture is None or (code is not None and worth(code)[0] > worth(picture)[0])
        kind, best = ("code", code) if is_code else ("picture", picture)
        assert best is not None  # one of both has this size
        if found and found[-1].kind == kind:
            found[-1] = Lead(kind, found[-1].from_bytes, best)
        else:
            found.append(Lead(kind, size, best))
    return found

"""Protobuf's wire format byte by byte; each refusal beside what is just read."""

import pytest

from dat_runtime.edge.gate_model import wire
from dat_runtime.edge.gate_model.wire import BYTES, FIXED32, FIXED64, VARINT, Field, read

SCHEMA = {
    1: Field("number", VARINT),
    2: Field("text", BYTES),
    3: Field("numbers", VARINT, repeated=True),
    4: Field("texts", BYTES, repeated=True),
    5: Field("single", FIXED32),
    6: Field("double", FIXED64),
    16: Field("far", VARINT),
}
NOTHING = {"numbers": [], "texts": []}


def message(content: bytes) -> dict[str, object]:
    found = read(memoryview(content), SCHEMA, "a thing")
    return {
        name: bytes(value)
        if isinstance(value, memoryview)
        else [bytes(one) if isinstance(one, memoryview) else one for one in value]
        if isinstance(value, list)
        else value
        for name, value in found.items()
    }


def number_of(value: int) -> bytes:
    content = b""
    while value >= 0x80:
        content += bytes([value & 0x7F | 0x80])
        value >>= 7
    return content + bytes([value])


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"", {}),
        (b"\x08\x00", {"number": 0}),
        (b"\x08\x7f", {"number": 127}),
        (b"\x08\x80\x01", {"number": 128}),
        (b"\x08" + number_of(2**63 - 1), {"number": 2**63 - 1}),
        (b"\x08" + number_of(2**63), {"number": -(2**63)}),
        (b"\x08" + number_of(2**64 - 1), {"number": -1}),
        (b"\x12\x00", {"text": b""}),
        (b"\x12\x03abc", {"text": b"abc"}),
        (b"\x18\x05\x18\x06", {"numbers": [5, 6]}),
        (b"\x1a\x03\x05\x80\x01\x18\x07", {"numbers": [5, 128, 7]}),
        (b"\x1a\x00", {"numbers": []}),
        (b"\x22\x01a\x22\x02bc", {"texts": [b"a", b"bc"]}),
        (b"\x2d1234", {"single": b"1234"}),
        (b"\x3112345678", {"double": b"12345678"}),
        (b"\x80\x01\x05", {"far": 5}),
    ],
)
def test_each_field_has_its_content(content: bytes, values: dict[str, object]) -> None:
    assert message(content) == NOTHING | values


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x08", "a thing is cut short"),
        (b"\x80", "a thing is cut short"),
        (b"\x08" + b"\x80" * 10 + b"\x00", "a thing holds a number of more than 64 bits"),
        (b"\x08\x80", "a thing is cut short"),
        (b"\x12\x03ab", "a thing is cut short"),
        (b"\x12", "a thing is cut short"),
        (b"\x2d123", "a thing is cut short"),
        (b"\x311234567", "a thing is cut short"),
        (b"\x1a\x01\x80", "a thing.numbers is cut short"),
        (b"\x08" + number_of(2**64), "a thing holds a number of more than 64 bits"),
        (b"\x08" + b"\xff" * 10 + b"\x00", "a thing holds a number of more than 64 bits"),
        (b"\x38\x05", "a thing has field 7, which no gate needs"),
        (b"\x00\x05", "a thing has field 0, which no gate needs"),
        (b"\x0b", "a thing has a field of wire type 3"),
        (b"\x0c", "a thing has a field of wire type 4"),
        (b"\x0e", "a thing has a field of wire type 6"),
        (b"\x0a\x01a", "a thing.number is of wire type 2, expected 0"),
        (b"\x10\x05", "a thing.text is of wire type 0, expected 2"),
        (b"\x20\x05", "a thing.texts is of wire type 0, expected 2"),
        (b"\x1d1234", "a thing.numbers is of wire type 5, expected 0"),
        (b"\x08\x01\x08\x01", "a thing states number twice"),
        (b"\x12\x00\x12\x00", "a thing states text twice"),
    ],
)
def test_what_another_reader_could_take_otherwise_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match="a thing") as caught:
        message(content)
    assert str(caught.value) == words


@pytest.mark.parametrize(("number", "fits"), [(3, True), (4, False)])
def test_fields_of_a_message_are_bounded(
    monkeypatch: pytest.MonkeyPatch, number: int, fits: bool
) -> None:
    monkeypatch.setattr(wire, "MAX_ENTRIES", 3)
    content = b"\x22\x00" * number
    if fits:
        assert message(content)["texts"] == [b""] * 3
    else:
        with pytest.raises(ValueError, match=r"^a thing has more than 3 fields$"):
            message(content)
    assert wire.read(memoryview(b""), {}, "nothing") == {}


@pytest.mark.parametrize(("number", "fits"), [(4_096, True), (4_097, False)])
def test_packed_numbers_are_bounded(number: int, fits: bool) -> None:
    content = b"\x1a" + number_of(number) + b"\x07" * number
    if fits:
        assert message(content)["numbers"] == [7] * 4_096
    else:
        words = r"^a thing\.numbers holds more than 4,096 numbers$"
        with pytest.raises(ValueError, match=words):
            message(content)


def test_a_negative_number_may_be_packed() -> None:
    minus = number_of(2**64 - 3)
    assert message(b"\x1a" + number_of(len(minus)) + minus)["numbers"] == [-3]

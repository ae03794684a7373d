"""docs/PROTOCOL.md as data: its headings, its tables and its test vectors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import tests
from common import wire
from common.limits import NUMBER_MAX

ROOT = Path(tests.__file__).parent.parent
DOCUMENT = ROOT / "docs" / "PROTOCOL.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")

NAMES: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.BoolType: "bool",
    msgspec.inspect.IntType: "int",
    msgspec.inspect.StrType: "str",
    msgspec.inspect.BytesType: "bin",
    msgspec.inspect.ListType: "array",
    msgspec.inspect.NoneType: "nil",
}
REFUSED = re.compile(r"(\w+), id (\d+), value (\d+)")


class Refusal(NamedTuple):
    """What an ERROR says."""

    code: str
    id: int
    value: int


class Vector(NamedTuple):
    """One message of the document."""

    name: str
    sender: str  # "client", or the endpoint that answers
    receiver: str
    frames: list[bytes]
    message: str  # the name of what it says: "HELLO", "BATCH"; empty where it is refused
    fields: dict[str, Any]
    refused: Refusal | None
    is_ignored: bool
    is_canonical: bool  # Does encoding what it says give the same bytes?


def headings() -> set[str]:
    """Return the headings, without numbers and tags: "JOIN" for "### JOIN, 5"."""
    return {match[1] for match in re.finditer(r"^#+ ([^,\n]+)(?:, [\w ]+)?$", TEXT, re.MULTILINE)}


def table_of(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading such as "JOIN, 5"."""
    _, found, after = TEXT.partition(f"\n### {heading}\n")
    assert found, f"there is no section {heading!r}"
    return _first_table(after.split("\n#")[0])


def table_with(*titles: str) -> list[list[str]]:
    """Return the cells of the only table with these column titles."""
    _, found, after = TEXT.partition(f"\n| {' | '.join(titles)} |\n")
    assert found, f"there is no table {titles}"
    return _first_table(found + after)


def _first_table(text: str) -> list[list[str]]:
    match = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert match
    rows = [
        [cell.strip() for cell in line.strip("|").split(" |")] for line in match[0].splitlines()
    ]
    return rows[2:]


def vectors() -> list[Vector]:
    """Return all test vectors, in their order."""
    return [
        _vector(block)
        for fence in re.findall(r"^```vectors\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
        for block in fence.strip().split("\n\n")
    ]


def _vector(block: str) -> Vector:
    lines: list[tuple[str, str]] = []
    for line in block.splitlines():
        if line.startswith(" "):
            key, value = lines[-1]
            lines[-1] = (key, f"{value} {line.strip()}")
        else:
            key, _, value = line.partition(":")
            lines.append((key, value.strip()))
    only = {key: value for key, value in lines if key != "frame"}
    assert set(only) <= {"vector", "what", "says", "again", "refused", "ignored"}, block
    assert len({"says", "refused", "ignored"} & set(only)) == 1, block
    name, way = only["vector"].split(", ")
    sender, receiver = way.split(" to ")
    message, _, fields = only.get("says", "").partition(" ")
    refused = REFUSED.fullmatch(only.get("refused", ""))
    assert bool(refused) == ("refused" in only), block
    return Vector(
        name=name,
        sender=sender,
        receiver=receiver,
        frames=[bytes.fromhex(value) for key, value in lines if key == "frame"],
        message=message,
        fields=json.loads(fields or "{}"),
        refused=Refusal(refused[1], int(refused[2]), int(refused[3])) if refused else None,
        is_ignored=only.get("ignored") == "yes",
        is_canonical=only.get("again") != "differs",
    )


def as_json(value: object) -> Any:  # noqa: ANN401 - whatever JSON has
    """Return a decoded message in the document's form: bytes are "hex:..."."""
    if isinstance(value, bytes):
        return "hex:" + value.hex()
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return {name: as_json(getattr(value, name)) for name in value.__struct_fields__}
    return value


def type_name(kind: msgspec.inspect.Type) -> str:
    """Return a field's type as the document writes it."""
    name = NAMES.get(type(kind), "")
    low, high = _bounds(kind)
    if high is not None:
        name += f" {low or 0}..{'2^53-1' if high == NUMBER_MAX else high}"
    match kind:
        case msgspec.inspect.EnumType(cls=members):
            name = f"one of {', '.join(str(int(member.value)) for member in members)}"
        case msgspec.inspect.ListType(item_type=item):
            name += f" of {type_name(item)}"
        case msgspec.inspect.TupleType(item_types=items):
            name = f"({', '.join(map(type_name, items))})"
        case msgspec.inspect.UnionType(types=types):
            name = " or ".join(map(type_name, types))
        case msgspec.inspect.StructType(cls=schema):
            name = schema.__name__
    assert name, kind
    return name


def _bounds(kind: msgspec.inspect.Type) -> tuple[int | None, int | None]:
    match kind:
        case msgspec.inspect.IntType(ge=low, le=high):
            return low, high
        case (
            msgspec.inspect.StrType(min_length=low, max_length=high)
            | msgspec.inspect.BytesType(min_length=low, max_length=high)
            | msgspec.inspect.ListType(min_length=low, max_length=high)
        ):
            return low, high
    return None, None


def fields_of(schema: type[wire.Payload]) -> list[list[str]]:
    """Return the names and types of a schema's fields, as the document's tables have them."""
    info = msgspec.inspect.type_info(schema)
    assert isinstance(info, msgspec.inspect.StructType)
    rows = []
    for field in info.fields:
        default = "" if field.required else f", default {json.dumps(field.default)}"
        rows.append([field.name, type_name(field.type) + default])
    return rows

"""The two containers of TFLite files: FlatBuffer tables, and FlexBuffer maps for the options of custom operators.

A flatbuffer is a tree of tables. A table starts with the distance to its vtable, which holds, per field number, where
in the table that field is (0: absent, the default applies). Vectors start with their length. All numbers are
little-endian. A damaged file raises ValueError, struct.error or IndexError.

Offsets may overlap, so that many tables and vectors share the same bytes: everything read is counted in a `Budget`.
"""

import struct
from typing import Any

from backbone.weights.file_kinds import Budget

OBJECT_BYTES = 1024  # of a `Table` and the reader's objects for it
NUMBER_BYTES = 40  # of a number in a tuple
MAX_TABLES = 10_000  # in one vector, such as the operators: MobileNet V1 has 31, an SSD on it 64, others some thousands


class Table:
    """A flatbuffer table at `position` of `data`; absent fields give their default, an empty value or None."""

    def __init__(self, data: bytes, position: int, budget: Budget) -> None:
        self.data = data
        self.budget = budget
        self.position = position
        self.vtable = position - unpack_number("i", data, position)
        self.vtable_bytes = unpack_number("H", data, self.vtable)

    def _field(self, field: int) -> int:
        """The position of a field; 0 if it is absent."""
        entry = 4 + 2 * field
        offset = unpack_number("H", self.data, self.vtable + entry) if entry < self.vtable_bytes else 0
        return self.position + offset if offset else 0

    def _target(self, field: int) -> int:
        """Where the vector or table that a field points to starts; 0 if it is absent."""
        position = self._field(field)
        return position + unpack_number("I", self.data, position) if position else 0

    def scalar(self, field: int, form: str, default: int) -> int:
        position = self._field(field)
        return unpack_number(form, self.data, position) if position else default

    def table(self, field: int) -> "Table | None":
        position = self._target(field)
        return Table(self.data, position, self.budget) if position else None

    def vector(self, field: int, form: str) -> bytes:
        """The bytes of a vector whose elements have struct format `form`; a string is a vector of "B"."""
        position = self._target(field)
        if not position:
            return b""
        length = unpack_number("I", self.data, position) * struct.calcsize("<" + form)
        if position + 4 + length > len(self.data):
            raise ValueError(f"{length} bytes at {position} reach past the end, {len(self.data)}")
        self.budget.take(length, f"{length:,} bytes at {position:,}")
        return self.data[position + 4 : position + 4 + length]

    def numbers(self, field: int, form: str) -> tuple[Any, ...]:
        content = self.vector(field, form)
        length = len(content) // struct.calcsize("<" + form)
        self.budget.take(length * NUMBER_BYTES, f"{length:,} numbers")
        return struct.unpack(f"<{length}{form}", content)

    def tables(self, field: int) -> list["Table"]:
        start = self._target(field) + 4
        offsets = self.numbers(field, "I")
        if len(offsets) > MAX_TABLES:
            raise ValueError(f"{len(offsets):,} tables in one list, {MAX_TABLES:,} are allowed")
        self.budget.take(len(offsets) * OBJECT_BYTES, f"{len(offsets):,} tables")
        return [Table(self.data, start + 4 * i + offset, self.budget) for i, offset in enumerate(offsets)]


def unpack_number(form: str, data: bytes, position: int) -> Any:
    """The little-endian number of struct format `form` at `position`."""
    if position < 0:  # struct would count from the end
        raise ValueError(f"offset {position}")
    return struct.unpack_from("<" + form, data, position)[0]


def read_flexbuffer_map(data: bytes, budget: Budget) -> dict[str, Any]:
    """The scalars of a FlexBuffer map, in which custom operators store their options; other values are skipped.

    The last byte is the width of the root's offset, the byte before it its type: (type << 2) | log2(width of the
    values). A map is a vector of values followed by their types; before it come the offset and width of its sorted
    keys, and its length.
    """
    if len(data) < 3 or data[-2] >> 2 != 9:
        return {}
    width = 1 << (data[-2] & 3)
    values = len(data) - 2 - data[-1] - _integer(data, len(data) - 2 - data[-1], data[-1])
    length = _integer(data, values - width, width)
    keys = values - 3 * width - _integer(data, values - 3 * width, width)
    key_width = _integer(data, values - 2 * width, width)
    result: dict[str, Any] = {}
    for i in range(length):
        entry = keys + i * key_width
        start = entry - _integer(data, entry, key_width)
        end = data.index(0, start)
        budget.take(end - start + OBJECT_BYTES, f"an option's name of {end - start:,} bytes")
        key = data[start:end].decode()
        packed = data[values + length * width + i]
        form = {1: "bhiq", 2: "BHIQ", 3: "  fd", 26: "BHIQ"}.get(packed >> 2)
        if form:
            value = unpack_number(form[width.bit_length() - 1], data, values + i * width)
            result[key] = bool(value) if packed >> 2 == 26 else value
    return result


def _integer(data: bytes, position: int, width: int) -> int:
    if position < 0 or position + width > len(data) or not width:
        raise ValueError(f"option at {position} of {len(data)} bytes")
    return int.from_bytes(data[position : position + width], "little")

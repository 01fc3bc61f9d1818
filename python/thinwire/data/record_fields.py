"""The fields of records, from NumPy's dtypes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thinwire.errors import InvalidArgument

TEXT = "bytes"
WHOLE_RECORD = "value"
"""The name of the only field of records that have no names for fields."""
_NUMBERS = {
    *("bool", "float16", "float32", "float64", "bfloat16"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
_BFLOAT16_BITS = np.dtype("V2")  # how bfloat16 is held where NumPy has no such dtype


@dataclass(frozen=True)
class Field:
    """`count` values of a type side by side at byte `offset` of a record; of TEXT, one of `count` bytes.

    A count of None fills the record. `missing`: the number that stands for no value.
    """

    name: str
    type: str
    offset: int
    count: int | None
    missing: float | None = None

    @property
    def is_text(self) -> bool:
        """Whether it holds bytes of which only the length is counted."""
        return self.type == TEXT

    @property
    def shown_name(self) -> str:
        """What its summary is called."""
        return f"len({self.name})" if self.is_text else self.name


@dataclass(frozen=True)
class RecordFields:
    """The fields of records of one size; `bytes` is None where the only field fills them."""

    fields: tuple[Field, ...]
    bytes: int | None

    @classmethod
    def of(cls, dtype: Any) -> RecordFields:
        """Those of a dtype, structured, plain (which fills the record), or a plain one with a shape.

        Raises InvalidArgument, which names the field, for one that is no number of a native byte order and no
        bytes.
        """
        found = _BFLOAT16_BITS if isinstance(dtype, str) and dtype == "bfloat16" else _as_dtype(dtype)
        if found.names is None and found.subdtype is None:
            field = _field(WHOLE_RECORD, found, 0)
            if field.is_text:
                return cls((field,), found.itemsize)
            return cls((replace(field, count=None),), None)
        fields = tuple(_flat(found, "", 0))
        if not fields:
            raise InvalidArgument("fields is a dtype without fields")
        return cls(fields, found.itemsize)

    def with_missing(self, missing: dict[str, float]) -> RecordFields:
        """With numbers that stand for no value. Raises InvalidArgument for names of no such field."""
        numbers = {field.name for field in self.fields if not field.is_text}
        for name in missing:
            if name not in numbers:
                raise InvalidArgument(f"missing names {name!r}; the fields of numbers are {sorted(numbers)}")
        changed = (replace(field, missing=missing.get(field.name)) for field in self.fields)
        return replace(self, fields=tuple(changed))

    def filling(self, record_bytes: int) -> RecordFields:
        """These for records of so many bytes. Raises InvalidArgument where they do not fit."""
        if self.bytes is not None:
            if record_bytes < self.bytes:
                raise InvalidArgument(f"records of {self.bytes} bytes cannot lie {record_bytes} bytes apart")
            return self
        (field,) = self.fields
        size = 1 if field.type == "bool" else _item_bytes(field.type)
        if record_bytes < size or record_bytes % size:
            raise InvalidArgument(f"{record_bytes} bytes are no whole number of {field.type} values")
        return RecordFields((replace(field, count=record_bytes // size),), record_bytes)

    def index(self, name: str) -> int:
        """The place of a field. Raises InvalidArgument, which names it, if there is none."""
        names = [field.name for field in self.fields]
        if name not in names:
            raise InvalidArgument(f"label is {name!r}; the fields are {names}")
        return names.index(name)


def _item_bytes(type: str) -> int:
    return 2 if type == "bfloat16" else np.dtype(type).itemsize


def _as_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(dtype)
        return found
    except TypeError as error:
        raise InvalidArgument(f"fields is {dtype!r}; pass a NumPy dtype, 'ragged' or 'jsonl'") from error


def _flat(dtype: np.dtype[Any], prefix: str, offset: int) -> Iterator[Field]:
    """The fields of a structured dtype; those of a structure within it are called outer.inner."""
    if dtype.names is None:
        yield _field(prefix or WHOLE_RECORD, dtype, offset)
        return
    for name in dtype.names:
        inner, within = dtype.fields[name][:2]  # type: ignore[index]
        yield from _flat(inner, f"{prefix}.{name}" if prefix else name, offset + within)


def _field(name: str, dtype: np.dtype[Any], offset: int) -> Field:
    base, shape = dtype.subdtype or (dtype, ())
    count = int(np.prod(shape, dtype=np.int64))
    if base.kind == "S" and count == 1:
        return Field(name, TEXT, offset, base.itemsize)
    is_bfloat16 = base.name == "bfloat16" or base == _BFLOAT16_BITS
    type = "bfloat16" if is_bfloat16 else base.name
    if type not in _NUMBERS or not base.isnative:
        raise InvalidArgument(
            f"field {name!r} is of dtype {base}, which cannot be summarised; numbers of this machine's byte "
            "order and bytes can (dtype[['a', 'b']] leaves others out)"
        )
    return Field(name, type, offset, count)

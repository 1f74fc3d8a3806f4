"""Arrow types of the results: the columns of Parquet files and of Arrow tables."""

from __future__ import annotations

from typing import Any

from ..errors import Errors
from ..reading import Place
from .records import ENTITY_RELATIONS


def import_pyarrow() -> Any:
    """Return the module `pyarrow`, its `parquet` imported. RAISES (ImportError): If it is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(Errors.E926) from error
    return pyarrow


def result_fields(entities: bool = False) -> list[tuple[str, Any]]:
    """Return names and types of the columns that hold the `results` of a Doc, without its text.

    Offsets are 32-bit integers, scores 64-bit floating-point numbers; both have the names and the
    meaning of `records`.

    entities (bool): Also the column of relations between entities.
    RETURNS (list[tuple[str, Any]]): Name and Arrow type of each column.
    """
    pa = import_pyarrow()
    string, int32 = pa.string(), pa.int32()
    text, label, score = ("text", string), ("label", string), ("score", pa.float64())
    offsets = [(name, int32) for name in ("start", "end", "start_char", "end_char")]
    argument = pa.struct([text, ("type", string), *offsets])
    entity = pa.struct([text, label, *offsets, score])
    relation_fields = [label, score, ("head", argument), ("tail", argument)]
    relation = pa.struct(relation_fields)
    entity_relation = pa.struct([*relation_fields, ("evidence", pa.list_(relation))])
    answer = pa.struct([("id", string), ("question", string), text, *offsets, score])
    return [
        ("entities", pa.list_(entity)),
        ("relations", pa.list_(relation)),
        ("answers", pa.list_(answer)),
        *[(ENTITY_RELATIONS, pa.list_(entity_relation))] * entities,
    ]


def column_values(column: Any, place: Place) -> list[Any]:
    """Return the values of a column. Those that Python's types cannot hold, such as times with
    nanoseconds, are text.

    column (pyarrow.Array): The column.
    place (Place): Its place, for the error.
    RETURNS (list[Any]): The values.
    RAISES (ConversionError): If text cannot hold them either.
    """
    pyarrow = import_pyarrow()
    unit = getattr(column.type, "unit", "")
    if unit == "ns" and pyarrow.types.is_timestamp(column.type):
        microseconds = pyarrow.timestamp("us", column.type.tz)
    elif unit == "ns" and pyarrow.types.is_duration(column.type):
        microseconds = pyarrow.duration("us")
    else:
        microseconds = column.type
    errors: list[Exception] = []
    for kind in (microseconds, pyarrow.string()):
        try:
            values: list[Any] = column.cast(kind).to_pylist()
            return values
        except (ValueError, OverflowError, NotImplementedError) as error:
            errors.append(error)
    raise place.error(
        Errors.E604, found=f"{column.type} ({errors[0]})", expected="values that Python can hold"
    ) from errors[0]

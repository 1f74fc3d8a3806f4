"""Annotate Arrow tables: the function that engines such as Ray Data and Spark call on each batch.

    annotator = ArrowAnnotator("training/model-best")
    annotator(table)                                                      # in this process
    frame.mapInArrow(annotator.iterate, schema)                           # Spark
    data.map_batches(ArrowAnnotator, fn_constructor_kwargs={"model": "training/model-best"},
                     batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(size=4))  # Ray Data

An annotator holds settings only. The pipeline stays out of what is pickled: each process loads it once,
at its first batch, from a folder or an installed package that all machines can see.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import spacy
from spacy.language import Language
from spacy.util import is_package
from thinc.api import CupyOps

from ..annotations import make_questions
from ..annotations.relations import ID_KEY
from ..errors import Errors
from ..reading import Place
from .annotator import RowAnnotator, choose_components, count_results, memory_zone
from .progress import RowCounts
from .rows import QUESTIONS_KEY, BadRow, Row, parse_row
from .schema import column_values, import_pyarrow, result_fields

ERROR_COLUMN = "error"
# So many rows of a batch are annotated, and their results put into columns, before the next ones.
_SLICE_ROWS = 1000

# The pipelines of this process, by all that decides about them.
_pipelines: dict[tuple[Any, ...], Language] = {}
# spaCy's pipelines do not run in several threads at once.
_lock = threading.RLock()

# A `pyarrow.RecordBatch` or a `pyarrow.Table`.
ArrowData = TypeVar("ArrowData")


class ArrowAnnotator:
    """Applies a saved pipeline to Arrow record batches and tables.

    The result has the input's columns and those of `output_schema`: "entities", "relations" and
    "answers" are lists of structs, and "error" is text. A row that fails has the error there and null
    in the other three; a row that is annotated has null there. Rows keep their number and order.

    The columns depend on no row. The annotations of a row do not depend on the other rows either, up
    to rounding: texts that are padded together are computed together, so in float32 scores may differ
    in the sixth digit.

    Memory grows with the tokens of a batch of texts (`BATCH_TOKENS`) and with the result, not with the
    number of rows.

    model (str | Path): Folder or package name of the pipeline. The same place must exist wherever the
        annotator is used.
    text (str): Column of the texts.
    id (str | None): Column that identifies rows in messages. It may be missing.
    questions (str | Sequence | None): Column of the questions about each text, or the questions about
        all texts, as `make_questions` takes them; None for a pipeline that answers none.
    keep (Sequence[str] | None): Columns of the input that the output has, in this order; None for all.
    threads (int): Threads of torch in each process: the cores of a machine divided by its processes.
    device (str): "auto", "cpu", "cuda" or "cuda:1"; "auto" is what the pipeline's settings say.
    errors ("column" | "raise"): Whether a row that fails has its error in a column, or ends the call.
    components (Sequence[str]): Run only these; () for all that the pipeline runs by itself.
    disable (Sequence[str]): Do not run these.
    entities (bool): Also add "entity_relations", the relations between entities, see
        `get_entity_relations`.
    batch_size (int | None): Most texts that are annotated together; None for the pipeline's own.
    max_chars (int | None): A longer text is a failed row; None for `nlp.max_length`.
    config (dict | None): Other settings of the pipeline, as in `spacy.load`.
    RAISES (ValueError): If there is no such pipeline here, or if a setting is wrong.
    """

    def __init__(
        self,
        model: str | Path,
        text: str = "text",
        id: str | None = "id",
        questions: str | Sequence[Any] | None = None,
        keep: Sequence[str] | None = None,
        threads: int = 1,
        device: str = "auto",
        errors: Literal["column", "raise"] = "column",
        *,
        components: Sequence[str] = (),
        disable: Sequence[str] = (),
        entities: bool = False,
        batch_size: int | None = None,
        max_chars: int | None = None,
        config: dict[str, Any] | None = None,
    ):
        self.model = find_pipeline(model)
        for name, number in (
            ("threads", threads),
            ("batch_size", batch_size),
            ("max_chars", max_chars),
        ):
            if number is not None and number < 1:
                raise ValueError(
                    Errors.E962.format(name=name, found=number, expected="a number of at least 1")
                )
        if errors not in ("column", "raise"):
            raise ValueError(
                Errors.E962.format(
                    name="errors", found=repr(errors), expected="'column' or 'raise'"
                )
            )
        self.text = text
        self.id = id
        self.questions = questions
        if not (questions is None or isinstance(questions, str)):
            make_questions(questions)  # raises if one is wrong
        self.keep = None if keep is None else tuple(keep)
        self.threads = threads
        self.device = device
        self.errors = errors
        self.components = tuple(components)
        self.disable = tuple(disable)
        self.entities = entities
        self.batch_size = batch_size
        self.max_chars = max_chars
        self.config = dict(config or {})
        self.counts = RowCounts()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "counts": RowCounts()}  # another process begins to count anew

    def __call__(self, data: ArrowData) -> ArrowData:
        """Annotate a record batch or a table.

        data (pyarrow.RecordBatch | pyarrow.Table): The rows.
        RETURNS (pyarrow.RecordBatch | pyarrow.Table): As many rows, of the same kind, with the columns
            of `output_schema`.
        RAISES (ValueError): If a column is missing, has another type or the name of a column that is
            added; if the pipeline cannot be loaded; or, with errors="raise", if a row fails.
        """
        pa = import_pyarrow()
        table: Any = data
        if not isinstance(table, (pa.RecordBatch, pa.Table)):
            raise TypeError(Errors.E963.format(found=type(table).__name__))
        schema = self.output_schema(table.schema)
        self._check_columns(table.schema)
        if isinstance(table, pa.Table):
            batches = [self._annotate(batch, schema) for batch in table.to_batches()]
            result: ArrowData = pa.Table.from_batches(batches, schema=schema)
            return result
        return self._annotate(table, schema)

    def iterate(self, batches: Iterable[ArrowData]) -> Iterator[ArrowData]:
        """Annotate record batches one after the other, as Spark's `DataFrame.mapInArrow` wants it.

        batches (Iterable): The record batches or tables.
        YIELDS (pyarrow.RecordBatch | pyarrow.Table): Each one annotated.
        """
        for batch in batches:
            yield self(batch)

    def output_schema(self, schema: Any) -> Any:
        """Return the schema of the output.

        schema (pyarrow.Schema): The schema of the input.
        RETURNS (pyarrow.Schema): The columns that are kept, and those that are added.
        RAISES (ValueError): If a column is missing, or has the name of one that is added.
        """
        pa = import_pyarrow()
        keep = schema.names if self.keep is None else self.keep
        for name in keep:
            if name not in schema.names:
                raise _missing(name, schema, "keep")
        added = _added_fields(self.entities)
        taken = [name for name, _ in added if name in keep]
        if taken:
            raise ValueError(Errors.E966.format(names=", ".join(map(repr, taken))))
        fields = [schema.field(name) for name in keep]
        return pa.schema([*fields, *(pa.field(name, kind) for name, kind in added)])

    def load(self) -> Language:
        """Return the pipeline of this process; it is loaded at the first call.

        RETURNS (Language): The pipeline. It belongs to all annotators of the process with the same
            settings.
        RAISES (ValueError): If it cannot be loaded here.
        """
        key = (self.model, self.device, self.components, self.disable, repr(self.config))
        with _lock:
            if key not in _pipelines:
                try:
                    _pipelines[key] = self._load()
                except Exception as error:
                    where = f"process {os.getpid()} on {socket.gethostname()}"
                    message = f"{type(error).__name__}: {error}"
                    raise ValueError(
                        Errors.E961.format(model=self.model, where=where, error=message)
                    ) from error
            return _pipelines[key]

    def _load(self) -> Language:
        import torch

        torch.set_num_threads(self.threads)
        if self.device.startswith("cuda"):
            # The current device, so that nothing is put on another one first.
            index = torch.device(self.device).index or 0
            if CupyOps.xp is not None:
                spacy.require_gpu(index)
            else:
                torch.cuda.set_device(index)
        nlp = spacy.load(find_pipeline(self.model), config=self.config)
        choose_components(nlp, self.components, self.disable)
        nlp.max_length = max(nlp.max_length, self.max_chars or 0)
        if self.device != "auto":
            device = torch.device(self.device)
            for _, pipe in nlp.pipeline:
                for node in pipe.model.walk() if hasattr(pipe, "model") else ():
                    for shim in node.shims:
                        shim.to_device(device.type, device.index or 0)
        return nlp

    def _check_columns(self, schema: Any) -> None:
        pa = import_pyarrow()
        if self.text not in schema.names:
            raise _missing(self.text, schema, "text")
        if isinstance(self.questions, str) and self.questions not in schema.names:
            raise _missing(self.questions, schema, "questions")
        kind = schema.field(self.text).type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if str(value) not in ("string", "large_string", "string_view", "null"):
            raise ValueError(Errors.E965.format(name=self.text, found=kind))

    def _rows(self, batch: Any) -> Iterator[Row | BadRow]:
        """Yield the rows of a record batch, a slice at a time."""
        place = Place(f"column {self.text!r}")
        columns = {self.text: self.text}
        if self.id is not None and self.id in batch.schema.names:
            columns[ID_KEY] = self.id
        if isinstance(self.questions, str):
            columns[QUESTIONS_KEY] = self.questions
        asked = {} if isinstance(self.questions, str) else {QUESTIONS_KEY: self.questions}
        for start in range(0, batch.num_rows, _SLICE_ROWS):
            rows = batch.slice(start, _SLICE_ROWS)
            values = [
                column_values(rows.column(rows.schema.get_field_index(name)), place)
                for name in columns.values()
            ]
            for cells in zip(*values, strict=True):
                value = {**asked, **dict(zip(columns, cells, strict=True))}
                yield parse_row(value, place, self.text, cells[0])

    def _annotate(self, batch: Any, schema: Any) -> Any:
        pa = import_pyarrow()
        with _lock:
            nlp = self.load()
            annotate = RowAnnotator(
                nlp,
                self.batch_size or nlp.batch_size,
                self.max_chars or nlp.max_length,
                self.entities,
            )
            added = _added_fields(self.entities)
            pieces: list[list[Any]] = [[] for _ in added]
            rows = self._rows(batch)
            for start in range(0, batch.num_rows, _SLICE_ROWS):
                records = []
                with memory_zone(nlp):
                    size = min(_SLICE_ROWS, batch.num_rows - start)
                    for outcome in annotate(next(rows) for _ in range(size)):
                        records.append(self._record(outcome))
                for piece, (name, kind) in zip(pieces, added, strict=True):
                    piece.append(pa.array([record.get(name) for record in records], kind))
        kept = [batch.column(batch.schema.get_field_index(n)) for n in schema.names[: -len(added)]]
        results = [
            pa.concat_arrays(piece) if piece else pa.array([], kind)
            for piece, (_, kind) in zip(pieces, added, strict=True)
        ]
        return pa.RecordBatch.from_arrays([*kept, *results], schema=schema)

    def _record(self, outcome: Any) -> dict[str, Any]:
        if isinstance(outcome, BadRow):
            message = f"{outcome.error}: {outcome.message}"
            if self.errors == "raise":
                raise ValueError(Errors.E964.format(id=outcome.place.id, error=message))
            self.counts.add(None)
            # As in the file of failed rows: a message may quote what cannot be stored.
            return {ERROR_COLUMN: message.encode("utf-8", "backslashreplace").decode()}
        self.counts.add(count_results(outcome.data))
        record: dict[str, Any] = outcome.data
        return record


def output_schema(model: str | Path, schema: Any = None, *, entities: bool = False) -> Any:
    """Return the schema that an `ArrowAnnotator` gives its output.

    All pipelines have the same columns, so that their outputs fit together; a column is empty if no
    component fills it.

    model (str | Path): Folder or package name of the pipeline. It is not loaded.
    schema (pyarrow.Schema | None): Schema of the input; None for the added columns alone.
    entities (bool): Also the relations between entities.
    RETURNS (pyarrow.Schema): The input's columns, and those that are added.
    RAISES (ValueError): If there is no such pipeline, or a column has the name of one that is added.
    """
    schema = import_pyarrow().schema([]) if schema is None else schema
    return ArrowAnnotator(model, entities=entities).output_schema(schema)


def find_pipeline(model: str | Path) -> str:
    """Return the absolute folder of a pipeline, or the name of its package.

    model (str | Path): Folder or package name.
    RETURNS (str): A name that leads other processes to the same pipeline.
    RAISES (ValueError): If there is neither, or if this is a pipeline and not its name.
    """
    if isinstance(model, (str, Path)):
        if (Path(model) / "config.cfg").is_file():
            return str(Path(model).resolve())
        if is_package(str(model)):
            return str(model)
    raise ValueError(Errors.E960.format(model=model))


def _added_fields(entities: bool) -> list[tuple[str, Any]]:
    return [*result_fields(entities), (ERROR_COLUMN, import_pyarrow().string())]


def _missing(name: str, schema: Any, setting: str) -> ValueError:
    columns = ", ".join(map(repr, schema.names)) or "(none)"
    return ValueError(Errors.E967.format(name=name, setting=setting, columns=columns))

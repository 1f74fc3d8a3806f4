"""`python -m spacy spanrel export`: Docs of `.spacy` files to the files of other programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from spacy.tokens import Doc, SpanGroup
from tqdm import tqdm

from ..annotations import (
    CLUSTERS_PREFIX,
    ENTITIES_KEY,
    PAIR_SCORES_SUFFIX,
    QA_KEY,
    RELATIONS_KEY,
    get_answers,
    get_clusters,
    get_entities,
    get_questions,
    set_clusters,
)
from ..annotations.relations import ORIG_ID_ATTR, get_orig_id
from ..converters import (
    BratDocument,
    ConversionError,
    add_negatives,
    answers_to_predictions,
    docs_to_ade,
    docs_to_brat,
    docs_to_conll04,
    docs_to_doccano,
    docs_to_kbp37,
    docs_to_labelstudio,
    docs_to_prodigy,
    docs_to_scierc,
    docs_to_semeval,
    docs_to_spert,
    docs_to_squad,
    docs_to_tacred,
    docs_to_triples,
)
from ..converters.negatives import check_negative_label
from ..converters.report import ExportReport
from ..converters.scierc import UNITS, Unit
from ..converters.triples import COLUMNS as TRIPLE_COLUMNS
from ..converters.triples import ENTITY_COLUMNS
from ..errors import Errors
from ..files import (
    check_folder,
    check_output,
    open_whole,
    place_whole,
    to_json,
    write_csv,
    write_whole,
)
from ..reading import Place, argument_error
from ..training.corpus import read_docs
from ._app import Negatives, Printer, Quiet, SpacyInputs, app, failing_with, one_of

NULL_ODDS_SUFFIX = "_null_odds.json"
# JSON has no infinity.
INFINITE = 1e300


# Writing records to files. Each function writes everything or nothing.


def write_json_list(records: Iterable[Any], path: Path) -> None:
    """Write one JSON list, a record a line."""
    with open_whole(path) as file:
        file.write("[")
        for i, record in enumerate(records):
            file.write((",\n" if i else "\n") + to_json(record))
        file.write("\n]\n")


def write_json_lines(records: Iterable[Any], path: Path) -> None:
    """Write JSON, a record a line."""
    write_lines(map(to_json, records), path)


def write_lines(records: Iterable[str], path: Path) -> None:
    """Write lines of text."""
    with open_whole(path) as file:
        file.writelines(f"{line}\n" for line in records)


def write_table(
    records: Iterable[dict[str, Any]], path: Path, *, raw: bool = False, entities: bool = False
) -> None:
    """Write CSV with the columns of the triples, the evidence of relations between entities as JSON;
    `raw` as in `files.write_csv`."""
    if entities:
        records = ({**record, "evidence": to_json(record["evidence"])} for record in records)
    write_csv(path, ENTITY_COLUMNS if entities else TRIPLE_COLUMNS, records, raw=raw)


def write_json(records: Iterable[Any], path: Path) -> None:
    """Write the only record as one JSON value."""
    (record,) = records
    write_whole(path, f"{to_json(record, indent=1)}\n".encode())


def write_predictions(
    records: Iterable[tuple[dict[str, str], dict[str, float]]], path: Path
) -> None:
    """Write the two files of the official SQuAD script."""
    ((predictions, null_odds),) = records
    finite = {id: INFINITE if odds == math.inf else odds for id, odds in null_odds.items()}
    write_json([finite], null_odds_path(path))
    write_json([predictions], path)


def null_odds_path(path: Path) -> Path:
    """Return the path of the null odds that belong to a file of predictions."""
    return path.with_name(path.stem + NULL_ODDS_SUFFIX)


def write_folder(records: Iterable[BratDocument], folder: Path) -> None:
    """Write a folder with two files a record, as `files.place_whole` does.

    records (Iterable[BratDocument]): The records.
    folder (Path): The folder.
    RAISES (ConversionError): If two records have one name.
    RAISES (FileExistsError): If the folder exists and holds files that no command of ours wrote.
    """

    def write(new: Path) -> None:
        new.mkdir()
        for record in records:
            for suffix, text in ((".txt", record.text), (".ann", record.ann)):
                name = f"{record.name}{suffix}"
                try:
                    # The file system decides whether "a" and "A" are two names.
                    with (new / name).open("x", encoding="utf-8", newline="") as file:
                        file.write(text)
                except FileExistsError as error:
                    place, expected = Place(str(folder)), "different names"
                    raise place.error(Errors.E642, found=repr(name), expected=expected) from error

    place_whole(folder, write)


# The formats


@dataclass(frozen=True)
class Writer:
    """The writer of a format.

    about (str): The format, in words.
    records (Callable[..., Iterable[Any]]): Makes records of Docs, and adds to a report.
    write (Callable[..., None]): Writes the records to a path.
    needs (str | None): The Docs that give a record, in words; None if a file may have no records.
    options (frozenset[str]): Arguments that `records` takes beside Docs and report, and `write`
        beside records and path.
    written (str): The message at the end.
    """

    about: str
    records: Callable[..., Iterable[Any]]
    write: Callable[..., None]
    needs: str | None = "Docs with tokens"
    options: frozenset[str] = frozenset()
    written: str = (
        "{docs} Docs, {entities} entities and {relations} relations{clusters} written to {output}"
    )

    @property
    def has_questions(self) -> bool:
        """Whether the format is one of questions and answers."""
        return "key" in self.options


def _squad(
    docs: Iterable[Doc], report: ExportReport, *, key: str = QA_KEY, source: str
) -> Iterator[dict[str, Any]]:
    def with_notes() -> Iterator[Doc]:
        for doc in docs:
            scored = [answer for answer in get_answers(doc, key) if answer.score is not None]
            n_others = sum(len(answer.alternatives) for answer in scored)
            report.note("scores of answers, left out", len(scored))
            report.note("predicted answers other than the best, left out", n_others)
            yield doc

    data = docs_to_squad(with_notes(), key=key, source=source)
    paragraphs = [paragraph for article in data["data"] for paragraph in article["paragraphs"]]
    report.docs += len(paragraphs)
    report.questions += sum(len(paragraph["qas"]) for paragraph in paragraphs)
    if report.questions:
        yield data


def _squad_predictions(
    docs: Iterable[Doc], report: ExportReport, *, key: str = QA_KEY, source: str
) -> Iterator[tuple[dict[str, str], dict[str, float]]]:
    predictions, null_odds = answers_to_predictions(docs, key=key, source=source)
    report.questions += len(predictions)
    if predictions:
        yield predictions, null_odds


# The need of formats of pairs.
RELATIONS = "Docs with relations"

# Format -> how it is written.
# Options of the formats of annotation tools.
TOOLS = frozenset({"coref", "suggestions"})

WRITERS: dict[str, Writer] = {
    "ade": Writer(
        "rows of ADE's DRUG-AE.rel",
        docs_to_ade,
        write_lines,
        needs="relations Adverse-Effect of an Adverse-Effect to a Drug",
    ),
    "brat": Writer(
        "a folder of standoff files", docs_to_brat, write_folder, needs="Docs", options=TOOLS
    ),
    "conll04": Writer("rows of conll04.corp", docs_to_conll04, write_lines),
    "csv": Writer(
        "a table, a row a relation",
        docs_to_triples,
        write_table,
        needs=None,
        options=frozenset({"raw", "entities"}),
    ),
    "doccano": Writer(
        "JSON lines of doccano", docs_to_doccano, write_json_lines, needs="Docs", options=TOOLS
    ),
    "kbp37": Writer(
        "text form of KBP37, a record a relation", docs_to_kbp37, write_lines, needs=RELATIONS
    ),
    "labelstudio": Writer(
        "tasks with annotations for Label Studio",
        docs_to_labelstudio,
        write_json_list,
        needs="Docs",
        options=TOOLS,
    ),
    "prodigy": Writer(
        "JSON lines of Prodigy's rel.manual",
        docs_to_prodigy,
        write_json_lines,
        needs="Docs",
        options=TOOLS,
    ),
    "scierc": Writer(
        "JSON lines of SciERC or DyGIE++",
        docs_to_scierc,
        write_json_lines,
        options=frozenset({"unit"}),
    ),
    "semeval": Writer(
        "text form of SemEval-2010 Task 8, a record a relation",
        docs_to_semeval,
        write_lines,
        needs=RELATIONS,
    ),
    "spert": Writer("JSON of SpERT", docs_to_spert, write_json_list),
    "squad": Writer(
        "gold questions and answers as JSON of SQuAD 2.0",
        _squad,
        write_json,
        needs="Docs with questions and answers",
        options=frozenset({"key", "source"}),
        written="{questions} questions with their answers written to {output}",
    ),
    "squad-predictions": Writer(
        f"answers for the official script; beside OUTPUT its --na-prob-file, *{NULL_ODDS_SUFFIX}",
        _squad_predictions,
        write_predictions,
        needs="Docs with questions and answers",
        options=frozenset({"key", "source"}),
        written="{questions} answers written to {output}, their null odds to {null_odds}",
    ),
    "tacred": Writer(
        "JSON of TACRED, a record a relation", docs_to_tacred, write_json_list, needs=RELATIONS
    ),
    "triples": Writer(
        "JSON lines, a relation a line",
        docs_to_triples,
        write_json_lines,
        needs=None,
        options=frozenset({"entities", "text"}),
    ),
}


def _list_formats() -> str:
    width = max(map(len, WRITERS))
    rows = [f"  {name:{width}}  {writer.about}" for name, writer in WRITERS.items()]
    return "\n".join(["\b", "Formats:", *rows])


@app.command("export", no_args_is_help=True, epilog=_list_formats())
def export_cli(
    data_format: Annotated[
        str, typer.Argument(help="One of: " + ", ".join(WRITERS), **one_of(WRITERS, "FORMAT"))
    ],
    inputs: SpacyInputs,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The file, or for brat the folder, to write")
    ],
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit",
            "-u",
            help="scierc: whether a Doc is a sentence (the default) or a document",
            **one_of(UNITS),
        ),
    ] = None,
    negatives: Negatives = None,
    entities_key: Annotated[
        str,
        typer.Option(
            "--entities-key", help="Span group of the entities; a Doc without it gives its doc.ents"
        ),
    ] = ENTITIES_KEY,
    relations_key: Annotated[
        str, typer.Option("--relations-key", help="Span group of the relations")
    ] = RELATIONS_KEY,
    entities: Annotated[
        bool,
        typer.Option(
            "--entities",
            "-e",
            help="csv and triples: a row for each relation between two entities, named by their best "
            "mentions, with its evidence",
        ),
    ] = False,
    text: Annotated[
        bool,
        typer.Option("--text", help="triples: add the text to each line, as convert needs it"),
    ] = False,
    coref: Annotated[
        str | None,
        typer.Option(
            "--coref",
            metavar="NAME",
            help="Formats of annotation tools: write clusters of coreferent mentions under this name, as "
            "convert --coref reads them",
        ),
    ] = None,
    suggestions: Annotated[
        bool,
        typer.Option(
            "--suggestions",
            help="Formats of annotation tools: write predictions with their scores, for people to "
            "correct",
        ),
    ] = False,
    clusters_prefix: Annotated[
        str,
        typer.Option(
            "--clusters-prefix", help="Prefix of the span groups of clusters of coreferent mentions"
        ),
    ] = CLUSTERS_PREFIX,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", "-k", help="squad formats: span group of questions and answers (default: qa)"
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="csv: write cells as they are; by default, an apostrophe precedes those that a "
            "spreadsheet would run as formulas",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write the Docs of .spacy files, gold or predicted, in the format of another program.

    Several inputs become one output. Whatever the format cannot hold is counted and listed at the
    end. If anything fails, nothing is written.

    Examples:

    \b
    $ python -m spacy spanrel export spert train.spacy dev.spacy train_dev.json
    $ python -m spacy spanrel export scierc train.spacy train.json --unit document
    $ python -m spacy spanrel export tacred dev.spacy dev.json --negatives no_relation
    $ python -m spacy spanrel export brat predicted.spacy predicted_brat --coref Coref
    $ python -m spacy spanrel export labelstudio predicted.spacy tasks.json --suggestions
    $ python -m spacy spanrel export csv predicted.spacy relations.csv
    $ python -m spacy spanrel export triples predicted.spacy relations.jsonl --entities
    $ python -m spacy spanrel export squad dev.spacy dev.json
    $ python -m spacy spanrel export squad-predictions answered.spacy predictions.json
    """
    with failing_with(f"Nothing written to {output}"):
        report = export(
            data_format,
            inputs,
            output,
            unit=cast(Unit | None, unit),
            negatives=negatives,
            entities_key=entities_key,
            relations_key=relations_key,
            entities=entities,
            text=text,
            coref=coref,
            suggestions=suggestions,
            clusters_prefix=clusters_prefix,
            key=key,
            raw=raw,
            quiet=quiet,
        )
    if not quiet:
        print_report(report, WRITERS[data_format], output)


def export(
    data_format: str,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    unit: Unit | None = None,
    negatives: str | None = None,
    entities_key: str = ENTITIES_KEY,
    relations_key: str = RELATIONS_KEY,
    entities: bool = False,
    text: bool = False,
    coref: str | None = None,
    suggestions: bool = False,
    clusters_prefix: str = CLUSTERS_PREFIX,
    key: str | None = None,
    raw: bool = False,
    report: ExportReport | None = None,
    quiet: bool = True,
) -> ExportReport:
    """Write the Docs of `.spacy` files in another format; on any failure the output stays as it was.

    data_format (str): A key of WRITERS.
    inputs (str | Path | Sequence[str | Path]): The `.spacy` files.
    output (str | Path): The file or folder to write; the folder around it is made if needed.
    unit ("sentence" | "document" | None): For scierc only: what a Doc is.
    negatives (str | None): Label for the pairs of entities without a relation, see `add_negatives`.
    entities_key (str): Span group of entities. A Doc without the default one gives its `doc.ents`.
    relations_key (str): Span group of relations.
    entities (bool): For csv and triples only: write relations between entities, see `docs_to_triples`.
    text (bool): For triples only: write the text with each relation, for `convert`.
    coref (str | None): For brat, doccano, labelstudio and prodigy only: the name of coreference, under
        which clusters are written.
    suggestions (bool): For the same formats only: write predictions with scores, for people to correct.
    clusters_prefix (str): Prefix of the span groups of coreferent mentions, as in `get_clusters`.
    key (str | None): For the squad formats only: span group of questions and answers.
    raw (bool): For csv only: write cells as they are, even if a spreadsheet would run them.
    report (ExportReport | None): Is added to.
    quiet (bool): Show no progress bar. It is only ever shown on a terminal.
    RETURNS (ExportReport): What was written, changed and left out.
    RAISES (ConversionError): If an input or argument is wrong, or there is nothing to write.
    RAISES (ValueError, OSError): If the output is an input, or holds files of others.
    """
    report = ExportReport() if report is None else report
    if data_format not in WRITERS:
        raise argument_error("FORMAT", repr(data_format), "one of " + ", ".join(WRITERS))
    writer = WRITERS[data_format]
    paths = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(path) for path in inputs]
    if not paths:
        raise argument_error("INPUT", "no file", "one or more files")
    output = Path(output)
    _check_output(output, writer, paths)
    options: dict[str, Any] = {}
    found = f"format {data_format!r}"
    for name, value in (
        ("unit", unit),
        ("key", key),
        ("raw", raw or None),
        ("entities", entities or None),
        ("text", text or None),
        ("coref", coref),
        ("suggestions", suggestions or None),
    ):
        if value is None:
            continue
        if name not in writer.options:
            fitting = [other for other in WRITERS if name in WRITERS[other].options]
            option = "--" + name.replace("_", "-")
            raise argument_error(option, found, "one of the formats " + ", ".join(fitting))
        options[name] = value
    # By option, the key of a span group (or prefix of groups), and that with which the writers look.
    keys = {
        "--entities-key": (entities_key, ENTITIES_KEY),
        "--relations-key": (relations_key, RELATIONS_KEY),
        "--clusters-prefix": (clusters_prefix, CLUSTERS_PREFIX),
    }
    of_relations = [option for option, (chosen, home) in keys.items() if chosen != home]
    if negatives is not None:
        of_relations.insert(0, "--negatives")
    if writer.has_questions and of_relations:
        raise argument_error(of_relations[0], found, "a format of relations")
    if negatives is not None:
        check_negative_label(negatives, "--negatives")
    if coref is not None and not coref.strip():
        raise argument_error("--coref", repr(coref), "a name")
    docs = _Docs(paths, report, writer.has_questions, negatives, keys, quiet)
    write = writer.write
    if data_format == "csv":
        write = partial(write, raw=options.pop("raw", False), entities=entities)
    if "source" in writer.options:
        options["source"] = ", ".join(map(str, paths))
    try:
        records = writer.records(docs, report, **options)
        write(_not_nothing(records, writer, docs, key or QA_KEY), output)
    except (ConversionError, OSError):
        raise
    except ValueError as error:
        raise docs.place.error(
            Errors.E640, found=str(error), expected="annotations as the package sets them"
        ) from error
    return report


def _check_output(output: Path, writer: Writer, inputs: Sequence[Path]) -> None:
    if writer.write is not write_folder:
        if output.is_dir():
            raise argument_error("OUTPUT", f"the folder {str(output)!r}", "the name of a file")
        check_output(output, *inputs)
    elif output.exists() and not output.is_dir():
        raise argument_error("OUTPUT", f"the file {str(output)!r}", "the name of a folder")
    else:
        check_folder(output, *inputs)
    if writer.write is write_predictions:
        check_output(null_odds_path(output), *inputs)


def _not_nothing(records: Iterable[Any], writer: Writer, docs: _Docs, key: str) -> Iterator[Any]:
    """Pass records on; a ConversionError at the end if there were none but should be."""
    is_empty = True
    for record in records:
        is_empty = False
        yield record
    if not is_empty or (docs.n and writer.needs is None):
        return
    found = f"{docs.n} Docs"
    if writer.has_questions:
        found += f" without questions in doc.spans[{key!r}]"
    found = "; ".join([found, *(f"{note}: {n}" for note, n in sorted(docs.report.notes.items()))])
    place = Place(", ".join(map(str, docs.paths)))
    raise place.error(Errors.E609, found=found, expected=writer.needs or "Docs")


@dataclass
class _Docs:
    """The Docs of several files, one after the other, prepared for the writers.

    paths (Sequence[Path]): The files.
    report (ExportReport): Gets notes on annotations of the kind that is not written: relations, or
        questions.
    questions (bool): Whether questions are written.
    negatives (str | None): Label for pairs without a relation.
    keys (dict[str, tuple[str, str]]): By option, the key of a span group and its key for the writers.
    quiet (bool): Show no progress bar.
    n (int): The number of Docs so far.
    place (Place): The place of the last Doc: if a writer fails, then with this one.
    """

    paths: Sequence[Path]
    report: ExportReport
    questions: bool
    negatives: str | None
    keys: dict[str, tuple[str, str]]
    quiet: bool
    n: int = 0
    place: Place = Place("")

    def __iter__(self) -> Iterator[Doc]:
        missing = {option for option, (key, home) in self.keys.items() if key != home}
        disable = True if self.quiet else None  # None: no bar where stderr is no terminal
        with tqdm(desc="Docs", unit=" docs", delay=1.0, disable=disable) as bar:
            for path in self.paths:
                for number, doc in enumerate(read_docs(path)):
                    self.place = Place(str(path), f"Doc {number}")
                    self.n += 1
                    missing -= {o for o in missing if _has_group(doc, *self.keys[o])}
                    self._prepare(doc)
                    yield doc
                    bar.update()
        if missing and self.n:
            option = min(missing)
            expected = "a span group that at least one of the Docs has"
            raise argument_error(option, repr(self.keys[option][0]), expected)

    def _prepare(self, doc: Doc) -> None:
        for key, home in self.keys.values():
            if key != home:
                _move_group(doc, key, home)
        if self.negatives is not None:
            add_negatives(doc, self.negatives)
        if self.questions:
            n_relations = len(doc.spans[RELATIONS_KEY]) // 2 if RELATIONS_KEY in doc.spans else 0
            self.report.note("entities, left out", len(get_entities(doc)))
            self.report.note("relations, left out", n_relations)
            self.report.note("clusters of coreferent mentions, left out", len(get_clusters(doc)))
        else:
            self.report.note("questions, left out", len(get_questions(doc)))


def _has_group(doc: Doc, key: str, home: str) -> bool:
    """Tell whether a Doc has the span group that is to be moved home; of clusters, any."""
    return bool(get_clusters(doc, key)) if home == CLUSTERS_PREFIX else key in doc.spans


def _move_group(doc: Doc, key: str, home: str) -> None:
    """Move a span group to the key under which the writers look, and keep the id of the Doc."""
    if home == CLUSTERS_PREFIX:
        set_clusters(doc, get_clusters(doc, key))
        return
    orig_id = get_orig_id(doc)
    for suffix in ("", PAIR_SCORES_SUFFIX):
        doc.spans.pop(home + suffix, None)
        if key + suffix in doc.spans:
            doc.spans[home + suffix] = doc.spans[key + suffix]
        elif not suffix:
            doc.spans[home] = SpanGroup(doc, name=home)
    if orig_id is not None and home == ENTITIES_KEY:
        doc.spans[home].attrs.setdefault(ORIG_ID_ATTR, orig_id)


def print_report(report: ExportReport, writer: Writer, output: Path) -> None:
    """Print the numbers of things written, and everything that the format could not hold."""
    text = writer.written.format(
        docs=report.docs,
        entities=report.entities,
        relations=report.relations,
        clusters=f", with {report.clusters} clusters of coreferent mentions,"
        * bool(report.clusters),
        questions=report.questions,
        output=output,
        null_odds=null_odds_path(output),
    )
    msg = Printer()
    msg.good(text)
    if report.notes:
        msg.divider("Left out or changed")
        rows = [(note[:1].upper() + note[1:], n) for note, n in sorted(report.notes.items())]
        msg.table(rows, aligns=("l", "r"), max_col=120)

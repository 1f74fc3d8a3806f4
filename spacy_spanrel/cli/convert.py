"""`python -m spacy spanrel convert`: annotated data to a `.spacy` file of gold Docs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from spacy.tokens import Doc, DocBin
from tqdm import tqdm

from .. import converters
from ..converters import ConversionError, ConversionReport, add_negatives, read_types
from ..converters.doccano import OFFSETS, DoccanoOffsets
from ..converters.negatives import check_negative_label
from ..converters.report import Finding
from ..converters.scierc import UNITS, Unit
from ..errors import Errors
from ..files import check_output, write_whole
from ..reading import argument_error, raise_error
from ._app import (
    Negatives,
    Printer,
    Quiet,
    SpacyOutput,
    app,
    blank_pipeline,
    check_suffix,
    echo,
    failing_with,
    one_of,
    warn,
)

# Format -> its reader, `<format>_to_docs`. The options of a format are the arguments of its reader.
CONVERTERS: dict[str, Callable[..., Iterator[Doc]]] = {
    name.removesuffix("_to_docs"): getattr(converters, name)
    for name in converters.__all__
    if name.endswith("_to_docs")
}


@app.command("convert", no_args_is_help=True)
def convert_cli(
    data_format: Annotated[
        str, typer.Argument(help="One of: " + ", ".join(CONVERTERS), **one_of(CONVERTERS, "FORMAT"))
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="The files to read (for brat also folders)"),
    ],
    output: SpacyOutput,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", "-s", help="Leave out and list bad records, and go on")
    ] = False,
    types: Annotated[
        Path | None,
        typer.Option("--types", "-t", help="Types file in SpERT's form; other names are errors"),
    ] = None,
    max_span_size: Annotated[
        int | None,
        typer.Option("--max-span-size", "-m", min=1, help="List entities of more tokens than this"),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit",
            "-u",
            help="scierc: make a Doc of each sentence (the default) or of each document",
            **one_of(UNITS),
        ),
    ] = None,
    text_key: Annotated[
        str | None,
        typer.Option(
            "--text-key",
            metavar="KEY",
            help="labelstudio: the key of the annotated text, for tasks with several texts",
        ),
    ] = None,
    offsets: Annotated[
        str | None,
        typer.Option(
            "--offsets",
            help="doccano: the unit that offsets count; by default (auto) the one that fits",
            **one_of(OFFSETS),
        ),
    ] = None,
    keep_unannotated: Annotated[
        bool,
        typer.Option(
            "--keep-unannotated", help="brat: keep .txt files without .ann, as texts with nothing"
        ),
    ] = False,
    coref: Annotated[
        str | None,
        typer.Option(
            "--coref",
            metavar="NAME",
            help="Formats of annotation tools: read what has this name as coreference, that is clusters "
            "and their mentions",
        ),
    ] = None,
    links: Annotated[
        str | None,
        typer.Option(
            "--links",
            metavar="NAME",
            help="langextract: the attribute that names the entity to which another one belongs",
        ),
    ] = None,
    negatives: Negatives = None,
    lang: Annotated[
        str,
        typer.Option(
            "--lang",
            "-l",
            help="Language of the vocabulary and, for formats without tokens, of the tokenizer",
        ),
    ] = "en",
    quiet: Quiet = False,
) -> None:
    """Convert annotated entities and relations, or questions and answers, to spaCy's binary format.

    Several inputs become one output. If anything fails, nothing is written. Texts without entities,
    relations or questions are kept. At the end, a report lists everything that was changed or left
    out.

    Formats: ade (DRUG-AE.rel), brat (.txt and .ann), conll04 (conll04.corp), doccano (JSON lines),
    kbp37 (text form of KBP37), labelstudio (JSON, not JSON-MIN), langextract (JSON lines of
    LangExtract), prodigy (JSON lines of rel.manual), scierc (JSON lines of SciERC or DyGIE++),
    semeval (text form of SemEval-2010 Task 8), spert (JSON of SpERT), squad (JSON of SQuAD 1.1 or
    2.0), tacred (JSON of TACRED or Re-TACRED), triples (JSON lines of any program that names head,
    relation and tail in words).

    Examples:

    \b
    $ python -m spacy spanrel convert spert train.json dev.json train_dev.spacy --types types.json
    $ python -m spacy spanrel convert scierc train.json train.spacy --unit document
    $ python -m spacy spanrel convert ade DRUG-AE.rel ade.spacy --skip-invalid --max-span-size 10
    $ python -m spacy spanrel convert spert train.json train.spacy --negatives no_relation
    $ python -m spacy spanrel convert tacred train.json train.spacy
    $ python -m spacy spanrel convert semeval TRAIN_FILE.TXT train.spacy
    $ python -m spacy spanrel convert prodigy annotations.jsonl train.spacy
    $ python -m spacy spanrel convert doccano admin.jsonl train.spacy
    $ python -m spacy spanrel convert labelstudio project-1.json train.spacy --text-key text
    $ python -m spacy spanrel convert brat annotated_folder train.spacy --coref Coref
    $ python -m spacy spanrel convert squad train-v2.0.json train.spacy --lang es
    $ python -m spacy spanrel convert triples answers.jsonl silver.spacy --skip-invalid
    """
    with failing_with(f"Nothing written to {output}"):
        report = convert(
            data_format,
            inputs,
            output,
            skip_invalid=skip_invalid,
            types=types,
            max_span_size=max_span_size,
            unit=cast(Unit | None, unit),
            text_key=text_key,
            offsets=cast(DoccanoOffsets | None, offsets),
            keep_unannotated=keep_unannotated,
            coref=coref,
            links=links,
            negatives=negatives,
            lang=lang,
            quiet=quiet,
        )
    if report.skipped:
        warn(f"{len(report.skipped)} record(s) skipped because they are wrong:")
        for skipped in report.skipped:
            echo(skipped, err=True)
    if not quiet:
        print_report(report, output)


def convert(
    data_format: str,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    skip_invalid: bool = False,
    types: str | Path | None = None,
    max_span_size: int | None = None,
    unit: Unit | None = None,
    text_key: str | None = None,
    offsets: DoccanoOffsets | None = None,
    keep_unannotated: bool = False,
    coref: str | None = None,
    links: str | None = None,
    negatives: str | None = None,
    lang: str = "en",
    quiet: bool = True,
) -> ConversionReport:
    """Convert files to one `.spacy` file; on any failure the output stays as it was.

    data_format (str): A key of CONVERTERS.
    inputs (Sequence[str | Path]): Files of that format; for brat also folders.
    output (str | Path): The file to write; its folder is made if need be.
    skip_invalid (bool): Leave bad records out instead of raising.
    types (str | Path | None): Types file: other names are errors. This option, `max_span_size` and
        `negatives` are for formats of entities, all but squad.
    max_span_size (int | None): Report entities of more tokens.
    unit ("sentence" | "document" | None): For scierc only: what becomes a Doc.
    text_key (str | None): For labelstudio only: the key of the annotated text.
    offsets ("auto" | "utf-16" | "code-points" | None): For doccano only: the unit of offsets.
    keep_unannotated (bool): For brat only: keep texts without an .ann file.
    coref (str | None): For brat, doccano, labelstudio and prodigy: the name of coreference.
    links (str | None): For langextract only: the attribute that links entities.
    negatives (str | None): Label for the pairs of entities without a relation, see
        `add_negatives`. It need not be in the types file.
    lang (str): Language of the blank pipeline that gives vocabulary and tokenizer.
    quiet (bool): Show no progress bar. It is only ever shown on a terminal.
    RETURNS (ConversionReport): What was converted, changed and left out.
    RAISES (ConversionError): If an input or argument is wrong, or no record is right.
    RAISES (ValueError): If the output is one of the inputs.
    """
    output = Path(output)
    if data_format not in CONVERTERS:
        raise argument_error("FORMAT", repr(data_format), "one of " + ", ".join(CONVERTERS))
    check_suffix(output)
    if not inputs:
        raise argument_error("INPUT", "no file", "one or more files")
    check_output(output, *inputs, types)
    options: dict[str, Any] = {
        "types": types,
        "unit": unit,
        "text_key": text_key,
        "offsets": offsets,
        "keep_unannotated": keep_unannotated or None,
        "coref": coref,
        "links": links,
    }
    options = {name: value for name, value in options.items() if value is not None}
    for name in options:
        _check_option(f"--{name.replace('_', '-')}", name, data_format)
    # Not options of readers, but of everything that has types.
    for option, value in (("--max-span-size", max_span_size), ("--negatives", negatives)):
        if value is not None:
            _check_option(option, "types", data_format)
    if negatives is not None:
        check_negative_label(negatives, "--negatives")
    names = None if types is None else read_types(types)
    if names is not None:
        options["types"] = names
    nlp = blank_pipeline(lang)
    report = ConversionReport(max_span_size=max_span_size)
    to_docs = partial(
        CONVERTERS[data_format],
        nlp=nlp,
        # A bad record that is skipped is listed in the report.
        on_error=(lambda error: None) if skip_invalid else raise_error,
        report=report,
        **options,
    )
    doc_bin = DocBin(store_user_data=True)
    # disable=None: no bar where stderr is no terminal. The delay spares short work the bar.
    with tqdm(desc="Docs", unit=" docs", delay=1.0, disable=True if quiet else None) as bar:
        for doc in chain.from_iterable(map(to_docs, inputs)):
            if negatives is not None:
                symmetric = () if names is None else names.symmetric
                add_negatives(doc, negatives, symmetric=symmetric, report=report)
            doc_bin.add(doc)
            bar.update()
    if not report.docs:
        found = [f"{note}: {n}" for note, n in sorted(report.notes.items())]
        hint = "No record is wrong, but none is to be read."
        if report.skipped:
            found.insert(0, f"{len(report.skipped)} bad record(s)")
            hint = f"The first error was: {report.skipped[0]}"
        raise ConversionError(
            Errors.E612,
            file=", ".join(map(str, inputs)),
            found="; ".join(found) or "nothing",
            expected=f"records of the format {data_format!r}",
            hint=hint,
        )
    write_whole(output, doc_bin.to_bytes())
    return report


def _check_option(option: str, argument: str, data_format: str) -> None:
    """Raise an error for an option if the reader of the format does not take the argument."""
    formats = [
        name for name, reader in CONVERTERS.items() if argument in signature(reader).parameters
    ]
    if data_format not in formats:
        raise argument_error(
            option, f"format {data_format!r}", "one of the formats " + ", ".join(formats)
        )


def print_report(report: ConversionReport, output: Path) -> None:
    """Print a report as tables."""
    msg = Printer()
    msg.good(f"{report.docs} Docs written to {output}")
    msg.divider("Docs")
    long = "" if report.max_span_size is None else f" than {report.max_span_size} tokens"
    rows = {
        "Docs": report.docs,
        "Docs without entities": report.docs_without_entities,
        "Docs without relations": report.docs_without_relations,
        "Tokens": report.tokens,
        "Entities": report.n_entities,
        "Relations": report.n_relations,
        "Longest entity, in tokens": report.longest_entity,
    }
    if report.questions or report.docs_without_questions:
        rows = {"Docs": report.docs, "Tokens": report.tokens, "Questions": report.questions}
    listed = {
        f"Entities longer{long}": report.too_long,
        "Entities widened to token borders": report.misaligned,
        "Entities lost": report.lost_entities,
        "Relations lost": report.lost_relations,
        "Answers not at their offset, taken from the nearest place": report.repaired_answers,
        "Answers that are not in the text, left out": report.lost_answers,
        "Strings that are not in the text": report.unplaced,
        "Strings found with other spelling": report.similar,
        "Records skipped": [_as_finding(error) for error in report.skipped],
    }
    # Rows that are printed only if they happened.
    others = {
        "Docs without questions": report.docs_without_questions,
        "Questions without an answer": report.unanswerable,
        "Reference answers": report.answers,
        "Answers that begin or end inside a token, kept": report.misaligned_answers,
        "Overlapping entities that are not in doc.ents": report.overlapping_entities,
        "Coreference clusters": report.clusters,
        "Relations of a span with itself": report.self_relations,
        "Duplicate entities, left out": report.duplicate_entities,
        "Duplicate relations, left out": report.duplicate_relations,
        "Repeated ids, kept": report.duplicate_ids,
        **{text[:1].upper() + text[1:]: n for text, n in sorted(report.notes.items())},
        **{title: len(findings) for title, findings in listed.items()},
    }
    rows.update({title: n for title, n in others.items() if n})
    msg.table(rows, aligns=("l", "r"))
    for title, counts in (("Entities", report.entities), ("Relations", report.relations)):
        if counts:
            msg.divider(title)
            msg.table(counts.most_common(), aligns=("l", "r"))
    for title, findings in listed.items():
        if findings:
            msg.divider(title)
            msg.table([(finding.record, finding.text) for finding in findings], max_col=120)


def _as_finding(error: ConversionError) -> Finding:
    text = f"{error.place}: found {error.found}; expected {error.expected}"
    return Finding("(no id)" if error.id is None else str(error.id), text)

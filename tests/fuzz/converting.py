"""Damaged files of every format through its converter: Docs, or a ConversionError; nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import spacy
from spacy.tokens import Doc, DocBin, Span, SpanGroup

from spacy_spanrel.annotations import (
    Question,
    Relation,
    get_answers,
    get_entities,
    get_relations,
    make_answer,
    set_answers,
    set_relations,
)
from spacy_spanrel.cli.convert import CONVERTERS
from spacy_spanrel.cli.export import export
from spacy_spanrel.converters import ConversionError

from .mutate import damage_bytes, damage_lines, damage_value

# One file in so many is left as it is: it must convert.
WHOLE = 20
OPTIONS = {
    "scierc": {"unit": ["sentence", "document"]},
    "brat": {"keep_unannotated": [True, False]},
    "langextract": {"links": [None, "head"]},
}


def extractions(doc: Doc) -> dict[str, object]:
    """Make a record of LangExtract of a Doc."""
    items: list[dict[str, object]] = [
        {
            "extraction_class": span.label_,
            "extraction_text": span.text,
            "char_interval": {"start_pos": span.start_char, "end_pos": span.end_char},
            "alignment_status": "match_exact",
        }
        for span in get_entities(doc)
    ]
    for relation in get_relations(doc):
        named = {"head": relation.head.text, "tail": relation.tail.text, "weight": 0.5}
        item = {"extraction_class": relation.label, "extraction_text": relation.label}
        items.append({**item, "attributes": named})
    return {"document_id": "1:0", "text": doc.text, "extractions": items}


def make_check(folder: Path):
    nlp = spacy.blank("en")
    DocBin(docs=gold_docs(nlp)).to_disk(folder / "gold.spacy")
    files: dict[str, list[bytes]] = {}
    for name in CONVERTERS:
        output = folder / f"whole.{name}"
        if name == "langextract":  # which is only read
            output.write_text(
                "".join(f"{json.dumps(extractions(doc))}\n" for doc in gold_docs(nlp))
            )
        else:
            export(name, folder / "gold.spacy", output, text=name == "triples")
        paths = sorted(output.glob("[!.]*")) if output.is_dir() else [output]
        # (brat: a text and its annotation.)
        files[name] = [path.read_bytes() for path in paths[:2]]

    def check(rng: Random) -> None:
        name = rng.choice([*CONVERTERS])
        whole = rng.randrange(WHOLE) == 0
        data = files[name] if whole else damaged(rng, files[name])
        path = folder / "case.txt"
        for item, suffix in zip(
            data, (".ann", ".txt") if len(data) > 1 else (".txt",), strict=True
        ):
            path.with_suffix(suffix).write_bytes(item)
        options = {key: rng.choice(values) for key, values in OPTIONS.get(name, {}).items()}
        errors: list[ConversionError] = []
        go_on = {"on_error": errors.append} if rng.random() < 0.5 else {}
        docs: list[Doc] = []
        try:
            for doc in CONVERTERS[name](path, nlp=nlp, **options, **go_on):
                docs.append(doc)
        except ConversionError as error:
            errors.append(error)
        for error in errors:
            assert str(error).startswith("[E_SR")
            assert str(path.with_suffix("")) in error.file
        if whole:
            assert docs
            assert not errors
        for doc in docs:
            check_doc(doc)
        if docs:
            DocBin(docs=docs).to_bytes()

    return check


def damaged(rng: Random, data: list[bytes]) -> list[bytes]:
    """Damage one of the files that make up a document."""
    changed = list(data)
    i = rng.randrange(len(changed))
    lines = changed[i].split(b"\n")
    kind = rng.randrange(3)
    if kind == 0:
        changed[i] = damage_bytes(rng, changed[i])
    elif kind == 1:
        changed[i] = damage_lines(rng, changed[i])
    else:
        try:
            changed[i] = dump(damage_value(rng, json.loads(changed[i])))
        except json.JSONDecodeError:
            # JSON lines, or no JSON at all.
            j = rng.randrange(len(lines))
            try:
                lines[j] = dump(damage_value(rng, json.loads(lines[j])))
            except json.JSONDecodeError:
                lines[j] = damage_bytes(rng, lines[j])
            changed[i] = b"\n".join(lines)
    return changed


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def check_doc(doc: Doc) -> None:
    """Whatever was converted can be read."""
    doc.text.encode()
    for entity in get_entities(doc):
        assert 0 <= entity.start < entity.end <= len(doc)
    for relation in get_relations(doc):
        assert relation.label
        assert relation.head.label_ is not None
    for answer in get_answers(doc):
        assert doc.text[answer.start_char : answer.end_char] == answer.text


def gold_docs(nlp: spacy.language.Language) -> list[Doc]:
    """Docs that every format can hold: each has relations, questions, and entities of two words."""
    docs = []
    for words, spans, relations, asked in (
        (
            "Ann Lee lives in Oslo .",
            [(0, 2, "Peop"), (4, 5, "Loc")],
            [(0, 1, "Live_In")],
            [("Who lives in Oslo?", "Ann Lee"), ("Who died?", None)],
        ),
        (
            "Élise Müller works for Weißbäck & Co in Köln \U0001f600 .",
            [(0, 2, "Peop"), (4, 7, "Org"), (8, 9, "Loc")],
            [(0, 1, "Work_For"), (1, 2, "OrgBased_In")],
            [("Where is Weißbäck & Co?", "Köln")],
        ),
        (
            "Skin rash followed low-dose aspirin .",
            [(0, 2, "Adverse-Effect"), (4, 5, "Drug")],
            [(0, 1, "Adverse-Effect")],
            [("What followed aspirin?", "Skin rash")],
        ),
    ):
        doc = Doc(nlp.vocab, words=words.split())
        entities = [Span(doc, *span[:2], label=span[2]) for span in spans]
        doc.spans["entities"] = SpanGroup(doc, name="entities", spans=entities)
        set_relations(doc, [Relation(entities[h], entities[t], label) for h, t, label in relations])
        answers = []
        for i, (question, answer) in enumerate(asked):
            start = doc.text.index(answer) if answer else 0
            answers.append(
                make_answer(
                    doc, Question(f"q{len(docs)}{i}", question), start, start + len(answer or "")
                )
            )
        set_answers(doc, answers)
        docs.append(doc)
    return docs

"""KBP37's own text form: to gold Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from ..reading import ErrorHandler, raise_error
from .common import ENTITY, DocMaker, Entity, one_relation
from .report import ConversionReport, ExportReport
from .tagged import TaggedSentence, read_tagged, tagged_lines
from .type_names import TypeNames
from .writing import divide_words, read_pairs, words_of


def kbp37_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read KBP37's own text form, one Doc per sentence.

    A record consists of a sentence line (id, tab, tokens with tags, in quotes or not), a label line
    and perhaps a blank line. Tokens are separated by white space and by tags. The head is always e1
    and the tail e2: the label names the direction. The label no_relation is a label like any other.
    Sample::

        7	"<e1> Ann Lee </e1> runs the bakery <e2> Crumb & Co </e2> ."
        per:employee_of(e1,e2)

        8	"<e1> Oslo </e1> has never met <e2> Ann Lee </e2> ."
        no_relation

    Both arguments become entities of the type ENTITY. `tacred_to_docs` reads KBP37 in the form of
    TACRED's JSON.

    path (str | Path): The file.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a record in it.
    """
    maker = DocMaker(nlp, types, on_error, report)

    def to_doc(sentence: TaggedSentence) -> Doc:
        pieces = [piece.split() for piece in sentence.pieces]
        words = [word for piece in pieces for word in piece]
        head, tail = sentence.offsets([len(piece) for piece in pieces])
        entities, relations = one_relation(
            Entity(*head, ENTITY), Entity(*tail, ENTITY), sentence.label
        )
        return maker.from_words(words, entities, relations, sentence.place)

    yield from maker.each(read_tagged(path), to_doc)


# Back to text


def docs_to_kbp37(docs: Iterable[Doc], report: ExportReport) -> Iterator[str]:
    """Make the lines of KBP37's text form, which `kbp37_to_docs` reads.

    A record is one relation, and its sentence is the whole Doc. The head is e1 and the tail e2, and
    labels are written as they are, negative ones too; the format has no types. There are blanks
    between tokens and quotes around the sentence, and ids become text.

    docs (Iterable[Doc]): Gold or predicted Docs. If a Doc has several relations, the ids of its
        records end in a colon and the number of the relation.
    report (ExportReport): Counts what is written, changed and left out.
    YIELDS (str): The lines, without their ends: three per record.
    """
    for number, doc in enumerate(docs):
        pairs = read_pairs(doc, number, report)
        if not pairs:
            continue
        words, borders = divide_words(words_of(doc, report), report)

        def offsets(entity: Entity, borders: list[int] = borders) -> tuple[int, int]:
            return borders[entity.start], borders[entity.end]

        yield from tagged_lines(pairs, words, offsets, report)

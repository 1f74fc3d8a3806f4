"""The text form of SemEval-2010 Task 8: to gold Docs and back."""

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
from .writing import line_text, read_pairs


def semeval_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read the text form of SemEval-2010 Task 8, one Doc per sentence.

    A record consists of a sentence line (id, tab, sentence with tags, in quotes), a label line,
    perhaps a comment line (which is ignored) and a blank line. The head is always e1 and the tail
    e2: the label names the direction. The label Other is a label like any other. Sample::

        12	"The <e1>smoke</e1> came from a damp <e2>candle</e2>."
        Cause-Effect(e2,e1)
        Comment: a candle that was put out

        13	"Our <e1>boat</e1> sleeps under a <e2>blanket</e2>."
        Other

    Both arguments become entities of the type ENTITY. An argument that ends inside a token is
    widened to whole tokens and reported.

    The sentences are tokenized with the pipeline's tokenizer, so the Docs keep their spaces.

    path (str | Path): The file.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a record in it.
    """
    maker = DocMaker(nlp, types, on_error, report)

    def to_doc(sentence: TaggedSentence) -> Doc:
        text = "".join(sentence.pieces)
        doc = maker.tokenize(text, sentence.place)
        arguments: list[Entity] = []
        for start, end in sentence.offsets([len(piece) for piece in sentence.pieces]):
            argument = text[start:end]
            # Blanks inside the tags are no part of the argument.
            start += len(argument) - len(argument.lstrip())
            end = start + len(argument.strip())
            arguments.append(maker.widened_entity(doc, start, end, ENTITY, sentence.place))
        entities, relations = one_relation(arguments[0], arguments[1], sentence.label)
        return maker.annotate(doc, entities, relations, sentence.place)

    yield from maker.each(read_tagged(path), to_doc)


# Back to text


def docs_to_semeval(docs: Iterable[Doc], report: ExportReport) -> Iterator[str]:
    """Make the lines of the text form of SemEval-2010 Task 8, which `semeval_to_docs` reads.

    A record is one relation, and its sentence is the text of the whole Doc on one line. The head is
    e1 and the tail e2, and labels are written as they are, negative ones too: no direction is added
    to them. The format has no types and no tokens, and ids become text.

    docs (Iterable[Doc]): Gold or predicted Docs. If a Doc has several relations, the ids of its
        records end in a colon and the number of the relation.
    report (ExportReport): Counts what is written, changed and left out.
    YIELDS (str): The lines, without their ends: three per record.
    """
    for number, doc in enumerate(docs):
        pairs = read_pairs(doc, number, report)
        if not pairs:
            continue
        text = line_text(doc, report)

        def offsets(entity: Entity, doc: Doc = doc) -> tuple[int, int]:
            span = doc[entity.start : entity.end]
            return span.start_char, span.end_char

        arguments = {text[slice(*offsets(e))] for pair in pairs for e in (pair.head, pair.tail)}
        report.note("Docs with blanks around their text, cut off", text != text.strip())
        n_blank = sum(argument != argument.strip() for argument in arguments)
        report.note("arguments with blanks at their ends, cut off", n_blank)
        yield from tagged_lines(pairs, text, offsets, report)

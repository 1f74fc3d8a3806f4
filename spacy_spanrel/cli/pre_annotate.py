"""`python -m spacy spanrel pre-annotate`: relations by questions, from a reader that was not trained on
them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import spacy
import typer
from spacy.cli._util import setup_gpu
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from tqdm import tqdm

from ..annotations import (
    ENTITIES_KEY,
    get_answers,
    get_entities,
    get_relations,
    set_questions,
    set_relations,
)
from ..errors import Errors
from ..extractive_qa.asking import (
    AskedQuestion,
    best_relations,
    questions_about,
    read_relations,
    relations_of_answers,
)
from ..files import check_output, write_whole
from ..reading import Place, argument_error
from ..training.corpus import read_docs
from ._app import GpuId, Printer, SpacyOutput, app, check_suffix, failing_with, warn

READER = "extractive_qa"


@dataclass
class PreAnnotation:
    """The counts of a pre-annotation.

    docs (int): Docs that were read.
    docs_without_entities (int): Those of them without entities, about which nothing was asked.
    questions (int): Questions that were asked.
    unanswered (int): Those of them that have no answer.
    unmatched (int): Answers that are no entity of the wanted type.
    relations (int): Relations that were written.
    replaced (int): Relations that the Docs had before, in whose place these were written.
    missing_types (list[str]): Types of the questions that no entity has.
    types (set[str]): The types that the entities have.
    """

    docs: int = 0
    docs_without_entities: int = 0
    questions: int = 0
    unanswered: int = 0
    unmatched: int = 0
    relations: int = 0
    replaced: int = 0
    missing_types: list[str] = field(default_factory=list)
    types: set[str] = field(default_factory=set)


@app.command("pre-annotate", no_args_is_help=True)
def pre_annotate_cli(
    reader: Annotated[
        str, typer.Argument(metavar="READER", help="Pipeline with extractive_qa: folder or package")
    ],
    corpus: Annotated[
        Path, typer.Argument(metavar="CORPUS", help="Docs with entities: .spacy file or folder")
    ],
    output: SpacyOutput,
    questions: Annotated[
        Path, typer.Option("--questions", help="YAML file of relations and their questions")
    ],
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Lowest score of a relation")
    ] = 0.0,
    doubtful: Annotated[
        bool,
        typer.Option(
            "--doubtful", help="Write the best answers to questions that have none, with low scores"
        ),
    ] = False,
    entities_key: Annotated[
        str,
        typer.Option(
            "--entities-key", help="Span group of the entities; a Doc without it gives its doc.ents"
        ),
    ] = ENTITIES_KEY,
    gpu_id: GpuId = -1,
) -> None:
    """Find relations by asking questions: no pipeline needs to be trained on them.

    The file of --questions has a question, or several, for each relation; {head} or {tail} stands for an
    entity, and the answer is the other argument, if it is an entity of the type:

    \b
    works_for:
      head: PERSON
      tail: ORG
      questions:
        - Who does {head} work for?
        - Who works for {tail}?

    Docs need entities, of people or of any NER. They are written with the relations and their scores, in
    place of the relations that they have, ready for `export --suggestions`, `find-threshold` and
    training. A reader with little training says too
    often that there is no answer; with --doubtful, its best guess counts, with the low score that it has.

    Examples:

    \b
    $ python -m spacy spanrel pre-annotate reader texts.spacy found.spacy --questions relations.yaml
    """
    with failing_with(f"Nothing written to {output}"):
        setup_gpu(gpu_id, silent=True)
        counts = pre_annotate(
            reader,
            corpus,
            output,
            questions=questions,
            threshold=threshold,
            doubtful=doubtful,
            entities_key=entities_key,
        )
    msg = Printer()
    msg.good(f"{counts.relations} relations in {counts.docs} Docs written to {output}")
    numbers = {name: n for name, n in vars(counts).items() if isinstance(n, int)}
    if not counts.replaced:
        del numbers["replaced"]
    rows = [(name.replace("_", " ").capitalize(), n) for name, n in numbers.items()]
    msg.table(rows, aligns=("l", "r"))
    if counts.missing_types:
        types = ", ".join(sorted(counts.types)) or "none"
        missing = ", ".join(counts.missing_types)
        warn(f"No entity has these types of {questions}: {missing}. Types of the entities: {types}")


def pre_annotate(
    reader: str | Path | Language,
    corpus: str | Path,
    output: str | Path,
    *,
    questions: str | Path,
    threshold: float = 0.0,
    doubtful: bool = False,
    entities_key: str = ENTITIES_KEY,
) -> PreAnnotation:
    """Write Docs with the relations that the answers of a reader give.

    reader (str | Path | Language): A pipeline with an `extractive_qa`; its other components do not run.
    corpus (str | Path): Docs with entities: a `.spacy` file, or a folder of such.
    output (str | Path): The `.spacy` file to write.
    questions (str | Path): The relations, as in `read_relations`.
    threshold (float): Lowest score of a relation.
    doubtful (bool): Whether the best answers to questions that have none count, with their low scores.
    entities_key (str): Span group of entities. A Doc without it gives its `doc.ents`.
    RETURNS (PreAnnotation): The counts.
    RAISES (ConversionError): If a file is bad, there are no Docs, or the pipeline has no reader.
    """
    check_suffix(Path(output))
    check_output(output, corpus, questions)
    relations = read_relations(questions)
    nlp = reader if isinstance(reader, Language) else spacy.load(reader)
    name = next((n for n in nlp.pipe_names if nlp.get_pipe_meta(n).factory == READER), None)
    if name is None:
        found = "a pipeline with " + (", ".join(nlp.pipe_names) or "nothing")
        raise argument_error("READER", found, f"a pipeline with {READER}")
    counts = PreAnnotation()
    written = DocBin(store_user_data=True)
    cfg = nlp.get_pipe(name).cfg  # type: ignore[attr-defined]
    key = cfg["qa_key"]
    with ExitStack() as stack:
        stack.enter_context(nlp.select_pipes(enable=[name]))
        stack.callback(cfg.update, questions=cfg["questions"])
        cfg["questions"] = []  # those that the reader asks of every text

        def ask() -> Iterator[tuple[Doc, tuple[list[AskedQuestion], object]]]:
            for doc in read_docs(corpus, nlp.vocab):
                asked = questions_about(doc, relations, entities_key)
                own = doc.spans.pop(key, None)
                set_questions(doc, [item.question for item in asked], key)
                yield doc, (asked, own)

        docs = nlp.pipe(ask(), as_tuples=True)
        for doc, (asked, own) in tqdm(docs, "Docs", unit=" docs", disable=None, delay=1.0):
            answers = get_answers(doc, key)
            matched = list(relations_of_answers(doc, asked, answers, entities_key, doubtful))
            best = best_relations([r for r in matched if r is not None], threshold)
            counts.replaced += len(get_relations(doc))
            set_relations(doc, best)
            del doc.spans[key]
            if own is not None:
                doc.spans[key] = own
            written.add(doc)
            counts.docs += 1
            types = {span.label_ for span in get_entities(doc, entities_key)}
            counts.types |= types
            counts.docs_without_entities += not types
            counts.questions += len(asked)
            counts.unanswered += sum(not answer for answer in answers)
            counts.unmatched += matched.count(None)
            counts.relations += len(best)
    if not counts.docs:
        raise Place(str(corpus)).error(Errors.E609, found="no Docs", expected="Docs with entities")
    wanted = set().union(*(relation.head | relation.tail for relation in relations))
    counts.missing_types = sorted(wanted - counts.types)
    write_whole(Path(output), written.to_bytes())
    return counts

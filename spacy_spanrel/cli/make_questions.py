"""`python -m spacy spanrel make-questions`: make questions from texts, to train a reader with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer
from spacy.tokens import DocBin
from tqdm import tqdm

from ..annotations import get_questions, set_answers
from ..errors import Errors
from ..extractive_qa.cloze import ENGLISH, QuestionWords, collect_mentions, make_clozes
from ..files import check_output, write_whole
from ..reading import Place, argument_error, read_json
from ..training.corpus import read_docs
from ._app import (
    Printer,
    SpacyInputs,
    SpacyOutput,
    app,
    blank_pipeline,
    check_suffix,
    failing_with,
)

PER_TEXT = 16
# Most questions made for each one that people asked about a text: they asked more where a text has more
# to ask about.
_PER_QUESTION = 2


@dataclass
class MadeQuestions:
    """Counts of the texts and of the questions made from them.

    texts (int): Texts that were read.
    texts_without (int): Texts among them about which nothing could be asked.
    questions (int): Questions that were made.
    unanswerable (int): Questions among them that have no answer.
    """

    texts: int = 0
    texts_without: int = 0
    questions: int = 0
    unanswerable: int = 0


@app.command("make-questions", no_args_is_help=True)
def make_questions_cli(
    inputs: SpacyInputs,
    output: SpacyOutput,
    per_text: Annotated[
        int, typer.Option("--per-text", "-n", min=1, help="Most questions about a text")
    ] = PER_TEXT,
    lang: Annotated[str, typer.Option("--lang", "-l", help="Language code of the texts")] = "en",
    words: Annotated[
        Path | None,
        typer.Option("--words", help="JSON file with the question words of another language"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", "-s", help="Seed of the random choices")] = 1,
) -> None:
    """Make questions from texts, for when there are few questions by people.

    A reader that is trained on these first and on the questions of people afterwards learns more than
    from the latter alone. Plain texts will do; entities, sentence borders and gold questions are used
    where a text has them. Half of the questions have no answer. For languages other than English,
    --words names a file with a table such as {"year": ["when"], "number": ["how many"],
    "name": ["who"], "other": ["what"]}.

    Examples:

    \b
    $ python -m spacy spanrel make-questions train.spacy made.spacy
    $ python -m spacy spanrel make-questions train.spacy texts.spacy made.spacy --per-text 4
    """
    with failing_with(f"Nothing written to {output}"):
        made = make_questions(inputs, output, per_text=per_text, lang=lang, words=words, seed=seed)
    msg = Printer()
    msg.good(
        f"{made.questions} questions about {made.texts} texts, {made.unanswerable} of them without "
        f"an answer: {output}"
    )
    if made.texts_without:
        msg.warn(
            f"{made.texts_without} texts have nothing to ask for, and are kept without questions"
        )


def make_questions(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    per_text: int = PER_TEXT,
    lang: str = "en",
    words: str | Path | None = None,
    seed: int = 1,
) -> MadeQuestions:
    """Make questions from texts, and write the texts with these instead of the ones they have.

    inputs (str | Path | Sequence[str | Path]): One or more `.spacy` files.
    output (str | Path): The `.spacy` file to write.
    per_text (int): Most questions about a text, and no more than twice as many as it has already, if
        it has any.
    lang (str): Language code of the texts.
    words (str | Path | None): JSON file with question words; None for English ones.
    seed (int): Seed of the random choices: the same seed gives the same questions.
    RETURNS (MadeQuestions): Counts.
    RAISES (ConversionError): If a file does not hold Docs, the question words are not such a table, or the
        name of the output does not end in .spacy.
    RAISES (ValueError): If the output is one of the inputs.
    RAISES (OSError): If a file cannot be written.
    """
    paths = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    check_suffix(Path(output))
    check_output(output, *paths, words)
    asking = ENGLISH if words is None else _read_words(Path(words))
    nlp, docs = blank_pipeline(lang), []
    for path in paths:
        docs_of_file = list(read_docs(path, nlp.vocab))
        if not docs_of_file:
            raise Place(str(path)).error(Errors.E609, found="no Docs", expected="texts")
        docs += docs_of_file
    mentions, rng, made = collect_mentions(docs), random.Random(seed), MadeQuestions()
    for doc in tqdm(docs, "Questions", unit="texts", disable=None, delay=1.0):
        n_gold = len(get_questions(doc))
        count = min(per_text, _PER_QUESTION * n_gold) if n_gold else per_text
        answers = make_clozes(doc, count, mentions, rng, words=asking)
        set_answers(doc, answers)
        made.texts += 1
        made.texts_without += not answers
        made.questions += len(answers)
        made.unanswerable += sum(not answer for answer in answers)
    write_whole(Path(output), DocBin(docs=docs).to_bytes())
    return made


def _read_words(path: Path) -> QuestionWords:
    table = read_json(path)
    kinds = [field.name for field in fields(QuestionWords)]
    if set(table.as_dict()) != set(kinds):
        raise argument_error(
            "--words",
            f"a table of {', '.join(table.raw) or 'nothing'}",
            f"one of {', '.join(kinds)}",
        )
    for kind in kinds:
        table[kind].as_words()
    return QuestionWords(**{kind: tuple(w.as_name() for w in table[kind]) for kind in kinds})

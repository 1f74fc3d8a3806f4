"""Ask a trained pipeline questions and print its answers with their scores.

    python scripts/ask.py training/sample_qa/model-best assets/sample/qa_test.json --limit 3
    python scripts/ask.py training/sample_qa/model-best "Ann Lee lives in Oslo." "Where does Ann live?"

The arguments after the pipeline are a SQuAD file, whose questions are asked, or a text and questions
about it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import spacy
from wasabi import msg

from spacy_spanrel import Answer, Question, get_answers
from spacy_spanrel.converters import squad_to_docs
from spacy_spanrel.extractive_qa.component import ExtractiveQA

Asked = tuple[str, list[Question], list[str]]


def read(arguments: list[str], limit: int | None) -> Iterator[Asked]:
    """Yield texts, questions and gold answers ("" if unknown)."""
    path = Path(arguments[0]) if len(arguments[0]) < 256 else None
    if len(arguments) > 1 or path is None:
        questions = [Question(f"q{i}", text) for i, text in enumerate(arguments[1:], start=1)]
        yield arguments[0], questions, [""] * len(questions)
    elif path.is_file():
        for doc in islice(squad_to_docs(path), limit):
            gold = get_answers(doc)
            yield doc.text, [answer.question for answer in gold], [show(answer) for answer in gold]
    else:
        msg.fail(f"There is no file {path}, and no question", exits=1)


def show(answer: Answer) -> str:
    return answer.text if answer else "(no answer)"


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a trained pipeline questions.")
    parser.add_argument("model", help="name or folder of a trained pipeline")
    parser.add_argument(
        "asked",
        nargs="+",
        metavar="FILE | TEXT QUESTION",
        help="a SQuAD file, or a text and questions",
    )
    parser.add_argument("--limit", type=int, help="number of texts of the file to ask about")
    parser.add_argument("--component", default="extractive_qa", help="(default: %(default)s)")
    args = parser.parse_args()
    nlp = spacy.load(args.model)
    if args.component not in nlp.pipe_names:
        msg.fail(
            f"{args.model} has no component {args.component!r}, but: {', '.join(nlp.pipe_names)}",
            exits=1,
        )
    qa = nlp.get_pipe(args.component)
    assert isinstance(qa, ExtractiveQA)
    for number, (text, questions, gold) in enumerate(read(args.asked, args.limit), start=1):
        msg.divider(f"Text {number}")
        print(text)
        answers = qa.ask(nlp.make_doc(text), questions)
        rows = [
            (answer.question.text, show(answer), f"{answer.score:.2f}", gold_text)
            for answer, gold_text in zip(answers, gold, strict=True)
        ]
        header = ("Question", "Answer", "Score", "Gold answer")
        msg.table(rows, header=header, divider=True, max_col=60)


if __name__ == "__main__":
    main()

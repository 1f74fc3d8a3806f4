"""Random Docs through every component: offsets, scores, batches, saving.

The pipelines are those of version 0.1.0 in tests/saved, which find much in any text, and untrained
ones over encoders of other families.
"""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span

from ..encoders.util import COMPONENTS, ENCODERS, LABELS, annotations_of, assert_same, make_pipeline
from ..saved.test_saved import HERE as SAVED
from .mutate import LETTERS, LINES, text

OTHERS = ("roberta", "deberta-v2", "modernbert, multilingual")
TOLERANCE = 2e-5
N_DOCS = 6


def make_check(folder: Path):
    torch.set_num_threads(1)
    pipelines = [spacy.load(SAVED / name / "pipeline") for name in COMPONENTS]
    for encoder in ENCODERS:
        if encoder.name in OTHERS:
            pipelines.append(make_pipeline(encoder.save(folder / encoder.slug)))

    def check(rng: Random) -> None:
        nlp = rng.choice(pipelines)
        data = [random_doc(rng, nlp).to_bytes() for _ in range(rng.randint(1, N_DOCS))]
        # (A copy from bytes keeps span groups, entities and questions.)
        found = [checked(doc) for doc in annotate(nlp, data, batch_size=len(data))]
        order = rng.sample(range(len(data)), len(data))
        size = rng.randint(1, len(data))
        again = [checked(doc) for doc in annotate(nlp, [data[i] for i in order], batch_size=size)]
        assert_same(again, [found[i] for i in order], TOLERANCE)

    return check


def annotate(nlp: Language, data: list[bytes], batch_size: int) -> list[Doc]:
    docs = [Doc(nlp.vocab).from_bytes(item) for item in data]
    texts = [doc.text for doc in docs]
    docs = list(nlp.pipe(docs, batch_size=batch_size))
    assert [doc.text for doc in docs] == texts
    return docs


def checked(doc: Doc) -> dict:
    """What was found in a Doc, after checks that it can be true and survives saving."""
    found = annotations_of(doc)
    assert all(math.isfinite(number) for number in found["numbers"])
    for group in doc.spans.values():
        for span in group:
            assert 0 <= span.start <= span.end <= len(doc)
    for span in doc.spans.get("entities", []):
        assert span.text.strip(), "an entity of white space"
    for answer in doc._.answers:
        for part in (answer, *answer.alternatives):
            assert 0 <= part.score <= 1 + 1e-6
            assert doc.text[part.start_char : part.end_char] == part.text == part.text.strip()
    copies = [Doc(doc.vocab).from_bytes(doc.to_bytes())]
    copies += DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(doc.vocab)
    for copy in copies:
        assert_same([annotations_of(copy)], [found], 1e-9)
    return found


def random_doc(rng: Random, nlp: Language) -> Doc:
    """A Doc of any length, with or without sentences, entities and questions."""
    length = rng.choice([0, 1, 2, 5, 12, 30, rng.randrange(200)])
    if rng.random() < 0.3:
        doc = nlp.make_doc(text(rng, length))
    else:
        words = [
            "".join(rng.choices([*LETTERS, *LINES, " "], k=rng.randint(1, 3)))
            for _ in range(length)
        ]
        doc = Doc(nlp.vocab, words=words, spaces=[rng.random() < 0.7 for _ in words])
    if len(doc):
        starts = sorted(rng.sample(range(len(doc)), min(len(doc), rng.randrange(5))))
        ends = [*starts[1:], len(doc)]
        doc.set_ents(
            [
                Span(doc, start, rng.randint(start + 1, min(end, start + 4)), rng.choice(LABELS))
                for start, end in zip(starts, ends, strict=False)
            ]
        )
        borders = rng.choice([0.0, 0.1, 0.5, 1.0])
        if borders:
            for token in doc:
                token.is_sent_start = token.i == 0 or rng.random() < borders
    questions = [text(rng, rng.choice([0, 3, 10, 80])) for _ in range(rng.randrange(4))]
    doc._.questions = questions
    return doc

"""Data, checkpoints and small pipelines for the tests of `extractive_qa`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    ElectraConfig,
    ElectraForQuestionAnswering,
    RobertaConfig,
    RobertaForQuestionAnswering,
)

from spacy_spanrel.annotations import Answer, Question, get_answers, make_answer, set_answers
from spacy_spanrel.encoding.shim import get_module
from spacy_spanrel.extractive_qa.component import ExtractiveQA
from spacy_spanrel.extractive_qa.model import QAInput, QAOutput
from spacy_spanrel.extractive_qa.network import SpanNetwork

from ..util import WORDS, tiny_checkpoint

# A text and its questions: (id, text, answer or None).
Row = tuple[str, list[tuple[str, str, str | None]]]

ROWS: list[Row] = [
    (
        "John Smith works for Google in Paris .",
        [("who", "who works for Google ?", "John Smith"), ("where", "where is he ?", "Paris")],
    ),
    (
        "Mary lives in London .",
        [("who", "who lives in London ?", "Mary"), ("what", "what is the company ?", None)],
    ),
    (
        "in Berlin Mary killed John .",
        [("who", "who was killed ?", "John"), ("where", "where was he killed ?", "Berlin")],
    ),
    (
        "Acme is a company from Berlin .",
        [("where", "where is the company ?", "Berlin"), ("who", "who was killed ?", None)],
    ),
    ("he was born in the city .", [("where", "where was he born ?", "the city")]),
]
TEXTS = [row[0] for row in ROWS]
N_QUESTIONS = sum(len(questions) for _, questions in ROWS)

Kind = Literal["bert", "roberta", "distilbert", "electra"]
KINDS: list[Kind] = ["bert", "roberta", "distilbert", "electra"]


def model_config(checkpoint: Path | str, **model: Any) -> dict[str, Any]:
    """Settings of a small model that computes in float32 on the CPU, without dropout."""
    return {
        "name": str(checkpoint),
        "max_length": 64,
        "doc_stride": 16,
        "max_question_length": 24,
        "dropout": 0.0,
        "precision": "float32",
        "device": "cpu",
        **model,
    }


def make_nlp(
    checkpoint: Path | str,
    *,
    name: str = "extractive_qa",
    model: dict[str, Any] | None = None,
    lang: str = "xx",
    **settings: Any,
) -> tuple[Language, ExtractiveQA]:
    """A blank pipeline with the component, not initialized; pretrained = false unless given.

    The tokenizer is that of the language "xx", which loads fastest.
    """
    nlp = spacy.blank(lang)
    model = model_config(checkpoint, **(model or {}))
    config = {"pretrained": False, "scorer": None, **settings, "model": model}
    pipe = nlp.add_pipe("extractive_qa", name=name, config=config)
    assert isinstance(pipe, ExtractiveQA)
    return nlp, pipe


def the_pipe(nlp: Language) -> ExtractiveQA:
    pipe = nlp.get_pipe("extractive_qa")
    assert isinstance(pipe, ExtractiveQA)
    return pipe


def ready(checkpoint: Path | str, **settings: Any) -> ExtractiveQA:
    """The component of an initialized pipeline, with the head of the checkpoint."""
    nlp, pipe = make_nlp(checkpoint, **{"pretrained": True, **settings})
    nlp.initialize()
    return pipe


def gold_doc(nlp: Language, row: Row) -> Doc:
    """A gold Doc with the questions and answers of a row."""
    text, questions = row
    doc = nlp.make_doc(text)
    answers = []
    for key, question, answer in questions:
        start = text.index(answer) if answer else 0
        asked = Question(key, question)
        answers.append(make_answer(doc, asked, start, start + len(answer or "")))
    set_answers(doc, answers)
    return doc


def make_examples(nlp: Language, rows: Sequence[Row] = ROWS) -> list[Example]:
    """Examples whose predicted Docs have no annotation."""
    return [Example(nlp.make_doc(row[0]), gold_doc(nlp, row)) for row in rows]


def asking(nlp: Language, row: Row) -> Doc:
    """A Doc with the questions of a row and no answers."""
    doc = nlp.make_doc(row[0])
    doc._.questions = [(key, question) for key, question, _ in row[1]]
    return doc


def answer_all(nlp: Language, rows: Sequence[Row] = ROWS) -> list[Doc]:
    """Docs of rows with the answers of the pipeline."""
    return list(nlp.pipe([asking(nlp, row) for row in rows]))


Found = list[tuple[str, str | None]]


def found(doc: Doc, key: str = "qa") -> Found:
    """Answers of a Doc as (id, text or None)."""
    return [(a.question.id, a.text if a else None) for a in get_answers(doc, key)]


def expected(row: Row) -> Found:
    """What `found` gives for a gold row."""
    return [(key, answer) for key, _, answer in row[1]]


def assert_same_answers(
    found: Sequence[Answer], wanted: Sequence[Answer], tolerance: float = 1e-4
) -> None:
    """Compare answers about the same text, and their scores up to a tolerance."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.question == other.question
        assert (one.start_char, one.end_char) == (other.start_char, other.end_char)
        for name in ("score", "logit", "null_score"):
            value = getattr(other, name)
            assert getattr(one, name) == (
                None if value is None else pytest.approx(value, abs=tolerance)
            )
        assert_same_answers(one.alternatives, other.alternatives, tolerance)


def every(answer: Answer) -> list[Answer]:
    """The answer and its alternatives, without "no answer"."""
    return [part for part in (answer, *answer.alternatives) if part]


def places(answer: Answer) -> list[tuple[int, int]]:
    return [(part.start_char, part.end_char) for part in every(answer)]


# Checkpoints


def qa_checkpoint(
    folder: Path,
    kind: Kind = "bert",
    *,
    max_position: int = 64,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 2,
    cased: bool = True,
    vocab_words: Sequence[str] = WORDS,
    vocab_size: int | None = None,
    std: float = 0.2,
    seed: int = 0,
    safetensors: bool = True,
) -> Path:
    """Save a random question-answering network with a fast tokenizer.

    Arguments as in `tests.util.tiny_checkpoint`, and:
    heads (int): Attention heads.
    vocab_size (int | None): Rows of the embedding; None for as many as the vocabulary.
    std (float): Of the weights; those of the head are drawn wider.
    safetensors (bool): False for the older `pytorch_model.bin`.
    RETURNS (Path): The folder.
    """
    tiny_checkpoint(
        folder,
        "roberta" if kind == "roberta" else "bert",
        vocab_words=vocab_words,
        max_position=max_position,
        cased=cased,
        layers=1,
    )
    if kind in ("distilbert", "electra"):
        edit_json(
            folder / "tokenizer_config.json",
            tokenizer_class={"distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer"}[
                kind
            ],
        )
    if not cased:
        _hide_upper_case(folder)
    vocab_size = vocab_size or json.loads((folder / "config.json").read_text())["vocab_size"]
    config: Any
    if kind == "distilbert":
        config = DistilBertConfig(
            vocab_size=vocab_size,
            dim=hidden,
            n_layers=layers,
            n_heads=heads,
            hidden_dim=4 * hidden,
            max_position_embeddings=max_position,
            initializer_range=std,
            qa_dropout=0.0,
        )
    else:
        settings: dict[str, Any] = {
            "vocab_size": vocab_size,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * hidden,
            "max_position_embeddings": max_position,
            "initializer_range": std,
        }
        if kind == "bert":
            config = BertConfig(**settings)
        elif kind == "electra":
            config = ElectraConfig(embedding_size=hidden // 2, **settings)
        else:
            settings["max_position_embeddings"] += 2
            special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
            config = RobertaConfig(type_vocab_size=1, **special, **settings)
    network_type = {
        "bert": BertForQuestionAnswering,
        "roberta": RobertaForQuestionAnswering,
        "distilbert": DistilBertForQuestionAnswering,
        "electra": ElectraForQuestionAnswering,
    }[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = network_type(config)
        nn.init.normal_(network.qa_outputs.weight, std=1.0)
        nn.init.normal_(network.qa_outputs.bias, std=1.0)
    (folder / "model.safetensors").unlink()
    if safetensors:
        network.save_pretrained(folder)
    else:
        # transformers 5 does not write this format.
        config.architectures = [network_type.__name__]
        config.save_pretrained(folder)
        torch.save(network.state_dict(), folder / "pytorch_model.bin")
    return folder


def _hide_upper_case(folder: Path) -> None:
    """Remove from a vocabulary what a tokenizer that lower-cases can never use."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    hidden = {
        word if word == word.lower() or word.startswith("[") else f"[unused {word}]": index
        for word, index in vocabulary.items()
    }
    content["model"]["vocab"] = hidden
    path.write_text(json.dumps(content))
    (folder / "vocab.txt").write_text("\n".join(sorted(hidden, key=hidden.__getitem__)))


def edit_json(path: Path, **settings: Any) -> None:
    """Change keys of a JSON file; None removes a key."""
    content = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


LEXICON_SCALE = 20.0


def lexicon_checkpoint(
    folder: Path,
    lexicon: Mapping[str, tuple[float, float]],
    max_position: int = 64,
    vocab_words: Sequence[str] = WORDS,
) -> Path:
    """Save a BERT without layers that gives each piece the logits of a table, whatever its position.

    lexicon (Mapping[str, tuple[float, float]]): Start and end logit of vocabulary entries, from
        -20 to 20 and not both far out; 0 for all others.
    RETURNS (Path): The folder.
    """
    tiny_checkpoint(folder, "bert", vocab_words=vocab_words, max_position=max_position, layers=1)
    entries = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    config = BertConfig(
        vocab_size=len(entries),
        hidden_size=6,
        num_hidden_layers=0,
        num_attention_heads=2,
        intermediate_size=6,
        max_position_embeddings=max_position,
    )
    network = BertForQuestionAnswering(config)
    state = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    vectors = torch.zeros(len(entries), 6)
    for entry, index in entries.items():
        start, end = (value / LEXICON_SCALE for value in lexicon.get(entry, (0.0, 0.0)))
        rest = math.sqrt(3 - start**2 - end**2)
        # Mean 0 and variance 1, so that the normalization changes nothing.
        vectors[index] = torch.tensor([start, -start, end, -end, rest, -rest])
    state["bert.embeddings.word_embeddings.weight"] = vectors
    state["bert.embeddings.LayerNorm.weight"] = torch.ones(6)
    state["qa_outputs.weight"][0, 0] = state["qa_outputs.weight"][1, 2] = LEXICON_SCALE
    network.load_state_dict(state)
    network.save_pretrained(folder)
    return folder


def network_of(pipe: ExtractiveQA) -> SpanNetwork:
    return get_module(pipe.model, SpanNetwork)


def output_of(
    pipe: ExtractiveQA, texts: Sequence[str], questions: Sequence[Sequence[str]]
) -> QAOutput:
    """The output of the model for questions about texts."""
    docs = [pipe._make_doc(text) for text in texts]
    return pipe.model.predict(QAInput(docs, questions))


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in network.named_parameters()
    }

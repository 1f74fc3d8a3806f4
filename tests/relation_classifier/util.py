"""Checkpoints in the form of the published TACRED classifiers, and rows as in the original program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from spacy_spanrel.relation_classifier.component import RelationClassifier
from spacy_spanrel.relation_classifier.pairs import TypedPair

from ..util import UNUSED, WORDS, tiny_checkpoint


class Row(NamedTuple):
    """A sentence with a pair, whose arguments are token ranges, end exclusive."""

    words: list[str]
    head: tuple[int, int]
    head_type: str
    tail: tuple[int, int]
    tail_type: str

    @property
    def pair(self) -> TypedPair:
        return TypedPair(self.head, self.tail, self.head_type, self.tail_type)

    def doc(self, vocab: Vocab) -> Doc:
        """Return the sentence without annotation, and without white space at its end."""
        return Doc(vocab, words=self.words, spaces=[True] * (len(self.words) - 1) + [False])

    def arguments(self, doc: Doc) -> tuple[Span, Span]:
        head = Span(doc, *self.head, label=self.head_type)
        return head, Span(doc, *self.tail, label=self.tail_type)


def _row(text: str, head: tuple[int, int, str], tail: tuple[int, int, str]) -> Row:
    return Row(text.split(), head[:2], head[2], tail[:2], tail[2])


# Arguments in both orders, adjacent, at the ends of the text, and of different lengths.
ROWS = [
    _row("John Smith works for Acme in Paris .", (0, 2, "PERSON"), (4, 5, "ORGANIZATION")),
    _row("John Smith works for Acme in Paris .", (4, 5, "ORGANIZATION"), (0, 2, "PERSON")),
    _row("John Smith works for Acme in Paris .", (4, 5, "ORGANIZATION"), (6, 7, "CITY")),
    _row("president Mary", (1, 2, "PERSON"), (0, 1, "TITLE")),
    _row("the company Google and a company from Berlin", (2, 3, "ORGANIZATION"), (7, 8, "CITY")),
    _row(
        "he was born in London and lives in the city of Berlin and John was killed in Paris by "
        "Mary for the company of the president of Acme",
        (13, 14, "PERSON"),
        (17, 18, "CITY"),
    ),
    _row("Mary lives in London and works at a company in Paris", (0, 1, "PERSON"), (3, 4, "CITY")),
]


def tacred_checkpoint(
    folder: Path,
    *,
    n_labels: int = 42,
    id2label: Mapping[int, str] | None = None,
    unused: int = 99,
    width: int = 32,
    layers: int = 2,
    heads: int = 2,
    vocab_size: int | None = None,
    std: float = 0.2,
) -> Path:
    """Save a random BERT classifier with the files of the published TACRED checkpoints.

    folder (Path): The folder; it is made if it does not exist.
    id2label (Mapping[int, str] | None): Names of the classes; None leaves LABEL_0, LABEL_1, ...
    unused (int): Number of `[unusedN]` entries in the cased vocabulary, counted from 1.
    vocab_size (int | None): Number of rows of the embedding; None for the size of the vocabulary.
    std (float): Standard deviation of the weights of the encoder.
    RETURNS (Path): The folder.
    """
    more = [f"[unused{i}]" for i in range(len(UNUSED) + 1, unused + 1)]
    tiny_checkpoint(folder, vocab_words=[*WORDS, *more], layers=1)
    for path in folder.iterdir():
        if path.name != "vocab.txt":
            path.unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    n_words = len((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    config = BertConfig(
        vocab_size=vocab_size or n_words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        initializer_range=std,
        num_labels=n_labels,
        architectures=["BertForSequenceClassification"],
    )
    if id2label is not None:
        config.id2label = dict(id2label)
        config.label2id = {label: i for i, label in id2label.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BertForSequenceClassification(config)
        nn.init.normal_(network.classifier.weight, std=width**-0.5)
        nn.init.normal_(network.classifier.bias)
    config.save_pretrained(folder)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    return folder


def edit_config(folder: Path, **settings: Any) -> None:
    """Change keys of a checkpoint's config.json; None removes a key."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def make_nlp(
    checkpoint: Path | str, *, model: dict[str, Any] | None = None, **settings: Any
) -> tuple[Language, RelationClassifier]:
    """Make a blank pipeline with the component, in float32 on the CPU, not yet initialized."""
    nlp = spacy.blank("xx")
    model = {"name": str(checkpoint), "precision": "float32", "device": "cpu", **(model or {})}
    if isinstance(settings.get("markers"), Mapping):
        settings["markers"] = [list(row) for row in settings["markers"].items()]
    pipe = nlp.add_pipe("relation_classifier", config={**settings, "model": model})
    assert isinstance(pipe, RelationClassifier)
    return nlp, pipe


def the_pipe(nlp: Language) -> RelationClassifier:
    pipe = nlp.get_pipe("relation_classifier")
    assert isinstance(pipe, RelationClassifier)
    return pipe


def original_row(tokenizer: Any, row: Row, mode: str, table: Mapping[str, int]) -> list[int]:
    """Return the ids of a row that need not be cut, made token by token as in SpanBERT's run_tacred.

    tokenizer (PreTrainedTokenizerFast): From transformers.
    mode (str): One of the four of that program, or "typed_markers".
    table (Mapping[str, int]): Ids of the markers.
    """
    sep = tokenizer.sep_token_id
    pieces = {
        i: tokenizer((" " if i else "") + word, add_special_tokens=False).input_ids
        for i, word in enumerate(row.words)
    }
    arguments = [("SUBJ", row.head, row.head_type), ("OBJ", row.tail, row.tail_type)]
    ids = [tokenizer.cls_token_id]
    for i in range(len(row.words)):
        word = pieces[i]
        for role, (start, end), label in arguments:
            if not start <= i < end:
                continue
            if mode in ("ner", "ner_text"):
                word = [table[f"{role}={label}"]] if i == start else []
            else:
                kind = f"={label}" if mode == "typed_markers" else ""
                if i == start:
                    word = [table[f"{role}_START{kind}"], *word]
                if i == end - 1:
                    word = [*word, table[f"{role}_END{kind}"]]
        ids += word
    ids.append(sep)
    for role, span, label in arguments:
        if mode == "text_ner":
            ids += [table[f"{role}={label}"], sep]
        elif mode == "ner_text":
            ids += [piece for i in range(*span) for piece in pieces[i]] + [sep]
    return ids


def fast_tokenizer(folder: Path) -> Any:
    """Load the cased tokenizer of a checkpoint without this package."""
    return AutoTokenizer.from_pretrained(folder, use_fast=True, do_lower_case=False)


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return ids and mask of all rows as one batch."""
    longest = max(map(len, rows))
    ids = [[*row, *[pad_id] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def each_alone(network: nn.Module, rows: Sequence[Sequence[int]]) -> Tensor:
    """Return the first output of a Hugging Face network for each row, each in a batch of its own. The
    shape of the output must not depend on the length of the row."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(input_ids=torch.tensor([row]))[0] for row in rows])


def in_one_batch(network: nn.Module, rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """Return the first output of a Hugging Face network for all rows in one padded batch."""
    network.eval()
    ids, mask = padded(rows, pad_id)
    with torch.no_grad():
        return network(input_ids=ids, attention_mask=mask)[0]


def tacred_scores(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Score lists of labels as the official TACRED scorer does (Zhang et al. 2017).

    gold, predicted (Sequence[str]): A label for each pair, in the same order.
    RETURNS (dict[str, float]): `precision` (1 if nothing but "no_relation" was predicted), `recall` and
        `f1` of the other labels, from 0 to 1.
    """
    pairs = list(zip(gold, predicted, strict=True))
    right = sum(label == other != "no_relation" for label, other in pairs)
    n_predicted = sum(other != "no_relation" for _, other in pairs)
    n_gold = sum(label != "no_relation" for label, _ in pairs)
    precision = right / n_predicted if n_predicted else 1.0
    recall = right / n_gold if n_gold else 0.0
    total = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / total if total else 0.0,
    }

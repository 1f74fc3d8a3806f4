"""Helpers for all tests: tiny checkpoints, Docs, training, and Python in another process."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import runpy
import string
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.tokens.underscore import Underscore
from spacy.training import Example
from spacy.util import fix_random_seed
from spacy.vocab import Vocab
from thinc.api import Model
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from spacy_spanrel import Relation, set_relations
from spacy_spanrel.encoding.encoder import EncodedDocs, HFEncoder
from spacy_spanrel.training.optimizer import create_adamw

_TEXT = (
    "the a of in and to is was for by he she John Mary Smith works work lives live ing ed "
    "at from Paris London Berlin Google Acme company city born killed president"
)
WORDS = _TEXT.split()

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
UNUSED = [f"[unused{i}]" for i in range(1, 10)]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_BERT_NAMES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROBERTA_NAMES = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def load_script(name: str) -> ModuleType:
    """Import a program of `scripts/`, which is no package."""
    path = Path(__file__).parent.parent / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def tiny_checkpoint(
    folder: str | Path,
    kind: Literal["bert", "roberta"] = "bert",
    vocab_words: Iterable[str] = WORDS,
    max_position: int = 64,
    hidden: int = 32,
    cased: bool = True,
    layers: int = 2,
    seed: int = 0,
    tokenizer_max_length: int | None = None,
) -> Path:
    """Save a small random encoder with a fast tokenizer, as `from_pretrained` reads it.

    folder (str | Path): Is made if it is missing.
    kind (str): "bert" (WordPiece, [CLS] ... [SEP]) or "roberta" (byte-level BPE, <s> ... </s>,
        positions counted from 2 on).
    vocab_words (Iterable[str]): Words with a piece of their own. Other ASCII words are spelt.
    max_position (int): Pieces that the network takes, special tokens included.
    hidden (int): Width, even.
    cased (bool): Keep case (bert only).
    layers (int): Number of layers.
    seed (int): Of the weights.
    tokenizer_max_length (int | None): The tokenizer's own limit; None for `max_position`.
    RETURNS (Path): The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "bert":
        tokenizer, names = _wordpiece(list(vocab_words), cased), _BERT_NAMES
        tokenizer_config = {"tokenizer_class": "BertTokenizer", "do_lower_case": not cased}
    else:
        tokenizer, names = _byte_bpe(list(vocab_words)), _ROBERTA_NAMES
        tokenizer_config = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": False}
    tokenizer_config |= names
    tokenizer_config["model_max_length"] = tokenizer_max_length or max_position
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    if kind == "bert":
        vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        (folder / "vocab.txt").write_text("\n".join(word for word, _ in vocab), encoding="utf-8")
    else:
        tokenizer.model.save(str(folder))  # vocab.json and merges.txt

    settings: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
        "initializer_range": 0.1,  # so that a piece's vector depends on its neighbours
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "bert":
            model = BertModel(BertConfig(max_position_embeddings=max_position, **settings))
        else:
            model = RobertaModel(
                RobertaConfig(
                    max_position_embeddings=max_position + 2,
                    type_vocab_size=1,
                    pad_token_id=1,
                    bos_token_id=0,
                    eos_token_id=2,
                    **settings,
                )
            )
    model.save_pretrained(folder)
    return folder


def _wordpiece(words: list[str], cased: bool) -> Tokenizer:
    if not cased:
        words = [word.lower() for word in words]
    chars = [char for char in string.printable if not char.isspace()]
    if not cased:
        chars = [char for char in chars if not char.isupper()]
    pieces = [*BERT_SPECIAL, *UNUSED, *chars, *(f"##{char}" for char in chars), *words]
    pieces += [f"##{word}" for word in words if word.islower() and len(word) <= 4]
    vocab: dict[str, int] = {}
    for piece in pieces:
        vocab.setdefault(piece, len(vocab))
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(BERT_SPECIAL)
    return tokenizer


def _byte_bpe(words: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=261 + 20 * len(words),
        special_tokens=ROBERTA_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*words, *(f" {word}" for word in words)], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


def tiny_encoder(folder: str | Path, **settings: Any) -> Model[list[Doc], EncodedDocs]:
    """Make an initialized `HFEncoder` from a checkpoint, in float32 on the CPU unless told."""
    encoder = HFEncoder(str(folder), **{"precision": "float32", "device": "cpu", **settings})
    encoder.initialize()
    return encoder


@torch.no_grad()
def plain_adamw(
    weights: Iterable[Tensor],
    moments: Iterable[tuple[Tensor, Tensor]],
    step: int,
    lr: float,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float,
    decay: float,
    correct_bias: bool,
) -> None:
    """One step of AdamW, written from its formula; biases do not decay. Clears the gradients.

    weights (Iterable[Tensor]): With their gradients.
    moments (Iterable[tuple[Tensor, Tensor]]): First and second moment of each, zeros at first.
    step (int): Counted from 1.
    """
    c1, c2 = (1 - beta1**step, 1 - beta2**step) if correct_bias else (1.0, 1.0)
    for p, (m, v) in zip(weights, moments, strict=True):
        if p.grad is None:
            continue
        m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
        p.mul_(1 - lr * (decay if p.dim() > 1 else 0.0))
        p.sub_(lr * (m / c1) / ((v / c2).sqrt() + eps))
        p.grad = None


def make_doc(
    vocab: Vocab,
    words: Sequence[str] | str,
    entities: Sequence[tuple[int, int, str]] = (),
    relations: Sequence[tuple[int, int, str]] = (),
    key: str | None = None,
) -> Doc:
    """Make an annotated Doc.

    vocab (Vocab): Of the pipeline.
    words (Sequence[str] | str): Tokens, or a text whose tokens stand between spaces.
    entities: Token ranges (start, end exclusive, label).
    relations: Rows (head, tail, label), counted in `entities`.
    key (str | None): Span group that takes the entities; None for `doc.ents`.
    RETURNS (Doc): The Doc. Without relations it has no group for them.
    """
    doc = Doc(vocab, words=words.split() if isinstance(words, str) else list(words))
    spans = [Span(doc, start, end, label=label) for start, end, label in entities]
    if key is None:
        doc.set_ents(spans)
    else:
        doc.spans[key] = spans
    if relations:
        set_relations(doc, [Relation(spans[h], spans[t], label) for h, t, label in relations])
    return doc


def write_docs(path: str | Path, docs: Iterable[Doc]) -> Path:
    """Save Docs as `spacy train` reads them."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs).to_disk(path)
    return path


def through_bytes(doc: Doc) -> Doc:
    """Return a copy of a Doc with a vocabulary that knew none of its strings."""
    return Doc(Vocab()).from_bytes(doc.to_bytes())


def through_docbin(doc: Doc) -> Doc:
    """Return a copy of a Doc without its user data, which default settings drop."""
    (copy,) = DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(Vocab())
    return copy


def through_pickle(doc: Doc) -> Doc:
    """Return a pickled copy of a Doc."""
    return pickle.loads(pickle.dumps(doc))


ROUND_TRIPS = [through_bytes, through_docbin, through_pickle]


def initialize(nlp: Language, examples: Sequence[Example], seed: int = 0) -> None:
    """Initialize a pipeline from examples, with a fixed seed."""
    fix_random_seed(seed)
    nlp.initialize(lambda: examples)


def train(nlp: Language, examples: Sequence[Example], steps: int, **settings: Any) -> list[float]:
    """Train on all examples as one batch.

    nlp (Language): An initialized pipeline.
    examples (Sequence[Example]): The batch of every step.
    steps (int): Number of steps.
    settings: Of `create_adamw`; by default a learning rate of 5e-3 without weight decay.
    RETURNS (list[float]): The loss of each step, summed over the components.
    """
    optimizer = create_adamw(**{"learn_rate": 5e-3, "weight_decay": 0.0, **settings})
    losses = []
    for _ in range(steps):
        step: dict[str, float] = {}
        nlp.update(examples, sgd=optimizer, losses=step)
        losses.append(sum(step[name] for name in nlp.pipe_names if name in step))
    return losses


@contextmanager
def extensions_restored() -> Iterator[None]:
    """Put the extensions of Doc and Span back as they were before."""
    tables = (Underscore.doc_extensions, Underscore.span_extensions)
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


def run_python(code: str | Path, *args: str | Path, cwd: Path, **env: str) -> str:
    """Run Python in another process.

    code (str | Path): A program, or a file that holds one. Processes that are spawned import the main
        module again, so a program that starts some must be a file.
    args (str | Path): Its arguments.
    cwd (Path): Its working folder.
    env (str): Environment variables to change.
    RETURNS (str): What it printed.
    """
    program = [str(code)] if isinstance(code, Path) else ["-c", code]
    result = subprocess.run(
        [sys.executable, *program, *map(str, args)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def names(folder: Path) -> list[str]:
    """Return the names of the entries of a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder by their relative paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def run_script(monkeypatch: pytest.MonkeyPatch, script: Path, *args: str | Path) -> None:
    """Run a script in this process, because a new process would spend its time on imports.

    monkeypatch (pytest.MonkeyPatch): Is given the arguments and the search path of the script.
    script (Path): The script, which may import its neighbours.
    args (str | Path): Its arguments.
    """
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, args)])
    loaded = set(sys.modules)
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        for name in set(sys.modules) - loaded:
            if Path(getattr(sys.modules[name], "__file__", None) or "").parent == script.parent:
                del sys.modules[name]

"""Tiny encoders of every family, with real tokenizers, and pipelines of all components on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import spacy
import torch
import transformers
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import fix_random_seed
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from spacy_spanrel import (
    Question,
    Relation,
    get_answers,
    get_pair_scores,
    get_relations,
    set_answers,
    set_relations,
)
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.encoding.shim import get_shim
from spacy_spanrel.training.optimizer import create_adamw

# The longest input of each of these encoders in pieces, including special tokens.
LENGTH = 64
HIDDEN = 16


class Row(NamedTuple):
    """A sentence.

    lang (str): Language.
    sentence (str): Tokens, separated by spaces.
    spaced (bool): Whether these spaces are part of the text.
    entities, relations: As in `tests.util.make_doc`.
    questions: Questions and answers; None if there is no answer.
    """

    lang: str
    sentence: str
    spaced: bool
    entities: list[tuple[int, int, str]]
    relations: list[tuple[int, int, str]]
    questions: list[tuple[str, str | None]]

    @property
    def words(self) -> list[str]:
        return self.sentence.split()

    @property
    def text(self) -> str:
        return (" " if self.spaced else "").join(self.words)


ROWS = [
    Row(
        "en",
        "John Smith works for Google in Paris , and Mary lives in London .",
        True,
        [(0, 2, "Per"), (4, 5, "Org"), (6, 7, "Loc"), (9, 10, "Per"), (12, 13, "Loc")],
        [(0, 1, "works"), (1, 2, "based"), (3, 4, "lives")],
        [("Who works for Google?", "John Smith"), ("Who was killed?", None)],
    ),
    Row(
        "es",
        "María Pérez nació en Sevilla y vive en Córdoba .",
        True,
        [(0, 2, "Per"), (4, 5, "Loc"), (8, 9, "Loc")],
        [(0, 2, "lives")],
        [("¿Dónde vive María Pérez?", "Córdoba")],
    ),
    Row(
        "de",
        "Jürgen Müller arbeitet bei Weißbäckerei Groß in Köln .",
        True,
        [(0, 2, "Per"), (4, 6, "Org"), (7, 8, "Loc")],
        [(0, 1, "works"), (1, 2, "based")],
        [("Wo arbeitet Jürgen Müller?", "Weißbäckerei Groß")],
    ),
    Row(
        "zh",
        "王芳 在 北京 的 百度公司 工作 。",
        False,
        [(0, 1, "Per"), (2, 3, "Loc"), (4, 5, "Org")],
        [(0, 2, "works"), (2, 1, "based")],
        [("谁在百度公司工作？", "王芳")],
    ),
    Row(
        "ar",
        "ولد أحمد علي في القاهرة ويعيش في بيروت .",
        True,
        [(1, 3, "Per"), (4, 5, "Loc"), (7, 8, "Loc")],
        [(0, 2, "lives")],
        [("أين يعيش أحمد علي؟", "بيروت")],
    ),
]
TEXTS = [row.text for row in ROWS]
_CORPUS = [
    text for row in ROWS for text in (row.text, *(question for question, _ in row.questions))
]


@dataclass(frozen=True, eq=False)
class Encoder:
    """A family of encoders.

    name (str): The `model_type`, with an addition if that has several kinds of tokenizers.
    like (str): A published model of this kind.
    tokenizer (Callable[[], Tokenizer]): Makes a small tokenizer with the same components.
    names (dict[str, str]): The special tokens.
    tokenizer_class (str): The class named in the published tokenizer_config.json.
    config (Callable[[Tokenizer], PretrainedConfig]): Makes the configuration of a tiny network.
    pieces (str): The kind of tokenizer, in words.
    """

    name: str
    like: str
    tokenizer: Callable[[], Tokenizer]
    names: dict[str, str]
    tokenizer_class: str
    config: Callable[[Tokenizer], Any]
    pieces: str

    @property
    def slug(self) -> str:
        """The name in folder names and test ids."""
        return self.name.replace(", ", "-")

    def save(self, folder: Path) -> Path:
        """Save a random network and its tokenizer in the format of `from_pretrained`."""
        folder.mkdir(parents=True)
        tokenizer = self.tokenizer()
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"tokenizer_class": self.tokenizer_class, **self.names}
        if self.tokenizer_class in _CASED_BY_SETTING:
            settings["do_lower_case"] = False
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = transformers.AutoModel.from_config(self.config(tokenizer))
        network.save_pretrained(folder)
        return folder


# These lowercase text unless `do_lower_case` is false.
_CASED_BY_SETTING = ("BertTokenizer", "ElectraTokenizer", "DistilBertTokenizer", "MPNetTokenizer")

# Tokenizers


def _bert_names(**changed: str) -> dict[str, str]:
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return {f"{key}_token": value for key, value in {**names, **changed}.items()}


_ROBERTA = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_GEMMA = {
    "bos_token": "<bos>",
    "cls_token": "<bos>",
    "eos_token": "<eos>",
    "sep_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def _around(tokenizer: Tokenizer, single: str, pair: str) -> Tokenizer:
    """Set the template that puts special tokens around texts."""
    special = sorted({token.split(":")[0] for token in pair.split() if not token.startswith("$")})
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in special],
    )
    return tokenizer


_BERT_AROUND = ("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
_ROBERTA_AROUND = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")


def _add_special(tokenizer: Tokenizer, special: Sequence[str], mask: str) -> None:
    # As in the published tokenizers, the mask includes the space before it.
    tokenizer.add_special_tokens(
        [AddedToken(token, lstrip=token == mask, normalized=False) for token in special]
    )


def _wordpiece(special: Sequence[str], unk: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=unk))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    # The alphabet excludes some Chinese characters, as BERT's does.
    trainer = trainers.WordPieceTrainer(
        vocab_size=300,
        special_tokens=[*special, "[unused1]", "[unused2]", "[unused3]"],
        limit_alphabet=110,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    # Free entries are ordinary words in BERT's vocabulary, not special tokens.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] in special]
    return Tokenizer.from_str(json.dumps(content))


def _bert() -> Tokenizer:
    return _around(_wordpiece(list(_bert_names().values()), "[UNK]"), *_BERT_AROUND)


def _mpnet() -> Tokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"]
    return _around(_wordpiece(special, "[UNK]"), *_ROBERTA_AROUND)


def _byte_bpe(special: Sequence[str], unk: str | None, mask: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    _add_special(tokenizer, special, mask)
    return tokenizer


def _roberta() -> Tokenizer:
    tokenizer = _byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], None, "<mask>")
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return tokenizer


def _modernbert() -> Tokenizer:
    tokenizer = _byte_bpe(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"], "[UNK]", "[MASK]")
    tokenizer.normalizer = normalizers.NFC()
    return _around(tokenizer, *_BERT_AROUND)


def _unigram(special: Sequence[str], unk: str, mask: str, split: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    space = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space]) if split else space
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=250, special_tokens=list(special), unk_token=unk, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    _add_special(tokenizer, special, mask)
    return tokenizer


def _xlm_roberta() -> Tokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return _around(_unigram(special, "<unk>", "<mask>", split=True), *_ROBERTA_AROUND)


def _camembert() -> Tokenizer:
    # As in the published vocabulary, the special tokens do not come first.
    special = [
        "<s>NOTUSED",
        "<pad>",
        "</s>NOTUSED",
        "<unk>",
        "<unk>NOTUSED",
        "<s>",
        "</s>",
        "<mask>",
    ]
    return _around(_unigram(special, "<unk>", "<mask>", split=True), *_ROBERTA_AROUND)


def _deberta() -> Tokenizer:
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    # Without the split at white space, pieces include the space before them.
    return _around(_unigram(special, "[UNK]", "[MASK]", split=False), *_BERT_AROUND)


def _gemma() -> Tokenizer:
    """A SentencePiece BPE tokenizer that encodes unknown characters as bytes."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    learned = Tokenizer(models.BPE(unk_token="<unk>"))
    learned.normalizer = normalizers.Replace(" ", "▁")
    learned.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    # Other characters are encoded as bytes.
    learned.train_from_iterator([text for text in _CORPUS if max(text) < "ı"], trainer)
    content = json.loads(learned.to_str())
    learned_words = [word for word in content["model"]["vocab"] if word not in special]
    entries = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *learned_words]
    content["model"]["vocab"] = {word: i for i, word in enumerate(entries)}
    content["model"] |= {"byte_fallback": True, "fuse_unk": True}
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    _add_special(tokenizer, special, "<mask>")
    return _around(tokenizer, "<bos> $A <eos>", "<bos> $A <eos> $B <eos>")


# Networks

_COMMON: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 2 * HIDDEN,
    "initializer_range": 0.2,  # so that a piece's vector depends on its neighbours
}


def _config(kind: str, tokenizer: Tokenizer, names: dict[str, str], **settings: Any) -> Any:
    names = {"bos_token": names["cls_token"], "eos_token": names["sep_token"], **names}
    ids = {
        f"{key}_token_id": tokenizer.token_to_id(names[f"{key}_token"])
        for key in ("pad", "bos", "eos", "cls", "sep")
    }
    return transformers.AutoConfig.for_model(
        kind,
        **{
            **_COMMON,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": LENGTH,
            **ids,
            **settings,
        },
    )


def _plain(kind: str, **settings: Any) -> Callable[[Tokenizer], Any]:
    return lambda tokenizer: _config(kind, tokenizer, _bert_names(), **settings)


def _like_roberta(kind: str, **settings: Any) -> Callable[[Tokenizer], Any]:
    # Positions start at padding_idx + 1 = 2.
    return lambda tokenizer: _config(
        kind, tokenizer, _ROBERTA, max_position_embeddings=LENGTH + 2, **settings
    )


def _modern(names: dict[str, str], **settings: Any) -> Callable[[Tokenizer], Any]:
    # Every second layer attends to eight pieces on each side.
    return lambda tokenizer: _config(
        "modernbert",
        tokenizer,
        names,
        global_attn_every_n_layers=2,
        local_attention=16,
        **settings,
    )


ENCODERS = [
    Encoder(
        "bert",
        "google-bert/bert-base-cased",
        _bert,
        _bert_names(),
        "BertTokenizer",
        _plain("bert"),
        "WordPiece",
    ),
    Encoder(
        "roberta",
        "FacebookAI/roberta-base",
        _roberta,
        _ROBERTA,
        "RobertaTokenizer",
        _like_roberta("roberta", type_vocab_size=1),
        "byte-level BPE",
    ),
    Encoder(
        "xlm-roberta",
        "FacebookAI/xlm-roberta-base",
        _xlm_roberta,
        _ROBERTA,
        "XLMRobertaTokenizer",
        _like_roberta("xlm-roberta", type_vocab_size=1),
        "SentencePiece Unigram",
    ),
    Encoder(
        "deberta-v2",
        "microsoft/deberta-v3-base",
        _deberta,
        {**_bert_names(), "bos_token": "[CLS]", "eos_token": "[SEP]"},
        "DebertaV2Tokenizer",
        _plain(
            "deberta-v2",
            type_vocab_size=0,
            relative_attention=True,
            position_biased_input=False,
            pos_att_type=["p2c", "c2p"],
            share_att_key=True,
            norm_rel_ebd="layer_norm",
            position_buckets=8,
            max_relative_positions=-1,
        ),
        "SentencePiece Unigram",
    ),
    Encoder(
        "electra",
        "google/electra-base-discriminator",
        _bert,
        _bert_names(),
        "ElectraTokenizer",
        _plain("electra", embedding_size=HIDDEN // 2),
        "WordPiece",
    ),
    Encoder(
        "distilbert",
        "distilbert/distilbert-base-cased",
        _bert,
        _bert_names(),
        "DistilBertTokenizer",
        _plain("distilbert"),
        "WordPiece",
    ),
    Encoder(
        "mpnet",
        "microsoft/mpnet-base",
        _mpnet,
        {**_ROBERTA, "unk_token": "[UNK]"},
        "MPNetTokenizer",
        _like_roberta("mpnet"),
        "WordPiece",
    ),
    Encoder(
        "modernbert",
        "answerdotai/ModernBERT-base",
        _modernbert,
        _bert_names(),
        "PreTrainedTokenizerFast",
        _modern(_bert_names()),
        "byte-level BPE",
    ),
    Encoder(
        "camembert",
        "almanach/camembert-base",
        _camembert,
        _ROBERTA,
        "CamembertTokenizer",
        _like_roberta("camembert", type_vocab_size=1),
        "SentencePiece Unigram",
    ),
    Encoder(
        "modernbert, multilingual",
        "jhu-clsp/mmBERT-base",
        _gemma,
        _GEMMA,
        "PreTrainedTokenizerFast",
        # These differ from the defaults, so that a test would notice if they were lost.
        _modern(_GEMMA, global_rope_theta=160000.0, local_rope_theta=160000.0),
        "SentencePiece BPE with bytes",
    ),
]


# A pipeline of all components

LABELS = ["Loc", "Org", "Per"]
RELATIONS = ["based", "lives", "works"]
NEGATIVE = "no_relation"
MODES = ("ner", "text", "text_ner", "ner_text", "typed_markers")
COMPONENTS = ("span_relation", "relation_classifier", "extractive_qa")
# The same, and a relation_classifier whose labels are described in words.
VARIANTS = (*COMPONENTS, "described")
FACTORIES = {"described": "relation_classifier"}
_COMPUTES = {"dropout": 0.0, "precision": "float32", "device": "cpu"}
# With thresholds this low, every component predicts something to compare.
SETTINGS: dict[str, dict[str, Any]] = {
    "span_relation": {
        "model": {
            "size_embedding": 4,
            "dropout": 0.0,
            "encoder": {**_COMPUTES, "window_overlap": 8},
        },
        "set_ents": "off",
        "max_span_size": 3,
        "neg_entity_count": 2,
        "overlaps": "allow",
        "relation_threshold": 0.0,
        "type_constraints": "off",
    },
    "relation_classifier": {
        "model": {**_COMPUTES, "max_length": "auto", "head_dropout": 0.0},
        # Keys that do not clash with those of span_relation; a fixture removes the extensions.
        "relations_key": "classified",
        "extension_prefix": "classified_",
        "negative_label": NEGATIVE,
        "all_scores": True,
    },
    "described": {
        "model": {**_COMPUTES, "max_length": "auto", "head_dropout": 0.0, "labels": "described"},
        "relations_key": "classified",
        "extension_prefix": "classified_",
        "descriptions": [
            ["works", "{head:Mary} works for {tail:Google}"],
            ["works", "{tail:Google} ist where {head:John Smith} works"],
            ["lives", "{head:Mary} lives in {tail:London}"],
            ["based", "{head:Google} vive en {tail:Paris}"],
        ],
        "negative_label": NEGATIVE,
        "all_scores": True,
    },
    "extractive_qa": {
        "model": {**_COMPUTES, "max_length": LENGTH, "doc_stride": 16, "max_question_length": 36},
        "pretrained": False,
        "no_answer": False,
        "max_answer_length": 12,
        "top_k": 3,
    },
}


def make_pipeline(
    folder: Path, names: Sequence[str] = COMPONENTS, **settings: dict[str, Any]
) -> Language:
    """Make and initialize a pipeline of components, each with its own encoder.

    folder (Path): Checkpoint of the encoder.
    names (Sequence[str]): Names of the components.
    settings: For each component by name, the settings that differ from `SETTINGS`.
    RETURNS (Language): The pipeline.
    """
    nlp = spacy.blank("xx")
    for name in names:
        add_component(nlp, name, folder, **settings.get(name, {}))
    fix_random_seed(0)
    nlp.initialize(lambda: make_examples(nlp))
    return nlp


def add_component(
    nlp: Language, name: str, folder: Path, model: dict[str, Any] | None = None, **settings: Any
) -> Any:
    """Add a component to a pipeline.

    nlp (Language): The pipeline.
    name (str): Name of the component, one of `VARIANTS`.
    folder (Path): Checkpoint of its encoder.
    model (dict[str, Any] | None): Settings of the model that differ from `SETTINGS`.
    settings: Other settings that differ from `SETTINGS`.
    RETURNS (Any): The component, which is not initialized.
    """
    config = {**SETTINGS[name], "scorer": None, **settings}
    merged = {**config["model"], **(model or {})}
    if name == "span_relation":
        encoder = {**config["model"]["encoder"], **merged["encoder"], "name": str(folder)}
        merged["encoder"] = encoder
    else:
        merged["name"] = str(folder)
    factory = FACTORIES.get(name, name)
    return nlp.add_pipe(factory, name=name, config={**config, "model": merged})


def with_entities(nlp: Language, row: Row) -> Doc:
    """Make a Doc of a row with its tokens, entities and questions, but without answers."""
    doc = Doc(nlp.vocab, words=row.words, spaces=[row.spaced] * (len(row.words) - 1) + [False])
    doc.set_ents([Span(doc, start, end, label=label) for start, end, label in row.entities])
    doc._.questions = [(str(i), text) for i, (text, _) in enumerate(row.questions)]
    return doc


def gold_doc(nlp: Language, row: Row) -> Doc:
    """Make a Doc with all annotations of a row."""
    doc = with_entities(nlp, row)
    relations = [Relation(doc.ents[h], doc.ents[t], label) for h, t, label in row.relations]
    set_relations(doc, relations)
    related = {(r.head, r.tail) for r in relations}
    pairs = [(h, t) for h in doc.ents for t in doc.ents if h != t and (h, t) not in related]
    relations += [Relation(h, t, NEGATIVE) for h, t in pairs]
    set_relations(doc, relations, "classified")
    answers = []
    for number, (text, answer) in enumerate(row.questions):
        start = doc.text.index(answer) if answer else 0
        question = Question(str(number), text)
        answers.append(make_answer(doc, question, start, start + len(answer or "")))
    set_answers(doc, answers)
    return doc


def make_examples(nlp: Language) -> list[Example]:
    """Make Examples whose predicted Docs have entities, as if an NER component came first."""
    return [Example(with_entities(nlp, row), gold_doc(nlp, row)) for row in ROWS]


def train(nlp: Language, steps: int = 8, rate: float = 1e-2) -> dict[str, list[float]]:
    """Train on all rows in each step, and return the losses of each component."""
    optimizer = create_adamw(learn_rate=rate, weight_decay=0.0)
    losses: dict[str, list[float]] = {name: [] for name in nlp.pipe_names}
    for _ in range(steps):
        step: dict[str, float] = {}
        nlp.update(make_examples(nlp), sgd=optimizer, losses=step)
        for name, values in losses.items():
            values.append(float(step[name]))
    if "span_relation" in nlp.pipe_names:
        find_something(nlp)
    return losses


def find_something(nlp: Language) -> None:
    """Lower the bias of "no entity" in `span_relation` until it predicts an entity in every row.

    Training is so short that its result depends on the vocabulary and on rounding.
    """
    pipe = nlp.get_pipe("span_relation")
    docs = [with_entities(nlp, row) for row in ROWS]
    bias = get_shim(pipe.model).module.entity_classifier.bias
    for _ in range(100):
        if all(prediction.types for prediction in pipe.predict(docs)):
            return
        with torch.no_grad():
            bias[0] -= 0.25
    raise AssertionError("span_relation predicts no entities.")


def predictions(nlp: Language, batch_size: int = 8, n_process: int = 1) -> list[dict[str, Any]]:
    """Predict the rows, and all of them as one text, and return the annotations as plain data.

    nlp (Language): From `make_pipeline`.
    batch_size (int): Docs in a batch.
    n_process (int): Number of processes that predict.
    RETURNS (list[dict[str, Any]]): For each Doc, the "places" of the annotations (which must be
        equal) and their "numbers" (which may differ by rounding).
    """
    docs = [with_entities(nlp, row) for row in ROWS]
    # A text longer than a window.
    docs.append(Doc.from_docs([with_entities(nlp, row) for row in ROWS * 2]))
    docs[-1]._.questions = [text for row in ROWS for text, _ in row.questions]
    return [
        annotations_of(doc) for doc in nlp.pipe(docs, batch_size=batch_size, n_process=n_process)
    ]


def annotations_of(doc: Doc) -> dict[str, Any]:
    """Return the annotations of the components of `make_pipeline`: places and numbers."""
    places: list[Any] = []
    numbers: list[float] = []
    for relation in get_relations(doc):
        places.append([*_place(relation.head), *_place(relation.tail), relation.label])
        numbers.append(relation.score)
    entities = doc.spans.get("entities", [])
    places += [list(_place(span)) for span in entities]
    numbers += list(entities.attrs["scores"]) if len(entities) else []
    for pair in get_pair_scores(doc, "classified"):
        places.append([*_place(pair.head), *_place(pair.tail)])
        numbers += pair.scores.values()
    for answer in get_answers(doc):
        for one in (answer, *answer.alternatives):
            assert doc.text[one.start_char : one.end_char] == one.text
            places.append([one.start_char, one.end_char, one.text])
            numbers += [one.score] if one.logit is None else [one.score, one.logit]
    return {"places": places, "numbers": numbers}


def _place(span: Span) -> tuple[int, int, str]:
    return span.start, span.end, span.label_


def assert_same(
    predicted: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]], tolerance: float = 1e-5
) -> None:
    """Compare results of `predictions`: equal places, and numbers equal up to rounding."""
    assert len(predicted) == len(wanted)
    for one, other in zip(predicted, wanted, strict=True):
        assert one["places"] == other["places"]
        assert one["numbers"] == pytest.approx(other["numbers"], abs=tolerance, rel=tolerance)

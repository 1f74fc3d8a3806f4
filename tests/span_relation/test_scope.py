"""Limits on pairs of entities (`scope`, `max_distance`), and the reading of long Docs."""

from __future__ import annotations

import json
import warnings
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_spanrel import Relation, set_relations
from spacy_spanrel.span_relation.component import SpanRelation
from spacy_spanrel.training.joining import join_docs

from ..util import WORDS, initialize, tiny_checkpoint, train
from .util import (
    ROWS,
    TEXTS,
    annotations_of,
    expected,
    make_examples,
    make_nlp,
    model_config,
    scores_of,
    targets_of,
)

GOLD = [expected(row) for row in ROWS]
# Two sentences. Tests relate entities within each, across both, and at some distance.
WORDS_OF_TWO = [*TEXTS[0].split(), *TEXTS[1].split()]
SECOND = len(TEXTS[0].split())


def eager(
    checkpoint: Path, *, every_span: bool = True, **more: Any
) -> tuple[Language, SpanRelation]:
    """Make an untrained pipeline that predicts every span as an entity (many of them without
    `every_span`), and relates all of them."""
    encoder = {"max_length": 12, "window_overlap": 2}
    defaults = {"relation_threshold": 0.0, "type_constraints": "off", "max_pairs": 10**6}
    nlp, pipe = make_nlp(
        checkpoint, model=model_config(checkpoint, encoder), **{**defaults, **more}
    )
    initialize(nlp, make_examples(nlp))
    head = pipe.model.shims[0].module
    with torch.no_grad():
        head.entity_classifier.weight *= 30
        head.rel_classifier.weight *= 30
        head.entity_classifier.bias[0] -= 1000 if every_span else 0
    return nlp, pipe


@pytest.fixture(scope="module")
def eager_pipes(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Language, SpanRelation]]:
    folder = tmp_path_factory.mktemp("eager")
    return {
        kind: eager(
            tiny_checkpoint(folder / kind, kind),
            every_span=False,
            scope="sentence",
            overlaps="allow",
        )
        for kind in ("bert", "roberta")
    }


def split_doc(nlp: Language, sentences: list[list[str]], tight: bool = False) -> Doc:
    """Make a Doc with sentence borders; with `tight`, there is no space between sentences."""
    words = [word for sentence in sentences for word in sentence]
    starts = [i == 0 for sentence in sentences for i in range(len(sentence))]
    spaces = [
        not (tight and i == len(sentence) - 1)
        for sentence in sentences
        for i in range(len(sentence))
    ]
    return Doc(nlp.vocab, words=words, spaces=spaces, sent_starts=starts)


def pairs_of(doc: Doc) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    return {((r.head.start, r.head.end), (r.tail.start, r.tail.end)) for r in doc._.relations}


# Sentences


@settings(max_examples=20)
@given(
    kind=st.sampled_from(["bert", "roberta"]),
    sentences=st.lists(
        st.lists(st.sampled_from([*WORDS, ".", "\n", "é", "isn't"]), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    ),
    tight=st.booleans(),
    overlaps=st.sampled_from(["allow", "best"]),
)
def test_sentences_are_read_like_docs_of_their_own(
    eager_pipes: dict[str, tuple[Language, SpanRelation]],
    kind: str,
    sentences: list[list[str]],
    tight: bool,
    overlaps: str,
) -> None:
    nlp, pipe = eager_pipes[kind]
    pipe.cfg["overlaps"] = overlaps
    whole, other = split_doc(nlp, sentences, tight), split_doc(nlp, [["Mary"], TEXTS[1].split()])
    docs = list(pipe.pipe([other, whole]))
    assert docs[1] is whole
    entities: list[tuple[int, int, str]] = []
    relations: list[tuple[Any, ...]] = []
    entity_scores: list[float] = []
    relation_scores: list[float] = []
    windows, first = 0, 0
    for words in sentences:
        doc = split_doc(nlp, [words], tight=True)
        pipe(doc)
        entities += [(s.start + first, s.end + first, s.label_) for s in doc.spans["entities"]]
        entity_scores += doc.spans["entities"].attrs["scores"]
        relations += [
            (
                r.head.start + first,
                r.head.end + first,
                r.tail.start + first,
                r.tail.end + first,
                r.label,
            )
            for r in doc._.relations
        ]
        relation_scores += [r.score for r in doc._.relations]
        windows += doc._.spanrel_report["span_relation"]["windows"]
        first += len(words)
    assert [(s.start, s.end, s.label_) for s in whole.spans["entities"]] == entities
    assert whole.spans["entities"].attrs["scores"] == pytest.approx(entity_scores, abs=1e-5)
    assert [
        (r.head.start, r.head.end, r.tail.start, r.tail.end, r.label) for r in whole._.relations
    ] == relations
    assert [r.score for r in whole._.relations] == pytest.approx(relation_scores, abs=1e-5)
    assert whole._.spanrel_report["span_relation"]["windows"] == windows


def test_learns_and_finds_within_sentences(checkpoint: Path) -> None:
    nlp, _ = make_nlp(checkpoint, scope="sentence")
    gold = split_doc(nlp, [text.split() for text in TEXTS])
    starts = [sentence.start for sentence in gold.sents]
    spans, relations = [], []
    for start, (_, entities, links) in zip(starts, ROWS, strict=True):
        entity_spans = [Span(gold, start + a, start + b, label=label) for a, b, label in entities]
        relations += [Relation(entity_spans[h], entity_spans[t], label) for h, t, label in links]
        spans += entity_spans
    gold.set_ents(spans)
    set_relations(gold, relations)
    bare = split_doc(nlp, [text.split() for text in TEXTS])
    example = Example(bare, gold)
    initialize(nlp, [example])
    train(nlp, [example], 60)
    doc = nlp.get_pipe("span_relation")(split_doc(nlp, [text.split() for text in TEXTS]))
    assert annotations_of(doc) == annotations_of(gold, None)
    # Each sentence was learned as if it were a separate text.
    alone = nlp.get_pipe("span_relation")(
        Doc(nlp.vocab, words=TEXTS[0].split()[:-1] + ["."], sent_starts=[True] + [False] * 7)
    )
    assert annotations_of(alone) == GOLD[0]


def test_sentence_borders_are_needed(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, scope="sentence", name="joint")
    examples = make_examples(nlp)
    initialize(nlp, examples)
    with pytest.raises(
        ValueError, match=r"E_SR310.*'joint'.*John Smith.*sentencizer.*before=.joint"
    ):
        nlp(TEXTS[0])
    with pytest.raises(ValueError, match="E_SR310"):
        pipe.update(examples)
    # Texts of at most one token need no sentence borders.
    assert [annotations_of(doc)[1] for doc in nlp.pipe(["", "Mary"])] == [[], []]
    nlp.add_pipe("sentencizer", before="joint")
    doc = nlp(" ".join(TEXTS))
    assert doc._.spanrel_report["joint"]["windows"] == len(list(doc.sents)) == len(TEXTS)
    assert nlp.update(examples, annotates=["sentencizer"])["joint"] > 0


# Context


def example_of(nlp: Language, before: str, town: str) -> Example:
    """A Doc of two sentences; the second one is always the same, but not the label of its town."""
    text = [[before, "works", "."], ["he", "lives", "in", "Paris", "."]]
    gold = split_doc(nlp, text)
    spans = [Span(gold, 3, 4, label="Per"), Span(gold, 6, 7, label=town)]
    gold.set_ents(spans)
    set_relations(gold, [Relation(*spans, "lives" if town == "Loc" else "works")])
    return Example(split_doc(nlp, text), gold)


@pytest.mark.parametrize("encoder", [{}, {"frozen_layers": 1}, {"casing": True}])
def test_learns_from_the_sentence_before(checkpoint: Path, encoder: dict[str, Any]) -> None:
    nlp, pipe = make_nlp(
        checkpoint, model=model_config(checkpoint, encoder), scope="sentence", context=5
    )
    examples = [example_of(nlp, "John", "Loc"), example_of(nlp, "Mary", "Org")]
    initialize(nlp, examples)
    train(nlp, examples, 100)
    docs = list(pipe.pipe(example.predicted.copy() for example in examples))
    for doc, example in zip(docs, examples, strict=True):
        assert annotations_of(doc) == annotations_of(example.reference, None)
    # Entities and relations stay within sentences, and one row is enough for so short a Doc.
    assert [doc._.spanrel_report["span_relation"]["windows"] for doc in docs] == [1, 1]
    # Without context the two are the same.
    pipe.cfg["context"] = 0
    first, second = pipe.pipe(example.predicted.copy() for example in examples)
    assert scores_of(first) == pytest.approx(scores_of(second), abs=1e-5)


@settings(max_examples=15)
@given(
    docs=st.lists(
        st.lists(
            st.lists(st.sampled_from([*WORDS, "\n", "isn't"]), min_size=1, max_size=8),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=3,
    ),
    context=st.sampled_from([0, 1, 4, 10**6]),
    tight=st.booleans(),
)
def test_predictions_with_context_do_not_depend_on_other_docs(
    eager_pipes: dict[str, tuple[Language, SpanRelation]],
    docs: list[list[list[str]]],
    context: int,
    tight: bool,
) -> None:
    nlp, pipe = eager_pipes["roberta"]
    pipe.cfg["context"] = context
    together = list(pipe.pipe(split_doc(nlp, doc, tight) for doc in docs))
    alone = [pipe(split_doc(nlp, doc, tight)) for doc in docs]
    pipe.cfg["context"] = 0
    for one, other in zip(together, alone, strict=True):
        assert annotations_of(one) == annotations_of(other)
        assert one.spans["entities"].attrs["scores"] == pytest.approx(
            other.spans["entities"].attrs["scores"], abs=1e-5
        )
        sentence = [i for i, sent in enumerate(one.sents) for _ in sent]
        for span in one.spans["entities"]:
            assert sentence[span.start] == sentence[span.end - 1]
        for relation in one._.relations:
            assert sentence[relation.head.start] == sentence[relation.tail.start]


@pytest.mark.parametrize("scope", ["doc", "window"])
def test_context_needs_sentences(checkpoint: Path, tmp_path: Path, scope: str) -> None:
    error = rf"E_SR311.*'context' of component 'joint' is 5.*'{scope}'.*context = 0"
    with pytest.raises(ValueError, match=error):
        make_nlp(checkpoint, scope=scope, context=5, name="joint")
    nlp, pipe = make_nlp(checkpoint, scope="sentence", context=5, name="joint")
    initialize(nlp, make_examples(nlp))
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path).get_pipe("joint").cfg["context"] == 5
    with pytest.raises(ValueError, match=error):
        spacy.load(tmp_path, config={"components.joint.scope": scope})
    # Settings that are changed later are checked when they are used.
    pipe.cfg["scope"] = scope
    with pytest.raises(ValueError, match=error):
        nlp("John works in Paris")


@pytest.mark.spacy_transformers
def test_context_needs_an_encoder_that_reads_sentences(checkpoint: Path) -> None:
    nlp = spacy.blank("xx")
    encoder = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
    config = {"model": {"encoder": encoder}, "scope": "sentence", "context": 5}
    with pytest.raises(ValueError, match=r"E_SR312.*is 5.*listener_encoder.*context = 0"):
        nlp.add_pipe("span_relation", config=config)


# Windows and distance


def test_windows_bound_pairs(checkpoint: Path) -> None:
    """Windows of 10 words, of which neighbours share 2 or more: 0-10, 8-18, 14-24."""
    nlp, pipe = eager(checkpoint, max_span_size=2, overlaps="allow", scope="window")
    text = " ".join(["Mary", "Paris", "John"] * 8)
    doc = nlp(text)
    every = [(a, b) for a in range(24) for b in (a + 1, a + 2) if b <= 24]
    # Each span is found once, even if two windows hold it. So are spans across the middle of what two
    # windows share (9, 16), whose words are taken from different windows.
    assert [(s.start, s.end) for s in doc.spans["entities"]] == every
    held = {
        pair
        for pair in permutations(every, 2)
        for first, last in ((0, 10), (8, 18), (14, 24))
        if all(first <= a and b <= last for a, b in pair)
    }
    assert pairs_of(doc) == held
    report = doc._.spanrel_report["span_relation"]
    n_all = len(every) * (len(every) - 1)
    assert report["windows"] == 3
    assert report["pairs"] == len(held)
    assert report["pairs_left_out"] == {
        "scope": n_all - len(held),
        "max_distance": 0,
        "max_pairs": 0,
    }
    # Pairs have the same scores as without the limit.
    score = {
        (*map(str, (r.head, r.tail)), r.head.start, r.tail.start, r.label): r.score
        for r in doc._.relations
    }
    pipe.cfg["scope"] = "doc"
    free = {
        (*map(str, (r.head, r.tail)), r.head.start, r.tail.start, r.label): r.score
        for r in nlp(text)._.relations
    }
    assert len(free) > len(score)
    for key, value in score.items():
        assert value == pytest.approx(free[key], abs=1e-5)


@pytest.mark.parametrize("scope", ["doc", "sentence", "window"])
def test_max_distance(checkpoint: Path, scope: str) -> None:
    nlp, pipe = eager(checkpoint, max_span_size=1, scope=scope, max_distance=3)
    doc = split_doc(nlp, [["Mary"] * 9, ["John"] * 9])
    pipe(doc)
    near = {(a, b) for a, b in permutations(range(18), 2) if abs(a - b) <= 4}
    held = {(a, b) for a, b in near if (a < 9) == (b < 9)} if scope == "sentence" else near
    if scope == "window":
        held = {(a, b) for a, b in near if max(a, b) < 10 or min(a, b) >= 8}
    assert {(h[0], t[0]) for h, t in pairs_of(doc)} == held
    pipe.cfg["max_pairs"] = 6
    pipe(doc)
    left_out = doc._.spanrel_report["span_relation"]["pairs_left_out"]
    assert left_out["max_pairs"] == len(held) - 6
    assert doc.spans["relations"].attrs["pairs_left_out"] == len(held) - 6
    assert sum(left_out.values()) == 18 * 17 - 6
    assert len(pairs_of(doc)) == 6


@pytest.mark.parametrize("scope", ["doc", "sentence", "window"])
def test_entities_of_the_doc_are_related_within_bounds(checkpoint: Path, scope: str) -> None:
    nlp, pipe = eager(checkpoint, entities="doc", entities_key="given", scope=scope)
    doc = split_doc(nlp, [["Mary"] * 9, ["John"] * 9])
    # An entity that crosses the sentence border stays, but is related to none with "sentence".
    places = [(0, 1), (4, 5), (8, 10), (12, 13)]
    doc.spans["given"] = [Span(doc, a, b, label="Per") for a, b in places]
    pipe(doc)
    assert [(s.start, s.end) for s in doc.spans["given"]] == places
    both = {
        "doc": set(permutations(places, 2)),
        "sentence": set(permutations(places[:2], 2)),
        "window": {*permutations(places[:3], 2), *permutations(places[2:], 2)},
    }[scope]
    assert pairs_of(doc) == both
    assert doc._.spanrel_report["span_relation"]["pairs"] == len(both)


# Training within bounds


def two_sentences(nlp: Language, relations: list[tuple[int, int, str]]) -> Example:
    gold = split_doc(nlp, [WORDS_OF_TWO[:SECOND], WORDS_OF_TWO[SECOND:]])
    # John Smith, Google, Paris | Mary, London
    places = [(0, 2, "Per"), (4, 5, "Org"), (6, 7, "Loc"), (8, 9, "Per"), (11, 12, "Loc")]
    spans = [Span(gold, a, b, label=label) for a, b, label in places]
    gold.set_ents(spans)
    set_relations(gold, [Relation(spans[h], spans[t], label) for h, t, label in relations])
    return Example(split_doc(nlp, [WORDS_OF_TWO[:SECOND], WORDS_OF_TWO[SECOND:]]), gold)


RELATIONS = [(0, 1, "works"), (3, 4, "lives"), (0, 4, "lives"), (3, 1, "works")]


@pytest.mark.parametrize(
    ("bounds", "outside", "far", "n_pairs"),
    [
        ({"scope": "doc"}, 0, 0, 20),
        ({"scope": "sentence"}, 2, 0, 8),
        # Windows hold tokens 0 to 9 and 3 to 12: only the first and the last entity share none.
        ({"scope": "window"}, 1, 0, 18),
        ({"max_distance": 2}, 0, 2, 8),
        ({"scope": "sentence", "max_distance": 1}, 2, 2, 2),
    ],
)
def test_gold_relations_out_of_reach(
    checkpoint: Path, bounds: dict[str, Any], outside: int, far: int, n_pairs: int
) -> None:
    encoder = {"max_length": 12, "window_overlap": 2}
    nlp, pipe = make_nlp(checkpoint, model=model_config(checkpoint, encoder), **bounds)
    example = two_sentences(nlp, RELATIONS)
    n = outside + far
    known_before_training = bounds.get("scope") != "window"
    with warnings_of(n and known_before_training) as caught:
        initialize(nlp, [example])
    if n and known_before_training:
        text = str(caught[0].message)
        assert text.startswith(f"[W_SR150] {n} of 4 gold relations")
        assert f"{outside} do not lie in one" in text
        assert f"{far} have more than" in text
        assert "(John Smith, London)" in text
    # Windows are known only once Docs are read. Each warning is given once.
    for again in (False, True):
        with warnings_of(n and not known_before_training and not again):
            losses = nlp.update([example])
        assert losses["span_relation"] > 0
    counts = {"relations_out_of_scope": 2 * outside, "relations_beyond_max_distance": 2 * far}
    assert dict(+pipe.skipped) == {key: value for key, value in counts.items() if value}
    if known_before_training:
        targets = targets_of(pipe, [example])
        assert targets.pair_targets.sum() == len(RELATIONS) - n
        assert len(targets.pairs) == n_pairs
    # In scores, such relations count as missed.
    doc = example.predicted.copy()
    kept = [Span(doc, e.start, e.end, label=e.label) for e in example.reference.ents]
    doc.spans["entities"] = kept
    set_relations(doc, [])
    assert pipe.score([Example(doc, example.reference)])["rel_r"] == 0.0


class warnings_of:
    """Expect one warning from W_SR150 to W_SR159, or none."""

    def __init__(self, expected: Any):
        self.expected = bool(expected)

    def __enter__(self) -> Any:
        import warnings

        self._catch = warnings.catch_warnings(record=True)
        self.caught = self._catch.__enter__()
        warnings.simplefilter("always")
        return self.caught

    def __exit__(self, *error: Any) -> None:
        self._catch.__exit__(*error)
        self.caught[:] = [w for w in self.caught if "W_SR15" in str(w.message)]
        if error[0] is None:
            assert len(self.caught) == self.expected


def test_gold_entities_across_sentences(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, scope="sentence", neg_entity_count=10**6, max_span_size=3)
    example = two_sentences(nlp, [])
    gold = example.reference
    gold.spans["entities"] = [*gold.ents, Span(gold, 7, 9, label="Odd")]
    with pytest.warns(UserWarning, match=r"W_SR151\] 1 gold entities.*'\. Mary' \(Odd\)"):
        initialize(nlp, [example])
    targets = targets_of(pipe, [example])
    assert pipe.skipped["entities_across_sentences"] == 1
    # No candidate crosses the border, gold or not; all other spans are candidates.
    spans = {tuple(row) for row in targets.spans.tolist()}
    everything = {(a, b) for a in range(13) for b in range(a + 1, min(13, a + 3) + 1)}
    assert spans == {(a, b) for a, b in everything if (a < SECOND) == (b <= SECOND)}


@pytest.mark.parametrize(("scope", "n_texts"), [("doc", 1), ("sentence", 2)])
def test_each_sentence_has_its_negatives(checkpoint: Path, scope: str, n_texts: int) -> None:
    nlp, pipe = make_nlp(checkpoint, scope=scope, neg_entity_count=7, neg_relation_count=1)
    example = two_sentences(nlp, [])
    initialize(nlp, [example])
    targets = targets_of(pipe, [example])
    assert (targets.span_labels == 0).sum() == 7 * n_texts
    assert len(targets.pairs) == n_texts


# Pipelines of earlier versions


def test_pipelines_without_these_settings_load(trained: Language, tmp_path: Path) -> None:
    path = tmp_path / "pipeline"
    trained.to_disk(path)
    config = path / "config.cfg"
    lines = config.read_text().splitlines()
    settings = ("scope =", "context =", "max_distance =")
    old = [line for line in lines if not line.startswith(settings)]
    assert len(old) == len(lines) - 3
    config.write_text("\n".join(old))
    file = path / "span_relation" / "cfg"
    cfg = json.loads(file.read_text())
    for table in (cfg, cfg["configured"]):
        del table["scope"], table["context"], table["max_distance"]
    file.write_text(json.dumps(cfg))
    nlp = spacy.load(path)
    assert nlp.get_pipe("span_relation").cfg["scope"] == "doc"
    assert nlp.get_pipe("span_relation").cfg["context"] == 0
    assert nlp.get_pipe("span_relation").cfg["max_distance"] is None
    for doc, other in zip(nlp.pipe(TEXTS), trained.pipe(TEXTS), strict=True):
        assert annotations_of(doc) == annotations_of(other)
        assert scores_of(doc) == scores_of(other)


# A shared transformer


@pytest.mark.spacy_transformers
def test_shared_transformer_is_bounded_by_sentences(checkpoint: Path) -> None:
    """The transformer reads its own spans, but entities and pairs stay within sentences."""
    nlp = spacy.blank("xx")
    nlp.add_pipe(
        "transformer", config={"model": {"name": str(checkpoint), "mixed_precision": False}}
    )
    encoder = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
    model = {"size_embedding": 4, "dropout": 0.0, "encoder": encoder}
    pipe = nlp.add_pipe(
        "span_relation",
        config={
            "model": model,
            "scope": "sentence",
            "overlaps": "allow",
            "relation_threshold": 0.0,
            "type_constraints": "off",
            "max_span_size": 3,
        },
    )
    initialize(nlp, [two_sentences(nlp, RELATIONS[:2])])
    with torch.no_grad():
        pipe.model.shims[0].module.entity_classifier.bias[0] -= 1000
    doc = split_doc(nlp, [WORDS_OF_TWO[:SECOND], WORDS_OF_TWO[SECOND:]])
    for _, component in nlp.pipeline:
        doc = component(doc)
    places = {(s.start, s.end) for s in doc.spans["entities"]}
    borders = [0, SECOND, len(doc)]
    assert places == {
        (a, b)
        for first, last in pairwise(borders)
        for a in range(first, last)
        for b in range(a + 1, min(last, a + 3) + 1)
    }
    assert pairs_of(doc) == {
        (a, b) for a, b in permutations(places, 2) if (a[0] < SECOND) == (b[0] < SECOND)
    }
    assert nlp.update([two_sentences(nlp, RELATIONS[:2])])["span_relation"] > 0


@pytest.mark.spacy_transformers
def test_windows_of_a_shared_transformer_bound_pairs(checkpoint: Path) -> None:
    """The windows are the transformer's spans: here of 6 tokens, of which neighbours share 2."""
    nlp = spacy.blank("xx")
    spans = {"@span_getters": "spacy-transformers.strided_spans.v1", "window": 6, "stride": 4}
    model = {"name": str(checkpoint), "mixed_precision": False, "get_spans": spans}
    nlp.add_pipe("transformer", config={"model": model})
    encoder = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
    config = {
        "model": {"size_embedding": 4, "dropout": 0.0, "encoder": encoder},
        "scope": "window",
        "relation_threshold": 0.0,
        "type_constraints": "off",
        "max_span_size": 1,
    }
    pipe = nlp.add_pipe("span_relation", config=config)
    initialize(nlp, [two_sentences(nlp, RELATIONS[:2])])
    with torch.no_grad():
        pipe.model.shims[0].module.entity_classifier.bias[0] -= 1000
    doc = nlp(" ".join(["Mary"] * 14))
    windows = [(0, 6), (4, 10), (8, 14)]
    assert {(h[0], t[0]) for h, t in pairs_of(doc)} == {
        pair
        for pair in permutations(range(14), 2)
        for first, last in windows
        if first <= min(pair) and max(pair) < last
    }
    with pytest.warns(UserWarning, match=r"W_SR150\] 1 of 1 gold relations.*one window"):
        nlp.update([two_sentences(nlp, [(0, 4, "lives")])])


PARAGRAPH = "Mary lives in London . John Smith works for Google in Paris . he was born in Berlin ."


def paragraph_warnings(nlp: Language, *texts: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(nlp.pipe(texts))
    return [str(warning.message) for warning in caught if "W_SR153" in str(warning.message)]


def test_paragraphs_after_training_on_sentences(trained_path):
    nlp = spacy.load(trained_path)
    pipe = nlp.get_pipe("span_relation")
    assert pipe.cfg["sentences_seen"] == [80 * len(ROWS)] * 2
    # Sentences, a pair of them, and a paragraph with a limit on its pairs.
    assert not paragraph_warnings(nlp, *TEXTS, f"{TEXTS[0]} {TEXTS[1]}", "")
    pipe.cfg["max_distance"] = 10
    assert not paragraph_warnings(nlp, PARAGRAPH)
    pipe.cfg["max_distance"] = None
    # One warning, however many paragraphs there are.
    (message,) = paragraph_warnings(nlp, TEXTS[0], PARAGRAPH, PARAGRAPH)
    assert "a text of 3 sentences" in message
    assert "'Mary lives in London ." in message
    assert not paragraph_warnings(nlp, PARAGRAPH)
    nlp = spacy.load(trained_path, config={"components.span_relation.scope": "sentence"})
    nlp.add_pipe("sentencizer", first=True)
    assert not paragraph_warnings(nlp, PARAGRAPH)
    # "doc" in spite of the borders.
    nlp.get_pipe("span_relation").cfg["scope"] = "doc"
    assert len(paragraph_warnings(nlp, PARAGRAPH)) == 1


def test_paragraphs_after_training_on_paragraphs(checkpoint):
    nlp, pipe = make_nlp(checkpoint)
    joined = join_docs([example.reference for example in make_examples(nlp)])
    # With the gold borders, which the component may keep to or not.
    examples = [Example(joined.copy(), joined)]
    initialize(nlp, examples)
    assert not paragraph_warnings(nlp, PARAGRAPH)  # not trained, so nothing is known
    train(nlp, examples, 2)
    assert pipe.cfg["sentences_seen"] == [2, 2 * len(ROWS)]
    assert not paragraph_warnings(nlp, PARAGRAPH)
    # Read sentence by sentence, the paragraphs of training are single sentences.
    pipe.cfg |= {"scope": "sentence", "sentences_seen": [0, 0]}
    train(nlp, examples, 1)
    pipe.cfg["scope"] = "doc"
    assert pipe.cfg["sentences_seen"] == [len(ROWS)] * 2
    assert len(paragraph_warnings(nlp, PARAGRAPH)) == 1

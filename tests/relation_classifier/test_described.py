"""Labels that are described in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import load_model_from_config

from spacy_spanrel import Relation
from spacy_spanrel.encoding.shim import get_shim
from spacy_spanrel.relation_classifier.described import (
    MarkedText,
    draw_texts,
    label_texts,
    parse_description,
    read_example,
)

from ..encoders.util import (
    ENCODERS,
    NEGATIVE,
    ROWS,
    SETTINGS,
    make_examples,
    make_pipeline,
    train,
    with_entities,
)

WORDS = st.text("ab {", min_size=0, max_size=8).map(lambda text: text.replace("{", " "))
TYPES = st.sampled_from(["", ":x", ":a b", ": y "])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Language:
    """Not to be changed."""
    bert = next(encoder for encoder in ENCODERS if encoder.name == "bert")
    folder = bert.save(tmp_path_factory.mktemp("described") / "bert")
    nlp = make_pipeline(
        folder, ["described"], described={"symmetric": ["based"], "type_constraints": "off"}
    )
    train(nlp)
    return nlp


@pytest.fixture
def nlp(trained: Language) -> Language:
    return load_model_from_config(trained.config).from_bytes(trained.to_bytes())


def scores(nlp: Language) -> dict[str, np.ndarray]:
    """Return the probabilities of each label for all pairs of all rows."""
    pipe: Any = nlp.get_pipe("described")
    predictions = pipe.predict([with_entities(nlp, row) for row in ROWS])
    table = np.concatenate([prediction.scores for prediction in predictions])
    return dict(zip(pipe.labels, table.T, strict=True))


def logits(nlp: Language) -> dict[str, np.ndarray]:
    """Return how well all pairs fit each label, as the ratio to "works"."""
    table = {label: np.log(column) for label, column in scores(nlp).items()}
    return {label: column - table["works"] for label, column in table.items()}


# Texts


@given(WORDS, TYPES, WORDS, TYPES, WORDS, st.booleans())
def test_parse_description(
    before: str, first: str, between: str, second: str, after: str, swapped: bool
) -> None:
    names = ("tail", "head") if swapped else ("head", "tail")
    marked = parse_description(
        f"{before}{{{names[0]}{first}}}{between}{{{names[1]}{second}}}{after}"
    )
    words = [types.removeprefix(":").strip() or "something" for types in (first, second)]
    assert marked.text == before + words[0] + between + words[1] + after
    ranges = [getattr(marked, name) for name in names]
    assert [marked.text[slice(*place)] for place in ranges] == words
    assert ranges[0][1] <= ranges[1][0]


@pytest.mark.parametrize(
    "text", ["", "{head} alone", "{head} {tail} {tail}", "{Head} and {tail}", "{head:{x}} {tail}"]
)
def test_what_describes_no_relation(text: str) -> None:
    with pytest.raises(ValueError, match="E_SR712"):
        parse_description(text)


@pytest.mark.parametrize(
    ("context", "starts", "text"),
    [
        ("doc", [0, 3], "Ann slept . She met Bo in Oslo ."),
        ("sentence", [0, 3], "She met Bo in Oslo ."),
        ("sentence", [], "Ann slept . She met Bo in Oslo ."),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_read_example(context: str, starts: list[int], text: str, swapped: bool) -> None:
    doc = Doc(
        spacy.blank("xx").vocab, words=["Ann", "slept", ".", "She", "met", "Bo", "in", "Oslo", "."]
    )
    for i in range(len(doc)) if starts else ():
        doc[i].is_sent_start = i in starts
    pair = (Span(doc, 3, 4), Span(doc, 7, 8))
    names = ["She", "Oslo"]
    if swapped:
        pair, names = pair[::-1], names[::-1]
    for example in (pair, Relation(*pair, "met")):
        marked = read_example(example, context)
        assert marked.text.strip() == text
        assert [marked.text[slice(*place)] for place in marked[1:]] == names


def test_inverses_that_are_labels_are_none() -> None:
    descriptions = {
        "employs": "{head} employs {tail}",
        "works": "{tail} employs {head}",
        "met": "{head} met {tail}",
        "owns": ["{head} owns {tail}", "{head} has {tail}"],
    }
    labels = ["no", *descriptions]
    texts = label_texts(labels, 0, descriptions, [], ["met"])
    assert list(map(len, texts.texts)) == [0, 1, 1, 1, 2]
    # Those of "employs" and "works" are each other's, and "met" has none.
    assert texts.inverses == (tuple(text.inverse for text in texts.texts[4]),)
    assert label_texts(labels[1:], None, descriptions, [], []).inverses == ()


@given(st.integers(0, 10**6), st.booleans(), st.integers(0, 4))
def test_draw_texts(seed: int, is_reversed: bool, max_labels: int) -> None:
    descriptions = {
        str(i): [f"{{head}} is {i} of {{tail}}", f"{{tail}} {i} {{head}}"] for i in range(9)
    }
    texts = label_texts(["no", *descriptions], 0, descriptions, [], ["3"])
    present, seen = np.asarray([0, 2, 3, 3]), {0, 2, 3, 4, 5, 6}
    drawn = draw_texts(texts, present, seen, max_labels, is_reversed, np.random.default_rng(seed))
    labels = {label for label, some in enumerate(drawn.texts) if some}
    assert {2, 3} <= labels <= seen - {0}
    assert len(labels) <= 2 + max_labels
    for label in labels:
        (text,) = drawn.texts[label]
        assert (text.inverse if is_reversed else text) in texts.texts[label]
        assert ((text.inverse,) in drawn.inverses) == (label != 4)  # "3"
    assert len(drawn.inverses) == len(labels - {4})


# The component


def test_labels_after_training(nlp: Language) -> None:
    pipe: Any = nlp.get_pipe("described")
    before = logits(nlp)
    assert pipe.add_label("owns", description="{head:Mary} owns {tail:Google}") == 1
    after = logits(nlp)
    assert list(after) == [*before, "owns"]
    for label in ("works", "lives", "based"):
        np.testing.assert_allclose(after[label], before[label], atol=1e-4)
    assert pipe.add_label("owns", description="{head:Mary} has {tail:Google}") == 0
    assert not np.allclose(logits(nlp)["owns"], after["owns"], atol=1e-4)
    copy = load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert copy.get_pipe("described").labels == pipe.labels
    for label, column in logits(copy).items():
        np.testing.assert_allclose(column, logits(nlp)[label], atol=1e-4)
    pipe.remove_label("owns")
    for label, column in logits(nlp).items():
        np.testing.assert_allclose(column, before[label], atol=1e-4)
    # A new label is learned like the others.
    pipe.add_label("owns", description="{head:Mary} owns {tail:Google}")
    assert nlp.update(make_examples(nlp))["described"] > 0


def test_examples_draw_a_label_towards_them(nlp: Language) -> None:
    pipe: Any = nlp.get_pipe("described")
    pipe.add_label("met", description="{head} met {tail}")
    doc = with_entities(nlp, ROWS[0])
    before = logits(nlp)["met"]
    pair = (doc.ents[0], doc.ents[1])
    # The mean of a vector and another one is nearer to the vector than the other one was.
    assert pipe.add_label("met", examples=[pair, Relation(*pair, "")]) == 0
    after = logits(nlp)["met"]
    assert after[0] > before[0]  # the first pair of the first row
    pipe.add_label("met", examples=["{head:Mary} {tail:Bo}"])
    assert pipe.cfg["label_examples"][0] == ["met", doc.text, [0, 10], [21, 27]]


def test_symmetric_labels_and_labels_that_go(nlp: Language) -> None:
    pipe: Any = nlp.get_pipe("described")
    pipe.cfg["rules"] = [["max_tails", "based", 1], ["max_tails", "lives", 1]]
    pipe.remove_label("based")
    assert pipe.cfg["symmetric"] == []
    assert pipe.cfg["rules"] == [["max_tails", "lives", 1]]
    assert set(scores(nlp)) == {NEGATIVE, "lives", "works"}
    with pytest.raises(ValueError, match="E_SR716.*no_such"):
        pipe.remove_label("no_such")


@pytest.mark.parametrize(
    "setting", ["off", "learned", [["lives", "Per", "Loc"]], {"lives": [["Per", "Loc"]]}]
)
def test_types_of_a_label(nlp: Language, setting: Any) -> None:
    pipe: Any = nlp.get_pipe("described")
    pipe.cfg["type_constraints"] = setting
    pipe.add_label("owns", description="{head} owns {tail}", types=[("Per", "Org")])
    constraint = pipe._constraint()
    at = pipe.labels.index("owns")
    assert constraint("Per", "Org")[at]
    assert not constraint("Per", "Loc")[at]
    assert constraint("Per", "Loc")[pipe.labels.index("lives")]
    nlp.to_bytes()
    pipe.remove_label("owns")
    pipe.check_loaded()


def test_a_label_needs_a_text(nlp: Language) -> None:
    pipe: Any = nlp.get_pipe("described")
    with pytest.raises(ValueError, match=r"E_SR711.*'met'"):
        pipe.add_label("met")
    with pytest.raises(ValueError, match="E_SR712"):
        pipe.add_label("met", description="{head} met somebody")
    pipe.add_label("met", examples=["{head:Ann} met {tail:Bo}"])
    long = " ".join(["word"] * 100)
    pipe.cfg["descriptions"] = [*pipe.cfg["descriptions"], ["met", f"{{head:{long}}} met {{tail}}"]]
    with pytest.raises(ValueError, match="E_SR713"):
        scores(nlp)


def test_wrong_labels_change_nothing(nlp: Language) -> None:
    pipe: Any = nlp.get_pipe("described")
    doc, other = with_entities(nlp, ROWS[0]), with_entities(nlp, ROWS[0])
    one, two = doc.ents[:2]
    owns = "{head} owns {tail}"
    before = nlp.to_bytes()
    wrong: list[tuple[Any, dict[str, Any]]] = [
        ("", {"description": owns}),
        (" ", {"description": owns}),
        (3, {"description": owns}),
        ("owns", {"examples": [(one, one)]}),
        ("owns", {"examples": [(one, other.ents[1])]}),
        ("owns", {"examples": [doc]}),
        ("owns", {"examples": (one, two)}),
        ("owns", {"examples": [None]}),
        ("owns", {"description": owns, "types": ["ORG"]}),
        ("owns", {"description": owns, "types": ("ORG", "PER")}),
        ("owns", {"description": owns, "types": [("ORG",)]}),
        ("owns", {"description": owns, "types": [("ORG", None)]}),
        (NEGATIVE, {"description": owns}),
        (NEGATIVE, {"types": [("ORG", "PER")]}),
    ]
    for label, texts in wrong:
        with pytest.raises(ValueError, match="E_SR717.*[Ee]xpected"):
            pipe.add_label(label, **texts)
    with pytest.raises(ValueError, match="E_SR717.*the negative label"):
        pipe.remove_label(NEGATIVE)
    assert nlp.to_bytes() == before
    assert pipe.add_label(NEGATIVE) == 0
    pipe.add_label("owns", examples="{head:Ann} owns {tail:Bo}")
    assert pipe.cfg["label_examples"] == [["owns", "Ann owns Bo", [0, 3], [9, 11]]]


def test_fixed_labels_have_no_texts(trained: Language, tmp_path: Path) -> None:
    nlp = spacy.blank("xx")
    with pytest.raises(ValueError, match=r"E_SR714.*descriptions"):
        nlp.add_pipe("relation_classifier", config={"descriptions": {"met": "{head} met {tail}"}})
    pipe: Any = nlp.add_pipe("relation_classifier")
    with pytest.raises(ValueError, match="E_SR714"):
        pipe.add_label("met", description="{head} met {tail}")
    with pytest.raises(ValueError, match="E_SR714"):
        pipe.remove_label("met")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("mode", "typed_markers"), ("pretrained", True), ("preset", "spanbert-tacred")],
)
def test_settings_that_need_types(setting: str, value: Any) -> None:
    config = {setting: value, "model": {"labels": "described", "name": "nowhere"}}
    pipe: Any = spacy.blank("xx").add_pipe("relation_classifier", config=config)
    with pytest.raises(ValueError, match=rf"E_SR715.*{setting}"):
        pipe.initialize()


def test_labels_of_the_data_must_be_described(trained: Language, tmp_path: Path) -> None:
    bert = next(encoder for encoder in ENCODERS if encoder.name == "bert")
    folder = bert.save(tmp_path / "bert")
    descriptions = SETTINGS["described"]["descriptions"][:2]
    with pytest.raises(ValueError, match=r"E_SR711.*'based'"):
        make_pipeline(folder, ["described"], described={"descriptions": descriptions})


@pytest.mark.parametrize(
    "wrong",
    [
        "works",
        ["works"],
        [["works", "he works"]],
        {"works": "{head}"},
        {"a:b": "{head} {tail}"},
        [["", "{head} {tail}"]],
        {" ": "{head} {tail}"},
        [[1]],
    ],
)
def test_wrong_descriptions(wrong: Any) -> None:
    with pytest.raises(ValueError, match="descriptions"):
        spacy.blank("xx").add_pipe("relation_classifier", config={"descriptions": wrong})


def test_descriptions_may_be_changed_on_loading(trained: Language, tmp_path: Path) -> None:
    trained.to_disk(tmp_path)
    rows = [*SETTINGS["described"]["descriptions"], ["owns", "{head} owns {tail}"]]
    nlp = spacy.load(tmp_path, config={"components.described.descriptions": rows})
    assert nlp.get_pipe("described").labels == (*trained.get_pipe("described").labels, "owns")
    assert list(scores(nlp)) == list(nlp.get_pipe("described").labels)


def test_a_text_that_no_row_can_hold_changes_nothing(nlp: Language) -> None:
    pipe: Any = nlp.get_pipe("described")
    before = {**pipe.cfg}
    text = f"{{head:{'very ' * 80}old}} knows {{tail}}"
    for arguments in ({"description": text}, {"examples": [text]}):
        with pytest.raises(ValueError, match="E_SR713"):
            pipe.add_label("knows", **arguments)
    assert pipe.cfg == before
    assert list(scores(nlp)) == list(pipe.labels)


def test_texts_are_read_once(nlp: Language) -> None:
    network = get_shim(nlp.get_pipe("described").model).module
    rows: list[int] = []
    network.register_forward_hook(lambda module, args, output: rows.append(len(output)))
    scores(nlp)
    first, rows[:] = sum(rows), []
    n_pairs = sum(len(row.entities) * (len(row.entities) - 1) for row in ROWS)
    scores(nlp)
    assert sum(rows) == n_pairs < first
    # Anew after a step.
    train(nlp, steps=1)
    rows.clear()
    scores(nlp)
    assert sum(rows) == first


def test_texts_of_labels_that_are_gone_are_forgotten(
    nlp: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy_spanrel.relation_classifier.model._MOST_TEXTS", 20)
    pipe: Any = nlp.get_pipe("described")
    kept = get_shim(pipe.model).module.head.kept_vectors
    before = scores(nlp)
    sizes = []
    for number in range(30):
        pipe.add_label("new", description=f"{{head}} is number {number} of {{tail}}")
        scores(nlp)
        pipe.remove_label("new")
        for label, of_label in scores(nlp).items():
            np.testing.assert_allclose(of_label, before[label], atol=1e-6)
        sizes.append(len(kept(get_shim(pipe.model).module.encoder, get_shim(pipe.model).device)))
    assert max(sizes[15:]) <= max(sizes[:15]) <= 24


def test_direction(nlp: Language) -> None:
    """A pair with its inverse is no pair: the inverse of a label counts as none of the labels."""
    pipe: Any = nlp.get_pipe("described")
    texts = pipe._label_texts()
    assert texts.inverses
    assert all(isinstance(text, MarkedText) for group in texts.inverses for text in group)
    negative = scores(nlp)[NEGATIVE]
    pipe.cfg["symmetric"] = ["works", "lives", "based"]
    assert (scores(nlp)[NEGATIVE] <= negative + 1e-6).all()


def test_no_negative_label(tmp_path: Path) -> None:
    bert = next(encoder for encoder in ENCODERS if encoder.name == "bert")
    folder = bert.save(tmp_path / "bert")
    nlp = spacy.blank("xx")
    config = {**SETTINGS["described"], "negative_label": None, "scorer": None}
    config["model"] = {**config["model"], "name": str(folder)}
    config["descriptions"] = [
        *config["descriptions"],
        [NEGATIVE, "{head} and {tail} are strangers"],
    ]
    nlp.add_pipe("relation_classifier", name="described", config=config)
    nlp.initialize(lambda: make_examples(nlp))
    assert torch.isfinite(torch.tensor(train(nlp, steps=2)["described"])).all()
    assert sum(scores(nlp).values()) == pytest.approx(1.0)

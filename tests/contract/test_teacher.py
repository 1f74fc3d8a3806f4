"""A component learns the predictions of a trained one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import DocBin, Span
from spacy.util import fix_random_seed

from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.training.corpus import (
    create_corpus_reader,
    create_question_reader,
    is_unlabelled,
)
from spacy_spanrel.training.optimizer import create_adamw
from spacy_spanrel.training.teacher import LOGITS_LIMIT, Teacher, teachers_of

from ..encoders.util import COMPONENTS, make_examples, make_pipeline, predictions
from .conftest import Trained


@pytest.fixture(params=COMPONENTS)
def component(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(trained: Trained) -> Path:
    """The checkpoint with which the teachers began. Each tiny checkpoint has a tokenizer of its own."""
    return trained.path.parent / "moved"


def student(folder: Path, component: str, trained: Trained, **setting: Any) -> Language:
    """Return a pipeline that is not trained, with the trained one as its teacher."""
    return make_pipeline(
        folder, [component], **{component: {"teacher": {"path": str(trained.path), **setting}}}
    )


def answers(nlp: Language, component: str) -> list[np.ndarray]:
    """Return the logits of all rows, whatever is asked of the component."""
    pipe: Any = nlp.get_pipe(component)
    examples = make_examples(nlp)
    docs = [example.predicted for example in examples]
    if component == "span_relation":
        ranges = [sorted({(e.start, e.end) for e in doc.ents}) for doc in docs]
        items: list[Any] = [(doc, (4, spans)) for doc, spans in zip(docs, ranges, strict=True)]
    elif component == "relation_classifier":
        pairs = pipe.make_targets(examples).pairs
        items = [(doc, pair) for doc, one in zip(docs, pairs, strict=True) for pair in one]
    else:
        items = [(doc, question.text) for doc in docs for question in doc._.questions]
    return [array for arrays in pipe.class_logits(items) for array in arrays if array.size]


def distance(nlp: Language, other: Language, component: str) -> float:
    pairs = zip(answers(nlp, component), answers(other, component), strict=True)
    return float(np.mean([np.abs(a - b).mean() for a, b in pairs]))


def weights_of_pipe(pipe: Any) -> list[torch.nn.Parameter]:
    return [p for shim in torch_shims(pipe.model) for p in shim.module.parameters()]


def weights_of(pipe: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in weights_of_pipe(pipe)]


def learn(nlp: Language, steps: int) -> None:
    optimizer = create_adamw(learn_rate=3e-3, weight_decay=0.0)
    for _ in range(steps):
        nlp.update(make_examples(nlp), sgd=optimizer)


def test_learns_what_the_teacher_says(folder: Path, component: str, trained: Trained) -> None:
    """With the teacher alone, the student's logits come close to its, whatever the gold labels are; the
    teacher reads each text once and does not change."""
    nlp = student(folder, component, trained, weight=1.0, temperature=1.0)
    pipe = nlp.get_pipe(component)
    before = distance(nlp, trained.nlp, component)
    learn(nlp, 1)
    (teacher,) = teachers_of(pipe)
    assert teachers_of(pipe)[0] is teacher
    computed: list[int] = []
    compute = teacher.pipe.class_logits
    teacher.pipe.class_logits = lambda items: computed.append(len(items)) or compute(items)
    learn(nlp, 60)
    assert not computed
    assert distance(nlp, trained.nlp, component) < 0.4 * before
    assert predictions(trained.nlp) == trained.predictions


def test_learns_from_unlabelled_texts(
    folder: Path, component: str, trained: Trained, tmp_path: Path
) -> None:
    """Of texts that nobody has annotated, the teacher's predictions are learned, and nothing else: the gold
    loss of a batch is that of the other texts."""
    nlp = student(folder, component, trained, weight=1.0, temperature=1.0)
    pipe: Any = nlp.get_pipe(component)
    examples = make_examples(nlp)
    bare = [example.predicted for example in examples]
    DocBin(docs=bare, store_user_data=True).to_disk(tmp_path / "bare.spacy")
    gold = [example.reference for example in examples]
    DocBin(docs=gold[:1], store_user_data=True).to_disk(tmp_path / "gold.spacy")
    make = create_question_reader if component == "extractive_qa" else create_corpus_reader
    inputs = {} if component == "extractive_qa" else {"inputs": ["ents"]}
    read = make(tmp_path / "gold.spacy", unlabelled=tmp_path / "bare.spacy", **inputs)
    batch = list(read(nlp))
    assert sum(map(is_unlabelled, batch)) >= len(bare) > 0
    assert not is_unlabelled(batch[0])
    before = distance(nlp, trained.nlp, component)
    optimizer = create_adamw(learn_rate=3e-3, weight_decay=0.0)
    for _ in range(60):
        pipe.update(batch, sgd=optimizer)
    assert distance(nlp, trained.nlp, component) < 0.5 * before

    pipe.cfg["teacher"] = {**pipe.cfg["teacher"], "weight": 0.0}
    unlabelled = [example for example in batch if is_unlabelled(example)]
    assert pipe.update(unlabelled)[component] == 0.0
    assert pipe.update(batch)[component] > 0.0
    pipe.cfg["teacher"] = None
    with pytest.raises(ValueError, match="E_SR514"):
        pipe.update(unlabelled)


@pytest.mark.parametrize("unlabelled", [False, True])
def test_of_several_teachers_the_mean_is_learned(
    folder: Path, component: str, trained: Trained, tmp_path: Path, unlabelled: bool
) -> None:
    """Two equal teachers are one; a different second one is heard. Their order matters in unlabelled texts
    only, of which the first one says what there is to learn about."""
    other = spacy.load(trained.path)
    for weight in weights_of_pipe(other.get_pipe(component)):
        weight.data.add_(0.1 * torch.randn_like(weight))
    other.to_disk(tmp_path / "other")
    one, two = str(trained.path), str(tmp_path / "other")
    losses = []
    for path in (one, [one, one], [one, two], [two, one]):
        fix_random_seed(0)
        nlp = student(folder, component, trained, path=path, weight=1.0)
        pipe = nlp.get_pipe(component)
        examples = make_examples(nlp)
        for example in examples[::2] if unlabelled else []:
            example.reference.user_data["spanrel_unlabelled"] = True
        losses.append(pipe.update(examples)[component])
        assert len(teachers_of(pipe)) == (1 if path == one else 2)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)
    if not unlabelled or component == "extractive_qa":
        assert losses[3] == pytest.approx(losses[2], rel=1e-5)


def test_the_student_does_not_need_the_teacher(
    folder: Path, component: str, trained: Trained, tmp_path: Path
) -> None:
    shutil.copytree(trained.path, tmp_path / "teacher")
    nlp = student(folder, component, trained, path=str(tmp_path / "teacher"))
    alone = make_pipeline(folder, [component])
    learn(nlp, 1)
    shutil.rmtree(tmp_path / "teacher")
    nlp.to_disk(tmp_path / "student")
    size = sum(file.stat().st_size for file in (tmp_path / "student").rglob("*"))
    alone.to_disk(tmp_path / "alone")
    assert size < 1000 + sum(file.stat().st_size for file in (tmp_path / "alone").rglob("*"))
    loaded = spacy.load(tmp_path / "student")
    assert predictions(loaded) == predictions(nlp)
    with pytest.raises(OSError, match="teacher"):
        learn(loaded, 1)
    loaded.get_pipe(component).cfg["teacher"] = {"path": None}
    learn(loaded, 1)


def test_a_new_network_gets_the_teacher_that_is_there_now(
    folder: Path, component: str, trained: Trained, tmp_path: Path
) -> None:
    """Each generation of a pipeline may be the teacher of the next one, at the same path."""
    path = tmp_path / "teacher"
    shutil.copytree(trained.path, path)
    nlp = student(folder, component, trained, path=str(path))
    learn(nlp, 1)
    nlp.to_disk(path)
    pipe = nlp.get_pipe(component)
    saved = weights_of(pipe)
    nlp.initialize(lambda: make_examples(nlp))
    learn(nlp, 1)
    (teacher,) = teachers_of(pipe)
    assert all(map(torch.equal, weights_of(teacher.pipe), saved))


def test_logits_are_kept_on_disk(
    folder: Path, component: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second training computes none of them, and learns the same."""
    weights = []
    for _ in range(2):
        nlp = student(folder, component, trained, cache=str(tmp_path / "logits"))
        fix_random_seed(0)
        learn(nlp, 2)
        weights.append(weights_of(nlp.get_pipe(component)))
        monkeypatch.setattr(type(nlp.get_pipe(component)), "class_logits", None)
    assert all(map(torch.equal, *weights))
    (tmp_path / "text").write_text("This is no file of logits. " * 100)
    for path in (tmp_path / "text", tmp_path / "missing" / "logits"):
        with pytest.raises(OSError, match="E_SR512"):
            learn(student(folder, component, trained, cache=str(path)), 1)


def test_memory_for_logits_is_bounded(
    folder: Path, component: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had no room is computed again, and the same is learned."""
    weights = []
    for limit in (0, LOGITS_LIMIT):
        monkeypatch.setattr("spacy_spanrel.training.teacher.LOGITS_LIMIT", limit)
        nlp = student(folder, component, trained)
        pipe = nlp.get_pipe(component)
        fix_random_seed(0)
        learn(nlp, 2)
        (teacher,) = teachers_of(pipe)
        assert (teacher._kept.size > 0) == (limit > 0)
        weights.append(weights_of(pipe))
    assert all(map(torch.equal, *weights))


@pytest.mark.parametrize("component", ["span_relation", "relation_classifier"])
def test_labels_are_matched_by_name(folder: Path, component: str, trained: Trained) -> None:
    nlp = student(folder, component, trained, weight=1.0)
    pipe = nlp.get_pipe(component)
    expected = {kind: list(pipe.cfg[key]) for kind, key in pipe.label_kinds.items()}
    for kind, key in pipe.label_kinds.items():
        pipe.cfg[key] = pipe.cfg[key][::-1][:-1]
        columns = Teacher(pipe, str(trained.path)).columns[kind]
        assert [expected[kind][i] for i in columns] == pipe.cfg[key]
        pipe.cfg[key] = [*expected[kind], "new"]
        with pytest.raises(ValueError, match=rf"E_SR509.*{kind} labels \['new'\]"):
            learn(nlp, 1)
        pipe.cfg[key] = expected[kind]


def test_teachers_that_cannot_teach(
    folder: Path, component: str, trained: Trained, all_trained: dict[str, Trained]
) -> None:
    other = next(name for name in COMPONENTS if name != component)
    nlp = student(folder, component, trained, path=str(all_trained[other].path))
    with pytest.raises(ValueError, match="E_SR508"):
        learn(nlp, 1)
    nlp = student(folder, component, trained)
    pipe = nlp.get_pipe(component)
    if component == "span_relation":
        pipe.cfg["scope"] = "window"
        with pytest.raises(ValueError, match="E_SR510.*scope = 'doc'"):
            learn(nlp, 1)
    if component == "extractive_qa":
        pipe.model.attrs["max_question_length"] = 3
        with pytest.raises(ValueError, match="E_SR513"):
            learn(nlp, 1)


@pytest.mark.parametrize("component", ["span_relation"])
def test_a_teacher_reads_the_entities_that_a_text_has_now(
    folder: Path, component: str, tmp_path: Path
) -> None:
    """What an earlier component finds may change in training, so logits are kept for these entities; one
    of a type that the teacher does not know is read as in prediction, without a type."""
    settings = {component: {"entities": "doc"}}
    make_pipeline(folder, [component], **settings).to_disk(tmp_path / "teacher")
    nlp = make_pipeline(folder, [component], **settings)
    pipe: Any = nlp.get_pipe(component)
    pipe.cfg["teacher"] = {"path": str(tmp_path / "teacher"), "cache": str(tmp_path / "cache")}
    (teacher,) = teachers_of(pipe)
    doc = make_examples(nlp)[0].predicted
    types = [*pipe.entity_labels, "New"]
    for labels in (["Per", "Org", "Loc"], ["New", "Org"], []):
        doc.ents = [Span(doc, 2 * i, 2 * i + 1, label=label) for i, label in enumerate(labels)]
        ((_, pair_logits, entities),) = teacher.logits([(doc, (4, None))])
        assert [types[kind] for *_, kind in entities.tolist()] == labels
        assert pair_logits.shape[:2] == (len(labels), len(labels))


@pytest.mark.parametrize("r_drop", [0.0, 1.0])
def test_two_passes_with_a_teacher(
    folder: Path, component: str, trained: Trained, r_drop: float
) -> None:
    """A component that gives the teacher's logits has no further loss, in one pass or two."""
    nlp = spacy.load(trained.path)
    pipe = nlp.get_pipe(component)
    pipe.cfg["teacher"] = {"path": str(trained.path), "weight": 1.0}
    pipe.cfg["r_drop"] = r_drop
    for shim in torch_shims(pipe.model):
        for module in shim.module.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
    assert pipe.update(make_examples(nlp))[component] == pytest.approx(0, abs=1e-3)

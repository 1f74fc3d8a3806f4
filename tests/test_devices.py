"""All components on a CUDA device: always on a simulated one, and on a real one if available."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed
from thinc.api import CupyOps, NumpyOps, use_ops

from spacy_spanrel import get_relations
from spacy_spanrel.annotations import get_answers
from spacy_spanrel.encoding import shim as shim_module
from spacy_spanrel.encoding.shim import (
    TorchShim,
    computes_bfloat16,
    get_module,
    get_shim,
    resolve_device,
    resolve_precision,
    torch_shims,
)
from spacy_spanrel.encoding.transfer import to_device
from spacy_spanrel.span_relation.network import SpERTHeads
from spacy_spanrel.training.optimizer import create_adamw

from .encoding.util import shared_nlp
from .extractive_qa import util as qa
from .relation_classifier import util as rc
from .simulated_cuda import CUDA, CudaTensor, SimulatedCuda, cuda  # noqa: F401 (a fixture)
from .span_relation import util as sr

HAS_CUDA = torch.cuda.is_available()  # before a test simulates a device
real_cuda = pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")
real_cupy = pytest.mark.skipif(
    not HAS_CUDA or CupyOps.xp is None, reason="no CUDA device, or no CuPy"
)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A component with the settings and data of the tests.

    make (Callable[[Path, dict], Language]): Makes the pipeline with settings of the encoder, without
        initializing it.
    examples (Callable[[Language], list[Example]]): Makes Examples for training and prediction.
    prepare (Callable[[Example], None]): Adds the component's inputs to the predicted Doc.
    fetches (int): How often logits are fetched in a prediction.
    losses (int): Number of losses that training reports, each read once.
    arrays (int): How often vectors leave the device, and gradients come to it, in training.
    """

    make: Callable[[Path, dict[str, Any]], Language]
    examples: Callable[[Language], list[Example]]
    prepare: Callable[[Example], None]
    fetches: int
    losses: int
    arrays: int = 0


def _joint(
    folder: Path, encoder: dict[str, Any], heads: dict[str, Any] | None = None, **settings: Any
) -> Language:
    model = sr.model_config(folder, encoder=encoder, boundaries=True, **(heads or {}))
    # With a threshold this low, an untrained network predicts relations.
    return sr.make_nlp(folder, model=model, relation_threshold=0.01, **settings)[0]


def _shared(folder: Path, encoder: dict[str, Any]) -> Language:
    listener = {"@architectures": "spacy-spanrel.Tok2VecListenerEncoder.v1", "width": 32}
    model = {"size_embedding": 4, "dropout": 0.0, "boundaries": True, "encoder": listener}
    nlp = sr.make_nlp(folder, model=model, relation_threshold=0.01)[0]
    settings = {"name": str(folder), "precision": "float32", "device": "cpu", "dropout": 0.0}
    tok2vec = {
        "@architectures": "spacy-spanrel.HFTok2Vec.v1",
        "encoder": {"@architectures": "spacy-spanrel.HFEncoder.v1", **settings, **encoder},
    }
    nlp.add_pipe("tok2vec", config={"model": tok2vec}, first=True)
    return nlp


def _pairs(folder: Path, encoder: dict[str, Any]) -> Language:
    model = {"dropout": 0.0, "head_dropout": 0.0, "max_length": 64, **encoder}
    pairs = {"@misc": "spacy-spanrel.EntityPairs.v1"}
    return rc.make_nlp(folder, model=model, pairs=pairs, negative_label=None)[0]


def _questions(folder: Path, encoder: dict[str, Any]) -> Language:
    return qa.make_nlp(folder, model=encoder)[0]


def _ask(example: Example) -> None:
    row = next(row for row in qa.ROWS if row[0] == example.predicted.text)
    example.predicted._.questions = [(key, question) for key, question, _ in row[1]]


def _set_borders(example: Example) -> None:
    """Make two sentences of the predicted Doc."""
    for token in example.predicted:
        token.is_sent_start = token.i in (0, 3)


_ALL_PARTS = {"distance_embedding": 3, "type_embedding": 2, "context_layer": "transformer"}

CASES = {
    # torch keeps the lengths of packed sequences on the CPU, so the LSTM cannot be simulated.
    "span_relation, all parts": Case(
        lambda folder, encoder: _joint(folder, encoder, _ALL_PARTS),
        sr.make_examples,
        lambda example: None,
        2,
        2,
    ),
    "span_relation, sentences with context": Case(
        lambda folder, encoder: _joint(folder, encoder, scope="sentence", context=2),
        sr.make_examples,
        _set_borders,
        2,
        2,
    ),
    "span_relation": Case(_joint, sr.make_examples, lambda example: None, 2, 2),
    "span_relation, given entities": Case(
        lambda folder, encoder: _joint(folder, encoder, entities="doc"),
        sr.make_examples,
        sr.copy_ents,
        1,
        1,
    ),
    # The component that counts is `tok2vec`, which fetches the vectors of tokens.
    "span_relation on tok2vec": Case(_shared, sr.make_examples, lambda example: None, 1, 2, 1),
    "relation_classifier": Case(_pairs, sr.make_examples, sr.copy_ents, 1, 1),
    "extractive_qa": Case(_questions, qa.make_examples, _ask, 1, 1),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, bert_checkpoint: Path) -> dict[int, bytes]:
    """The bytes of a pipeline of each case, trained for a few steps on the CPU."""
    pipelines = {}
    for case in CASES.values():
        nlp = case.make(bert_checkpoint, {"device": "cpu"})
        fix_random_seed(0)
        nlp.initialize(lambda case=case, nlp=nlp: case.examples(nlp))
        train(case, nlp, steps=25, learn_rate=5e-3)
        pipelines[id(case)] = nlp.to_bytes()
    return pipelines


def load(case: Case, saved: dict[int, bytes], folder: Path, **encoder: Any) -> Language:
    return case.make(folder, encoder).from_bytes(saved[id(case)])


def batch(case: Case, nlp: Language, copies: int = 1) -> list[Example]:
    examples = [example for _ in range(copies) for example in case.examples(nlp)]
    for example in examples:
        case.prepare(example)
    return examples


def predict(case: Case, nlp: Language, copies: int = 1) -> list[Doc]:
    return list(nlp.pipe([example.predicted for example in batch(case, nlp, copies)]))


def train(
    case: Case, nlp: Language, steps: int = 3, learn_rate: float = 1e-3
) -> list[dict[str, float]]:
    optimizer = create_adamw(learn_rate=learn_rate)
    losses: list[dict[str, float]] = []
    for _ in range(steps):
        losses.append({})
        nlp.update(batch(case, nlp), sgd=optimizer, losses=losses[-1])
    return losses


Annotations = list[tuple[Any, list[float]]]


def annotations_of(docs: list[Doc]) -> Annotations:
    """Return the predicted annotations of each Doc, and their scores."""
    rows: Annotations = []
    for doc in docs:
        answers = [a for first in get_answers(doc) for a in (first, *first.alternatives)]
        plain = (
            sr.annotations_of(doc),
            [(a.question.id, a.start_char, a.end_char) for a in answers],
        )
        relations = [r.score or 0.0 for r in get_relations(doc)]
        rows.append((plain, [*relations, *(a.score for a in answers)]))
    return rows


def assert_alike(one: Annotations, other: Annotations, tolerance: float) -> None:
    assert any(scores for _, scores in one), "there are no predictions to compare"
    for (mine, my_scores), (theirs, their_scores) in zip(one, other, strict=True):
        assert mine == theirs
        assert my_scores == pytest.approx(their_scores, abs=tolerance)


def assert_same_losses(
    one: list[dict[str, float]], other: list[dict[str, float]], tolerance: float
) -> None:
    for mine, theirs in zip(one, other, strict=True):
        assert mine == pytest.approx(theirs, rel=tolerance)
    assert one[0] != one[-1]


# The simulated device


def test_simulation_counts_waits(cuda: SimulatedCuda) -> None:  # noqa: F811
    x = torch.arange(6.0).reshape(3, 2).to(CUDA)
    assert isinstance(x, CudaTensor)
    assert x.device == CUDA
    assert cuda.waits == Counter({"copy to the device": 1})
    cuda.forget()
    y = x[to_device(torch.tensor([2, 0]), CUDA)] + torch.ones(2, device=CUDA)
    assert cuda.waits == Counter()
    assert y.cpu().tolist() == [[5.0, 6.0], [1.0, 2.0]]
    assert float(y.max()) == 6.0
    if (y > 2).any():
        y = y[y > 2]
    assert len(torch.nonzero(y)) == 2
    assert cuda.waits == Counter(
        {"copy from the device": 1, "a value is read": 2, "index by a mask": 1, "nonzero": 1}
    )
    with pytest.raises((TypeError, RuntimeError), match="numpy"):
        y.numpy()
    with pytest.raises(RuntimeError, match="on the CPU"):
        y + torch.ones(2)


def test_predictions_equal_those_on_the_cpu(
    case: Case,
    saved: dict[int, bytes],
    bert_checkpoint: Path,
    cuda: SimulatedCuda,  # noqa: F811
) -> None:
    settings = {"precision": "float32"}
    ours = load(case, saved, bert_checkpoint, device="auto", **settings)
    theirs = load(case, saved, bert_checkpoint, device="cpu", **settings)
    assert all(isinstance(value, CudaTensor) for value in _parameters(ours))
    assert not any(isinstance(value, CudaTensor) for value in _parameters(theirs))
    assert_alike(annotations_of(predict(case, ours)), annotations_of(predict(case, theirs)), 1e-5)


def _parameters(nlp: Language) -> list[torch.Tensor]:
    pipe = nlp.get_pipe(nlp.pipe_names[0])
    return [value for shim in torch_shims(pipe.model) for value in shim.module.parameters()]


def test_training_equals_that_on_the_cpu_and_loads_without_the_device(
    case: Case,
    saved: dict[int, bytes],
    bert_checkpoint: Path,
    cuda: SimulatedCuda,  # noqa: F811
) -> None:
    settings = {"precision": "float32"}
    ours = load(case, saved, bert_checkpoint, device="auto", **settings)
    theirs = load(case, saved, bert_checkpoint, device="cpu", **settings)
    assert_same_losses(train(case, ours), train(case, theirs), 1e-4)
    assert cuda.operations["aten._fused_adamw_"]
    again = case.make(bert_checkpoint, {"device": "cpu"}).from_bytes(ours.to_bytes())
    assert not any(isinstance(value, CudaTensor) for value in _parameters(again))
    assert_alike(annotations_of(predict(case, again)), annotations_of(predict(case, theirs)), 1e-3)


def test_waits_do_not_grow_with_the_batch(
    case: Case,
    saved: dict[int, bytes],
    bert_checkpoint: Path,
    cuda: SimulatedCuda,  # noqa: F811
) -> None:
    nlp = load(case, saved, bert_checkpoint, device="auto", precision="float32")
    counts = []
    for copies in (1, 8):
        docs = [example.predicted for example in batch(case, nlp, copies)]
        cuda.forget()
        nlp.get_pipe(nlp.pipe_names[0]).predict(docs)
        waits, launched = Counter(cuda.waits), cuda.operations.total()
        # In each call, the encoders of transformers check once for padding; nothing else does.
        assert waits.pop("a value is read", 0) <= 1
        assert waits == Counter({"copy from the device": case.fetches})
        optimizer = create_adamw(learn_rate=1e-3)
        nlp.update(batch(case, nlp, copies), sgd=optimizer)  # creates the state of the optimizer
        cuda.forget()
        nlp.update(batch(case, nlp, copies), sgd=optimizer)
        waits = Counter(cuda.waits)
        assert waits.pop("a value is read") <= 1 + case.losses
        copies_of_arrays = dict.fromkeys(
            ["copy from the device", "copy to the device"], case.arrays
        )
        assert waits == Counter(copies_of_arrays)
        counts.append((launched, cuda.operations.total()))
    (few, few_trained), (many, many_trained) = counts
    # There may be one more level of range maxima or one more padded batch, but no loop over Docs.
    assert many <= 1.5 * few
    assert many_trained <= 1.5 * few_trained


def test_waits_for_a_padded_batch(
    case: Case,
    saved: dict[int, bytes],
    bert_checkpoint: Path,
    cuda: SimulatedCuda,  # noqa: F811
) -> None:
    nlp = load(case, saved, bert_checkpoint, device="auto", precision="float32", batch_pieces=1)
    examples = batch(case, nlp)
    cuda.forget()
    nlp.get_pipe(nlp.pipe_names[0]).predict([example.predicted for example in examples])
    assert cuda.operations["aten.embedding"] > 2 * len(examples), "rows were batched"
    waits = Counter(cuda.waits)
    waits.pop("a value is read", 0)  # the encoder's check for padding, once per call
    assert waits == Counter({"copy from the device": case.fetches})


@pytest.mark.spacy_transformers
def test_shared_transformer_on_another_device(
    bert_checkpoint: Path,
    cuda: SimulatedCuda,  # noqa: F811
) -> None:
    # Without CuPy, spacy-transformers runs on the CPU, and the heads run on torch's CUDA device.
    spans = torch.tensor([[0, 2], [4, 5], [6, 7]])
    pairs = torch.tensor([[0, 1], [1, 2], [2, 0]])
    results = []
    for has_cuda in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda has_cuda=has_cuda: has_cuda)
            nlp = shared_nlp(bert_checkpoint)
            examples = sr.start(nlp)
            model = nlp.get_pipe("span_relation").model
            assert get_shim(model).device == (CUDA if has_cuda else CPU)
            optimizer = create_adamw(learn_rate=1e-3)
            losses = [sr.train_step(nlp, examples, optimizer) for _ in range(3)]
            losses = [{k: v for k, v in step.items() if k != "transformer"} for step in losses]
            docs = list(nlp.get_pipe("transformer").pipe([nlp.make_doc(sr.TEXTS[0])]))
            logits = get_module(model, SpERTHeads).predict_pairs(model.predict(docs), spans, pairs)
            results.append((losses, logits.cpu()))
    assert_same_losses(results[0][0], results[1][0], 1e-3)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-3)


# Which device, which precision


def test_auto_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for cuda_works, cupy_installed, ops, expected in (
        (False, False, NumpyOps(), CPU),
        (False, True, NumpyOps(), CPU),
        (True, False, NumpyOps(), CUDA),  # torch's CUDA device is used without any setting
        (True, True, NumpyOps(), CPU),  # spaCy was not told to use the GPU
        (True, True, CupyOps(), CUDA),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda works=cuda_works: works)
        monkeypatch.setattr(CupyOps, "xp", object() if cupy_installed else None)
        monkeypatch.setattr(shim_module, "get_current_ops", lambda ops=ops: ops)
        assert resolve_device("auto") == expected


def test_cupy_with_a_torch_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shim_module, "get_current_ops", lambda: CupyOps())
    with pytest.raises(ValueError, match=r"E_SR240.*device = 'cpu'"):
        resolve_device("auto")
    assert resolve_device("cpu") == CPU


@pytest.mark.skipif(HAS_CUDA, reason="there is a CUDA device")
def test_missing_cuda_is_refused() -> None:
    with pytest.raises(ValueError, match="E_SR209.*'cuda'"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)]
)
def test_bfloat16_is_used_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], native: bool
) -> None:
    properties = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.version, "hip", None)
    assert computes_bfloat16(CUDA) == native
    expected = torch.bfloat16 if native else torch.float32
    assert resolve_precision("auto", CUDA) == expected
    assert resolve_precision("float32", CUDA) == torch.float32


def test_autocast_uses_the_device(cuda: SimulatedCuda) -> None:  # noqa: F811
    shim = TorchShim(lambda cfg, files: torch.nn.Linear(1, 1), device="auto")
    context = shim.autocast()
    assert (context.device, context.fast_dtype) == ("cuda", torch.bfloat16)


# A real device


@pytest.fixture(params=["cuda", "auto with CuPy"])
def real(request: pytest.FixtureRequest) -> Any:
    if not HAS_CUDA:
        pytest.skip("no CUDA device")
    if request.param == "cuda":
        yield "cuda"
        return
    if CupyOps.xp is None:
        pytest.skip("no CuPy")
    with use_ops("cupy"):
        yield "auto"


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("auto", 5e-2)])
def test_real_device_equals_the_cpu(
    case: Case,
    saved: dict[int, bytes],
    bert_checkpoint: Path,
    real: str,
    precision: str,
    tolerance: float,
) -> None:
    ours = load(case, saved, bert_checkpoint, device=real, precision=precision)
    theirs = load(case, saved, bert_checkpoint, device="cpu", precision="float32")
    assert all(value.is_cuda for value in _parameters(ours))
    mine, wanted = annotations_of(predict(case, ours)), annotations_of(predict(case, theirs))
    if precision == "float32":
        assert_alike(mine, wanted, tolerance)
    assert_same_losses(train(case, ours), train(case, theirs), 10 * tolerance)


def test_real_device_does_not_wait_more_for_more_docs(
    case: Case, saved: dict[int, bytes], bert_checkpoint: Path, real: str
) -> None:
    nlp = load(case, saved, bert_checkpoint, device=real, precision="float32")
    counts = []
    for copies in (1, 1, 8):  # the first round warms up
        docs = [example.predicted for example in batch(case, nlp, copies)]
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                nlp.get_pipe(nlp.pipe_names[0]).predict(docs)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(warning.message) for warning in caught))
    assert counts[2] <= counts[1]
    # CuPy fetches what spaCy's own layers return, and torch does not count that.
    assert counts[1] or real == "auto"

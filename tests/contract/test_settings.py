"""Every setting is saved, may be changed at loading, and is refused if it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import load_model_from_config

from spacy_spanrel import get_relations, set_relations
from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.evaluation.tuning import store_settings
from spacy_spanrel.relation_classifier.pairs import EntityPairs

from ..encoders.util import COMPONENTS, NEGATIVE, make_examples, make_pipeline, predictions
from ..relation_classifier.util import tacred_checkpoint
from .conftest import BERT, THRESHOLDS, Trained, uninitialized

# The tiny vocabularies have upper-case letters, with which casing = true has no use.
pytestmark = pytest.mark.filterwarnings("ignore:.*W_SR108")

# For each setting a value other than its default.
CHANGED: dict[str, dict[str, Any]] = {
    "span_relation": {
        "spans_key": "sc",
        "relations_key": "links",
        "extension_prefix": "kept_",
        "set_ents": "off",
        "entities": "doc",
        "entities_key": "given",
        "relation_threshold": 0.75,
        "thresholds": [["lives", 0.5]],
        "temperature": 2.0,
        "rules": [["max_tails", "lives", 1], ["max_heads", "works", 2], ["no_self"]],
        "overlaps": "allow",
        "type_constraints": {"works": [["Per", "Org"]]},
        "symmetric": ["lives"],
        "negative_label": "none",
        "max_span_size": 2,
        "scope": "sentence",
        "context": 5,
        "max_distance": 6,
        "max_pairs": 7,
        "neg_entity_count": 3,
        "neg_relation_count": 4,
        "hard_negatives": 0.5,
        "boundary_smoothing": 0.1,
        "r_drop": 0.5,
        "teacher": {"path": "a", "weight": 0.25, "temperature": 4.0, "cache": "b"},
    },
    "relation_classifier": {
        "relations_key": "links",
        "extension_prefix": "kept_",
        "preset": "spanbert-tacred",
        "pretrained": False,
        "mode": "text_ner",
        "markers": [["SUBJ_START", "[unused50]"]],
        "negative_label": "NA",
        "context": "doc",
        "type_map": {"HUMAN": ["Per"]},
        "backoff_type": "Per",
        "type_constraints": {"works": [["Per", "Org"]]},
        "symmetric": ["lives"],
        "threshold": 0.25,
        "thresholds": [["lives", 0.5]],
        "temperature": 2.0,
        "rules": [["max_tails", "lives", 1], ["max_heads", "works", 2], ["no_self"]],
        "max_pairs": 7,
        "all_scores": True,
        "existing": "extend",
        "train_pairs": "predicted",
        "max_negatives": 3,
        "score_pairs": "gold",
        "r_drop": 0.5,
        "teacher": {"path": "a", "weight": 0.25, "temperature": 4.0, "cache": "b"},
    },
    "extractive_qa": {
        "qa_key": "links",
        "extension_prefix": "kept_",
        "pretrained": False,
        "questions": {"a": "Who?"},
        "no_answer": False,
        "null_threshold": -1.5,
        "temperature": 1.5,
        "max_answer_length": 7,
        "n_best": 9,
        "top_k": 3,
        "language": "es",
        "plausible_weight": 0.5,
        "r_drop": 0.5,
        "teacher": {"path": "a", "weight": 0.25, "temperature": 4.0, "cache": "b"},
    },
}
# The same of the model.
_ENCODER = {
    "max_length": 60,
    "batch_pieces": 77,
    "dropout": 0.25,
    "attention_dropout": 0.15,
    "casing": True,
    "layers": 2,
    "frozen_layers": 1,
    "precision": "bfloat16",
    "device": "cpu",
}
_HEADS = {
    "size_embedding": 4,
    "dropout": 0.75,
    "boundaries": True,
    "relation_bias": -1.0,
    "distance_embedding": 3,
    "type_embedding": 2,
    "type_noise": 0.5,
    "context_layer": "lstm",
}
MODEL: dict[str, dict[str, Any]] = {
    "span_relation": {**_HEADS, "encoder": {**_ENCODER, "window_overlap": 8}},
    "relation_classifier": {**_ENCODER, "head_dropout": 0.75},
    "extractive_qa": {**_ENCODER, "doc_stride": 8, "max_question_length": 12},
}
# What may still be changed when the network is there.
MODEL_AT_LOAD = {
    "span_relation": {"max_length": 50, "batch_pieces": 44, "window_overlap": 9},
    "relation_classifier": {"max_length": 50, "batch_pieces": 44},
    "extractive_qa": {
        "max_length": 50,
        "batch_pieces": 44,
        "doc_stride": 9,
        "max_question_length": 13,
    },
}
SCORERS = {
    "span_relation": "relation_scorer",
    "relation_classifier": "pair_scorer",
    "extractive_qa": "qa_scorer",
}
PAIRS = {"entities_key": "given", "scope": "doc", "max_distance": 3, "given": False}


@pytest.fixture(params=COMPONENTS)
def component(request: pytest.FixtureRequest) -> str:
    return request.param


def defaults(component: str) -> dict[str, Any]:
    assert Language.has_factory(component)
    return dict(Language.get_factory_meta(component).default_config)


def architecture_of(pipe: Any) -> dict[str, Any]:
    """Return the settings with which the encoder of a component computes."""
    (network,) = [
        module
        for shim in torch_shims(pipe.model)
        for module in shim.module.modules()
        if isinstance(module, HFModule)
    ]
    settings = {name: value for node in pipe.model.walk() for name, value in node.attrs.items()}
    shim = torch_shims(pipe.model)[-1]
    return {
        **settings,
        "dropout": network.transformer.config.hidden_dropout_prob,
        "attention_dropout": network.transformer.config.attention_probs_dropout_prob,
        "casing": network.casing is not None,
        "frozen_layers": 0 if network.frozen is None else network.frozen.n_layers,
        "precision": shim.precision_setting,
        "device": shim.device_setting,
    }


@pytest.fixture(scope="module")
def changed_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved pipeline of each component, in which no setting has its default value."""
    home = tmp_path_factory.mktemp("changed")
    checkpoints = dict.fromkeys(COMPONENTS, BERT.save(home / "bert"))
    checkpoints["relation_classifier"] = tacred_checkpoint(home / "tacred")  # for the preset
    for component, checkpoint in checkpoints.items():
        settings = {**CHANGED[component], "model": MODEL[component]}
        if component == "relation_classifier":
            settings["pairs"] = PAIRS
        nlp = uninitialized(component, checkpoint, **settings)
        examples = make_examples(nlp)
        for example in examples:
            set_relations(example.reference, get_relations(example.reference), "links")
        nlp.initialize(lambda examples=examples: examples)
        nlp.to_disk(home / component)
    return {component: home / component for component in COMPONENTS}


def test_all_settings_are_here(component: str) -> None:
    default = defaults(component)
    # tests/relation_classifier/test_described.py is about descriptions, which need labels of their own.
    others = {"model", "scorer", "pairs", "descriptions"}
    assert set(default) - others == set(CHANGED[component])
    assert all(default[name] != value for name, value in CHANGED[component].items())
    model, changed = default["model"], MODEL[component]
    if component == "span_relation":
        model, changed = ({**m, **m["encoder"], "encoder": 0} for m in (model, changed))
    # tests/contract/test_runtime.py is about the runtime.
    others = {"@architectures", "name", "tokenizer", "runtime", "labels"}
    assert set(model) - set(changed) <= others


@pytest.mark.parametrize("way", ["disk", "bytes"])
def test_settings_are_saved(component: str, changed_paths: dict[str, Path], way: str) -> None:
    nlp = spacy.load(changed_paths[component])
    if way == "bytes":
        nlp = load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    pipe = nlp.get_pipe(component)
    assert {name: pipe.cfg[name] for name in CHANGED[component]} == CHANGED[component]
    config = nlp.config["components"][component]
    assert {name: config[name] for name in CHANGED[component]} == CHANGED[component]
    assert pipe.scorer is None
    assert "configured" not in pipe.cfg
    encoder = MODEL[component].get("encoder", MODEL[component])
    architecture = architecture_of(pipe)
    names = set(encoder) - {"head_dropout"}
    assert {name: architecture[name] for name in names} == {name: encoder[name] for name in names}
    assert component != "relation_classifier" or pipe.pairs == EntityPairs(**PAIRS)
    name = "answers" if component == "extractive_qa" else "relations"
    assert Doc.has_extension(f"kept_{name}")


def test_settings_are_overridden_at_loading(component: str, changed_paths: dict[str, Path]) -> None:
    # They belong to the network of relation_classifier, which refuses other values.
    fixed = ("mode", "markers", "preset")
    default = {k: defaults(component)[k] for k in CHANGED[component] if k not in fixed}
    scorer = {"@scorers": f"spacy-spanrel.{SCORERS[component]}.v1"}
    model: dict[str, Any] = {**MODEL_AT_LOAD[component], "precision": "float32"}
    change = {"model": {"encoder": model} if component == "span_relation" else model}
    config = {"components": {component: {**default, **change, "scorer": scorer}}}
    pipe = spacy.load(changed_paths[component], config=config).get_pipe(component)
    for name, value in CHANGED[component].items():
        assert pipe.cfg[name] == default.get(name, value), name
    assert pipe.scorer is not None
    architecture = architecture_of(pipe)
    assert {name: architecture[name] for name in model} == model


def test_name_of_the_checkpoint_does_not_matter_at_loading(
    component: str, trained: Trained
) -> None:
    """A saved pipeline holds the network and the tokenizer."""
    model = {"name": "nowhere/at-all"}
    change = {"model": {"encoder": model} if component == "span_relation" else model}
    nlp = spacy.load(trained.path, config={"components": {component: change}})
    assert predictions(nlp) == trained.predictions


def test_changes_before_saving_are_kept_and_overrides_win(
    component: str, loaded: Language, tmp_path: Path
) -> None:
    threshold, _ = THRESHOLDS[component]
    other, changed = ("top_k", 2) if component == "extractive_qa" else ("max_pairs", 5)
    pipe = loaded.get_pipe(component)
    # srsly reads 0.7 back as 0.7000000000000001, which must not look like an override.
    pipe.cfg |= {threshold: 0.7, other: changed}
    loaded.to_disk(tmp_path)
    assert "configured" not in pipe.cfg
    plain = spacy.load(tmp_path)
    for nlp in (plain, load_model_from_config(plain.config).from_bytes(loaded.to_bytes())):
        cfg = nlp.get_pipe(component).cfg
        assert cfg == {**pipe.cfg, threshold: pytest.approx(0.7)}
    config = {f"components.{component}.{threshold}": 0.9}
    chosen = spacy.load(tmp_path, config=config).get_pipe(component)
    assert chosen.cfg == {**pipe.cfg, threshold: 0.9}


def test_changes_after_tuning_are_kept(component: str, loaded: Language, tmp_path: Path) -> None:
    """Commands that choose a threshold change the config as well."""
    threshold, _ = THRESHOLDS[component]
    for tuned, changed in ((0.25, 0.5), (0.75, 0.75)):
        store_settings(loaded, component, {threshold: tuned})
        loaded.get_pipe(component).cfg[threshold] = changed
        loaded.to_disk(tmp_path)
        nlp = spacy.load(tmp_path)
        assert nlp.get_pipe(component).cfg[threshold] == changed
        assert nlp.get_pipe_config(component)[threshold] == tuned


@pytest.mark.parametrize("value", [i / 20 for i in range(21)])
def test_change_is_kept_for_any_value_in_the_config(value: float, folder: Path) -> None:
    settings = {"relation_threshold": value}
    first, second = (
        uninitialized("span_relation", folder, **settings).get_pipe("span_relation")
        for _ in range(2)
    )
    first.cfg["relation_threshold"] = 0.33
    second.from_bytes(first.to_bytes())
    assert second.cfg["relation_threshold"] == pytest.approx(0.33)


# Wrong settings

WRONG_VALUES: list[tuple[str, str, Any]] = [
    *(
        ("span_relation", name, value)
        for name, value in [
            ("relation_threshold", 1.5),
            ("relation_threshold", -0.1),
            ("thresholds", [["lives", 1.5]]),
            ("rules", [["inverse", "lives", "works", "based"]]),
            ("rules", [["max_heads", "lives"]]),
            ("rules", [["at_most", "lives", 1]]),
            ("rules", [[]]),
            ("thresholds", [["lives"]]),
            ("thresholds", {"li:ves": 0.5}),
            ("max_span_size", 0),
            ("context", -1),
            ("context", 2.5),
            ("context", None),
            ("max_distance", -1),
            ("max_distance", 2.5),
            ("max_pairs", 0),
            ("max_pairs", "many"),
            ("neg_entity_count", -1),
            ("neg_entity_count", 0.5),
            ("neg_relation_count", -7),
            ("hard_negatives", 1.5),
            ("boundary_smoothing", -0.1),
            ("r_drop", -0.5),
            ("teacher", "folder"),
            ("teacher", {"path": 1}),
            ("teacher", {"path": []}),
            ("teacher", {"path": ["folder", None]}),
            ("teacher", {"path": "folder", "share": 0.5}),
            ("teacher", {"path": "folder", "weight": 1.5}),
            ("teacher", {"path": "folder", "temperature": 0}),
            ("type_constraints", {"works": [["Per"]]}),
            ("type_constraints", "given"),
            ("set_ents", "maybe"),
            ("entities", "all"),
            ("overlaps", "worst"),
            ("scope", "paragraph"),
        ]
    ),
    *(
        ("relation_classifier", name, value)
        for name, value in [
            ("preset", "spanbert"),
            ("mode", "markers"),
            ("context", "paragraph"),
            ("existing", "keep"),
            ("train_pairs", "all"),
            ("score_pairs", "all"),
            ("type_map", "tacred"),
            ("type_map", {"PER": []}),
            ("type_constraints", "given"),
            ("type_constraints", {"works": [["PER"]]}),
            ("markers", ["[unused1]"]),
            ("threshold", 1.5),
            ("threshold", -0.1),
            ("threshold", float("nan")),
            ("thresholds", {"lives": -0.5}),
            ("rules", [["inverse", "lives"]]),
            ("rules", [["max_tails", "lives", 0]]),
            ("rules", [["no_self", 1]]),
            ("thresholds", [["lives", "high"]]),
            ("max_pairs", 0),
            ("max_pairs", True),
            ("max_pairs", 2.5),
        ]
    ),
    *(
        ("extractive_qa", name, value)
        for name, value in [
            ("max_answer_length", 0),
            ("max_answer_length", -3),
            ("max_answer_length", "long"),
            ("n_best", 0),
            ("n_best", 2.5),
            ("top_k", 0),
            ("top_k", "all"),
            ("plausible_weight", -0.5),
            ("temperature", 0.0),
            ("temperature", float("nan")),
            ("null_threshold", "high"),
            ("null_threshold", float("inf")),
            ("null_threshold", float("nan")),
            ("questions", ["who ?", " "]),
            ("questions", {"a": ""}),
            ("questions", {1: "who ?"}),
            ("questions", {"a:b": "who ?"}),
            ("questions", "who ?"),
            ("questions", None),
            ("questions", 3.5),
            ("questions", [3.5]),
            ("questions", [None, "who ?"]),
            ("questions", [["a", "who ?"], ["b"]]),
            ("questions", [[1, "who ?"]]),
            ("questions", [["a", 3.5]]),
        ]
    ),
]


@pytest.mark.parametrize(("component", "setting", "value"), WRONG_VALUES)
def test_wrong_value(component: str, setting: str, value: Any, folder: Path) -> None:
    """In a config, spaCy's check may come first; without one, the error is that of this package."""
    with pytest.raises(ValueError, match=setting):
        uninitialized(component, folder, **{setting: value})
    pipe: Any = uninitialized(component, folder).get_pipe(component)
    settings = {**pipe._settings, setting: value}
    if component == "relation_classifier":
        settings["pairs"] = pipe.pairs
    with pytest.raises(ValueError, match=rf"E_SR302.*'{setting}' of component 'mine'") as error:
        type(pipe)(pipe.vocab, pipe.model, "mine", **settings)
    assert f"is {value!r}, but it must be " in str(error.value)


@pytest.mark.parametrize(
    ("component", "setting", "value"),
    [
        ("span_relation", "no_such_setting", 1),
        ("relation_classifier", "no_such_setting", 1),
        ("relation_classifier", "threshold", "high"),
        ("relation_classifier", "symmetric", "killed"),
        ("relation_classifier", "all_scores", "some"),
        ("relation_classifier", "pretrained", "yes please"),
        ("relation_classifier", "negative_label", ["NA"]),
        ("relation_classifier", "pairs.scope", "paragraph"),
        ("relation_classifier", "pairs.max_distance", "far"),
        ("relation_classifier", "pairs.no_such_setting", 1),
        ("extractive_qa", "no_such_setting", 1),
        ("extractive_qa", "no_answer", "perhaps"),
        ("extractive_qa", "pretrained", "perhaps"),
        ("extractive_qa", "questions", "who ?"),
        ("extractive_qa", "questions", [3.5]),
        ("extractive_qa", "language", ["en", "es"]),
        ("extractive_qa", "model.doc_stride", None),
    ],
)
def test_wrong_kind(component: str, setting: str, value: Any, folder: Path) -> None:
    """spaCy's check of the config refuses it."""
    section, _, name = setting.rpartition(".")
    with pytest.raises(ValueError, match=name):
        uninitialized(component, folder, **({section: {name: value}} if section else {name: value}))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_length", None),
        ("max_length", "long"),
        ("batch_pieces", "many"),
        ("dropout", "much"),
        ("casing", "some"),
        ("precision", "float8"),
        ("no_such_setting", 1),
    ],
)
def test_wrong_setting_of_the_encoder(
    component: str, setting: str, value: Any, folder: Path
) -> None:
    wrong = {setting: value}
    model = {"encoder": wrong} if component == "span_relation" else wrong
    with pytest.raises(ValueError, match=setting):
        uninitialized(component, folder, model=model)


@pytest.mark.parametrize("component", ["span_relation", "relation_classifier"])
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("symmetric", ["maries"]),
        ("thresholds", [["maries", 0.5]]),
        ("rules", [["max_tails", "maries", 2]]),
        ("type_constraints", {"maries": [["Per", "Per"]]}),
    ],
)
def test_label_that_does_not_exist(
    component: str, setting: str, value: Any, folder: Path, trained: Trained
) -> None:
    error = rf"E_SR304\] 'maries' in setting '{setting}'.*based, lives"
    with pytest.raises(ValueError, match=error):
        make_pipeline(folder, [component], **{component: {setting: value}})
    if isinstance(value, dict):  # as rows, because spaCy adds no tables to a config
        value = [["maries", "Per", "Per"]]
    with pytest.raises(ValueError, match=error):
        spacy.load(trained.path, config={f"components.{component}.{setting}": value})


@pytest.mark.parametrize("component", ["relation_classifier"])
@pytest.mark.parametrize("rule", [["inverse", "lives", NEGATIVE], ["max_tails", NEGATIVE, 1]])
def test_no_rule_names_the_negative_label(
    component: str, rule: list[Any], trained: Trained
) -> None:
    """By an inverse rule it would be among the predicted relations."""
    settings = {f"components.{component}.rules": [rule]}
    with pytest.raises(ValueError, match=rf"E_SR304\] '{NEGATIVE}' in setting 'rules'"):
        spacy.load(trained.path, config=settings)


@pytest.mark.parametrize("component", ["span_relation", "relation_classifier"])
@pytest.mark.parametrize(
    "rules",
    [
        [["inverse", "lives", "lives"]],
        [["inverse", "lives", "works"], ["inverse", "based", "lives"]],
        [["inverse", "based", "works"]],
    ],
)
def test_rules_that_contradict_each_other(component: str, rules: list[Any], folder: Path) -> None:
    settings = {"rules": rules, "symmetric": ["works"]}
    with pytest.raises(ValueError, match=r"E_SR313\] The rule \['inverse'"):
        make_pipeline(folder, [component], **{component: settings})


def test_missing_device(component: str, folder: Path) -> None:
    model = {"device": "cuda:99"}
    model = {"encoder": model} if component == "span_relation" else model
    nlp = uninitialized(component, folder, model=model)
    with pytest.raises(ValueError, match=r"E_SR209.*'cuda:99'"):
        nlp.initialize(lambda: make_examples(nlp))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_float16_does_not_train(component: str, folder: Path) -> None:
    model = {"precision": "float16", "device": "cuda"}
    model = {"encoder": model} if component == "span_relation" else model
    nlp = uninitialized(component, folder, model=model)
    nlp.initialize(lambda: make_examples(nlp))
    with pytest.raises(ValueError, match="E_SR307"):
        nlp.update(make_examples(nlp))


# Effects that all components have in common


@pytest.mark.parametrize("name", ["dropout", "head_dropout"])
def test_dropout_is_for_training(component: str, name: str, folder: Path, tmp_path: Path) -> None:
    if name == "head_dropout" and component == "extractive_qa":
        pytest.skip("there is no layer before the head")
    for rate in (0.0, 0.5):
        model: dict[str, Any] = {name: rate}
        if component == "span_relation":
            model = {"dropout": rate} if name == "head_dropout" else {"encoder": model}
        nlp = uninitialized(component, folder, model=model)
        nlp.initialize(lambda nlp=nlp: make_examples(nlp))
        nlp.to_disk(tmp_path / "pipeline")
        for again in (nlp, spacy.load(tmp_path / "pipeline")):
            if component == "span_relation":
                # All negative examples, so that drawing them changes nothing.
                again.get_pipe(component).cfg.update(neg_entity_count=10**6, max_pairs=20)
            first, second = (
                again.update(make_examples(again), sgd=False)[component] for _ in range(2)
            )
            assert (first == pytest.approx(second, abs=1e-6)) == (rate == 0.0)
            assert predictions(again) == predictions(again)


def test_extensions_of_others_are_not_overwritten(
    component: str, folder: Path, fresh_extensions: None
) -> None:
    """Other packages use the same short names."""
    name = "answers" if component == "extractive_qa" else "relations"
    key = {"qa_key": "qa"} if component == "extractive_qa" else {"relations_key": "relations"}
    Doc.set_extension(name, default="theirs", force=True)
    with pytest.raises(ValueError, match=rf"E_SR101.*'doc\._\.{name}'.*extension_prefix"):
        uninitialized(component, folder, **key, extension_prefix="")
    nlp = uninitialized(component, folder, **key, extension_prefix="our_")
    doc = nlp.make_doc("a")
    assert doc._.get(name) == "theirs"
    assert doc._.get(f"our_{name}") == ()

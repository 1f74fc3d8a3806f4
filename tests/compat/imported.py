"""Pipelines on spacy-transformers that `import-transformer` turns into pipelines without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language

from spacy_spanrel import get_relations
from spacy_spanrel.training.optimizer import create_adamw

from ..span_relation.util import TEXTS, train_step
from ..tok2vec.util import COMPONENTS, add_component, gold_examples, predictions_of
from ..util import initialize

LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
    "upstream": "*",
}
STRIDED = {"@span_getters": "spacy-transformers.strided_spans.v1", "window": 12, "stride": 9}
# Longer than a window, and with odd white space.
READ = [*TEXTS, " ".join(TEXTS * 2), f"{TEXTS[0]}  \n\n {TEXTS[1]}", "", " "]


def foreign_pipeline(
    checkpoint: Path,
    components: Sequence[str] = (*COMPONENTS, "span_relation"),
    *,
    listener: dict[str, Any] = LISTENER,
    steps: int = 12,
    **transformer: Any,
) -> Language:
    """Make and train a pipeline on a `transformer` component of spacy-transformers.

    checkpoint (Path): The checkpoint.
    components (Sequence[str]): The components that listen.
    listener (dict): What stands in the models of spaCy's components for `tok2vec`.
    steps (int): Steps of training.
    **transformer (Any): Settings of the model of `transformer`.
    RETURNS (Language): The pipeline, which has learned its Docs.
    """
    nlp = spacy.blank("xx")
    model = {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "name": str(checkpoint),
        "get_spans": STRIDED,
        "tokenizer_config": {"use_fast": True},
        "transformer_config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        **transformer,
    }
    nlp.add_pipe("transformer", config={"model": model})
    for name in components:
        if name == "span_relation":
            encoder = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
            settings = {"size_embedding": 4, "dropout": 0.0, "encoder": encoder}
            nlp.add_pipe(name, config={"max_span_size": 4, "set_ents": "off", "model": settings})
        else:
            add_component(nlp, name, dict(listener))
    examples = gold_examples(nlp)
    initialize(nlp, examples)
    sgd = create_adamw(learn_rate=3e-3, head_learn_rate=3e-2, weight_decay=0.0)
    for _ in range(steps):
        train_step(nlp, examples, sgd)
    nlp.add_pipe("doc_cleaner", config={"attrs": {"_.trf_data": None}, "silent": True})
    return nlp


def imported_predictions(nlp: Language) -> list[dict[str, Any]]:
    """Predict `READ`, and return the annotations of all components as in
    `tests.encoders.util.predictions`."""
    predictions = []
    for doc in nlp.pipe(READ, batch_size=3):
        places = [[*r.to_triple(), r.head.start, r.tail.start] for r in get_relations(doc)]
        numbers = [relation.score for relation in get_relations(doc)]
        entities = doc.spans.get("entities", [])
        places += [[span.start, span.end, span.label_] for span in entities]
        numbers += list(entities.attrs["scores"]) if len(entities) else []
        numbers += [doc.cats[label] for label in sorted(doc.cats)]
        # As JSON gives it back.
        of_spacy = [[name, str(value)] for name, value in predictions_of(doc).items()]
        predictions.append({"places": places + of_spacy, "numbers": list(map(float, numbers))})
    return predictions

"""A folder in which the documentation's examples run: what it names is there, and tiny.

Names of the model hub are folders of the same names, which `from_pretrained` takes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import spacy
from spacy.tokens import Doc

from spacy_spanrel.annotations import Answer, Question, make_answer
from spacy_spanrel.cli import export

from ..extractive_qa.util import qa_checkpoint
from ..relation_classifier.util import tacred_checkpoint
from ..span_relation.test_spert import write_checkpoint
from ..span_relation.util import ENTITY_LABELS, RELATION_LABELS, ROWS, Row, make_examples, make_nlp
from ..util import initialize, make_doc, tiny_checkpoint, train, write_docs

ROOT = Path(__file__).parents[2]
ENCODER, QA_ENCODER = "tiny", "deepset/minilm-uncased-squad2"
# A corpus that the trained pipelines know by heart.
GOLD = "samples/gold.spacy"
# The sentences that the pages read with it, too.
EXAMPLES: list[Row] = [
    (
        "Ada Bergstrom , a chemist at Kelvin Labs in Oslo , was born in Trondheim .",
        [(0, 2, "Per"), (6, 8, "Org"), (9, 10, "Loc"), (14, 15, "Loc")],
        [(0, 1, "works"), (1, 2, "based"), (0, 3, "lives")],
    ),
    (
        "Ada Bergstrom works for Kelvin Labs .",
        [(0, 2, "Per"), (4, 6, "Org")],
        [(0, 1, "works")],
    ),
]
# Formats that `convert` reads, with the file that is a sample of them.
SAMPLES = ("doccano", "labelstudio", "prodigy", "spert", "squad", "tacred", "triples")
# The longest row of the configs.
MAX_POSITION = 512


def make_workspace(folder: Path) -> None:
    """Fill a folder."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    tiny_checkpoint(folder / ENCODER, max_position=MAX_POSITION)
    qa_checkpoint(folder / QA_ENCODER, max_position=MAX_POSITION)
    tacred_checkpoint(folder / "mrm8488" / "spanbert-base-finetuned-tacred")
    tacred_checkpoint(folder / "my_checkpoint", n_labels=3)
    original = folder / "spert" / "data" / "models" / "conll04"
    _, types = write_checkpoint(original)
    types.rename(folder / "conll04_types.json")
    _write_ner(folder / "en_core_web_sm")
    _write_pipelines(folder)
    _write_data(folder)


def _write_ner(folder: Path) -> None:
    """Something that finds the examples' entities, as the NER of that name does."""
    nlp = spacy.blank("en")
    patterns = {"Maria Alvarez": "PERSON", "Northwind Energy": "ORG", "Lisbon": "GPE"}
    rules = [{"label": label, "pattern": text} for text, label in patterns.items()]
    nlp.add_pipe("entity_ruler", name="ner").add_patterns(rules)
    nlp.to_disk(folder)


def _write_pipelines(folder: Path) -> None:
    nlp, _ = make_nlp(folder / ENCODER)
    examples = make_examples(nlp, [*ROWS, *EXAMPLES])
    initialize(nlp, examples)
    train(nlp, examples, 120)
    assert nlp(EXAMPLES[0][0])._.relations
    for name in ("trained/span_relation", "training/sample/model-last", "out/model-best"):
        (folder / name).mkdir(parents=True)
        nlp.to_disk(folder / name)
    described = spacy.blank("en")
    model = {"name": str(folder / ENCODER), "labels": "described", "device": "cpu"}
    texts = {"Kill": "{head} killed {tail}", "Work_For": "{head} works for {tail}"}
    config = {"model": model, "descriptions": texts}
    described.add_pipe("relation_classifier", config=config).initialize()
    (folder / "training" / "described").mkdir(parents=True)
    described.to_disk(folder / "training" / "described" / "model-last")
    reader = spacy.blank("en")
    model = {"name": str(folder / QA_ENCODER), "precision": "float32", "device": "cpu"}
    reader.add_pipe("extractive_qa", config={"model": model}).initialize()
    reader.to_disk(folder / "trained" / "extractive_qa")
    (folder / "qa").mkdir()
    reader.to_disk(folder / "qa" / "model-best")


def _gold_docs() -> list[Doc]:
    """Entities, relations, questions and answers."""
    vocab = spacy.blank("en").vocab
    docs = []
    for number, row in enumerate(ROWS):
        doc = make_doc(vocab, *row, key="entities")
        doc.ents = list(doc.spans["entities"])
        doc._.relations = doc._.relations  # written, also where there are none
        doc.spans["entities"].attrs["orig_id"] = number
        answers = [Answer(Question(f"{number}-none", "where is the company ?"))]
        for span in doc.ents[:1]:
            asked = Question(f"{number}-who", "who works ?")
            answers.append(make_answer(doc, asked, span.start_char, span.end_char))
        doc._.answers = answers
        docs.append(doc)
    return docs


def _write_data(folder: Path) -> None:
    write_docs(folder / GOLD, _gold_docs())
    for name in ("train.spacy", "dev.spacy", "test.spacy"):
        shutil.copy(folder / GOLD, folder / name)
    for name in SAMPLES:
        negatives = "no_relation" if name == "tacred" else None
        with_text = name == "triples"
        export(name, folder / GOLD, folder / "samples" / name, negatives=negatives, text=with_text)
    export("brat", folder / GOLD, folder / "annotated_folder")
    types = {
        "entities": {name: {"short": name, "verbose": name} for name in ENTITY_LABELS},
        "relations": {
            name: {"short": name, "verbose": name, "symmetric": False} for name in RELATION_LABELS
        },
    }
    (folder / "types.json").write_text(json.dumps(types))
    (folder / "text.txt").write_text("John Smith works for Google in Paris .")

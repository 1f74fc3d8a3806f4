"""A corpus reader that gives the pipeline its inputs, never its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Optional, Union

from spacy import registry
from spacy.language import Language
from spacy.tokens import Span, SpanGroup
from spacy.training import Corpus, Example

ENTS = "ents"


@registry.readers("spacy-spanrel.Corpus.v1")
def create_corpus_reader(
    path: Optional[Union[str, Path]],  # noqa: UP007, UP045 (resolved at run time)
    inputs: list[str] = [],  # noqa: B006 (confection wants a plain default; never changed)
    gold_preproc: bool = False,
    max_length: int = 0,
    limit: int = 0,
    augmenter: Optional[Callable[..., Any]] = None,  # noqa: UP045
) -> Callable[[Language], Iterable[Example]]:
    """Read a DocBin like "spacy.Corpus.v1", and copy some gold annotation to the predicted Docs.

    A component that works on entities it is given (`entities = "doc"`) needs them there when no
    NER runs before it.

    path (str | Path): File or folder of .spacy files.
    inputs (list[str]): What to copy: "ents" for `doc.ents`, any other name for that span group.
    Other arguments as in "spacy.Corpus.v1".
    RETURNS (Callable[[Language], Iterable[Example]]): The reader.
    """
    if path is None:
        raise ValueError(
            "[E_SR502] spacy-spanrel.Corpus.v1 needs a path to a .spacy file or folder."
        )
    return InputCorpus(
        path,
        inputs=inputs,
        gold_preproc=gold_preproc,
        max_length=max_length,
        limit=limit,
        augmenter=augmenter,
    )


class InputCorpus(Corpus):
    """`spacy.training.Corpus` whose predicted Docs hold chosen annotation of the gold ones.

    path (str | Path): File or folder of .spacy files.
    inputs (list[str]): As in `create_corpus_reader`.
    settings: As in `spacy.training.Corpus`.
    """

    def __init__(self, path: str | Path, *, inputs: Iterable[str] = (), **settings: Any):
        super().__init__(path, **settings)
        self.inputs = list(inputs)

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Yield the Examples. nlp (Language): Its tokenizer makes the predicted Docs."""
        for example in super().__call__(nlp):
            for name in self.inputs:
                _copy(example, name)
            yield example


def _copy(example: Example, name: str) -> None:
    gold, predicted = example.reference, example.predicted
    spans = list(gold.ents) if name == ENTS else list(gold.spans.get(name, []))
    copied = []
    for span in spans:
        at = (span.start_char, span.end_char)
        found = predicted.char_span(*at, label=span.label, alignment_mode="expand")
        if found is not None:
            copied.append(Span(predicted, found.start, found.end, label=span.label))
    if name == ENTS:
        predicted.set_ents(copied)
    else:
        predicted.spans[name] = SpanGroup(predicted, name=name, spans=copied)

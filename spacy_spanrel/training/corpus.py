"""Readers of `.spacy` files for training and evaluation.

They copy to the predicted Docs the annotation that a component takes as its input, and never the
annotation that it is to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Optional, Union

from spacy import registry
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span, SpanGroup
from spacy.training import Corpus, Example
from spacy.training.corpus import FILE_TYPE, walk_corpus
from spacy.util import filter_spans
from spacy.vocab import Vocab

from ..annotations import QA_KEY, get_questions, set_questions
from ..errors import Errors
from ..pairing import gold_sentence_starts
from ..reading import ConversionError, Place

ENTS = "ents"
SENTS = "sents"
# Key in the `user_data` of a gold Doc from which only a teacher's predictions are learned.
UNLABELLED = "spanrel_unlabelled"


def is_unlabelled(example: Example) -> bool:
    """Tell whether only a teacher's predictions are learned from an Example, because nobody has annotated
    its text.

    example (Example): The Example.
    RETURNS (bool): Whether its gold Doc is marked so.
    """
    return bool(example.reference.user_data.get(UNLABELLED))


@registry.readers("spacy-spanrel.Corpus.v1")
def create_corpus_reader(
    path: Optional[Union[str, Path]],  # noqa: UP007, UP045 (resolved at run time)
    inputs: list[str] = [],  # noqa: B006 (confection wants a plain default; never changed)
    limit: int = 0,
    augmenter: Optional[Callable[..., Any]] = None,  # noqa: UP045
    unlabelled: Optional[Union[str, Path]] = None,  # noqa: UP007, UP045
) -> Callable[[Language], Iterable[Example]]:
    """Read Docs like "spacy.Corpus.v1", and copy some gold annotation to the predicted Docs.

    A component that works on given entities (`entities = "doc"`) finds them there when no NER runs
    before it.

    path (str | Path): A .spacy file, or a folder of such files.
    inputs (list[str]): Names of what is copied: "ents" for `doc.ents`, "sents" for the sentence
        borders, any other name for the span group of that name.
    limit (int), augmenter (Callable | None): As in "spacy.Corpus.v1". Its `max_length` and
        `gold_preproc` are left out on purpose: they split Docs with `Span.as_doc`, which loses span
        groups and with them relations. The components read Docs of any length.
    unlabelled (str | Path | None): Texts, in such files, from which the component learns what its teacher
        predicts. Their annotation is not learned.
    RETURNS (Callable[[Language], Iterable[Example]]): The reader.
    """
    if path is None:
        raise ValueError(Errors.E502)
    return InputCorpus(path, inputs=inputs, limit=limit, augmenter=augmenter, unlabelled=unlabelled)


@registry.readers("spacy-spanrel.QuestionCorpus.v1")
def create_question_reader(
    path: Optional[Union[str, Path]],  # noqa: UP007, UP045 (resolved at run time)
    qa_key: str = QA_KEY,
    limit: int = 0,
    unlabelled: Optional[Union[str, Path]] = None,  # noqa: UP007, UP045
) -> Callable[[Language], Iterable[Example]]:
    """Read Docs to train question answering with: one Example for each question.

    A batch of `spacy train` then holds questions about different texts, however many questions a text
    has. The Examples of a text share their gold Doc.

    path (str | Path): A .spacy file, or a folder of such files.
    qa_key (str): The span group of questions and answers.
    limit (int): Most Docs to read, as in "spacy.Corpus.v1"; 0 for all.
    unlabelled (str | Path | None): Texts with questions, in such files, from which the component learns what
        its teacher answers. Their own answers are not learned.
    RETURNS (Callable[[Language], Iterable[Example]]): The reader.
    """
    if path is None:
        raise ValueError(Errors.E502)
    return QuestionCorpus(path, qa_key=qa_key, limit=limit, unlabelled=unlabelled)


class _TaughtCorpus(Corpus):
    """A `spacy.training.Corpus` with further texts, which are marked as unlabelled.

    path (str | Path), settings: As in `spacy.training.Corpus`.
    unlabelled (str | Path | None): A .spacy file of these texts, or a folder of such files.
    """

    def __init__(self, path: str | Path, *, unlabelled: str | Path | None = None, **settings: Any):
        super().__init__(path, **settings)
        self._unlabelled = None if unlabelled is None else Corpus(unlabelled)

    def __call__(self, nlp: Language) -> Iterator[Example]:
        yield from super().__call__(nlp)
        for example in () if self._unlabelled is None else self._unlabelled(nlp):
            example.reference.user_data[UNLABELLED] = True
            yield example


class QuestionCorpus(_TaughtCorpus):
    """A `spacy.training.Corpus` that yields an Example for each question of a Doc.

    path (str | Path): A .spacy file, or a folder of such files.
    qa_key (str), limit (int), unlabelled (str | Path | None): As in `create_question_reader`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        qa_key: str = QA_KEY,
        limit: int = 0,
        unlabelled: str | Path | None = None,
    ):
        super().__init__(path, limit=limit, unlabelled=unlabelled)
        self.qa_key = qa_key

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Yield the Examples. nlp (Language): The pipeline; its tokenizer makes the predicted Docs."""
        for example in super().__call__(nlp):
            for question in get_questions(example.reference, self.qa_key):
                predicted = example.predicted.copy()
                set_questions(predicted, question, self.qa_key)
                yield Example(predicted, example.reference)


class InputCorpus(_TaughtCorpus):
    """A `spacy.training.Corpus` whose predicted Docs hold some annotation of the gold Docs.

    path (str | Path): A .spacy file, or a folder of such files.
    inputs (list[str]), unlabelled (str | Path | None): As in `create_corpus_reader`.
    limit (int), augmenter (Callable | None): As in `spacy.training.Corpus`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        inputs: Iterable[str] = (),
        limit: int = 0,
        augmenter: Callable[..., Any] | None = None,
        unlabelled: str | Path | None = None,
    ):
        super().__init__(path, limit=limit, augmenter=augmenter, unlabelled=unlabelled)
        self.inputs = list(inputs)

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Yield the Examples. nlp (Language): The pipeline; its tokenizer makes the predicted Docs."""
        for example in super().__call__(nlp):
            for name in self.inputs:
                _copy(example, name)
            yield example


def _copy(example: Example, name: str) -> None:
    gold, predicted = example.reference, example.predicted
    if name == SENTS:
        starts = gold_sentence_starts(example)
        if starts is not None:
            for token in predicted:
                token.is_sent_start = token.i in starts
        return
    spans = list(gold.ents) if name == ENTS else list(gold.spans.get(name, []))
    copied = []
    for span in spans:
        at = (span.start_char, span.end_char)
        aligned = predicted.char_span(*at, label=span.label, alignment_mode="expand")
        if aligned is not None:
            copied.append(Span(predicted, aligned.start, aligned.end, label=span.label))
    if name == ENTS:
        # Entities that share a predicted token overlap now, which `doc.ents` does not allow.
        predicted.set_ents(filter_spans(copied))
    else:
        predicted.spans[name] = SpanGroup(predicted, name=name, spans=copied)


def has_input(gold: Doc, name: str) -> bool:
    """Tell whether a gold Doc has annotation of a name in `inputs`."""
    if name == SENTS:
        return bool(gold.has_annotation("SENT_START"))
    return bool(gold.ents if name == ENTS else gold.spans.get(name))


def read_docs(path: str | Path, vocab: Vocab | None = None) -> Iterator[Doc]:
    """Read Docs as they are, those without tokens included, which spaCy's readers leave out.

    path (str | Path): The `.spacy` file, or a folder of such files.
    vocab (Vocab | None): Their vocabulary; None for a new one.
    YIELDS (Doc): The Docs.
    RAISES (ConversionError): If there is no such file, or it is damaged or something else.
    """
    vocab = Vocab() if vocab is None else vocab
    for file in walk_corpus(path, FILE_TYPE) if Path(path).is_dir() else [Path(path)]:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise _no_docs(file, error) from error
        yield from unpack_docs(data, file, vocab)


def unpack_docs(data: bytes, path: str | Path, vocab: Vocab) -> Iterator[Doc]:
    """Read the Docs of a `.spacy` file that is in memory.

    data (bytes): The content of the file.
    path (str | Path): The file, for errors.
    vocab (Vocab): The vocabulary of the Docs.
    YIELDS (Doc): The Docs.
    RAISES (ConversionError): If this is damaged or something else.
    """
    try:
        yield from DocBin().from_bytes(data).get_docs(vocab)
    except Exception as error:  # unpacking other bytes can lead to any
        raise _no_docs(path, error) from error


def read_examples(path: str | Path, nlp: Language, inputs: Iterable[str] = ()) -> Iterator[Example]:
    """Read gold Docs as Examples.

    path (str | Path): The `.spacy` file, or a folder of such files.
    nlp (Language): The pipeline; its tokenizer makes the predicted Docs.
    inputs (Iterable[str]): Gold annotation that is copied to these, as in "spacy-spanrel.Corpus.v1".
    YIELDS (Example): The Examples.
    RAISES (FileNotFoundError): If there is no such file.
    RAISES (ConversionError): If a file is damaged or something else.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no corpus {path}.")
    examples = InputCorpus(path, inputs=inputs)(nlp)
    while True:
        try:
            example = next(examples)
        except StopIteration:
            return
        except OSError:
            raise
        except Exception as error:  # unpacking other bytes can lead to any
            raise _no_docs(path, error) from error
        yield example


def _no_docs(path: str | Path, error: Exception) -> ConversionError:
    found = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        found = error.strerror or str(error)
    return Place(str(path)).error(
        Errors.E601, found=found, expected="a file of Docs, as DocBin.to_disk writes it"
    )

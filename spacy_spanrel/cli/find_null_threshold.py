"""`python -m spacy spanrel find-null-threshold`: when a pipeline should say "no answer"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import spacy
import typer
from spacy.language import Language
from spacy.training import Example

from ..annotations import QA_KEY
from ..errors import Errors
from ..reading import Place, argument_error
from ..scoring.answers import best_null_threshold, gather_answers, squad_scores
from ..training.corpus import read_examples
from ._app import Printer, app, nothing_written
from ._thresholds import named_component, output_folder, store_threshold

SETTING = "null_threshold"


class Answerer(Protocol):
    """What the command needs of a component.

    cfg (dict): Its settings, with "null_threshold" and perhaps "qa_key", "language", "no_answer".
    """

    cfg: dict[str, Any]

    def answer_gold(self, examples: Iterable[Example]) -> Iterator[Example]: ...


@dataclass(frozen=True)
class NullThreshold:
    """What the command found.

    before, after (float): The threshold of the pipeline, and the best one.
    exact_before, f1_before, exact_after, f1_after (float): The scores that they give, in percent.
    questions (int): How many there were.
    """

    before: float
    after: float
    exact_before: float
    f1_before: float
    exact_after: float
    f1_after: float
    questions: int


@app.command("find-null-threshold", no_args_is_help=True)
def find_null_threshold_cli(
    model: Annotated[str, typer.Argument(help="Folder or package name of the pipeline")],
    corpus: Annotated[Path, typer.Argument(help="The .spacy file with gold questions and answers")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the pipeline with it")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-F", help="Store it in MODEL, which must be a folder")
    ] = False,
    component: Annotated[
        str, typer.Option("--component", "-c", help="Name of the component")
    ] = "extractive_qa",
) -> None:
    """Find the null threshold that gives the best F1.

    There is no answer to a question where the null score is greater than that of the best answer by
    more than the threshold. The pipeline answers the gold questions of the corpus, which should be
    development data, some of it without an answer. Without --output or --overwrite the threshold is
    only printed.

    Examples:

    \b
    $ python -m spacy spanrel find-null-threshold training/model-best dev.spacy
    $ python -m spacy spanrel find-null-threshold training/model-best dev.spacy -o model
    """
    try:
        found = find_null_threshold(
            model, corpus, component=component, output=output, overwrite=overwrite
        )
    except (OSError, ValueError) as error:
        nothing_written(output or Path(model), error)
    msg = Printer()
    msg.table(
        [
            (
                "before",
                f"{found.before:.4f}",
                f"{found.exact_before:.2f}",
                f"{found.f1_before:.2f}",
            ),
            ("after", f"{found.after:.4f}", f"{found.exact_after:.2f}", f"{found.f1_after:.2f}"),
        ],
        header=("", "threshold", "exact", "F1"),
        divider=True,
        aligns=("l", "r", "r", "r"),
    )
    msg.text(f"{SETTING} = {found.after!r} ({found.questions} questions)")
    if output is not None or overwrite:
        msg.good(f"Saved pipeline to {output or model}")


def find_null_threshold(
    model: str | Path,
    corpus: str | Path,
    *,
    component: str = "extractive_qa",
    output: str | Path | None = None,
    overwrite: bool = False,
) -> NullThreshold:
    """Find the best null threshold of a pipeline on gold data, and save it if that is asked for.

    model (str | Path): The pipeline: its folder, or its package's name.
    corpus (str | Path): The `.spacy` file, or a folder of such files.
    component (str): Name of the component.
    output (str | Path | None): New folder for the pipeline with the threshold.
    overwrite (bool): Save it in the folder from which it was loaded.
    RETURNS (NullThreshold): The threshold, and the scores before and after.
    RAISES (ConversionError): If an argument does not fit, or the corpus has no gold answers.
    RAISES (OSError): If there is no such pipeline or corpus, or the output exists.
    """
    target = output_folder(str(model), output, overwrite)
    nlp = spacy.load(model)
    pipe = _get_component(nlp, component)
    key = pipe.cfg.get("qa_key", QA_KEY)
    language = pipe.cfg.get("language")
    answers = gather_answers(pipe.answer_gold(read_examples(corpus, nlp)), key)
    place = Place(str(corpus))
    if not answers.references:
        raise place.error(
            Errors.E609,
            found=f"no gold answers in doc.spans[{key!r}]",
            expected="Docs with questions and answers",
        )
    differences = {name: d for name, d in answers.differences.items() if d is not None}
    if len(differences) < len(answers.differences):
        raise place.error(
            Errors.E618,
            found=f"answers of '{component}' without scores",
            expected="answers with logit and null_score",
        )
    before = squad_scores(answers.references, answers.predictions, language=language)
    threshold, _ = best_null_threshold(
        answers.references, answers.best, differences, language=language
    )
    after = squad_scores(
        answers.references, answers.best, differences, na_threshold=threshold, language=language
    )
    old = float(pipe.cfg[SETTING])
    store_threshold(nlp, component, SETTING, threshold, target)
    return NullThreshold(
        before=old,
        after=threshold,
        exact_before=before["exact"],
        f1_before=before["f1"],
        exact_after=after["exact"],
        f1_after=after["f1"],
        questions=len(answers.references),
    )


def _get_component(nlp: Language, name: str) -> Answerer:
    pipe = named_component(nlp, name)
    if not hasattr(pipe, "answer_gold") or SETTING not in getattr(pipe, "cfg", {}):
        raise argument_error("--component", repr(name), "a component that answers questions")
    if pipe.cfg.get("no_answer") is False:
        raise argument_error(
            "--component",
            f"{name!r} with no_answer = false",
            "one that may find no answer; set no_answer = true in its config",
        )
    answerer: Answerer = pipe
    return answerer

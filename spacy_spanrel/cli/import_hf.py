"""`python -m spacy spanrel import-hf`: turn a Hugging Face checkpoint into a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..files import check_folder, save_whole
from ..reading import argument_error, read_json
from ._app import Force, Lang, PipelineOutput, app, done, failing_with, one_of, parse_settings

if TYPE_CHECKING:
    from spacy.language import Language


# Components that a checkpoint can be turned into.
TASKS = ("relation_classifier", "extractive_qa")


@app.command("import-hf", no_args_is_help=True)
def import_hf_cli(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Folder, hub name or Python package of the checkpoint"
        ),
    ],
    output: PipelineOutput,
    task: Annotated[
        str,
        typer.Option(
            "--task", "-t", help="The component to make from the checkpoint", **one_of(TASKS)
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            help="relation_classifier: a predefined scheme, such as spanbert-tacred",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode", help="relation_classifier: how pairs were marked in training (ner, text, ...)"
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="relation_classifier: JSON list of labels in the order of the classes, or a file "
            "from `spacy init labels` (default: the names in the checkpoint, or the preset's)",
        ),
    ] = None,
    markers: Annotated[
        Path | None,
        typer.Option(
            "--markers",
            help='relation_classifier: JSON object of markers, {"SUBJ_START": "[unused1]", ...}',
        ),
    ] = None,
    no_answer: Annotated[
        bool | None,
        typer.Option(
            "--no-answer/--always-answer",
            help="extractive_qa: whether the checkpoint was trained on questions without an answer "
            "(default: yes; use --always-answer for SQuAD 1.1)",
        ),
    ] = None,
    always_answer: Annotated[
        # The name that --always-answer had in version 0.1.0.
        bool, typer.Option("--no-no-answer", hidden=True)
    ] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", help="Checkpoint to take the tokenizer from, if not this one"),
    ] = None,
    lang: Lang = "en",
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Name of the component (default: the task)")
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            "--settings", "-s", help="JSON object of other settings of the component and its model"
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Turn a fine-tuned Hugging Face checkpoint into a spaCy pipeline.

    The pipeline has one component, which uses the checkpoint's head. If relation_classifier needs an
    NER component, add that later. Information that is missing in a checkpoint is never guessed: give
    mode, markers and labels, or a preset that defines them.

    Examples:

    \b
    $ python -m spacy spanrel import-hf deepset/minilm-uncased-squad2 qa -t extractive_qa
    $ python -m spacy spanrel import-hf my_squad1_model qa -t extractive_qa --always-answer
    $ python -m spacy spanrel import-hf spanbert_tacred rel -t relation_classifier -p spanbert-tacred
    $ python -m spacy spanrel import-hf my_model rel -t relation_classifier --mode text \\
        --markers markers.json --labels labels.json
    """
    with failing_with(f"Nothing written to {output}"):
        write_hf_pipeline(
            checkpoint,
            output,
            task=task,
            preset=preset,
            mode=mode,
            labels=labels,
            markers=markers,
            no_answer=False if always_answer else no_answer,
            tokenizer=tokenizer,
            lang=lang,
            name=name,
            settings=None if settings is None else parse_settings(settings),
            force=force,
        )
    done(f"Saved pipeline to {output}")


def write_hf_pipeline(
    checkpoint: str | Path,
    output: str | Path,
    *,
    labels: str | Path | None = None,
    markers: str | Path | None = None,
    force: bool = False,
    **arguments: Any,
) -> None:
    """Import a checkpoint and save the pipeline; after any failure the output is as it was before.

    checkpoint (str | Path): As in `import_hf`.
    output (str | Path): The folder to write.
    labels, markers (str | Path | None): JSON files with the arguments of `import_hf`.
    force (bool): Replace the folder if it exists.
    **arguments (Any): As in `import_hf`.
    RAISES (FileExistsError): If the folder exists and `force` is not set, or if it contains anything
        that was not written by a command of this package.
    RAISES (OSError, ValueError): As in `import_hf`, or if a file cannot be read or is invalid.
    """
    check_folder(output, checkpoint, labels, markers, force=force)
    nlp = import_hf(
        checkpoint,
        labels=None if labels is None else read_json(labels).raw,
        markers=None
        if markers is None
        else {marker: entry.as_str() for marker, entry in read_json(markers).items()},
        **arguments,
    )
    save_whole(nlp, output, inputs=(checkpoint, labels, markers))


def import_hf(
    checkpoint: str | Path,
    *,
    task: str,
    preset: str | None = None,
    mode: str | None = None,
    labels: Sequence[str] | Mapping[str, Any] | None = None,
    markers: Mapping[str, str] | None = None,
    no_answer: bool | None = None,
    tokenizer: str | None = None,
    lang: str = "en",
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Language:
    """Make a pipeline from a fine-tuned Hugging Face checkpoint.

    checkpoint (str | Path): Folder, hub name, or installed package that contains it.
    task (str): "relation_classifier" (for a sequence classifier) or "extractive_qa".
    preset (str | None), mode (str | None): Settings of `relation_classifier`.
    labels (Sequence[str] | Mapping | None): For `relation_classifier`: labels in the order of the
        classes, or a table in the form that its `initialize` accepts; None for the names in the
        checkpoint or, if it has none, those of the preset.
    markers (Mapping[str, str] | None): For `relation_classifier`: vocabulary entry of each marker.
    no_answer (bool | None): Setting of `extractive_qa`; None for its default.
    tokenizer (str | None): Checkpoint to take the tokenizer from, if not this one.
    lang (str): Language of the pipeline's tokenizer.
    name (str | None): Name of the component; None for the name of the task.
    settings (Mapping | None): Other settings of the component, including "model".
    RETURNS (Language): A blank pipeline with the component, ready to predict, save or train on.
    RAISES (ValueError): If an argument does not belong to the task, or if information about the
        checkpoint's training is missing or contradicts the checkpoint.
    RAISES (OSError): If there is no such checkpoint.
    """
    import spacy

    if task not in TASKS:
        raise argument_error("--task", repr(task), "one of " + ", ".join(TASKS))
    relation_arguments = {"preset": preset, "mode": mode, "labels": labels, "markers": markers}
    others = {"no_answer": no_answer} if task == "relation_classifier" else relation_arguments
    for argument, value in others.items():
        if value is not None:
            raise argument_error(
                f"--{argument.replace('_', '-')}", f"--task {task}", "the other task"
            )
    other_settings = dict(settings or {})
    model = {**other_settings.pop("model", {}), "name": str(checkpoint)}
    if tokenizer is not None:
        model["tokenizer"] = tokenizer
    rows = None if markers is None else [list(row) for row in markers.items()]
    chosen = {"preset": preset, "mode": mode, "markers": rows, "no_answer": no_answer}
    config: dict[str, Any] = {**other_settings, "pretrained": True, "model": model}
    config |= {name: value for name, value in chosen.items() if value is not None}
    nlp = spacy.blank(lang)
    pipe: Any = nlp.add_pipe(task, name=name or task, config=config)
    if labels is None:
        pipe.initialize()
    else:
        pipe.initialize(labels=labels if isinstance(labels, Mapping) else {"labels": list(labels)})
    return nlp

"""`python -m spacy spanrel import-spert`: turn a checkpoint of the original SpERT program into a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import Errors
from ..files import check_folder, save_whole
from ._app import Force, Lang, PipelineOutput, app, done, failing_with, parse_settings

if TYPE_CHECKING:
    from spacy.language import Language
    from torch import Tensor

# Settings with which predictions equal those of the original program.
ORIGINAL_SETTINGS: dict[str, Any] = {
    "overlaps": "allow",
    "type_constraints": "off",
    "relation_threshold": 0.4,
    "max_span_size": 10,
}


@app.command("import-spert", no_args_is_help=True)
def import_spert_cli(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Folder of the checkpoint, with config.json, weights and tokenizer",
        ),
    ],
    output: PipelineOutput,
    types: Annotated[
        Path, typer.Option("--types", "-t", help="The types file used to train the checkpoint")
    ],
    lang: Lang = "en",
    name: Annotated[
        str, typer.Option("--name", "-n", help="Name of the component")
    ] = "span_relation",
    lowercase: Annotated[
        bool | None,
        typer.Option(
            "--lowercase/--cased",
            help="Whether the tokenizer lowercases text (default: as set in the checkpoint)",
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            "--settings",
            "-s",
            help="JSON object of span_relation settings that differ from the original program's",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Turn a checkpoint of the original SpERT program into a spaCy pipeline.

    The pipeline makes the same predictions as that program: it keeps overlapping entities and
    relations between any types. Use --settings for better decoding.

    Examples:

    \b
    $ python -m spacy spanrel import-spert spert/data/models/conll04 conll04_spert --types types.json
    $ python -m spacy spanrel import-spert model out -t types.json -s '{"overlaps": "best"}'
    """
    with failing_with(f"Nothing written to {output}"):
        write_pipeline(
            checkpoint,
            output,
            types=types,
            lang=lang,
            name=name,
            lowercase=lowercase,
            settings=None if settings is None else parse_settings(settings),
            force=force,
        )
    done(f"Saved pipeline to {output}")


def write_pipeline(
    checkpoint: str | Path,
    output: str | Path,
    *,
    types: str | Path,
    lang: str = "en",
    name: str = "span_relation",
    lowercase: bool | None = None,
    settings: dict[str, object] | None = None,
    force: bool = False,
) -> None:
    """Import a checkpoint and save the pipeline; after any failure the output is as it was before.

    output (str | Path): The folder to write.
    force (bool): Replace the folder if it exists.
    Other arguments as in `import_spert`.
    RAISES (FileExistsError): If the folder exists and `force` is not set, or if it contains anything
        that was not written by a command of this package.
    """
    check_folder(output, checkpoint, types, force=force)
    nlp = import_spert(
        checkpoint, types, lang=lang, name=name, lowercase=lowercase, settings=settings
    )
    save_whole(nlp, output, inputs=(checkpoint, types))


def import_spert(
    checkpoint: str | Path,
    types: str | Path,
    *,
    lang: str = "en",
    name: str = "span_relation",
    lowercase: bool | None = None,
    settings: dict[str, Any] | None = None,
    precision: str = "auto",
    device: str = "auto",
) -> Language:
    """Make a pipeline from a checkpoint of the original SpERT program (version 1.x).

    checkpoint (str | Path): Folder with config.json, weights and the tokenizer's files.
    types (str | Path): The types file it was trained with, whose order is that of the classes.
    lang (str): Language of the pipeline's tokenizer.
    name (str): Name of the component.
    lowercase (bool | None): Whether the tokenizer lowercases text; None for the setting of the
        checkpoint.
    settings (dict | None): Settings of `span_relation`. The defaults are those of the original program
        (overlapping entities allowed, no type constraints, threshold 0.4, spans of up to 10 tokens).
    precision (str), device (str): As in "spacy-spanrel.HFEncoder.v1".
    RETURNS (Language): A blank pipeline with the component, ready to predict, save or train on.
    RAISES (ValueError): If the folder is not such a checkpoint, or if the types file is invalid or
        does not match the checkpoint.
    """
    # Heavy imports are delayed, because spaCy loads this module for every command.
    import spacy

    from ..converters import read_types
    from ..encoding.checkpoint import HFModule, hf_files, hf_settings
    from ..encoding.encoder import set_encoder
    from ..encoding.shim import load_weights
    from ..span_relation.component import SpanRelation
    from ..span_relation.model import set_heads
    from ..span_relation.network import HeadSettings, SpERTHeads

    checkpoint = Path(checkpoint)
    names = read_types(types)
    entity_labels, relation_labels = list(names.entities), list(names.relations)
    transformer, tokenizer, weights = _load(checkpoint, lowercase)
    n_entities = 1 + len(entity_labels)
    for what, key, expected in (
        ("entity classes (with the one for no entity)", "entity_classifier", n_entities),
        ("relation types", "rel_classifier", len(relation_labels)),
    ):
        n_classes = weights[f"{key}.bias"].shape[0]
        if n_classes != expected:
            raise ValueError(
                Errors.E402.format(path=checkpoint, found=n_classes, what=what, expected=expected)
            )
    heads = SpERTHeads(
        HeadSettings(
            width=int(transformer.config.hidden_size),
            n_entity_types=len(entity_labels),
            n_relation_types=len(relation_labels),
            size_embedding=weights["size_embeddings.weight"].shape[1],
            dropout=0.1,
            boundaries=False,
        )
    )
    load_weights(heads, {k: v for k, v in weights.items() if not k.startswith("bert.")})

    nlp = spacy.blank(lang)
    config: dict[str, Any] = {
        **ORIGINAL_SETTINGS,
        "symmetric": [label for label in relation_labels if label in names.symmetric],
        **(settings or {}),
        "model": {
            "size_embedding": heads.settings.size_embedding,
            "encoder": {"name": checkpoint.name, "precision": precision, "device": device},
        },
    }
    pipe = nlp.add_pipe("span_relation", name=name, config=config)
    assert isinstance(pipe, SpanRelation)
    for label in entity_labels:
        pipe.add_label(label, "entity")
    for label in relation_labels:
        pipe.add_label(label, "relation")
    # Saved first, because HFModule changes the tokenizer.
    files = hf_files(transformer, tokenizer)
    module = HFModule(transformer.float(), tokenizer, checkpoint.name)
    settings_of_encoder = hf_settings(module, checkpoint.name)
    set_encoder(pipe.model.get_ref("encoder"), module, settings_of_encoder, files)
    pipe.model.set_dim("n_entity_types", len(entity_labels))
    pipe.model.set_dim("n_relation_types", len(relation_labels))
    set_heads(pipe.model, heads)
    return nlp


def _load(checkpoint: Path, lowercase: bool | None) -> tuple[Any, Any, dict[str, Tensor]]:
    """Return the BERT model with its weights, the tokenizer, and all weights."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from ..encoding.checkpoint import check_config, reading
    from ..encoding.shim import load_weights

    if not (checkpoint / "config.json").is_file():
        raise ValueError(Errors.E401.format(path=checkpoint, reason="it has no config.json"))
    check_config(str(checkpoint))
    with reading(str(checkpoint)):
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        transformer = AutoModel.from_config(config, trust_remote_code=False)
        choice = {} if lowercase is None else {"do_lower_case": lowercase}
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint, use_fast=True, trust_remote_code=False, **choice
        )
    weights = _read_weights(checkpoint)
    heads = ("entity_classifier", "rel_classifier")
    needed = {"size_embeddings.weight", *(f"{h}.{p}" for h in heads for p in ("weight", "bias"))}
    if not needed <= set(weights):
        reason = f"it lacks {sorted(needed - set(weights))}"
        raise ValueError(Errors.E401.format(path=checkpoint, reason=reason))
    # The original uses only the vectors of the pieces; a checkpoint may or may not have a pooler.
    body = {
        key.removeprefix("bert."): value
        for key, value in weights.items()
        if key.startswith("bert.") and not key.startswith("bert.pooler.")
    }
    if hasattr(transformer, "pooler"):
        transformer.pooler = None
    load_weights(transformer, body)
    return transformer, tokenizer, weights


def _read_weights(checkpoint: Path) -> dict[str, Tensor]:
    import torch

    from ..encoding.checkpoint import reading

    safe, pickled = checkpoint / "model.safetensors", checkpoint / "pytorch_model.bin"
    with reading(str(checkpoint)):
        if safe.is_file():
            from safetensors.torch import load_file

            return load_file(safe)
        if pickled.is_file():
            # With weights_only, only tensors are read and no code is run.
            weights: dict[str, Tensor] = torch.load(pickled, map_location="cpu", weights_only=True)
            return weights
    reason = "it has neither model.safetensors nor pytorch_model.bin"
    raise ValueError(Errors.E401.format(path=checkpoint, reason=reason))

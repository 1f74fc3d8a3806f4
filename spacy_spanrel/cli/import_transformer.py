"""`python -m spacy spanrel import-transformer`: a pipeline on spacy-transformers becomes one without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..conversion.transformer import import_transformer
from ._app import Force, PipelineOutput, app, done, failing_with, warn


@app.command("import-transformer", no_args_is_help=True)
def import_transformer_cli(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Folder or package name of the pipeline")
    ],
    output: PipelineOutput,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            "-t",
            help="The .spacy file (or folder of such files) whose predictions are compared before "
            "and after (default: a few English sentences)",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Turn a pipeline on spacy-transformers into one on transformers 5, which needs no
    spacy-transformers.

    Its `transformer` becomes spaCy's `tok2vec` with spacy-spanrel.HFTok2Vec.v1, under the same name,
    and the components that listen to it keep their weights. The new pipeline predicts the same;
    otherwise nothing is written. The command itself needs spacy-transformers: run it once, in an
    environment of its own (pip install 'spacy-spanrel[spacy-transformers]').

    Examples:

    \b
    $ python -m spacy spanrel import-transformer training/model-best model-5
    $ python -m spacy spanrel import-transformer training/model-best model-5 --texts dev.spacy
    """
    with failing_with(f"Nothing written to {output}"):
        result = import_transformer(pipeline, output, texts=texts, force=force)
    if result.grad_factors:
        factors = ", ".join(f"{name} {factor:g}" for name, factor in result.grad_factors.items())
        warn(
            f"Dropped the grad_factor of {factors}: spacy.Tok2VecListener.v1 has none. It counts "
            "only if the pipeline is trained again."
        )
    done(
        f"{result.docs} texts: {result.annotations} annotations are the same before and after, and "
        f"vectors of tokens differ by at most {result.difference:.1g}"
    )
    done(f"Saved pipeline with {', '.join(result.components)} on one encoder to {output}")

"""`python -m spacy spanrel graph`: the relations of `.spacy` files as one graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from spacy.tokens import Doc
from tqdm import tqdm

from ..annotations import CLUSTERS_PREFIX, RELATIONS_KEY
from ..errors import Errors
from ..files import check_output
from ..reading import Place, argument_error
from ..training.corpus import read_docs
from ..visualize.graph import check_suffix, relation_graph, write_graph
from ..visualize.network import MAX_NODES
from ._app import Quiet, SpacyInputs, app, done, failing_with

if TYPE_CHECKING:
    import networkx as nx


@app.command("graph", no_args_is_help=True)
def graph_cli(
    inputs: SpacyInputs,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The .graphml or .html file to write")
    ],
    key: Annotated[
        str, typer.Option("--key", "-k", help="Span group of the relations")
    ] = RELATIONS_KEY,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", "-x", metavar="LABEL", help="Relation to leave out; may be repeated"
        ),
    ] = None,
    entities: Annotated[
        bool,
        typer.Option(
            "--entities",
            "-e",
            help="Join coreferent mentions: nodes are named by the best mentions of their clusters",
        ),
    ] = False,
    clusters_prefix: Annotated[
        str,
        typer.Option(
            "--clusters-prefix",
            help="With --entities: prefix of the span groups of coreferent mentions",
        ),
    ] = CLUSTERS_PREFIX,
    max_nodes: Annotated[
        int, typer.Option("--max-nodes", "-n", min=2, help="Number of nodes in an .html picture")
    ] = MAX_NODES,
    quiet: Quiet = False,
) -> None:
    """Gather the relations of .spacy files in one graph.

    Arguments with the same text (apart from case and spacing) and the same type are one node. Edges
    are relations, with their number, their best score and the Docs they occur in. A .graphml file
    holds the whole graph, for other programs; an .html page shows the best-connected nodes.

    Examples:

    \b
    $ python -m spacy spanrel graph train.spacy dev.spacy relations.graphml
    $ python -m spacy spanrel graph train.spacy relations.html --max-nodes 80
    $ python -m spacy spanrel graph tacred.spacy relations.html --exclude no_relation
    $ python -m spacy spanrel graph predicted.spacy relations.html --entities
    """
    with failing_with(f"Nothing written to {output}"):
        relations = graph(
            inputs,
            output,
            key=key,
            exclude=exclude or (),
            entities=entities,
            clusters_prefix=clusters_prefix,
            max_nodes=max_nodes,
            quiet=quiet,
        )
    if not quiet:
        text = f"{relations.number_of_nodes()} nodes and {relations.number_of_edges()} edges"
        done(f"{text} written to {output}")


def graph(
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    key: str = RELATIONS_KEY,
    exclude: Collection[str] = (),
    entities: bool = False,
    clusters_prefix: str = CLUSTERS_PREFIX,
    max_nodes: int = MAX_NODES,
    quiet: bool = True,
) -> nx.MultiDiGraph:
    """Write the graph of the relations of `.spacy` files.

    inputs (Sequence[str | Path]): The files.
    output (str | Path): The `.graphml` or `.html` file; its folder is made if need be.
    key (str): Span group of the relations.
    exclude (Collection[str]): Labels to leave out.
    entities (bool): Take relations between entities, see `relation_graph`.
    clusters_prefix (str): With `entities`: prefix of the span groups of coreferent mentions.
    max_nodes (int): Limit of the nodes in an `.html` picture.
    quiet (bool): Show no progress bar. It is only ever shown on a terminal.
    RETURNS (nx.MultiDiGraph): The whole graph.
    RAISES (ConversionError): If an input cannot be read, or there are no relations.
    RAISES (ValueError): If the output has another suffix, or is an input.
    """
    output = Path(output)
    check_suffix(output)
    if not inputs:
        raise argument_error("INPUT", "no file", "one or more files")
    check_output(output, *inputs)
    relations = relation_graph(
        _docs(inputs, quiet),
        key=key,
        exclude=exclude,
        entities=entities,
        clusters_prefix=clusters_prefix,
    )
    if not relations.number_of_edges():
        raise Place(", ".join(map(str, inputs))).error(
            Errors.E609,
            found=f"{relations.graph['docs']} Docs without relations in doc.spans[{key!r}]",
            expected="Docs with relations that are not excluded",
        )
    write_graph(relations, output, max_nodes=max_nodes)
    return relations


def _docs(inputs: Sequence[str | Path], quiet: bool) -> Iterator[Doc]:
    # disable=None shows the bar on terminals only; the delay keeps it away from short work.
    with tqdm(desc="Docs", unit=" docs", delay=1.0, disable=True if quiet else None) as bar:
        for path in inputs:
            for doc in read_docs(path):
                yield doc
                bar.update()

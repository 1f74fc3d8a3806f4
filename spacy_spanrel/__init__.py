"""spaCy components that read relations and answers out of text with transformers.

Importing the package registers the extensions `doc._.relations`, `doc._.relation_scores` and
`span._.relations`, and loads nothing heavy: torch and transformers are imported by the components
that need them.
"""

from contextlib import suppress

from .about import __version__
from .annotations import (
    PairScores,
    Relation,
    get_entities,
    get_pair_scores,
    get_relations,
    register_extensions,
    set_entities,
    set_pair_scores,
    set_relations,
)

__all__ = [
    "PairScores",
    "Relation",
    "__version__",
    "get_entities",
    "get_pair_scores",
    "get_relations",
    "register_extensions",
    "set_entities",
    "set_pair_scores",
    "set_relations",
]

# Where another package owns the name, the import must not fail for that (spaCy imports every entry
# point); the component that wants the name raises when it is built.
with suppress(ValueError):
    register_extensions()

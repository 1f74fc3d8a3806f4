"""spaCy components that read relations and answers out of text with transformers.

Importing the package registers the extensions `doc._.relations`, `doc._.relation_scores`,
`span._.relations`, `doc._.questions`, `doc._.answers` and `doc._.spanrel_report`, and loads nothing
heavy: torch and transformers are imported by the components that need them.
"""

from contextlib import suppress

from .about import __version__
from .annotations import (
    Answer,
    PairScores,
    Question,
    Relation,
    get_answers,
    get_entities,
    get_pair_scores,
    get_questions,
    get_relations,
    get_report,
    register_extensions,
    register_qa_extensions,
    register_report_extension,
    set_answers,
    set_entities,
    set_pair_scores,
    set_questions,
    set_relations,
)

__all__ = [
    "Answer",
    "PairScores",
    "Question",
    "Relation",
    "__version__",
    "get_answers",
    "get_entities",
    "get_pair_scores",
    "get_questions",
    "get_relations",
    "get_report",
    "register_extensions",
    "register_qa_extensions",
    "register_report_extension",
    "set_answers",
    "set_entities",
    "set_pair_scores",
    "set_questions",
    "set_relations",
]

# Where another package owns a name, the import must not fail for that (spaCy imports every entry
# point); the component that wants the name raises when it is built.
for _register in (register_extensions, register_qa_extensions, register_report_extension):
    with suppress(ValueError):
        _register()  # type: ignore[operator]

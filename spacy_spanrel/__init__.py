"""spaCy components that extract relations and answers from text with transformers.

Importing the package registers the extensions `doc._.relations`, `doc._.relation_scores`,
`doc._.entity_relations`, `span._.relations`, `doc._.questions`, `doc._.answers` and
`doc._.spanrel_report`, except those whose names another package uses already. It does not import torch
or transformers, which are imported by the components.
"""

from .about import __version__
from .annotations import (
    Answer,
    EntityRelation,
    PairScores,
    Question,
    Relation,
    get_answers,
    get_clusters,
    get_entities,
    get_entity_relations,
    get_pair_scores,
    get_questions,
    get_relations,
    get_report,
    register_extensions,
    register_qa_extensions,
    register_report_extension,
    set_answers,
    set_clusters,
    set_entities,
    set_pair_scores,
    set_questions,
    set_relations,
)
from .annotations.answers import qa_extensions
from .annotations.extensions import register_defaults
from .annotations.relations import relation_extensions
from .annotations.report import report_extensions

__all__ = [
    "Answer",
    "EntityRelation",
    "PairScores",
    "Question",
    "Relation",
    "__version__",
    "get_answers",
    "get_clusters",
    "get_entities",
    "get_entity_relations",
    "get_pair_scores",
    "get_questions",
    "get_relations",
    "get_report",
    "register_extensions",
    "register_qa_extensions",
    "register_report_extension",
    "set_answers",
    "set_clusters",
    "set_entities",
    "set_pair_scores",
    "set_questions",
    "set_relations",
]

for _extensions in (relation_extensions(), qa_extensions(), report_extensions()):
    register_defaults(_extensions)

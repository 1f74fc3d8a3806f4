"""Converters of annotated data to gold Docs: one module a format, one public function each."""

from .ade import ade_to_docs
from .common import (
    ConversionError,
    ConversionReport,
    TypeNames,
    add_negatives,
    get_orig_id,
    read_types,
)
from .conll04 import conll04_to_docs
from .kbp37 import kbp37_to_docs
from .scierc import scierc_to_docs
from .semeval import semeval_to_docs
from .spert import spert_to_docs
from .squad import answers_to_predictions, docs_to_squad, squad_to_docs
from .tacred import tacred_to_docs

__all__ = [
    "ConversionError",
    "ConversionReport",
    "TypeNames",
    "add_negatives",
    "ade_to_docs",
    "answers_to_predictions",
    "conll04_to_docs",
    "docs_to_squad",
    "get_orig_id",
    "kbp37_to_docs",
    "read_types",
    "scierc_to_docs",
    "semeval_to_docs",
    "spert_to_docs",
    "squad_to_docs",
    "tacred_to_docs",
]

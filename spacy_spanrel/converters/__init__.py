"""Converters of annotated data: to gold Docs and back, one module a format.

A reader, `<format>_to_docs(path, ...)`, yields gold Docs; the arguments that all readers share are
those of `common.DocMaker`. A writer, `docs_to_<format>(docs, report)`, makes records of Docs, gold or
predicted, and notes in the report whatever the format cannot hold.
"""

from ..annotations.relations import get_orig_id
from ..reading import ConversionError
from .ade import ade_to_docs, docs_to_ade
from .brat import BratDocument, brat_to_docs, docs_to_brat
from .conll04 import conll04_to_docs, docs_to_conll04
from .doccano import doccano_to_docs, docs_to_doccano
from .kbp37 import docs_to_kbp37, kbp37_to_docs
from .labelstudio import docs_to_labelstudio, labelstudio_to_docs
from .langextract import langextract_to_docs
from .negatives import add_negatives
from .prodigy import docs_to_prodigy, prodigy_to_docs
from .report import ConversionReport, ExportReport
from .scierc import docs_to_scierc, scierc_to_docs
from .semeval import docs_to_semeval, semeval_to_docs
from .spert import docs_to_spert, spert_to_docs
from .squad import answers_to_predictions, docs_to_squad, squad_to_docs
from .tacred import docs_to_tacred, tacred_to_docs
from .triples import docs_to_triples, triples_to_docs
from .type_names import TypeNames, read_types

__all__ = [
    "BratDocument",
    "ConversionError",
    "ConversionReport",
    "ExportReport",
    "TypeNames",
    "add_negatives",
    "ade_to_docs",
    "answers_to_predictions",
    "brat_to_docs",
    "conll04_to_docs",
    "doccano_to_docs",
    "docs_to_ade",
    "docs_to_brat",
    "docs_to_conll04",
    "docs_to_doccano",
    "docs_to_kbp37",
    "docs_to_labelstudio",
    "docs_to_prodigy",
    "docs_to_scierc",
    "docs_to_semeval",
    "docs_to_spert",
    "docs_to_squad",
    "docs_to_tacred",
    "docs_to_triples",
    "get_orig_id",
    "kbp37_to_docs",
    "labelstudio_to_docs",
    "langextract_to_docs",
    "prodigy_to_docs",
    "read_types",
    "scierc_to_docs",
    "semeval_to_docs",
    "spert_to_docs",
    "squad_to_docs",
    "tacred_to_docs",
    "triples_to_docs",
]

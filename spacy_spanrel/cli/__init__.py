"""Commands of `python -m spacy spanrel` (also as `spacy-spanrel`); spaCy loads `app` through the
`spacy_cli` entry point.

Importing a command's module registers it.
"""

from ._app import app, main
from .convert import convert
from .export import export
from .find_null_threshold import find_null_threshold
from .import_spert import write_pipeline

__all__ = ["app", "convert", "export", "find_null_threshold", "main", "write_pipeline"]

"""Name and version of the package."""

__title__ = "spacy-spanrel"
__version__ = "0.1.0"

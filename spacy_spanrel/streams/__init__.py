"""Annotate a large collection of texts with a saved pipeline, in constant memory, and resumably.

``inputs`` finds files, and ``readers`` turns them into rows; ``annotate`` gives them a chunk at a time to
an engine of ``workers``, which uses ``annotator``; ``records`` makes the rows of the output; ``writers``
writes them; and ``progress`` keeps what is unfinished, so that a kill at any moment loses nothing.
``shards`` divides an input among runs, and puts their outputs together. ``arrow`` does without files: it
annotates Arrow tables for other programs.
"""

from .annotate import AnnotationReport, annotate, merge_shards
from .inputs import INPUT_FORMATS
from .writers import OUTPUT_FORMATS

__all__ = ["INPUT_FORMATS", "OUTPUT_FORMATS", "AnnotationReport", "annotate", "merge_shards"]

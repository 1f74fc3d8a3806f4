"""Annotate a large collection of texts with a saved pipeline, in constant memory, and resumably.

``readers`` turns files into rows; ``annotate`` gives them to the pipeline a chunk at a time, or to the
processes of ``workers``; ``records`` makes the rows of the output; ``writers`` writes them; and
``progress`` keeps what is unfinished, so that a kill at any moment loses nothing.
"""

from .annotate import AnnotationReport, annotate
from .readers import INPUT_FORMATS
from .writers import OUTPUT_FORMATS

__all__ = ["INPUT_FORMATS", "OUTPUT_FORMATS", "AnnotationReport", "annotate"]

"""Annotate a pile of texts with a saved pipeline: in constant memory, and resumable.

``readers`` turns files into rows, ``annotate`` gives them to the pipeline a chunk at a time,
``records`` says what a row of the output looks like, ``writers`` puts it where a kill at any moment
leaves nothing half-done, and ``progress`` remembers how far that went.
"""

from .annotate import AnnotationReport, annotate
from .readers import INPUT_FORMATS
from .writers import OUTPUT_FORMATS

__all__ = ["INPUT_FORMATS", "OUTPUT_FORMATS", "AnnotationReport", "annotate"]

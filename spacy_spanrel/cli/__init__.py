"""The commands of `python -m spacy spanrel`, also called `spacy-spanrel`.

Importing a command's module registers it; spaCy imports `app` through the `spacy_cli` entry point.
"""

from ._app import app, main
from .annotate import annotate
from .calibrate import calibrate
from .convert import convert
from .debug_data import debug_data
from .evaluate import evaluate
from .export import export
from .find_threshold import find_null_threshold, find_threshold
from .graph import graph
from .import_hf import import_hf
from .import_spert import write_pipeline
from .import_transformer import import_transformer
from .learning_curve import learning_curve
from .make_questions import make_questions
from .model_card import write_model_card
from .optimize import optimize
from .pre_annotate import pre_annotate
from .visualize import visualize

__all__ = [
    "annotate",
    "app",
    "calibrate",
    "convert",
    "debug_data",
    "evaluate",
    "export",
    "find_null_threshold",
    "find_threshold",
    "graph",
    "import_hf",
    "import_transformer",
    "learning_curve",
    "main",
    "make_questions",
    "optimize",
    "pre_annotate",
    "visualize",
    "write_model_card",
    "write_pipeline",
]

"""SemEval-2010 Task 8 dev scores of `relation_classifier`, by the official score.

    python benchmarks/semeval.py --data ../shared/data/semeval --seeds 1 2 3 --variants typed_markers

The data is in the task's own form (`train.txt`, `dev.txt`). The official score is the macro F1 over the nine
relations, each with both directions, of which the right one counts; Other is the negative label. Recipes,
options and output as in `kbp37.py`.
"""

from __future__ import annotations

from kbp37 import PIPE, main

from spacy_spanrel.converters.semeval import semeval_to_docs

if __name__ == "__main__":
    main(
        __doc__,
        "semeval",
        semeval_to_docs,
        ".txt",
        {f"{PIPE}.negative_label": "Other"},
    )

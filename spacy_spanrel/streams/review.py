"""Divide predicted Docs into those to keep and those to correct, in an order for people.

A relation with a score from HIGH on is kept, one below LOW is dropped, and one in between is doubtful. A
text with a doubtful relation is to be corrected, with all its relations that are not dropped; all other
texts are kept, as silver data.

People correct few of the doubtful texts, so the order matters. It is that of the most doubt first: the
entropies of the doubtful scores are added (total uncertainty, Settles and Craven 2008, "An analysis of
active learning strategies for sequence labeling tasks"). But the most doubtful texts are often alike, and
the second of two like texts teaches little. So the next text is always the one with the largest product
of doubt and of distance to the nearest text before it: farthest-first, as for core-sets (Sener and
Savarese 2018, "Active learning for convolutional neural networks: a core-set approach"), with doubt as
the weight. Texts are compared by their labels, entity types and words, hashed into a short vector, which
costs no network.

Docs are read once and one by one. In memory are the doubtful ones that are put in order, at most `size`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from spacy.tokens import Doc, DocBin

from ..annotations import Relation, get_relations, set_relations
from ..annotations.relations import RELATIONS_KEY
from ..arrays import FloatArray
from ..files import to_json, write_whole
from ..reading import argument_error

# Most doubtful texts that are put in order.
REVIEW_SIZE = 1000
WIDTH = 256
# Docs of a file.
_IN_FILE = 1000
REPORT = "review.json"


@dataclass(frozen=True)
class ReviewSettings:
    """Borders of a review.

    low, high (float): Relations below `low` are dropped, those from `high` on are kept.
    size (int): Most doubtful texts that are put in order.
    """

    low: float
    high: float
    size: int = REVIEW_SIZE

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            found = f"{self.low} {self.high}"
            raise argument_error("--review", found, "two scores, 0 <= LOW <= HIGH <= 1")
        if self.size < 1:
            raise argument_error("--review-size", str(self.size), "at least 1")


@dataclass
class ReviewCounts:
    """The numbers of a review.

    kept_texts (int): Texts without a doubtful relation.
    empty_texts (int): Those of them without any relation.
    doubtful_texts (int): Texts with doubtful relations, in the order of their review.
    later_texts (int): Further doubtful texts, with less doubt.
    kept, doubtful, dropped (int): Relations.
    """

    kept_texts: int = 0
    empty_texts: int = 0
    doubtful_texts: int = 0
    later_texts: int = 0
    kept: int = 0
    doubtful: int = 0
    dropped: int = 0


def review(
    docs: Iterable[Doc],
    folder: Path,
    settings: ReviewSettings,
    relations_keys: Iterable[str] = (RELATIONS_KEY,),
) -> ReviewCounts:
    """Divide Docs, and write `kept/` and `later/` (folders of .spacy files), `doubtful.spacy` and
    `review.json`, the counts.

    docs (Iterable[Doc]): Predicted Docs.
    folder (Path): An empty folder, or one that does not exist yet.
    settings (ReviewSettings): The borders.
    relations_keys (Iterable[str]): The span groups of relations.
    RETURNS (ReviewCounts): The counts.
    """
    keys = list(relations_keys)
    counts = ReviewCounts()
    kept, later = _DocsFolder(folder / "kept"), _DocsFolder(folder / "later")
    heap: list[tuple[float, int, FloatArray, DocBin]] = []
    for number, doc in enumerate(docs):
        doubtful = [relation for key in keys for relation in _divide(doc, key, settings, counts)]
        if not doubtful:
            counts.kept_texts += 1
            counts.empty_texts += not any(get_relations(doc, key) for key in keys)
            kept.add(doc)
            continue
        # Of texts with the same doubt, the first one is reviewed first.
        item = (
            doubt(doubtful),
            -number,
            features(doc, doubtful),
            DocBin(docs=[doc], store_user_data=True),
        )
        if len(heap) < settings.size:
            heapq.heappush(heap, item)
        else:
            evicted = heapq.heappushpop(heap, item)
            later.merge(evicted[3])
            counts.later_texts += 1
    heap.sort(reverse=True)
    counts.doubtful_texts = len(heap)
    ordered = DocBin(store_user_data=True)
    if heap:
        doubts = np.asarray([item[0] for item in heap], dtype=np.float32)
        for i in order(doubts, np.stack([vector for _, _, vector, _ in heap])):
            ordered.merge(heap[i][3])
    write_whole(folder / "doubtful.spacy", ordered.to_bytes())
    kept.close()
    later.close()
    write_whole(folder / REPORT, f"{to_json(asdict(counts))}\n".encode())
    return counts


def _divide(
    doc: Doc, key: str, settings: ReviewSettings, counts: ReviewCounts
) -> Iterator[Relation]:
    """Drop relations of a Doc, count, and yield the doubtful ones."""
    relations = get_relations(doc, key)
    rest = [r for r in relations if r.certainty >= settings.low]
    doubtful = [r for r in rest if r.certainty < settings.high]
    if len(rest) < len(relations):
        set_relations(doc, rest, key)
    counts.dropped += len(relations) - len(rest)
    counts.doubtful += len(doubtful)
    counts.kept += len(rest) - len(doubtful)
    yield from doubtful


def doubt(relations: Iterable[Relation]) -> float:
    """Return the sum of the entropies of relations, each a yes or no with the probability that its score
    is, in bits."""
    scores = [relation.score for relation in relations if relation.score is not None]
    return -sum(p * math.log2(p) for score in scores for p in (score, 1 - score) if p)


def features(doc: Doc, relations: Iterable[Relation]) -> FloatArray:
    """Return a text as a vector of length 1: its words, and the labels and types of its relations.

    Words are hashed into WIDTH columns (Weinberger et al. 2009); short ones, which are in all texts, are
    left out. The relations count as much as the words.

    doc (Doc): The text.
    relations (Iterable[Relation]): Its doubtful relations.
    RETURNS (float32 array, (WIDTH,)): The vector.
    """
    facts = [f"{r.head.label_}\t{r.label}\t{r.tail.label_}" for r in relations]
    words = [word.casefold() for token in doc if len(word := token.text) > 3 and word.isalpha()]
    vector = _hashed(facts) + _hashed(words)
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _hashed(words: Iterable[str]) -> FloatArray:
    vector = np.zeros(WIDTH, dtype=np.float32)
    for word in words:
        code = crc32(word.encode("utf-8", "surrogatepass"))
        vector[code % WIDTH] += 1.0 if code >> 31 else -1.0
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def order(doubts: FloatArray, vectors: FloatArray) -> list[int]:
    """Order texts by doubt and variety, in time O(n ** 2 * width).

    The first text is the one with the most doubt; the next one has the largest product of its doubt and
    its distance (1 - cosine, from 0 to 2) to the nearest text before it.

    doubts (float32 array, (n,)): The doubt of each text.
    vectors (float32 array, (n, width)): The texts, each of length 1.
    RETURNS (list[int]): Indices of the texts.
    """
    # Equal texts have the distance 0; then doubt alone decides.
    nearest = np.full(len(doubts), 2.0, dtype=np.float32)
    left = np.ones(len(doubts), dtype=bool)
    ordered: list[int] = []
    for _ in range(len(doubts)):
        gains = np.where(left, doubts * (nearest + 1e-4), -1.0)
        best = int(gains.argmax())
        ordered.append(best)
        left[best] = False
        nearest = np.minimum(nearest, np.maximum(1.0 - vectors @ vectors[best], 0.0))
    return ordered


@dataclass
class _DocsFolder:
    """A folder of `.spacy` files, each of some Docs; it is only made for the first one."""

    folder: Path
    docs: DocBin = field(default_factory=lambda: DocBin(store_user_data=True))
    n_files: int = 0

    def add(self, doc: Doc) -> None:
        self.docs.add(doc)
        self._write_if(len(self.docs) >= _IN_FILE)

    def merge(self, docs: DocBin) -> None:
        self.docs.merge(docs)
        self._write_if(len(self.docs) >= _IN_FILE)

    def close(self) -> None:
        self._write_if(len(self.docs) > 0)

    def _write_if(self, full: bool) -> None:
        if full:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / f"{self.n_files:06d}.spacy", self.docs.to_bytes())
            self.n_files += 1
            self.docs = DocBin(store_user_data=True)


def lower_thresholds(settings: Mapping[str, Any], low: float) -> dict[str, Any]:
    """Return the thresholds of a relation component's settings, lowered to LOW, so that it also returns
    the doubtful relations that it would not have returned.

    settings (Mapping[str, Any]): The settings of any component.
    low (float): The highest threshold.
    RETURNS (dict[str, Any]): The settings to change; none for other components.
    """
    if "relations_key" not in settings:
        return {}
    lowered: dict[str, Any] = {
        name: min(settings[name], low)
        for name in ("relation_threshold", "threshold")
        if name in settings
    }
    if settings.get("thresholds"):
        # Of single labels, which stand in place of the other one.
        rows = dict(settings["thresholds"])
        lowered["thresholds"] = [[label, min(value, low)] for label, value in rows.items()]
    return lowered

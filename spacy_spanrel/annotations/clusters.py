"""Clusters of coreferent mentions, and the entities that spans stand for.

A cluster is a set of spans that refer to the same thing: "Ada Bergstrom", "the chemist", "she". This
package finds none; it reads those of other components, or of the data:

- span groups ``coref_clusters_0``, ``coref_clusters_1``, ..., one a cluster, as spacy-experimental
  writes them, the converter of SciERC, and ``set_clusters``. They survive ``DocBin`` and
  ``Doc.to_bytes``.
- ``doc._.coref_clusters`` of fastcoref: a list of clusters, each a list of character offsets (start,
  end). It is read where the Doc has no such span groups. spaCy does not save it by default:
  ``set_clusters(doc, get_clusters(doc))`` makes span groups of it.

A mention rarely has exactly the borders of the entity that a relation was found for: "the company" and
"company", "Ada Bergstrom, a chemist at Kelvin Labs" and "Ada Bergstrom". Overlap alone would join the
last one with "Kelvin Labs", so spans are compared by their heads, which `head_of` estimates without a
parser.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from spacy.lang.en.stop_words import STOP_WORDS
from spacy.tokens import Doc, Span, SpanGroup, Token

from ..errors import Errors
from .answers import text_length

CLUSTERS_PREFIX = "coref_clusters"
# The extension in which fastcoref leaves its clusters.
FASTCOREF_NAME = "coref_clusters"

Cluster = tuple[Span, ...]
# Number of the cluster, or text and type of a span that is in none.
EntityKey = int | tuple[str, str]

# Punctuation that does not end a name: "Jean-Luc", "A/S", "Johnson & Johnson".
_INNER = frozenset("-‐‑–/.&")
_POSSESSIVES = frozenset(("'s", "’s", "'S", "’S", "'", "’"))
# Coordinators of some languages, for texts without part-of-speech tags.
_COORDINATORS = frozenset(
    (
        "and",
        "or",
        "nor",
        "und",
        "oder",
        "sowie",
        "et",
        "ou",
        "y",
        "e",
        "o",
        "en",
        "og",
        "och",
        "eller",
    )
)


def get_clusters(doc: Doc, prefix: str = CLUSTERS_PREFIX) -> tuple[Cluster, ...]:
    """Read the clusters of coreferent mentions of a Doc.

    doc (Doc): The Doc.
    prefix (str): Clusters are the span groups with this name, an underscore and a number. If there are
        none, they are those of fastcoref in `doc._.coref_clusters`.
    RETURNS (tuple[tuple[Span, ...], ...]): The mentions of each cluster in the order of the text,
        without repetitions and labels; clusters in the order of their first mentions.
    RAISES (ValueError): If `doc._.coref_clusters` holds something else than fastcoref writes.
    """
    groups: list[Iterable[Span]] = [doc.spans[key] for key in _cluster_keys(doc, prefix)]
    if not groups:
        groups = _fastcoref_clusters(doc)
    clusters = []
    for group in groups:
        borders = sorted({(span.start, span.end) for span in group})
        clusters.append(tuple(doc[start:end] for start, end in borders))
    return tuple(sorted(filter(None, clusters), key=lambda c: [(s.start, s.end) for s in c]))


def set_clusters(
    doc: Doc, clusters: Iterable[Iterable[Span]], prefix: str = CLUSTERS_PREFIX
) -> None:
    """Replace the clusters of a Doc by span groups, as spacy-experimental writes them.

    doc (Doc): The Doc.
    clusters (Iterable[Iterable[Span]]): The mentions of each cluster. Empty clusters are left out.
    prefix (str): The names of the span groups are this, an underscore and a number from 0.
    RAISES (ValueError): If a mention belongs to another Doc; the Doc is then unchanged.
    """
    groups = [list(cluster) for cluster in clusters]
    for mention in (span for group in groups for span in group):
        if mention.doc is not doc:
            raise ValueError(Errors.E109.format(text=mention.text))
    for key in _cluster_keys(doc, prefix):
        del doc.spans[key]
    for number, group in enumerate(filter(None, groups)):
        key = f"{prefix}_{number}"
        doc.spans[key] = SpanGroup(doc, name=key, spans=group)


def numbered_prefix(key: str) -> str | None:
    """Return the prefix of a numbered name: "coref_clusters" of "coref_clusters_7".

    key (str): The name of a span group.
    RETURNS (str | None): The name without the underscore and the number; None if it does not end so.
    """
    prefix, underscore, number = key.rpartition("_")
    return prefix if underscore and number.isdecimal() else None


def _cluster_keys(doc: Doc, prefix: str) -> list[str]:
    return [key for key in doc.spans if numbered_prefix(key) == prefix]


def _fastcoref_clusters(doc: Doc) -> list[Iterable[Span]]:
    if Doc.has_extension(FASTCOREF_NAME):
        stored = doc._.get(FASTCOREF_NAME)
    else:  # in a Doc that was saved with its extension data, and read without fastcoref
        user_data: dict[Any, Any] = doc.user_data
        stored = user_data.get(("._.", FASTCOREF_NAME, None, None))
    if stored is None:  # the default, before the component runs
        return []
    try:
        return [[_widened(doc, start, end) for start, end in cluster] for cluster in stored]
    except (TypeError, ValueError) as error:
        raise ValueError(Errors.E110.format(found=repr(stored)[:200])) from error


def _widened(doc: Doc, start: int, end: int) -> Span:
    """Return the tokens that characters touch: clusters may come from another tokenizer."""
    if 0 <= start < end <= text_length(doc):
        span = doc.char_span(start, end, alignment_mode="expand")
        if span is not None and len(span):
            return span
    raise ValueError(f"no tokens from {start} to {end}")


def normalize(text: str) -> str:
    """Return the form of a text in which mentions of the same entity are equal.

    Case, spacing and compatibility forms of characters (Unicode's NFKC) do not count.
    """
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


# Heads


def head_of(span: Span) -> int | None:
    """Estimate the head of a span of tokens: the word that says what it is, "chemist" in "a chemist at
    Kelvin Labs".

    It is the last token before the first one that cannot belong to a name or a noun with its
    modifiers in front: a stop word of the language in lower case ("of", "at", "who"), a coordinator or
    punctuation. Stop words at the beginning ("the", "her") are skipped, and so is everything before a
    possessive ("Ada's husband"). Of a description with a name behind a comma ("the company, Acme"), it is
    the head of the name, as entities are. This works for languages in which complements follow the noun and
    for which spaCy has stop words (a Doc without a language is taken for English); it needs no
    component.

    span (Span): The span.
    RETURNS (int | None): The index of the token in the Doc. None for a coordination ("Ada and Tom",
        "Oslo, Bergen and Paris"), which is none of its members.
    """
    core, following = _core(span)
    if following is not None:
        if _is_coordinator(following):
            return None
        if following.text == "," and following.i + 1 < span.end:
            rest = span.doc[following.i + 1 : span.end]
            if not _is_function_word(rest[0], first=True):
                is_description = core.start > span.start  # "the" comes before it
                return head_of(rest) if is_description and _is_name(rest) else None
    return core.stop - 1


def _is_name(span: Span) -> bool:
    """Whether a span is one name, by upper case."""
    core, _ = _core(span)
    head = span.doc[core.stop - 1].text
    return head != head.lower() and not any(map(_is_coordinator, span))


def _core(span: Span) -> tuple[range, Token | None]:
    """Find the noun of a span with its modifiers in front.

    RETURNS (tuple[range, Token | None]): Its tokens; all of them if there are only stop words and
        punctuation. And the token of the span that follows.
    """
    doc, end = span.doc, span.end
    start = stop = span.start
    while True:
        while start < end and _is_function_word(doc[start], first=start == span.start):
            start += 1
        if start == end:
            return range(span.start, end), None
        stop = start + 1
        while stop < end and not _ends_noun(doc[stop]):
            stop += 1
        if stop + 1 >= end or doc[stop].text not in _POSSESSIVES:
            break
        start = stop + 1
    following = doc[stop] if stop < end else None
    while stop - start > 1 and doc[stop - 1].text in _INNER:
        stop -= 1
    return range(start, stop), following


def _is_function_word(token: Token, first: bool = False) -> bool:
    """Whether a token is punctuation, or a stop word in lower case; at the beginning in any case."""
    if _is_stop(token):
        return first or token.text.islower()
    return not any(map(str.isalnum, token.text))


def _is_stop(token: Token) -> bool:
    """Whether a token is a stop word of its language; of English, if the vocabulary has none, such as
    that of a Doc from a file. Nothing else is asked of a vocabulary, so Docs from files are like others."""
    return bool(token.is_stop) or (not token.lang_ and token.text.lower() in STOP_WORDS)


def _ends_noun(token: Token) -> bool:
    if token.text in _POSSESSIVES or _is_coordinator(token):
        return True
    return token.text not in _INNER and _is_function_word(token)


def _is_coordinator(token: Token) -> bool:
    return token.pos_ == "CCONJ" if token.pos else token.text in _COORDINATORS


# Entities


class _Heads(dict[tuple[int, int], int | None]):
    """The heads of spans of a Doc by their borders; each is estimated once."""

    def of(self, span: Span) -> int | None:
        borders = (span.start, span.end)
        if borders not in self:
            self[borders] = head_of(span)
        return self[borders]


class _SpanTable:
    """Spans to be found by their borders, or else by their heads.

    spans (Iterable[Span]): The spans. Of several with the same borders, the first is found.
    heads (_Heads): The heads of spans of the Doc.
    """

    def __init__(self, spans: Iterable[Span], heads: _Heads) -> None:
        self._heads = heads
        self._by_borders: dict[tuple[int, int], Span] = {}
        self._by_head: defaultdict[int, list[Span]] = defaultdict(list)
        for span in spans:
            if self._by_borders.setdefault((span.start, span.end), span) is span:
                head = heads.of(span)
                if head is not None:
                    self._by_head[head].append(span)

    def find(self, span: Span) -> Span | None:
        """Return the span with the same borders; else, of those with the same head, the one with the
        nearest borders, the earlier and then the shorter one of two that are as near; else None."""
        same = self._by_borders.get((span.start, span.end))
        if same is not None or not self._by_head:
            return same
        head = self._heads.of(span)
        candidates = self._by_head.get(head, []) if head is not None else []
        return min(
            candidates,
            default=None,
            key=lambda s: (abs(s.start - span.start) + abs(s.end - span.end), s.start, s.end),
        )


class Entities:
    """The entities of a Doc: the things that its spans stand for.

    A span belongs to the cluster that has a mention with the same borders or, if there is none, with
    the same head (`head_of`); among those, the mention with the nearest borders counts. A span
    that is in no cluster is the same entity as all other such spans with the same text (apart from case
    and spacing) and the same type, and as a cluster whose best mention has that text and type.

    The best mention of a cluster is, in this order of importance: a proper name (a word tagged PROPN
    or, in a Doc without tags, in upper case, best if not at the beginning of a sentence); more than
    stop words ("the company" before "it"); a span with an entity type; the longest, without what
    follows its noun; the first. If an entity span has the borders or the head of a mention, it
    stands for the mention: "Ada Bergstrom" for "Ada Bergstrom, a chemist".

    All tables are made at once, in time proportional to the number of spans; questions take constant
    time.

    clusters (Sequence[tuple[Span, ...]]): The clusters, as `get_clusters` returns them.
    spans (Iterable[Span]): The spans with entity types of the Doc. Of several with the same borders,
        the first counts.
    """

    def __init__(self, clusters: Sequence[Cluster], spans: Iterable[Span]) -> None:
        heads = _Heads()
        self._typed = _SpanTable((span for span in spans if span.label), heads)
        self._mentions = _SpanTable((span for cluster in clusters for span in cluster), heads)
        self._keys: dict[tuple[int, int, int], EntityKey] = {}
        self._number: dict[tuple[int, int], int] = {}
        self._best: list[Span] = []
        self._by_name: dict[tuple[str, str], int] = {}
        for number, cluster in enumerate(clusters):
            for mention in cluster:
                self._number.setdefault((mention.start, mention.end), number)
            best = self._best_mention(cluster)
            self._best.append(best)
            self._by_name.setdefault((normalize(best.text), best.label_), number)

    def key(self, span: Span) -> EntityKey:
        """Return what is equal for all spans of an entity.

        span (Span): A span of the Doc, labelled with its entity type.
        RETURNS (int | tuple[str, str]): The number of its cluster; normalized text and type of a span
            that belongs to none.
        """
        place = (span.start, span.end, span.label)
        if place not in self._keys:
            self._keys[place] = self._find_key(span)
        return self._keys[place]

    def _find_key(self, span: Span) -> EntityKey:
        mention = self._mentions.find(span)
        if mention is not None:
            return self._number[mention.start, mention.end]
        return self.key_of_name(span.text, span.label_)

    def key_of_name(self, text: str, label: str) -> EntityKey:
        """Return the key of a span with this text and type that belongs to no cluster by its place."""
        name = (normalize(text), label)
        return self._by_name.get(name, name)

    def best(self, span: Span) -> Span:
        """Return the best mention of a span's cluster; the span itself if it belongs to none.

        span (Span): A span of the Doc, labelled with its entity type.
        RETURNS (Span): A span of the Doc. Its label is the entity type: its own or, if it has none, the
            most frequent one of the cluster.
        """
        key = self.key(span)
        return self._best[key] if isinstance(key, int) else span

    def _best_mention(self, cluster: Cluster) -> Span:
        candidates = [self._typed.find(mention) or mention for mention in cluster]
        best = max(candidates, key=_rank)
        if best.label:
            return best
        types = Counter(span.label_ for span in candidates if span.label)
        label = types.most_common(1)[0][0] if types else ""
        return Span(best.doc, best.start, best.end, label=label)


def _rank(span: Span) -> tuple[int, bool, bool, int, int]:
    """Return how good a mention is, the best highest (see `Entities`)."""
    core, _ = _core(span)
    head = span.doc[core.stop - 1]
    has_content = not _is_stop(head)
    if head.pos:
        name = 2 * (head.pos_ == "PROPN")
    elif head.text.isupper() and len(head) > 1:  # also "US", which in lower case is a stop word
        name = 2
    elif has_content and head.text != head.text.lower():
        name = 1 if len(core) == 1 and _starts_sentence(head) else 2
    else:
        name = 0
    return name, has_content, bool(span.label), len(core), -span.start


def _starts_sentence(token: Token) -> bool:
    return token.i == 0 or bool(token.is_sent_start)

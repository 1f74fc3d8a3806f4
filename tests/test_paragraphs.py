"""The paragraphs of the sample corpus: what its README says about them holds."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import spacy
from spacy.util import load_config

from spacy_spanrel.annotations import get_clusters, get_entities, get_relations
from spacy_spanrel.converters import ConversionReport, brat_to_docs, get_orig_id, spert_to_docs

SAMPLE = Path(__file__).parent.parent / "assets" / "sample"
TYPES = SAMPLE / "types.json"
ARGUMENTS = {
    "Work_For": ("Peop", "Org"),
    "Kill": ("Peop", "Peop"),
    "OrgBased_In": ("Org", "Loc"),
    "Live_In": ("Peop", "Loc"),
    "Located_In": ("Loc", "Loc"),
}


def place(span):
    return (span.start_char, span.end_char)


@pytest.fixture(scope="module")
def splits():
    """The Docs of each split, and the report of their conversion."""
    result = {}
    for split in ("dev", "test"):
        report = ConversionReport()
        path = SAMPLE / f"paragraphs_{split}"
        docs = list(brat_to_docs(path, types=TYPES, coref="Coref", report=report))
        result[split] = docs, report
    return result


@pytest.mark.parametrize(("split", "n_each"), [("dev", 5), ("test", 10)])
def test_every_line_is_read_as_it_stands(splits, split, n_each):
    docs, report = splits[split]
    kinds = Counter(get_orig_id(doc).partition("-")[0] for doc in docs)
    assert kinds == dict.fromkeys(["encyclopedia", "letters", "minutes", "news"], n_each)
    assert not report.notes
    losses = ["lost_entities", "lost_relations", "duplicate_entities", "duplicate_relations"]
    losses += ["misaligned", "overlapping_entities", "self_relations"]
    assert not [name for name in losses if getattr(report, name)]
    for doc in docs:
        stem = SAMPLE / f"paragraphs_{split}" / get_orig_id(doc)
        text = stem.with_suffix(".txt").read_text(encoding="utf8")
        assert doc.text == text
        lines = stem.with_suffix(".ann").read_text(encoding="utf8").splitlines()
        bounds = [line.split("\t") for line in lines if line[0] == "T"]
        for _, data, quote in bounds:
            start, end = map(int, data.split()[1:])
            # The quoted text exactly, and no border inside a word.
            assert text[start:end] == quote
            assert not re.match(r"\w\w", text[start - 1 : start + 1] if start else "")
            assert not re.match(r"\w\w", text[end - 1 : end + 1])
        assert len({data for _, data, _ in bounds}) == len(bounds)
        assert sum(line[0] == "R" for line in lines) == len(get_relations(doc))
        assert sum(line[0] == "*" for line in lines) == len(get_clusters(doc))


def test_annotation_keeps_its_own_rules(splits):
    for doc in [doc for docs, _ in splits.values() for doc in docs]:
        entities = {place(span): span.label_ for span in get_entities(doc)}
        clusters = get_clusters(doc)
        mentions = [place(span) for cluster in clusters for span in cluster]
        # A mention is in one cluster, and a cluster has a name, of one type.
        assert len(set(mentions)) == len(mentions)
        for cluster in clusters:
            assert len(cluster) > 1
            assert len({entities[place(s)] for s in cluster if place(s) in entities}) == 1
        # Entities do not overlap; mentions may nest, but do not cross.
        assert all(a[1] <= b[0] for a, b in pairwise(sorted(entities)))
        spans = sorted({*entities, *mentions}, key=lambda span: (span[0], -span[1]))
        assert not [(a, b) for a in spans for b in spans if a[0] < b[0] < a[1] < b[1]]
        for relation in get_relations(doc):
            ends = (relation.head, relation.tail)
            assert tuple(span.label_ for span in ends) == ARGUMENTS[relation.label]
            assert all(place(s) in entities or place(s) in mentions for s in ends)


def test_readme_counts(splits):
    readme = (SAMPLE / "README.md").read_text(encoding="utf8")
    for split, (docs, report) in splits.items():
        entities = [{place(span) for span in get_entities(doc)} for doc in docs]
        clustered = [{place(s) for c in get_clusters(doc) for s in c} for doc in docs]
        relations = [get_relations(doc) for doc in docs]
        through_mention = through_line = 0
        for doc, names, found in zip(docs, entities, relations, strict=True):
            for relation in found:
                ends = sorted(place(span) for span in (relation.head, relation.tail))
                through_mention += not {*ends} <= names
                through_line += "\n" in doc.text[ends[0][0] : ends[1][0]]
        counts = [
            report.docs,
            report.tokens,
            report.n_entities,
            report.clusters,
            sum(len(c - e) for c, e in zip(clustered, entities, strict=True)),
            report.n_relations,
            through_mention,
            through_line,
            report.docs_without_relations,
        ]
        row = " | ".join(f"{n:,}" for n in counts)
        assert f"| `paragraphs_{split}` | {row} |" in readme
        types = [report.entities[label] for label in ("Peop", "Org", "Loc", "Other")]
        labels = [report.relations[label] for label in ("Work_For", "Kill", "OrgBased_In")]
        labels += [report.relations[label] for label in ("Live_In", "Located_In")]
        row = " | ".join(map(str, types + labels))
        assert f"| paragraphs_{split} | {row} |" in readme


def test_many_paragraphs_speak_of_killing_without_a_killer(splits):
    docs = [doc for found, _ in splits.values() for doc in found]
    words = re.compile("kill|shot|murder|assassin|stab|strangle|poison|slain", re.IGNORECASE)
    speak = [doc for doc in docs if words.search(doc.text)]
    without = [doc for doc in speak if all(r.label != "Kill" for r in get_relations(doc))]
    readme = (SAMPLE / "README.md").read_text(encoding="utf8")
    counts = f"{len(speak)} of the texts have a word for killing, and {len(without)} of these"
    assert counts in readme
    assert len(without) >= len(docs) / 3
    assert sum(not get_relations(doc) for doc in docs) >= 5


def test_nobody_and_no_organization_stands_in_two_splits(splits):
    def names(docs):
        # As the tokens of the sentences are joined by blanks.
        return {
            span.text.replace(" ", "").lower()
            for doc in docs
            for span in get_entities(doc)
            if span.label_ in ("Peop", "Org")
        }

    found = [names(docs) for docs, _ in splits.values()]
    found += [names(spert_to_docs(SAMPLE / f"{name}.json")) for name in ("train", "dev", "test")]
    paragraphs, sentences = found[:2], found[2:]
    assert not paragraphs[0] & paragraphs[1]
    assert not (paragraphs[0] | paragraphs[1]) & set.union(*sentences)


def test_no_sentence_of_the_config_goes_on_after_a_line_break(splits):
    config = load_config(SAMPLE.parent.parent / "configs" / "span_relation_minilm.cfg")
    nlp = spacy.blank("en")
    ends = config["components"]["sentencizer"]["punct_chars"]
    nlp.add_pipe("sentencizer", config={"punct_chars": ends})
    texts = [doc.text for docs, _ in splits.values() for doc in docs]
    texts += [text.replace("\n", "\r\n") for text in texts]
    for text in texts:
        for sentence in nlp(text).sents:
            # The mark of a list item ends up in the sentence before it.
            assert not re.search(r"\n.*\w", sentence.text), sentence

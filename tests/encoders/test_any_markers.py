"""Checks of the input modes of `relation_classifier` on every encoder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from spacy_spanrel.encoding.alignment import token_char_ranges, token_piece_ranges
from spacy_spanrel.encoding.shim import get_module
from spacy_spanrel.relation_classifier.model import PairInput, marked_rows
from spacy_spanrel.relation_classifier.network import PairNetwork
from spacy_spanrel.relation_classifier.pairs import TypedPair

from .util import LENGTH, MODES, ROWS, make_pipeline, train, with_entities


@pytest.mark.parametrize("mode", MODES)
def test_markers(checkpoint: Path, hf_tokenizer: Any, mode: str) -> None:
    """In each of the five modes, rows equal those of the tokenizer with markers around (or instead of)
    the arguments, markers are entries that no text can produce, and two training steps work."""
    settings = {"mode": mode}
    nlp = make_pipeline(checkpoint, ["relation_classifier"], relation_classifier=settings)
    model = nlp.get_pipe("relation_classifier").model
    encoder, table = get_module(model, PairNetwork).encoder, model.shims[0].cfg["markers"]
    n_rows = encoder.transformer.get_input_embeddings().weight.shape[0]
    assert len(set(table.values())) == len(table)
    assert max(table.values()) < n_rows
    (spelled_out,) = encoder.pieces([" ".join([*encoder.pieces.vocabulary, *table])])
    assert not set(table.values()) & set(spelled_out.ids.tolist())

    separator, compared = encoder.pieces.suffix, 0
    for row in ROWS:
        doc = with_entities(nlp, row)
        (head, tail), ids = doc.ents[:2], hf_tokenizer(doc.text, add_special_tokens=False).input_ids
        pair = TypedPair((head.start, head.end), (tail.start, tail.end), head.label_, tail.label_)
        tokens = token_piece_ranges(
            token_char_ranges(doc), encoder.pieces([doc.text])[0].chars
        ).tolist()
        spans = [(tokens[e.start][0], tokens[e.end - 1][1]) for e in (head, tail)]
        if spans[0][1] > spans[1][0]:
            continue  # both arguments share a piece
        around = [
            _at(mode, table, role, e.label_) for role, e in zip(_ROLES, (head, tail), strict=True)
        ]
        pieces = [ids[start:end] for start, end in spans]
        shown = [
            [*before, *([] if mode.startswith("ner") else argument), *after]
            for argument, (before, after) in zip(pieces, around, strict=True)
        ]
        wanted = [
            *encoder.pieces.prefix,
            *ids[: spans[0][0]],
            *shown[0],
            *ids[spans[0][1] : spans[1][0]],
            *shown[1],
            *ids[spans[1][1] :],
            *separator,
        ]
        if mode == "text_ner":
            for role, e in zip(_ROLES, (head, tail), strict=True):
                wanted += [table[f"{role}={e.label_}"], *separator]
        if mode == "ner_text":
            wanted += [*pieces[0], *separator, *pieces[1], *separator]
        if len(wanted) > LENGTH:
            continue  # the row would be cut
        compared += 1
        marked = marked_rows(model, PairInput([doc], [[pair]], "doc"))
        assert marked.ids[0].tolist() == wanted
        places = marked.positions[0].tolist()
        assert [wanted[place] for place in places] == [before[0] for before, _ in around]

    assert compared >= 2
    losses = train(nlp, 2, 1e-3)["relation_classifier"]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]


_ROLES = ("SUBJ", "OBJ")


def _at(mode: str, table: dict[str, int], role: str, label: str) -> tuple[list[int], list[int]]:
    """Return the markers before and after an argument."""
    if mode.startswith("ner"):
        return [table[f"{role}={label}"]], []
    typed = f"={label}" if mode == "typed_markers" else ""
    return [table[f"{role}_START{typed}"]], [table[f"{role}_END{typed}"]]

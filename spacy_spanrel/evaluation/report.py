"""An evaluation as one HTML file: scores, confusions, and every outcome in its sentence."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ..about import __version__
from .confusion import Cell, Confusion, cells_of
from .evaluate import ComponentEvaluation, Evaluation
from .outcomes import STATUSES, Annotation, Kind, Mention, Outcome
from .page import HEAD_SCRIPT, SCRIPT, STYLE
from .tables import Table, component_tables, other_scores

MAX_ROWS = 5000
# Longer contexts are shown in parts: so many characters on either side of each mention.
_LONGEST_CONTEXT = 600
_AROUND = 160

_COLUMNS = {
    "status": "Status",
    "kind": "Kind",
    "gold": "Gold",
    "predicted": "Predicted",
    "score": "Score",
    "": "Sentence",
    "doc": "Doc",
}
_ROLES = ("head", "tail")
# What a run of characters is part of, as class and in words.
_RUNS = {
    (True, True): ("b", "gold and predicted"),
    (True, False): ("g", "gold only"),
    (False, True): ("p", "predicted only"),
}
_LEGEND = "".join(
    f'<span class="{name}">{text}</span> &#183; ' for name, text in _RUNS.values()
).removesuffix(" &#183; ")
# Characters that neither HTML nor XML can hold.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")

# The name of a confusion cell in the page, by component and kind.
_CellNames = dict[tuple[str, Kind, Cell], str]


def render_report(evaluation: Evaluation, *, max_rows: int = MAX_ROWS) -> str:
    """Write an evaluation as a page that needs nothing else, well-formed as HTML and as XML.

    evaluation (Evaluation): The evaluation.
    max_rows (int): Most outcomes that get a row. Where there are more, mistakes come before what is
        correct, then the order of the corpus counts; the page says how many were left out.
    RETURNS (str): The page.
    """
    names = _name_cells(evaluation)
    rows = [(part, outcome) for part in evaluation.components for outcome in part.outcomes]
    shown = choose_rows([outcome for _, outcome in rows], max_rows)
    title = f"Evaluation of {evaluation.model} on {evaluation.corpus}"
    inputs = ", ".join(evaluation.inputs) or "none"
    others = "; ".join(" ".join(row) for row in other_scores(evaluation).rows)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en" xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\"/>",
        f"<title>{_escape(title)}</title><style>{STYLE}</style>",
        f"<script>{HEAD_SCRIPT}</script></head><body>",
        f"<h1>{_escape(title)}</h1>",
        f'<p class="soft">{evaluation.docs} Docs; inputs: {_escape(inputs)}; {_escape(others)}'
        f"{'; ' if others else ''}spacy-spanrel {__version__}. "
        '<a href="#outcomes">To the single outcomes</a></p>',
        *(f'<p class="notice">{_escape(notice)}</p>' for notice in evaluation.notices),
    ]
    for part in evaluation.components:
        parts += [f"<h2>{_escape(part.name)}</h2>", '<div class="tables">']
        parts += [_table(table) for table in component_tables(part)]
        parts += [_heat_table(part, confusion, names) for confusion in part.confusions.values()]
        parts.append("</div>")
    parts.append("<h2>Outcomes</h2>")
    left_out = len(rows) - len(shown)
    if left_out:
        parts.append(f'<p class="notice">{_escape(left_out_text(left_out, len(rows)))}</p>')
    parts.append(f'<p class="soft">In the sentences: {_LEGEND}</p>')
    parts += _filters(evaluation, [rows[i] for i in shown])
    parts.append('<div class="rows"><table id="outcomes"><thead><tr>')
    several = len(evaluation.components) > 1
    for name, text in _COLUMNS.items():
        if name:
            parts.append(
                f'<th scope="col" data-sort="{name}"><button type="button" class="onlyjs">{text}'
                f'</button><span class="nojs">{text}</span></th>'
            )
        else:
            parts.append(f'<th scope="col">{text}</th>')
    parts.append('</tr></thead><tbody id="rows">')
    # In the order of the corpus, whatever was chosen first.
    for i in sorted(shown, key=lambda i: (rows[i][1].source.number, i)):
        parts.append(_row(*rows[i], names, several))
    parts.append(f"</tbody></table></div><script>//<![CDATA[\n{SCRIPT}//]]></script></body></html>")
    return "\n".join(parts) + "\n"


def choose_rows(outcomes: Sequence[Outcome], max_rows: int) -> list[int]:
    """Choose the outcomes that are shown: mistakes first, then the order of the corpus.

    outcomes (Sequence[Outcome]): All of them.
    max_rows (int): How many to choose.
    RETURNS (list[int]): Which ones.
    """

    def rank(i: int) -> tuple[bool, int]:
        return (outcomes[i].status == "correct", outcomes[i].source.number)

    return sorted(range(len(outcomes)), key=rank)[:max_rows]


def left_out_text(left_out: int, total: int) -> str:
    """Say how many rows are missing."""
    return (
        f"{left_out} of {total} rows were left out, correct ones first. Tables and scores count all "
        "of them. Raise --max-rows to see more."
    )


def _escape(text: object) -> str:
    return html.escape(_UNPRINTABLE.sub("\ufffd", str(text)))


# Tables


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_right(align)}>{_escape(name)}</th>'
        for name, align in zip(table.header, table.aligns, strict=True)
    )
    rows = []
    for row in table.rows:
        first, *others = (
            f'{_right(align)} dir="auto">{_escape(cell)}'
            for cell, align in zip(row, table.aligns, strict=True)
        )
        cells = "".join(f"<td{cell}</td>" for cell in others)
        rows.append(f'<tr><th scope="row"{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table><caption>{_escape(table.title)}</caption><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _right(align: str) -> str:
    return ' class="r"' if align == "r" else ""


def _name_cells(evaluation: Evaluation) -> _CellNames:
    """Number the confusion cells of the page."""
    names: _CellNames = {}
    for part in evaluation.components:
        for kind, confusion in part.confusions.items():
            for cell in confusion.cells:
                names[part.name, kind, cell] = f"c{len(names)}"
    return names


def _heat_table(part: ComponentEvaluation, confusion: Confusion, names: _CellNames) -> str:
    axis = confusion.axis
    head = "".join(
        f'<th scope="col" class="v{_none(label)}">{_escape(confusion.name(label))}</th>'
        for label in axis
    )
    rows = []
    for gold, counts in zip(axis, confusion.matrix(), strict=True):
        # Against the row, but for pairs without a relation, which would hide all others.
        bare = gold is None and confusion.kind != "answer"
        total = sum(count or 0 for count in (counts[:-1] if bare else counts))
        cells = []
        for predicted, count in zip(axis, counts, strict=True):
            diagonal = gold == predicted
            style = ' class="d"' if diagonal else ""
            if not count:
                cells.append(f"<td{style}></td>")
                continue
            share = 0.0 if diagonal and bare else count / total
            name = names[part.name, confusion.kind, (gold, predicted)]
            says = f"gold {confusion.name(gold)}, predicted {confusion.name(predicted)}"
            text = f'<a href="#cell={name}" title="{_escape(says)}">{count}</a>'
            if diagonal and bare:
                text = str(count)  # these are no outcomes, and have no rows
            cells.append(f'<td{style} style="--v:{share:.3f}">{text}</td>')
        rows.append(
            f'<tr><th scope="row" class="h{_none(gold)}">{_escape(confusion.name(gold))}</th>'
            f"{''.join(cells)}</tr>"
        )
    what = {"entity": "entity types", "relation": "relation labels", "answer": "answers"}
    return (
        f'<div class="scroll"><table class="heat"><caption>Confusion of {what[confusion.kind]}: '
        "gold &#8595; predicted &#8594;</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _none(label: str | None) -> str:
    return " none" if label is None else ""


# Outcomes


def _filters(
    evaluation: Evaluation, rows: Sequence[tuple[ComponentEvaluation, Outcome]]
) -> Iterator[str]:
    statuses = Counter(outcome.status for _, outcome in rows)
    labels = {
        annotation.label
        for _, outcome in rows
        for annotation in (outcome.gold, outcome.predicted)
        if annotation is not None
    }
    boxes = "".join(
        f'<label><input type="checkbox" name="status" value="{status}"/>{status} '
        f"({statuses[status]})</label>"
        for status in STATUSES
        if statuses[status]
    )
    kinds = list(dict.fromkeys(outcome.kind for _, outcome in rows))
    components = [part.name for part in evaluation.components]
    yield f'<form id="filters" class="onlyjs" autocomplete="off"><fieldset>{boxes}</fieldset>'
    for name, values in (("kind", kinds), ("component", components), ("label", sorted(labels))):
        if len(values) > 1:
            options = "".join(
                f'<option value="{_escape(value)}">{_escape(value)}</option>'
                for value in values
                if value
            )
            yield (
                f'<label>{name}<select name="{name}"><option value="">any</option>{options}</select>'
                "</label>"
            )
    yield '<label>text<input type="search" name="q" dir="auto"/></label>'
    for name, text in (("min", "score from"), ("max", "to")):
        yield (
            f'<label>{text}<input type="number" name="{name}" min="0" max="1" step="0.01"/></label>'
        )
    yield '<button type="button" id="reset">Show all</button></form>'
    yield (
        '<p id="cell" hidden="hidden" class="onlyjs">Only <b id="cell-name"></b> '
        '<button type="button" id="cell-off">&#215;</button></p>'
        '<p class="pager onlyjs"><button type="button" id="previous">Previous</button>'
        '<button type="button" id="next">Next</button>'
        f'<span id="found" aria-live="polite">{len(rows)} rows</span></p>'
    )


def _row(part: ComponentEvaluation, outcome: Outcome, names: _CellNames, several: bool) -> str:
    none = part.confusions[outcome.kind].none
    cells = " ".join(names[part.name, outcome.kind, cell] for cell in cells_of(outcome))
    score = "" if outcome.score is None else f"{outcome.score:.4f}"
    data = {
        "status": outcome.status,
        "rank": str(STATUSES.index(outcome.status)),
        "kind": outcome.kind,
        "component": part.name,
        "gold": "" if outcome.gold is None else outcome.gold.label,
        "predicted": "" if outcome.predicted is None else outcome.predicted.label,
        "score": score,
        "doc": str(outcome.source.number),
        "cells": cells,
    }
    attributes = " ".join(f'data-{name}="{_escape(value)}"' for name, value in data.items())
    kind = _escape(outcome.kind)
    if several:
        kind += f"<br/><small>{_escape(part.name)}</small>"
    shown_score = "" if outcome.score is None else f"{outcome.score:.2f}"
    gold, predicted = (_annotation(a, none) for a in (outcome.gold, outcome.predicted))
    question = ""
    answer = outcome.answer
    if answer is not None:
        shown_score += f"<br/><small>F1 {answer.f1:.2f}</small>"
        question = f'<span class="question" dir="auto">{_escape(answer.question.text)}</span>'
        if answer.references:
            texts = " / ".join(
                f"<bdi>{_escape(text)}</bdi>" for text in dict.fromkeys(answer.references)
            )
            gold = texts
        if answer.predicted:
            predicted = f"<bdi>{_escape(answer.predicted)}</bdi>"
    number = str(outcome.source.number + 1)
    if outcome.source.id is not None:
        number += f"<br/><small>{_escape(outcome.source.id)}</small>"
    return (
        f'<tr {attributes}><td><span class="s {outcome.status.replace(" ", "-")}">{outcome.status}'
        f'</span></td><td>{kind}</td><td class="ann">{gold}</td><td class="ann">{predicted}</td>'
        f'<td class="r">{shown_score}</td><td class="text" dir="auto">{question}{_context(outcome)}'
        f"</td><td>{number}</td></tr>"
    )


def _annotation(annotation: Annotation | None, none: str) -> str:
    if annotation is None:
        return f'<span class="nothing">{_escape(none)}</span>'
    label = _escape(annotation.label or "(no label)")
    texts = [f"<bdi>{_escape(mention.text)}</bdi>" for mention in annotation.mentions]
    if len(texts) == 2:
        texts = [
            text + (f" <small>{_escape(mention.label)}</small>" if mention.label else "")
            for text, mention in zip(texts, annotation.mentions, strict=True)
        ]
    return f'<span class="type">{label}</span> ' + " &#8594; ".join(texts)


def _context(outcome: Outcome) -> str:
    """The sentence, with gold and predicted spans marked; only what is around them if it is long."""
    gold = outcome.gold.mentions if outcome.gold is not None else ()
    predicted = outcome.predicted.mentions if outcome.predicted is not None else ()
    text = outcome.source.text
    start, end = outcome.sentence
    end = start + len(text[start:end].rstrip())
    pieces = []
    position = start
    for first, last in _segments(text, start, end, (*gold, *predicted)):
        pieces.append("&#8230; " if first > position else "")
        pieces.append(_marked(outcome, gold, predicted, first, last))
        position = last
    if position < end:
        pieces.append(" &#8230;")
    return "".join(pieces)


def _segments(
    text: str, start: int, end: int, mentions: Iterable[Mention]
) -> list[tuple[int, int]]:
    """Which characters are shown: all, or those around the mentions, cut between words."""
    if end - start <= _LONGEST_CONTEXT:
        return [(start, end)]
    places = sorted((mention.start, mention.end) for mention in mentions) or [(start, start)]
    found: list[tuple[int, int]] = []
    for first, last in places:
        low, high = max(start, first - _AROUND), min(end, last + _AROUND)
        if low > start:
            low += len(text[low:first]) - len(text[low:first].partition(" ")[2] or text[low:first])
        if high < end:
            high = last + len(text[last:high].rpartition(" ")[0] or text[last:high])
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def _marked(
    outcome: Outcome,
    gold: Sequence[Mention],
    predicted: Sequence[Mention],
    first: int,
    last: int,
) -> str:
    """Part of the text, in runs of characters that belong to the same mentions."""
    mentions = (*gold, *predicted)
    borders = {first, last, *(place for m in mentions for place in (m.start, m.end))}
    ordered = sorted(place for place in borders if first <= place <= last)
    # Head and tail are named where they end; gold and prediction may agree on that.
    roles = {
        (mention.end, role)
        for part in (gold, predicted)
        for mention, role in zip(part, _ROLES, strict=False)
        if outcome.kind == "relation"
    }
    pieces = []
    for start, end in zip(ordered, ordered[1:], strict=False):
        run = _escape(outcome.source.text[start:end])
        covered = tuple(
            any(m.start <= start and end <= m.end for m in part) for part in (gold, predicted)
        )
        if any(covered):
            name, says = _RUNS[covered[0], covered[1]]
            run = f'<span class="{name}" title="{says}">{run}</span>'
        named = "".join(
            f'<span class="role">{role}</span>' for role in _ROLES if (end, role) in roles
        )
        pieces.append(run + named)
    return "".join(pieces)

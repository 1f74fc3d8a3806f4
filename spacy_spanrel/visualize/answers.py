"""An HTML picture of a text with the answers to its questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spacy.displacy import get_doc_settings
from spacy.tokens import Doc, Span

from ..annotations import Answer, Question, get_answers, get_questions
from ..errors import Warnings, warn
from ..markup import escape, render_template
from .layout import pack
from .options import Options
from .page import N_HUES, SANS, make_css, new_id, themed
from .relations import EMPTY, get_title
from .text import ELLIPSIS, runs_left

AROUND = 40  # characters of context around an alternative
UNDERLINE, UNDERLINE_GAP = 3, 2  # px


@dataclass(frozen=True)
class Highlight:
    """An answer in the text.

    start, end (int): Character offsets in the drawn text.
    number (int): Index of its question.
    """

    start: int
    end: int
    number: int


def draw_answers(target: Doc | Span, options: Options) -> str:
    """Draw a text with its answers marked, and below it the questions and answers as a list.

    Answers may overlap, as each is underlined by a line of its own. Answers that are not wholly inside
    of a Span are listed, but not marked.

    target (Doc | Span): The text.
    options (Options): Options of the picture.
    RETURNS (str): An HTML element that loads nothing.
    """
    doc = target if isinstance(target, Doc) else target.doc
    text, offset = (doc.text, 0) if isinstance(target, Doc) else (target.text, target.start_char)
    questions = get_questions(doc, options.qa_key)
    answers = {answer.question.id: answer for answer in get_answers(doc, options.qa_key)}
    if not questions:
        groups = ", ".join(doc.spans) or "none"
        warn(Warnings.W131.format(key=options.qa_key, groups=groups))
    highlights = [
        Highlight(answer.start_char - offset, answer.end_char - offset, number)
        for number, question in enumerate(questions)
        if (answer := answers.get(question.id))
        and offset <= answer.start_char
        and answer.end_char <= offset + len(text)
    ]
    marked = {highlight.number for highlight in highlights}
    id = new_id()
    settings = get_doc_settings(doc)
    tips = [_tip(question, answers.get(question.id)) for question in questions]
    return render_template(
        "visualize",
        "answers.html.j2",
        id=id,
        options=options,
        css=_css(f"#{id}", options),
        title=get_title(doc),
        lang=settings["lang"],
        direction="rtl" if runs_left((t.text for t in target), settings["direction"]) else "ltr",
        context=mark_text(text, highlights, tips) or EMPTY,
        items=[
            {
                "question": question.text if question.text.strip() else f"({question.id})",
                "hue": number % N_HUES,
                "marked": number in marked,
                **_answer(answers.get(question.id), doc.text, options),
            }
            for number, question in enumerate(questions)
        ],
    )


def mark_text(text: str, highlights: Sequence[Highlight], tips: Sequence[str]) -> str:
    """Return text as HTML with its answers marked.

    text (str): The text.
    highlights (Sequence[Highlight]): The answers, which may overlap.
    tips (Sequence[str]): A tooltip for each question.
    RETURNS (str): Markup, with an element for each run of characters that the same answers cover.
    """
    slots = pack([(h.start, h.end) for h in highlights])
    cuts = {0, len(text), *(h.start for h in highlights), *(h.end for h in highlights)}
    borders = sorted(cuts)
    parts = []
    for start, end in zip(borders, borders[1:], strict=False):
        over = [
            (slot, h)
            for slot, h in zip(slots, highlights, strict=True)
            if h.start <= start and end <= h.end
        ]
        piece = escape(text[start:end])
        if not over:
            parts.append(piece)
            continue
        over.sort(key=lambda pair: pair[0])
        first = [str(h.number + 1) for h in highlights if h.start == start]
        numbers = f' data-n="{" ".join(first)}"' if first else ""
        tip = escape("\n".join(tips[h.number] for _, h in over))
        hue = over[0][1].number % N_HUES
        parts.append(
            f'<mark class="q{hue}"{numbers} title="{tip}" style="{_lines(over)}">{piece}</mark>'
        )
    return "".join(parts)


def _lines(over: Sequence[tuple[int, Highlight]]) -> str:
    """Return a style that draws a line for each answer, at a height of its own."""
    shadows = []
    for slot, highlight in over:
        top = slot * (UNDERLINE + UNDERLINE_GAP)
        if top:
            shadows.append(f"0 {top}px 0 var(--bg)")
        shadows.append(f"0 {top + UNDERLINE}px 0 var(--r{highlight.number % N_HUES})")
    return f"box-shadow:{','.join(shadows)}"


def _tip(question: Question, answer: Answer | None) -> str:
    return question.text + (f" {answer.score:.2f}" if answer and answer.score is not None else "")


def _answer(answer: Answer | None, text: str, options: Options) -> dict[str, Any]:
    """Return an answer and its alternatives, each with the text around it, for the template."""
    alternatives = answer.alternatives if answer is not None and options.alternatives else ()
    gold = (
        answer is not None and answer.score is None and all(a.score is None for a in alternatives)
    )
    if gold:
        heading = "Also right" if answer else "Plausible, but wrong"
    else:
        heading = "Other candidates" if answer else "Rejected candidates"
    around = [(a, *_around(text, a.start_char, a.end_char)) for a in alternatives]
    return {"answer": answer, "heading": heading, "alternatives": around}


def _around(text: str, start: int, end: int) -> tuple[str, str]:
    """Return the text before and after an answer, cut between words if there are any."""
    first, last = max(start - AROUND, 0), min(end + AROUND, len(text))
    before, after = text[first:start], text[end:last]
    if first:
        before = f"{ELLIPSIS} {before[before.find(' ') + 1 :]}"
    if last < len(text):
        after = f"{after[: after.rfind(' ')] if ' ' in after else after} {ELLIPSIS}"
    return before, after


def _css(selector: str, options: Options) -> str:
    rules = {
        "": (
            f"font:15px/1.5 {SANS};padding:14px 18px;border-radius:6px;max-width:60em;"
            f"{themed('background', 'bg')}{themed('color', 'fg')}"
        ),
        " h3": "margin:0 0 .5em;font-size:1.1em",
        " .context": "margin:0 0 1em;line-height:2.1;white-space:pre-wrap;overflow-wrap:anywhere",
        " mark": (
            "color:inherit;padding:1px 0;-webkit-box-decoration-break:clone;"
            "box-decoration-break:clone;background:rgba(128,128,128,.16)"
        ),
        " mark[data-n]::before": (
            "content:attr(data-n);font-size:.65em;font-weight:bold;line-height:1;"
            "vertical-align:super;margin-inline-end:2px;color:var(--q)"
        ),
        " ol": "margin:0;padding:0;list-style:none;counter-reset:q",
        " ol>li": (
            "counter-increment:q;margin:0 0 10px;padding-inline-start:10px;"
            "border-inline-start:4px solid var(--q)"
        ),
        " p.question": "margin:0;font-weight:600",
        " p.question::before": 'content:counter(q) ". ";color:var(--q)',
        " p.answer": "margin:0",
        " .none": f"font-style:italic;{themed('color', 'muted')}",
        " .where": themed("color", "muted"),
        " p.heading": f"margin:4px 0 0;font-size:.85em;{themed('color', 'muted')}",
        " ul": f"margin:0;padding-inline-start:1.2em;font-size:.85em;{themed('color', 'muted')}",
        " ul b": themed("color", "fg"),
        " .score": (
            "white-space:nowrap;font-style:normal;font-size:.85em;margin-inline-start:.6em;"
            f"{themed('color', 'muted')}"
        ),
        " .bar": (
            "display:inline-block;width:48px;height:7px;border-radius:4px;overflow:hidden;"
            f"margin-inline-end:.4em;vertical-align:middle;{themed('background', 'faint')}"
        ),
        " .bar>span": f"display:block;height:100%;{themed('background', 'muted')}",
    }
    rules |= {f" .q{i}": f"--q:var(--r{i})" for i in range(N_HUES)}
    return make_css(selector, rules, options.theme)

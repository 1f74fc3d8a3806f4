"""`render`: pictures of Docs, returned or shown in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, overload

from spacy import displacy
from spacy.displacy import get_doc_settings
from spacy.tokens import Doc, Span
from spacy.util import is_in_jupyter

from ..errors import Errors
from .answers import draw_answers
from .options import Options
from .page import make_page
from .relations import draw_relations

Style = Literal["relations", "answers"]
Drawable = Doc | Span
STYLES: dict[str, tuple[Callable[[Drawable, Options], str], str]] = {
    "relations": (draw_relations, "Entities and relations"),
    "answers": (draw_answers, "Questions and answers"),
}


@overload
def render(
    docs: Drawable | Iterable[Drawable],
    style: Style = ...,
    *,
    page: bool = ...,
    jupyter: Literal[False],
    options: Mapping[str, Any] | None = ...,
) -> str: ...


@overload
def render(
    docs: Drawable | Iterable[Drawable],
    style: Style = ...,
    *,
    page: bool = ...,
    jupyter: bool | None = ...,
    options: Mapping[str, Any] | None = ...,
) -> str | None: ...


def render(
    docs: Drawable | Iterable[Drawable],
    style: Style = "relations",
    *,
    page: bool = False,
    jupyter: bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> str | None:
    """Draw Docs, as `spacy.displacy.render` does.

    The picture of a Doc is an SVG element with the style "relations" and an HTML element with
    "answers". It needs no script and no other file, follows light and dark surroundings, and has ids
    of its own. A title in `doc.user_data["title"]` is shown, and a function that was set with
    `displacy.set_render_wrapper` is called, as in displaCy.

    docs (Doc | Span | Iterable[Doc | Span]): What to draw. Of a Span, what reaches beyond it is cut.
    style ("relations" | "answers"): Entities with the relations between them, or a text with the
        answers to its questions.
    page (bool): Return a whole HTML page.
    jupyter (bool | None): Display the picture; None to do that in a notebook only.
    options (Mapping[str, Any] | None): Settings, see `Options`.
    RETURNS (str | None): The markup; None where it was displayed.
    RAISES (ValueError): If there is no such style or option, or something else than Docs was given.
    """
    if style not in STYLES:
        raise ValueError(Errors.E913.format(found=style, known=", ".join(STYLES)))
    draw, title = STYLES[style]
    settings = Options.make(options)
    targets = [docs] if isinstance(docs, (Doc, Span)) else _as_list(docs)
    for target in targets:
        if not isinstance(target, (Doc, Span)):
            raise ValueError(Errors.E914.format(found=target, kind=type(target).__name__))
    drawn = [draw(target, settings) for target in targets]
    if page:
        first = targets[0] if targets else None
        about = get_doc_settings(first if isinstance(first, Doc) else first.doc) if first else {}
        markup = make_page(
            "\n".join(f"<figure>{picture}</figure>" for picture in drawn),
            title=title,
            lang=about.get("lang") or "en",
            direction=about.get("direction", "ltr"),
            theme=settings.theme,
        )
    else:
        markup = "\n".join(drawn)
    if displacy.RENDER_WRAPPER is not None:
        markup = displacy.RENDER_WRAPPER(markup)
    if jupyter or (jupyter is None and is_in_jupyter()):
        from IPython.display import HTML, display  # type: ignore[import-not-found]

        # The class keeps MathJax from reading dollar signs as formulas.
        display(HTML(f'<div class="tex2jax_ignore">{markup}</div>'))
        return None
    return markup


def _as_list(docs: Any) -> list[Any]:
    if isinstance(docs, (str, bytes, Mapping)) or not isinstance(docs, Iterable):
        raise ValueError(Errors.E914.format(found=docs, kind=type(docs).__name__))
    return list(docs)

"""`render`: pictures of Docs, returned as markup or shown in a notebook."""

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
    """Draw Docs, in the manner of `spacy.displacy.render`.

    The picture of a Doc is an SVG element in the style "relations" and an HTML element in the style
    "answers". It needs no script and no other file, follows light and dark surroundings, and has a
    unique id. As in displaCy, a title in `doc.user_data["title"]` is shown, and the function set with
    `displacy.set_render_wrapper` is called.

    docs (Doc | Span | Iterable[Doc | Span]): The texts. Annotations are cut at the borders of a Span.
    style ("relations" | "answers"): Entities and the relations between them, or a text with the
        answers to its questions.
    page (bool): Return a whole HTML page.
    jupyter (bool | None): Display the picture; None to do so only in a notebook.
    options (Mapping[str, Any] | None): Options of the picture, see `Options`.
    RETURNS (str | None): The markup; None if it was displayed.
    RAISES (ValueError): If there is no such style or option, or an item is no Doc or Span.
    """
    if style not in STYLES:
        raise ValueError(Errors.E913.format(found=style, known=", ".join(STYLES)))
    draw, title = STYLES[style]
    settings = Options.make(options)
    targets = [docs] if isinstance(docs, (Doc, Span)) else _as_list(docs)
    for target in targets:
        if not isinstance(target, (Doc, Span)):
            raise ValueError(Errors.E914.format(found=target, kind=type(target).__name__))
    pictures = [draw(target, settings) for target in targets]
    if page:
        first = targets[0] if targets else None
        about = get_doc_settings(first if isinstance(first, Doc) else first.doc) if first else {}
        markup = make_page(
            "\n".join(f"<figure>{picture}</figure>" for picture in pictures),
            title=title,
            lang=about.get("lang") or "en",
            direction=about.get("direction", "ltr"),
            theme=settings.theme,
        )
    else:
        markup = "\n".join(pictures)
    if displacy.RENDER_WRAPPER is not None:
        markup = displacy.RENDER_WRAPPER(markup)
    if jupyter or (jupyter is None and is_in_jupyter()):
        from IPython.display import HTML, display  # type: ignore[import-not-found]

        # The class keeps MathJax from taking text between dollar signs for formulas.
        display(HTML(f'<div class="tex2jax_ignore">{markup}</div>'))
        return None
    return markup


def _as_list(docs: Any) -> list[Any]:
    if isinstance(docs, (str, bytes, Mapping)) or not isinstance(docs, Iterable):
        raise ValueError(Errors.E914.format(found=docs, kind=type(docs).__name__))
    return list(docs)

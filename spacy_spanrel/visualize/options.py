"""Options of a picture. They are checked, so that a misspelt one is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..annotations import CLUSTERS_PREFIX, ENTITIES_KEY, QA_KEY, RELATIONS_KEY
from ..errors import Errors
from .page import THEMES, Theme, check_color


@dataclass(frozen=True)
class Options:
    """Options of `render`.

    colors (Mapping[str, str]): Colours of entity types and relation labels. As in displaCy, case
        does not matter.
    ents (tuple[str, ...] | None): Entity types to draw; None for all. Arguments of relations are
        always drawn.
    exclude (tuple[str, ...]): Relation labels to leave out, such as "no_relation".
    width (int): Characters in a row of a picture of relations.
    scores (bool | None): Show scores; None for those of answers only.
    entities (bool): Name the entity behind a mention of a cluster: "= Ada Berg" below "she".
    alternatives (bool): List alternative answers.
    entities_key, relations_key, qa_key (str): Span groups. Without the group of entities, `doc.ents`
        is drawn.
    clusters_prefix (str): The clusters of coreferent mentions, as in `get_clusters`.
    theme ("auto" | "light" | "dark"): "auto" follows the page or the reader's system.
    """

    colors: Mapping[str, str] = field(default_factory=dict)
    ents: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    width: int = 90
    scores: bool | None = None
    entities: bool = False
    alternatives: bool = True
    entities_key: str = ENTITIES_KEY
    relations_key: str = RELATIONS_KEY
    qa_key: str = QA_KEY
    clusters_prefix: str = CLUSTERS_PREFIX
    theme: Theme = "auto"

    @classmethod
    def make(cls, values: Mapping[str, Any] | None) -> Options:
        """Make options from names and values, and check them.

        values (Mapping[str, Any] | None): Names and values; None for defaults.
        RETURNS (Options): The options.
        RAISES (ValueError): If a name is unknown or a value does not fit.
        """
        values = dict(values or {})
        names = [field.name for field in fields(cls)]
        unknown = sorted(str(name) for name in values if name not in names)
        if unknown:
            raise ValueError(Errors.E910.format(found=", ".join(unknown), known=", ".join(names)))
        for name in ("ents", "exclude"):
            if values.get(name) is not None:
                values[name] = _labels(name, values[name])
        values["exclude"] = values.get("exclude") or ()
        colors = values["colors"] = values.get("colors") or {}
        _expect("colors", colors, isinstance(colors, Mapping), "a mapping of labels to colours")
        values["colors"] = {str(k): check_color(str(k), color) for k, color in colors.items()}
        options = cls(**values)
        # A bool is an int.
        fits = isinstance(options.width, int) and not isinstance(options.width, bool)
        _expect("width", options.width, fits and options.width >= 10, "a whole number from 10")
        _expect(
            "scores", options.scores, options.scores in (None, True, False), "true, false or None"
        )
        for name in ("entities", "alternatives"):
            value = getattr(options, name)
            _expect(name, value, value in (True, False), "true or false")
        for name in ("entities_key", "relations_key", "qa_key", "clusters_prefix"):
            value = getattr(options, name)
            _expect(name, value, isinstance(value, str), "the name of a span group")
        _expect("theme", options.theme, options.theme in THEMES, "one of " + ", ".join(THEMES))
        return options


def _labels(name: str, value: Any) -> tuple[str, ...]:
    fits = isinstance(value, (list, tuple, set, frozenset))
    _expect(name, value, fits and all(isinstance(v, str) for v in value), "a list of labels")
    return tuple(value)


def _expect(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(Errors.E912.format(name=name, found=value, expected=expected))

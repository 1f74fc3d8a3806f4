"""Settings of a rendering, checked: a misspelt one is an error and not a picture without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..annotations import ENTITIES_KEY, QA_KEY, RELATIONS_KEY
from ..errors import Errors
from .page import THEMES, Theme, check_color


@dataclass(frozen=True)
class Options:
    """Settings of `render`.

    colors (Mapping[str, str]): Colours of entity types and relation labels. As in displaCy, case
        does not matter.
    ents (tuple[str, ...] | None): Entity types to draw; None for all. Arguments of relations are
        always drawn.
    exclude (tuple[str, ...]): Relation labels to leave out, such as "no_relation".
    width (int): Characters in a row of a picture of relations.
    scores (bool | None): Show scores; None shows those of answers only.
    alternatives (bool): List what else was found as an answer.
    entities_key, relations_key, qa_key (str): Span groups. Entities come from `doc.ents` where the
        Doc has no such group.
    theme ("auto" | "light" | "dark"): "auto" follows the page or the reader's system.
    """

    colors: Mapping[str, str] = field(default_factory=dict)
    ents: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    width: int = 90
    scores: bool | None = None
    alternatives: bool = True
    entities_key: str = ENTITIES_KEY
    relations_key: str = RELATIONS_KEY
    qa_key: str = QA_KEY
    theme: Theme = "auto"

    @classmethod
    def make(cls, given: Mapping[str, Any] | None) -> Options:
        """Check a table of settings.

        given (Mapping[str, Any] | None): Names and values; None for none.
        RETURNS (Options): The settings.
        RAISES (ValueError): If a name is unknown or a value does not fit.
        """
        values = dict(given or {})
        known = [part.name for part in fields(cls)]
        unknown = sorted(str(name) for name in values if name not in known)
        if unknown:
            names = ", ".join(unknown)
            raise ValueError(Errors.E910.format(found=names, known=", ".join(known)))
        for name in ("ents", "exclude"):
            if values.get(name) is not None:
                values[name] = _labels(name, values[name])
        values["exclude"] = values.get("exclude") or ()
        colors = values["colors"] = values.get("colors") or {}
        _expect("colors", colors, isinstance(colors, Mapping), "a table of labels and colours")
        values["colors"] = {str(k): check_color(str(k), color) for k, color in colors.items()}
        made = cls(**values)
        # Not isinstance alone: a bool is an int.
        fits = isinstance(made.width, int) and not isinstance(made.width, bool)
        _expect("width", made.width, fits and made.width >= 10, "a whole number from 10")
        _expect("scores", made.scores, made.scores in (None, True, False), "true, false or None")
        _expect(
            "alternatives", made.alternatives, made.alternatives in (True, False), "true or false"
        )
        for name in ("entities_key", "relations_key", "qa_key"):
            value = getattr(made, name)
            _expect(name, value, isinstance(value, str), "the name of a span group")
        _expect("theme", made.theme, made.theme in THEMES, "one of " + ", ".join(THEMES))
        return made


def _labels(name: str, value: Any) -> tuple[str, ...]:
    fits = isinstance(value, (list, tuple, set, frozenset))
    _expect(name, value, fits and all(isinstance(v, str) for v in value), "a list of labels")
    return tuple(value)


def _expect(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(Errors.E912.format(name=name, found=value, expected=expected))

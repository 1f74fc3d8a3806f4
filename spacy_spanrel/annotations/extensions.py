"""Extensions of Doc and Span that never overwrite what belongs to other code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..errors import Errors

# Class, name, getter, setter.
Extension = tuple[Any, str, "partial[Any]", Callable[..., Any] | None]


def register(wanted: Sequence[Extension], *, check_only: bool = False) -> None:
    """Register extensions, all or none. Registering the same ones again changes nothing.

    wanted (Sequence[tuple]): Doc or Span, name, getter and setter of each. The getters are partials
        of module-level functions, by which our own extensions are known again.
    check_only (bool): Only look whether the names are free or ours.
    RAISES (ValueError): If other code, or a component with another key, owns a name.
    """
    for kind, name, getter, _ in wanted:
        if kind.has_extension(name) and not _same_partial(kind.get_extension(name)[2], getter):
            owner = kind.get_extension(name)[2] or "a plain attribute or method"
            raise ValueError(Errors.E101.format(kind=kind.__name__.lower(), name=name, owner=owner))
    if check_only:
        return
    for kind, name, getter, setter in wanted:
        if not kind.has_extension(name):
            kind.set_extension(name, getter=getter, setter=setter)


def _same_partial(found: Any, wanted: Any) -> bool:
    return (
        isinstance(found, partial)
        and found.func is wanted.func
        and found.keywords == wanted.keywords
    )

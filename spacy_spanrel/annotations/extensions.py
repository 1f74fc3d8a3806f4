"""Extensions of Doc and Span that never overwrite what belongs to other code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..errors import Errors


@dataclass(frozen=True)
class Extension:
    """An attribute of `doc._` or `span._`.

    owner (type): Doc or Span.
    name (str): The name of the attribute.
    read (Callable): Function of a module that reads the value; extensions travel to worker processes
        by pickle.
    write (Callable | None): Function of a module that sets the value; None for an attribute that
        cannot be set.
    options (Mapping[str, Any]): Keyword arguments of both functions: the span group.
    """

    owner: Any
    name: str
    read: Callable[..., Any]
    write: Callable[..., Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class DefaultGetter(partial[Any]):
    """Getter of an extension that the import of the package registered.

    Importing the package makes `doc._.relations` and the others usable without any pipeline, with the
    default span groups. The first component or call that registers such a name takes it over with a
    span group of its choice; from then on the name belongs to that span group.
    """


def register_defaults(extensions: Sequence[Extension]) -> None:
    """Register extensions that components may take over; none of them if any name is taken.

    extensions (Sequence[Extension]): The extensions.
    """
    if not any(extension.owner.has_extension(extension.name) for extension in extensions):
        _set(extensions, DefaultGetter)


def register(extensions: Sequence[Extension]) -> None:
    """Register extensions, all or none. Registering the same ones again changes nothing.

    extensions (Sequence[Extension]): The extensions.
    RAISES (ValueError): If a name belongs to other code, or to another span group.
    """
    for extension in extensions:
        present = _present_owner(extension)
        if present is not None:
            kind = extension.owner.__name__.lower()
            raise ValueError(Errors.E101.format(kind=kind, name=extension.name, owner=present))
    _set(extensions, partial)


def _present_owner(extension: Extension) -> str | None:
    """Describe what the name of an extension belongs to already; None if it may be registered."""
    if not extension.owner.has_extension(extension.name):
        return None
    getter = extension.owner.get_extension(extension.name)[2]
    if not isinstance(getter, partial) or getter.func is not extension.read:
        return f"other code ({getter or 'a plain attribute or method'})"
    if isinstance(getter, DefaultGetter) or getter.keywords == extension.options:
        return None
    (key,) = getter.keywords.values()
    return f"the span group {key!r} of another component or call of this package"


def _set(extensions: Sequence[Extension], make_getter: type[partial[Any]]) -> None:
    for extension in extensions:
        write = extension.write
        extension.owner.set_extension(
            extension.name,
            getter=make_getter(extension.read, **extension.options),
            setter=None if write is None else partial(write, **extension.options),
            force=True,
        )

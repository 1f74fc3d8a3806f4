"""Types files: the names of entity types and relations that data may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Errors
from ..reading import Place, read_json, short


@dataclass(frozen=True)
class TypeNames:
    """The names that a types file allows.

    entities, relations (tuple[str, ...]): In the order of the file.
    symmetric (frozenset[str]): Relations without direction.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    symmetric: frozenset[str] = frozenset()

    def check(self, entities: Sequence[str], relations: Sequence[str], place: Place) -> None:
        """Raise a ConversionError for the first label that is not in the types file.

        entities, relations (Sequence[str]): The labels of a record's entities and relations.
        place (Place): The record.
        """
        for what, labels, names in (
            ("entities", entities, self.entities),
            ("relations", relations, self.relations),
        ):
            for i, label in enumerate(labels):
                if label not in names:
                    raise place.at(f"{what}[{i}]").error(
                        Errors.E608, found=short(label), expected="one of " + ", ".join(names)
                    )


def read_types(path: str | Path) -> TypeNames:
    """Read a types file of SpERT's form.

    Sample: ``{"entities": {"Peop": {"short": "Peop", "verbose": "People"}}, "relations":
    {"Kill": {"short": "Kill", "verbose": "Kill", "symmetric": false}}}``

    path (str | Path): The file.
    RETURNS (TypeNames): The names, and the relations that are symmetric.
    RAISES (ConversionError): If the file is not of that form.
    """
    top = read_json(path)
    entities, relations = top["entities"].as_dict(), top["relations"]
    symmetric = set()
    for name, spec in relations.items():
        flag = spec.get("symmetric")
        if flag is not None and flag.as_bool():
            symmetric.add(name)
    return TypeNames(tuple(entities), tuple(relations.as_dict()), frozenset(symmetric))

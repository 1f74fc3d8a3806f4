"""What components did with a Doc: how it was read, and what was cut or left out.

A record is plain data (tables and numbers), and lives in ``Doc.user_data``, where spaCy keeps the
values of extensions: it survives ``Doc.to_bytes``, pickling, ``n_process`` and
``DocBin(store_user_data=True)``. ``Doc.from_docs`` drops it, with a warning of spaCy's, because it
says nothing about the Doc that is made.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from spacy.tokens import Doc

from .extensions import register

REPORT_NAME = "spanrel_report"
_KEY = ("._.", REPORT_NAME, None, None)

Record = dict[str, Any]


def get_report(doc: Doc) -> dict[str, Record]:
    """Read what components noted about a Doc.

    doc (Doc): The Doc.
    RETURNS (dict[str, dict]): The record of each component that read the Doc, by its name.
    """
    table: dict[Any, Any] = doc.user_data
    return dict(table.get(_KEY, {}))


def set_report(doc: Doc, name: str, record: Record) -> None:
    """Note what a component did with a Doc, in the place of what it noted before.

    doc (Doc): The Doc.
    name (str): Of the component.
    record (dict): Tables and numbers.
    """
    table: dict[Any, Any] = doc.user_data
    table[_KEY] = {**table.get(_KEY, {}), name: dict(record)}


def register_report_extension(prefix: str = "", *, check_only: bool = False) -> None:
    """Register `doc._.spanrel_report`; nothing foreign is ever overwritten.

    prefix (str): Put before the extension's name.
    check_only (bool): Only look whether the name is free or ours.
    RAISES (ValueError): If other code owns the name.
    """
    register([(Doc, f"{prefix}{REPORT_NAME}", partial(get_report), None)], check_only=check_only)

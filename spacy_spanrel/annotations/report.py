"""Reports of components on a Doc: how it was read, and what was cut or left out.

A report is plain data (tables and numbers). It lives in ``Doc.user_data``, where spaCy keeps the values
of extensions, and so survives ``Doc.to_bytes``, pickling, ``n_process`` and
``DocBin(store_user_data=True)``. ``Doc.from_docs`` drops it, with a warning of spaCy, because it does not
hold for the merged Doc.
"""

from __future__ import annotations

from typing import Any

from spacy.tokens import Doc

from .extensions import Extension, register

REPORT_NAME = "spanrel_report"
_KEY = ("._.", REPORT_NAME, None, None)

Record = dict[str, Any]


def get_report(doc: Doc) -> dict[str, Record]:
    """Read the reports of components on a Doc.

    doc (Doc): The Doc.
    RETURNS (dict[str, dict]): The report of each component that read the Doc, by the component's name.
    """
    user_data: dict[Any, Any] = doc.user_data
    return dict(user_data.get(_KEY, {}))


def set_report(doc: Doc, name: str, record: Record) -> None:
    """Write the report of a component on a Doc, in place of its last one.

    doc (Doc): The Doc.
    name (str): Name of the component.
    record (dict): The report: tables and numbers.
    """
    user_data: dict[Any, Any] = doc.user_data
    user_data[_KEY] = {**user_data.get(_KEY, {}), name: dict(record)}


def report_extensions(prefix: str = "") -> list[Extension]:
    """Return the extension `doc._.spanrel_report`; arguments as below."""
    return [Extension(Doc, f"{prefix}{REPORT_NAME}", get_report)]


def register_report_extension(prefix: str = "") -> None:
    """Register `doc._.spanrel_report`. An extension of other code is never overwritten.

    prefix (str): Put before the name of the extension.
    RAISES (ValueError): If the name belongs to other code.
    """
    register(report_extensions(prefix))

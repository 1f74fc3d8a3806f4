"""Text for HTML and XML, and pages made from templates."""

from __future__ import annotations

import html
from functools import cache
from typing import Any

import jinja2

# XML cannot hold most control characters, not even as references, and HTML turns "\r" into "\n".
# Each is replaced by one visible character, so that offsets stay right.
_VISIBLE: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    0xFFFE: "\ufffd",
    0xFFFF: "\ufffd",
}


def clean(text: str) -> str:
    """Replace each character that XML cannot hold with a visible one."""
    return text.translate(_VISIBLE)


def escape(text: str) -> str:
    """Escape text for elements and attributes of HTML and SVG."""
    return html.escape(clean(text), quote=True)


def render_template(folder: str, name: str, **values: Any) -> str:
    """Fill a template of this package.

    All values are cleaned and escaped, so the page is well-formed whatever texts and labels hold.

    folder (str): The template's folder in the package, such as "evaluation".
    name (str): Its file name.
    **values (Any): What the template uses.
    RETURNS (str): The page.
    """
    return _environment(folder).get_template(name).render(**values)


@cache
def _environment(folder: str) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("spacy_spanrel", folder),
        autoescape=True,
        finalize=lambda value: clean(value) if isinstance(value, str) else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

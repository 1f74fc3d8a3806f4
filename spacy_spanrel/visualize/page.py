"""What all pictures share: colours for light and dark, style sheets, SVG elements and HTML pages."""

from __future__ import annotations

import re
import uuid
import zlib
from collections.abc import Iterable, Mapping
from typing import Literal

from spacy.displacy.render import DEFAULT_ENTITY_COLOR, EntityRenderer

from ..errors import Errors, Warnings, warn
from ..markup import escape
from .layout import SMALL
from .text import em_width

Theme = Literal["auto", "light", "dark"]
THEMES: tuple[Theme, ...] = ("auto", "light", "dark")

MONOSPACE = (
    "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
)
SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Liberation Sans',Arial,sans-serif"

# Colours by their names in CSS. r0, r1, ... are for relations and questions, and readable as text.
LIGHT = {"bg": "#ffffff", "fg": "#1f2328", "muted": "#656d76", "faint": "#d8dee4"}
DARK = {"bg": "#181b20", "fg": "#e8eaed", "muted": "#9aa4af", "faint": "#3b424b"}
_HUES = (
    ("#0a5bb5", "#7fb9ff"),
    ("#b3261e", "#ff9c91"),
    ("#1a7335", "#7fdc97"),
    ("#7b3fb5", "#cda9ff"),
    ("#8f4b00", "#f3b76e"),
    ("#00707a", "#62d5df"),
    ("#a8306f", "#ff9fcd"),
    ("#5f6100", "#d2d368"),
)
N_HUES = len(_HUES)
LIGHT |= {f"r{i}": light for i, (light, _) in enumerate(_HUES)}
DARK |= {f"r{i}": dark for i, (_, dark) in enumerate(_HUES)}

# Colours of entity types for which displaCy has none.
PASTELS = (
    "#f5a3c7",
    "#8ecae6",
    "#b8e08a",
    "#ffb677",
    "#c3a6ff",
    "#ffe066",
    "#7fd8be",
    "#e5989b",
    "#a0b8f8",
    "#d4c49a",
)

# Selectors of pages that declare themselves light or dark, whatever the system prefers: JupyterLab,
# Visual Studio Code, Colab, and common themes of MkDocs and Sphinx.
_SAYS_LIGHT = (
    '[data-jp-theme-light="true"]',
    ".vscode-light",
    'html[theme="light"]',
    '[data-md-color-scheme="default"]',
    '[data-theme="light"]',
)
_SAYS_DARK = (
    '[data-jp-theme-light="false"]',
    ".vscode-dark",
    'html[theme="dark"]',
    '[data-md-color-scheme="slate"]',
    '[data-theme="dark"]',
)

_NUMBER = r"[-+]?[0-9.]+(?:%|deg|rad|turn)?"
_COLOR = re.compile(
    r"#[0-9a-f]{3,4}|#[0-9a-f]{6}|#[0-9a-f]{8}|[a-z]+"
    rf"|(?:rgb|hsl)a?\(\s*{_NUMBER}(?:\s*[\s,/]\s*{_NUMBER}){{2,3}}\s*\)",
    re.IGNORECASE,
)


def new_id() -> str:
    """Return an id that no other picture in a page has."""
    return f"spanrel-{uuid.uuid4().hex[:12]}"


def theme_css(selector: str, theme: Theme = "auto") -> str:
    """Return CSS that defines the colours for a selector.

    selector (str): Selector of the picture's outermost element.
    theme ("auto" | "light" | "dark"): "auto" follows the page if it declares itself light or dark, and
        otherwise the preference of the reader's system.
    """
    light = _variables(LIGHT, "light")
    dark = _variables(DARK, "dark")
    if theme != "auto":
        return f"{selector}{{{light if theme == 'light' else dark}}}"
    parts = [f"{selector}{{{light}}}"]
    parts.append(f"@media (prefers-color-scheme:dark){{{selector}{{{dark}}}}}")
    for names, variables in ((_SAYS_LIGHT, light), (_SAYS_DARK, dark)):
        parts.append(",".join(f"{name} {selector}" for name in names) + f"{{{variables}}}")
    return "".join(parts)


def _variables(colors: Mapping[str, str], scheme: str) -> str:
    return f"color-scheme:{scheme};" + "".join(f"--{k}:{v};" for k, v in colors.items())


def themed(name: str, color: str) -> str:
    """Return CSS that sets a property to a colour of the theme.

    The property is set twice, because some programs that draw SVG know no variables; they take the
    light colour.

    name (str): The property.
    color (str): Name of the colour, a key of LIGHT.
    """
    return f"{name}:{LIGHT[color]};{name}:var(--{color});"


def make_css(selector: str, rules: Mapping[str, str], theme: Theme) -> str:
    """Return the style sheet of a picture, which changes nothing around it.

    selector (str): Selector of the picture's outermost element.
    rules (Mapping[str, str]): Declarations by the selectors inside of it; "" for itself.
    theme ("auto" | "light" | "dark"): The colours.
    """
    # ">" may stand unescaped in a style element, in HTML and in XML.
    return theme_css(selector, theme) + "".join(
        f"{selector}{name}{{{declarations}}}" for name, declarations in rules.items()
    )


def check_color(label: str, color: object) -> str:
    """Return a colour of the options without outer spaces. RAISES (ValueError): If it is no colour."""
    if not isinstance(color, str) or not _COLOR.fullmatch(color.strip()):
        raise ValueError(Errors.E911.format(label=label, found=color))
    return color.strip()


def entity_colors(labels: Iterable[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Choose a colour for each entity type.

    Colours of the options come first, then displaCy's own and those that packages register for it
    (all without regard to case), and then PASTELS. A type gets the same one of those in every picture,
    unless two types of a picture would share it.

    labels (Iterable[str]): The types; "" for none.
    chosen (Mapping[str, str]): Colours from the options.
    RETURNS (dict[str, str]): Colours by type.
    """
    from_options = {label.upper(): color for label, color in chosen.items()}
    from_displacy = EntityRenderer(options={}).colors
    colors: dict[str, str] = {"": DEFAULT_ENTITY_COLOR}
    open_labels = []
    for label in sorted(set(labels) - {""}):
        color = from_options.get(label.upper()) or from_displacy.get(label.upper())
        if color is not None and not _COLOR.fullmatch(color.strip()):
            warn(Warnings.W132.format(label=label, found=color))
            color = None
        if color is None:
            open_labels.append(label)
        else:
            colors[label] = color
    places = spread_labels(open_labels, len(PASTELS))
    return colors | {label: PASTELS[place] for label, place in places.items()}


def spread_labels(labels: Iterable[str], n: int) -> dict[str, int]:
    """Assign one of `n` numbers to each label, different ones as long as there are enough.

    The number depends on the label alone unless another label has taken it, so that a label looks the
    same in most pictures.
    """
    places: dict[str, int] = {}
    taken: set[int] = set()
    for label in sorted(set(labels)):
        if len(taken) == n:
            taken = set()
        place = zlib.crc32(label.encode("utf8", "surrogatepass")) % n
        while place in taken:
            place = (place + 1) % n
        taken.add(place)
        places[label] = place
    return places


def make_svg(
    content: str,
    *,
    name: str,
    size: tuple[float, float],
    title: str,
    description: str,
    rules: Mapping[str, str],
    hues: Iterable[int],
    theme: Theme,
    lang: str = "",
) -> str:
    """Return a picture as an SVG element that loads nothing.

    content, name (str): Its markup, and its CSS class.
    size (tuple[float, float]): Width and height.
    title, description (str): The picture in words, for screen readers.
    rules (Mapping[str, str]): CSS declarations by selector, besides those of all pictures.
    hues (Iterable[int]): Numbers of the relation colours in the picture.
    theme ("auto" | "light" | "dark"), lang (str): Colours, and language of the text ("" if unknown).
    """
    id = new_id()
    width, height = map(px, size)
    css = {
        "": f"font-family:{MONOSPACE};font-variant-ligatures:none;direction:ltr;",
        " text": "white-space:pre;text-anchor:middle;stroke:none;",
        " .back": themed("fill", "bg"),
        " .tip": "fill:currentColor;stroke:none;",
        " .label": f"font-size:{px(SMALL)}px;font-weight:600;fill:currentColor;",
        **rules,
        **{f" .r{i}": themed("color", f"r{i}") for i in sorted(set(hues))},
    }
    xml_lang = f' xml:lang="{escape(lang)}"' if lang else ""
    # Jupyter would shrink the picture without a size and max-width in its style.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{id}" class="{name}" width="{width}"'
        f' height="{height}" viewBox="0 0 {width} {height}"'
        f' style="max-width:none;width:{width}px;height:{height}px"'
        f' role="img" aria-labelledby="{id}-title {id}-desc"{xml_lang}>'
        f'<title id="{id}-title">{escape(title)}</title>'
        f'<desc id="{id}-desc">{escape(description)}</desc>'
        f"<style>{make_css(f'#{id}', css, theme)}</style>"
        f'<rect class="back" width="100%" height="100%" rx="6"/>{content}</svg>'
    )


def text_at(x: float, y: float, text: str, font: float, kind: str, title: str = "") -> str:
    """Return text of a CSS class at a place, with the same width in every font."""
    width = em_width(text) * font
    length = f' textLength="{px(width)}" lengthAdjust="spacingAndGlyphs"' if width else ""
    tooltip = f"<title>{escape(title)}</title>" if title else ""
    return f'<text class="{kind}" x="{px(x)}" y="{px(y)}"{length}>{tooltip}{escape(text)}</text>'


def px(value: float) -> str:
    """Return a length in pixels, with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def make_page(content: str, *, title: str, lang: str, direction: str, theme: Theme = "auto") -> str:
    """Return an HTML page that is well-formed XML at the same time.

    content (str): Markup of the page's body.
    title (str): Title of the page.
    lang (str), direction (str): Language and direction of its text.
    theme ("auto" | "light" | "dark"): Colours of the page around the content.
    """
    scheme = "light dark" if theme == "auto" else theme
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="{escape(lang)}" dir="{escape(direction)}">\n'
        '<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<meta name="color-scheme" content="{scheme}"/>\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{theme_css('body', theme)}"
        f"body{{margin:0;padding:2rem;font:16px/1.5 {SANS};"
        f"{themed('background', 'bg')}{themed('color', 'fg')}}}"
        "figure{margin:0 0 2.5rem;overflow-x:auto}</style>\n"
        f"</head>\n<body>\n{content}\n</body>\n</html>\n"
    )

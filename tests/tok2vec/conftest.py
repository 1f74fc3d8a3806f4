from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..util import extensions_restored


@pytest.fixture(scope="package", autouse=True)
def _extensions() -> Iterator[None]:
    """Remove the extensions with prefixes that pipelines of this folder register."""
    with extensions_restored():
        yield

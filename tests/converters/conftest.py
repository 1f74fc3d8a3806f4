from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_spanrel.converters import ConversionError, ConversionReport

CONLL04 = Path(__file__).parents[2].parent / "shared" / "data" / "conll04"


@pytest.fixture(scope="session")
def nlp() -> Language:
    return spacy.blank("en")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Write text, bytes or JSON data to a file and return its path."""

    def _write(content: Any, name: str = "data.txt") -> Path:
        path = tmp_path / name
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return _write


@pytest.fixture
def reload() -> Callable[[Iterable[Doc]], list[Doc]]:
    """Send Docs through a DocBin with default settings, into a new vocabulary."""

    def _reload(docs: Iterable[Doc]) -> list[Doc]:
        data = DocBin(docs=docs).to_bytes()
        return list(DocBin().from_bytes(data).get_docs(spacy.blank("en").vocab))

    return _reload


@pytest.fixture
def assert_fails() -> Callable[..., ConversionError]:
    """Convert, expecting an error with this code, whose message names file and all `parts`."""

    def _assert_fails(
        to_docs: Callable[..., Iterable[Doc]], path: Path, code: str, *parts: str, **kwargs: Any
    ) -> ConversionError:
        with pytest.raises(ConversionError) as info:
            list(to_docs(path, **kwargs))
        message = str(info.value)
        assert f"[E_SR{code}]" in message
        assert info.value.found in message
        assert info.value.expected in message
        for part in (str(path), "Found", "Expected", *parts):
            assert part in message
        return info.value

    return _assert_fails


@pytest.fixture
def assert_skipped(
    assert_fails: Callable[..., ConversionError],
) -> Callable[..., tuple[ConversionError, list[Doc], ConversionReport]]:
    """As `assert_fails`; without that record, the others are read. Return error, Docs and report."""

    def _assert_skipped(
        to_docs: Callable[..., Iterable[Doc]], path: Path, code: str, *parts: str, **kwargs: Any
    ) -> tuple[ConversionError, list[Doc], ConversionReport]:
        error = assert_fails(to_docs, path, code, *parts, **kwargs)
        report = ConversionReport()
        docs = list(to_docs(path, on_error=lambda error: None, report=report, **kwargs))
        assert [str(skipped) for skipped in report.skipped] == [str(error)]
        return error, docs, report

    return _assert_skipped


@pytest.fixture
def report() -> ConversionReport:
    """An empty report."""
    return ConversionReport()


@pytest.fixture
def conll04() -> Path:
    if not CONLL04.exists():
        pytest.skip(f"needs the CoNLL04 data in {CONLL04}")
    return CONLL04

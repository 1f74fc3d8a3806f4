"""What all commands share."""

from __future__ import annotations

import pytest

from spacy_spanrel.cli._app import Printer, echo, nothing_written, printable

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\u202eb\r\x9b2J\ud800\x7f"
SHOWN = r"a\x1b[31mred\x1b]0;title\x07\u202eb\r\x9b2J\ud800\x7f"


def test_ordinary_text_is_shown_as_it_is():
    for text in ("a b\n\tc", "Zürich", "日本\u3000語", "می\u200cخواهم", "👩\u200d👧", ""):
        assert printable(text) == text


def test_control_sequences_are_shown_as_escapes(capsys, tmp_path):
    assert printable(HOSTILE) == SHOWN
    msg = Printer()
    msg.show_color = False
    msg.good(HOSTILE, HOSTILE)
    msg.divider(HOSTILE)
    msg.table([(HOSTILE, 1)], header=(HOSTILE, "n"))
    msg.table({HOSTILE: 2})
    msg.row((HOSTILE, 3))
    echo(HOSTILE)
    echo(ValueError(HOSTILE), err=True)
    with pytest.raises(Exception, match="1"):
        nothing_written(tmp_path / HOSTILE, ValueError(HOSTILE))
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    # Bold type and the like, which the printer itself adds, stays.
    assert "\x1b[31m" not in shown
    assert not any(char in shown for char in "\x07\u202e\r\x9b\ud800\x7f")
    assert r"\x1b]0;title\x07\u202eb\r\x9b2J\ud800\x7f" in shown

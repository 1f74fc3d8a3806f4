"""What all commands share."""

from __future__ import annotations

import pytest
import typer

from spacy_spanrel.cli import app
from spacy_spanrel.cli._app import Printer, echo, failing_with, printable
from tests.cli.util import run

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\u202eb\r\x9b2J\ud800\x7f"
SHOWN = r"a\x1b[31mred\x1b]0;title\x07\u202eb\r\x9b2J\ud800\x7f"


@pytest.mark.parametrize("command", sorted(command.name for command in app.registered_commands))
def test_every_command_has_examples(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"$ python -m spacy spanrel {command} " in result.stdout


def test_arguments_have_the_names_of_the_texts():
    """Which say CORPUS; newer versions of typer would show `corpus`."""
    for name, command in typer.main.get_command(app).commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                shown = parameter.metavar or parameter.name
                assert shown == shown.upper(), (name, shown)


def test_ordinary_text_is_shown_as_it_is():
    for text in ("a b\n\tc", "Zürich", "日本\u3000語", "می\u200cخواهم", "👩\u200d👧", ""):
        assert printable(text) == text


def test_control_sequences_are_shown_as_escapes(capsys):
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
    with pytest.raises(Exception, match="1"), failing_with(HOSTILE):
        raise ValueError(HOSTILE)
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    # Bold type and the like, which the printer itself adds, stays.
    assert "\x1b[31m" not in shown
    assert not any(char in shown for char in "\x07\u202e\r\x9b\ud800\x7f")
    assert r"\x1b]0;title\x07\u202eb\r\x9b2J\ud800\x7f" in shown

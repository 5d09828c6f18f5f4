"""Numbers with their nouns, and help; tests/cli/test_errors.py holds what a terminal is shown."""

import pytest

from theta.text import counted, help_of


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 tokens"), (1, "1 token"), (2, "2 tokens"), (1024, "1,024 tokens")]
)
def test_a_noun_agrees_with_its_number(number: int, expected: str) -> None:
    assert counted(number, "token") == expected


def test_a_plural_may_be_irregular() -> None:
    assert [counted(number, "reply", "replies") for number in (1, 2)] == ["1 reply", "2 replies"]


def test_help_is_a_docstring_for_users() -> None:
    docstring = """Do it.

    It takes
    a while.

    Raises:
        ValueError: it cannot be done.
    """
    assert help_of(docstring) == "Do it.\n\nIt takes a while."
    assert help_of(None) == ""

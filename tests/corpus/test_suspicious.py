"""Unfilled templates and personal data are found, and replaced on request."""

import pytest

from theta.conversation.messages import Conversation, Message
from theta.corpus import suspicious
from theta.corpus.items import Notes

ALL = ("emails", "phones", "cards", "keys")


def conversation(reply: str) -> Conversation:
    return Conversation((Message("user", "Who is it?"), Message("assistant", reply)), "x", "x.json#1")


def found(reply: str) -> dict[str, list[str]]:
    notes = Notes()
    suspicious.look(conversation(reply), notes)
    kinds = {note.kind for note in notes.counts}
    return {kind: [name for name, _, _ in notes.of(kind)] for kind in kinds}


@pytest.mark.parametrize(
    ("reply", "example"),
    [
        ("I am {{name}}, made by {{author}}.", "{{name}}"),
        ("{% if formal %}Dear{% endif %} Ann", "{% if formal %}"),
        ("In short: [SIMPLE EXPLANATION]", "[SIMPLE EXPLANATION]"),
        ("Dear [Your Name],", "[Your Name]"),
        ("Visit <insert link here>.", "<insert link here>"),
        ("Lorem ipsum dolor sit amet.", "Lorem ipsum dolor sit amet."),
    ],
)
def test_templates_are_found(reply: str, example: str) -> None:
    assert found(reply) == {"template": [example]}


@pytest.mark.parametrize(
    "reply", ["[INFO] started", "a[i] = b[J]", "{'a': {'b': 1}}", "if (a < Your) {", "[x] and [TODO]"]
)
def test_code_and_logs_are_no_templates(reply: str) -> None:
    assert found(reply) == {}


@pytest.mark.parametrize(
    ("reply", "kind", "redacted"),
    [
        ("Write to bob.smith+x@mail.somewhere.com now.", "emails", "Write to [email] now."),
        ("Call +1 (555) 123-4567 today.", "phones", "Call [phone number] today."),
        ("Call +49 30 1234567.", "phones", "Call [phone number]."),
        ("Pay with 4111 1111 1111 1111, please.", "cards", "Pay with [card number], please."),
        ("Pay with 4111-1111-1111-1111.", "cards", "Pay with [card number]."),
        ("Set sk-abcdefghijklmnopqrstuvwx as key.", "keys", "Set [key] as key."),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----", "keys", "[key]"),
    ],
)
def test_personal_data_is_found_and_replaced_on_request(reply: str, kind: str, redacted: str) -> None:
    assert found(reply) == {"personal": [kind]}
    notes = Notes()
    assert suspicious.redact(conversation(reply), ALL, notes).messages[1].content == redacted
    assert list(notes.of("redacted")) == [(kind, 1, "x.json#1")]
    others = [other for other in ALL if other != kind]
    assert suspicious.redact(conversation(reply), others, Notes()) == conversation(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "On 2024-01-02 at 10:20:30.",
        "192.168.100.200 is private.",
        "Version 1.2.3.4.5.6.7",
        "pi is 3.14159265358979",
        "Order 1234567890123456",  # not a card: the check digit is wrong
        "1111111111111111",
        "Use @property in (2024) code.",
        "f(1234, 5678, 9012)",
        "git clone git@github.com:a/b.git",
        "Mail ann@example.org or bob@mail.example.com.",
    ],
)
def test_other_numbers_stay(reply: str) -> None:
    assert found(reply) == {}
    assert suspicious.redact(conversation(reply), ALL, Notes()) == conversation(reply)

"""A conversation that is told otherwise than by one list of messages -> turns.

Questions in one list and answers in another, messages under numbered names, steps each of which repeats the history.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from theta.corpus.shapes import choices, messages
from theta.corpus.shapes.content import text_of
from theta.corpus.shapes.fields import CONTEXTS, TurnRole, role_of
from theta.corpus.shapes.replies import answer_text
from theta.corpus.shapes.turns import Place, Turn


def asked_in_turn(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn] | None:
    """Return the turns of a list of questions and one of answers about a text beside them; None if there are none."""
    if "questions" not in fields or "answers" not in fields:
        return None
    about = next((name for name in CONTEXTS if isinstance(fields.get(name), str) and fields[name]), None)
    asked, replied = fields.get("questions"), fields.get("answers")
    if isinstance(replied, dict):  # by column
        replied = next(
            (held for held in replied.values() if isinstance(held, list) and held and isinstance(held[0], str)), None
        )
    if about is None or not isinstance(asked, list) or not isinstance(replied, list) or len(asked) != len(replied):
        return None
    used.update((about, "questions", "answers"))
    turns: list[Turn] = []
    options = fields.get("options")
    with_options = isinstance(options, list) and len(options) == len(asked)
    for at, (question, answer) in enumerate(zip(asked, replied, strict=True)):
        one = {"question": question, "answer": answer, "options": options[at]} if options and with_options else {}
        turns += (one and choices.turns_of(one, place, used)) or [
            Turn("user", answer_text(question, place)),
            Turn("assistant", answer_text(answer, place)),
        ]
    if turns:
        turns[0] = turns[0]._replace(content=f"{turns[0].content}\n\n{text_of(fields[about], place)}")
    return turns


def of_persona(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn] | None:
    """Return the turns of a dialogue of PersonaChat, each of whose steps repeats the history; None if it is none.

    The last of the candidates is what was said.
    """
    steps, persona = fields.get("utterances"), fields.get("personality")
    last = steps[-1] if isinstance(steps, list) and steps else None
    if not isinstance(last, dict) or not isinstance(persona, list):
        return None
    said, candidates = last.get("history"), last.get("candidates")
    if not isinstance(said, list) or not isinstance(candidates, list) or not candidates:
        return None
    used.update(("utterances", "personality"))
    spoken = [*said, candidates[-1]]
    roles = messages.alternating_roles(len(spoken), place)
    turns = [Turn(role, text_of(each, place)) for role, each in zip(roles, spoken, strict=True)]
    return [Turn("system", text_of(persona, place)), *turns]


def numbered_turns(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn] | None:
    """Return the turns of messages under numbered names, as message_1 and message_2 or user_1 and bot_1; None if none.

    Raises:
        UnusableError: they do not say who speaks.
    """
    if not any(key[-1:].isdecimal() for key in fields):
        return None
    found = [(int(name[2]), name[1], key) for key in fields if (name := _NUMBERED.fullmatch(key))]
    found.sort(key=lambda each: each[0])
    plain = [key for _, name, key in found if name in _MESSAGE_NAMES]
    said = [key for key in plain if fields[key]]
    if len(said) > 1 and all(messages.is_message(fields[key], place.rules) for key in said):
        turns = messages.turns_of([fields[key] for key in said], place)
    elif len(said) > 1 and all(isinstance(fields[key], str) for key in said):
        turns = _told_by(messages.alternating_roles(len(plain), place), plain, fields, place)  # an empty one is a turn
    else:
        sides = _sided([each for each in found if fields[each[2]]], place)
        plain = list(sides)
        if len(plain) < 4 or set(sides.values()) != {"user", "assistant"}:
            return None
        turns = _told_by(list(sides.values()), plain, fields, place)
    used.update(plain)
    return turns or None


def _sided(found: Sequence[tuple[int, str, str]], place: Place) -> dict[str, TurnRole]:
    """The keys that name a side, each with it, in the order in which the two speak; the keys may be in any order."""
    first = messages.alternating_roles(1, place)[0]
    sided = [(number, role_of(name, place.rules), key) for number, name, key in found]
    sided.sort(key=lambda each: (each[0], each[1] != first))
    return {key: role for _, role, key in sided if role in ("user", "assistant")}


def _told_by(roles: Sequence[TurnRole], keys: Sequence[str], fields: Mapping[str, Any], place: Place) -> list[Turn]:
    return [Turn(role, text_of(fields[key], place)) for role, key in zip(roles, keys, strict=True) if fields[key]]


_NUMBERED = re.compile(r"([a-z]+)(\d{1,3})")
_MESSAGE_NAMES = ("message", "turn", "utterance", "msg")

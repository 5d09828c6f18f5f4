"""An object with a question and its reply -> turns, whatever both are called and whatever stands beside them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from theta.corpus.items import Number
from theta.corpus.shapes import intents, languages, marks, messages, transcripts
from theta.corpus.shapes.content import WITHOUT_QUESTION, asked_otherwise, asked_text, text_of, wordings_of
from theta.corpus.shapes.fields import (
    ASSISTANTS,
    CONTEXTS,
    HISTORIES,
    INSTRUCTIONS,
    MEDIA,
    MESSAGE_LISTS,
    NO_INPUT,
    PAIRS,
    QUESTIONS,
    REPLIES,
    SEVERAL,
    SEVERAL_REPLIES,
    SYSTEMS,
    USERS,
    UnusableError,
    among,
    canonical_fields,
    first,
)  # fmt: skip
from theta.corpus.shapes.replies import parsed, reply_turns
from theta.corpus.shapes.turns import Place, Turn

_OTHER_QUESTIONS = (("title", "body"), ("title", "selftext"), ("message",), ("text",), ("title",))
"""What asks where nothing is called a question, but something is called a reply."""
_TITLES = ("title", "name", "heading", "subject")
_BODIES = ("content", "text", "description")
"""A title that ends with a question mark is answered by what stands below it."""
_POSTED = frozenset(("author", "authorid", "user", "userid", "score", "ups", "subreddit", "parentid", "posttypeid",
                     "numcomments", "comments", "createdutc"))  # fmt: skip
"""Signs of a post in a forum, whose text belongs to the question."""
_IMAGE_MARKS = ("<image>", "<video>", "<audio>", "<|image|>", "<image_placeholder>", "<img>")
_REPLY_NAMES = (*REPLIES, *SEVERAL_REPLIES)
_QUESTION_NAMES = tuple(dict.fromkeys((*INSTRUCTIONS, *QUESTIONS, *CONTEXTS)))
_LIST_NAMES = frozenset(MESSAGE_LISTS)
_FOREIGN = frozenset(asked for asked, _ in languages.ASKING_NAMES)


def is_exchange(fields: Mapping[str, Any]) -> bool:
    """Whether an object holds a question and a reply of its own."""
    return bool(_reply_key(fields) and question_keys(fields)) or _pair_keys(fields) is not None


def turns_of(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn] | None:
    """Return the turns of an object with a question and a reply; None if it has none.

    Args:
        fields: the object by its canonical names.
        place: where it was found.
        used: gets the names whose text was used.

    Raises:
        UnusableError: a text of it cannot be read, or the item needs an image.
    """
    if pair := _pair_keys(fields):
        asked, replied = [pair[0]], pair[1]
    else:
        reply_key = _reply_key(fields)
        asked = question_keys(fields) if reply_key else []
        if reply_key is None or not asked:
            return None
        replied = reply_key
    used.update((*asked, replied))
    before = [name for name in asked[1:] if _is_chat(fields[name], place)]
    earlier = [turn for name in before for turn in turns_of_list(fields[name], place)]
    asked = [name for name in asked if name not in before]
    turns = [*earlier_turns(fields, place, used), *earlier, *question_turns(fields, asked, place)]
    return [*after_prompt(turns, reply_turns(fields[replied], place, key=replied))]


def _is_chat(value: Any, place: Place) -> bool:
    """Whether what stands beside a question is what was said before it."""
    return isinstance(value, list) and bool(value) and messages.is_message(value[0], place.rules)


def system_turns(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn]:
    """Return the system message that stands beside a question or a list of messages, if any."""
    key = first(SYSTEMS, fields)
    if key is None:
        return []
    used.add(key)
    return [Turn("system", text_of(fields[key], place).removeprefix("SYSTEM: "))]


def earlier_turns(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn]:
    """Return the turns of a `history` beside a question."""
    key = first(HISTORIES, fields)
    if key is None:
        return []
    used.add(key)
    history = fields[key]
    if isinstance(history, str):
        history = parsed(history) or transcripts.turns_of(history, place) or history
    if isinstance(history, list) and all(isinstance(each, Turn) for each in history):
        return history
    if not isinstance(history, list):
        raise UnusableError("unknown_shape", f"{key} is of type {type(history).__name__}")
    return turns_of_list(history, place)


def turns_of_list(entries: Sequence[Any], place: Place) -> list[Turn]:
    """Return the turns of a list of messages, of exchanges, of pairs, or of texts in turn.

    Raises:
        UnusableError: the list holds anything else.
    """
    entries = [entry for entry in entries if entry not in (None, {}, [])]
    if entries and all(isinstance(entry, str) and not isinstance(entry, Number) for entry in entries):
        if whole := transcripts.turns_of("\n".join(entries), place):
            return whole
        roles = messages.alternating_roles(len(entries), place)
        return [Turn(role, text_of(entry, place)) for role, entry in zip(roles, entries, strict=True)]
    if entries and all(isinstance(entry, list) and is_pair(entry) for entry in entries):
        if messages.name_speakers(entries, place.rules):
            return messages.turns_of([{"speaker": who, "content": said} for who, said in entries], place)
        return [turn for entry in entries for turn in _pair(entry, place)]
    if entries and all(isinstance(entry, dict) for entry in entries):
        fields = [canonical_fields(entry, place.rules) for entry in entries]
        told = [_told(each, place) for each in fields] if not messages.is_message(entries[0], place.rules) else []
        if told and all(turns is not None for turns in told):
            return [
                turn for each, turns in zip(fields, told, strict=True) for turn in _marked(each, turns or [], place)
            ]
    return messages.turns_of(entries, place)


def _told(fields: Mapping[str, Any], place: Place) -> list[Turn] | None:
    """The turns of one exchange of several, with its wordings at its question; None if it is no exchange."""
    inner = replace(place, wordings=wordings_of(fields, place))
    if (several := intents.exchanges_of(fields, inner, set())) is not None:
        return _first_reply(several, place)
    if not is_exchange(fields):
        return None
    turns = turns_of(fields, place, set()) or []
    at = max((at for at, turn in enumerate(turns) if turn.role == "user"), default=None)
    if not inner.wordings or at is None:
        return turns
    asked = asked_text(fields, place)
    if not turns[at].content.startswith(asked):
        place.note("mended", WITHOUT_QUESTION)
        return turns
    wordings = asked_otherwise(turns[at], asked, inner.wordings, place)
    return [*turns[:at], turns[at]._replace(wordings=wordings), *turns[at + 1 :]]


def _first_reply(several: Iterator[list[Turn]], place: Place) -> list[Turn]:
    """The first of several replies, with the ways to ask of all of them: an exchange of a chat has one reply."""
    exchanges = list(several)
    if len(exchanges) > 1:
        place.note("chosen", "one of several answers")
    phrases = [text for question, _ in exchanges for text in (question.content, *question.wordings)]
    question, *wordings = dict.fromkeys(phrases)
    return [Turn("user", question, wordings=tuple(wordings)), exchanges[0][1]]


def is_pair(entry: Sequence[Any]) -> bool:
    """Whether it is a question and its reply in a list of two texts."""
    return len(entry) == 2 and all(isinstance(text, str) or text is None for text in entry)


def _pair(entry: Sequence[Any], place: Place) -> list[Turn]:
    asked = "" if entry[0] == _NO_QUESTION else text_of(entry[0], place)
    return [Turn("user", asked), Turn("assistant", text_of(entry[1], place))]


_NO_QUESTION = "<|BEGIN-VISIBLE-CHAT|>"
"""What text-generation-webui writes in place of a question before a greeting."""


def _marked(fields: Mapping[str, Any], turns: list[Turn], place: Place) -> list[Turn]:
    """The turns of one exchange of several, masked if it is marked."""
    if not marks.may_hold(fields):
        return turns
    mark = marks.not_to_learn(fields) or marks.marked_bad(fields, place)
    if not mark:
        return turns
    place.note("not_learned", mark)
    return [turn._replace(learned=turn.role != "assistant") for turn in turns]


def message_list(fields: Mapping[str, Any]) -> str | None:
    """Return the name of the first list that holds the messages or exchanges of one conversation."""
    if _LIST_NAMES.isdisjoint(fields):
        return None
    for name in among(MESSAGE_LISTS, fields):
        if name in HISTORIES and is_exchange(fields):
            continue
        entries = fields.get(name)
        if isinstance(entries, str):
            entries = parsed(entries)
        if isinstance(entries, dict):
            if isinstance(entries.get("messages"), list) or _in_turn(entries) is not None:
                return name
            continue
        if isinstance(entries, list) and entries and _is_one_conversation(name, entries, fields):
            return name
    return None


def listed(value: Any) -> list[Any]:
    """Return the messages of what `message_list` named."""
    if isinstance(value, str):
        return parsed(value) or []
    if isinstance(value, dict):
        return _in_turn(value) or list(value["messages"])
    return list(value)


_TURN = re.compile(r"(?:turn|round|exchange|message|msg|utterance)[ _-]?\d+", re.IGNORECASE)


def _in_turn(value: Mapping[str, Any]) -> list[Any] | None:
    """The turns of an object that numbers them, as {"turn_1": ..., "turn_2": ...}; None if it does not."""
    if value and all(_TURN.fullmatch(key) for key in value):
        return list(value.values())
    if value and all(map(messages.is_message, value.values())) and (len(value) > 1 or next(iter(value)).isdecimal()):
        return list(value.values())  # by their ids
    return None


def _is_one_conversation(name: str, entries: Sequence[Any], fields: Mapping[str, Any]) -> bool:  # noqa: PLR0911
    filled = [entry for entry in entries if entry not in (None, {}, [])]
    if any(messages.is_message(entry) for entry in filled[:2]):
        return True
    if name == "content":
        return False
    if name in SEVERAL:
        if all(isinstance(entry, str) for entry in filled):
            return len(filled) > 1 and name not in ("content", "contents", "history", "items")
        if name == "log":
            return all(isinstance(entry, dict) and "text" in entry for entry in filled)
        beside = first(SYSTEMS, fields) or any(key in fields for key in ("id", "uuid", "conversationid", "dialogid"))
        return bool(beside) and name == "conversations" and all(isinstance(entry, dict) for entry in filled)
    if name == "promptmessages":
        return False
    return not all(isinstance(entry, list) and not is_pair(entry) for entry in filled)


def after_prompt(prompt: list[Turn], reply: list[Turn]) -> list[Turn]:
    """Return the prompt and its reply, which may repeat the prompt."""
    asked = [turn.content for turn in prompt if turn.role == "user"]
    if len(reply) > 1 and asked and any(turn.role == "user" and turn.content in asked for turn in reply):
        opening = [turn for turn in prompt if turn.role == "system" and turn not in reply]
        return [*opening, *reply] if asked[0] in [turn.content for turn in reply] else [*prompt, *reply]
    if prompt and prompt[-1].role == "assistant" and not prompt[-1].content:
        prompt = prompt[:-1]
    if prompt and prompt[-1].role == "assistant" and len(reply) == 1 and reply[0].role == "assistant":
        prompt = prompt[:-1]  # a list of messages that ends with another reply to the same question
    return [*prompt, *reply]


def _reply_key(fields: Mapping[str, Any]) -> str | None:
    """The name of the reply; that of an empty one if no other is filled."""
    return first(_REPLY_NAMES, fields) or next(iter(among(_REPLY_NAMES, fields)), None)


def question_keys(fields: Mapping[str, Any]) -> list[str]:
    """Return the names of what makes up the question: instruction, question, then what it is about."""
    names = among(_QUESTION_NAMES, fields)
    filled = [name for name in names if _says_something(fields[name])]
    if len(filled) > 1:
        filled = [name for name in filled if name not in CONTEXTS or not _is_no_input(fields[name])]
    asking = [name for name in filled if name in INSTRUCTIONS or name in QUESTIONS]
    if asking:
        return [*filled, "text"] if _is_about(fields, asking) else filled
    if fields.get("@type") == "Question" and isinstance(fields.get("name"), str):  # of schema.org
        return [name for name in ("name", "text") if fields.get(name)]
    for others in _OTHER_QUESTIONS:
        if all(name in fields for name in others) and first(others, fields):
            return [*others, *filled]
    if filled:
        return filled
    return [name for name in names if name not in CONTEXTS[1:]][:1]


def _is_about(fields: Mapping[str, Any], asking: Sequence[str]) -> bool:
    """Whether a text is what a question is about; Alpaca's repeats the question and the reply."""
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip() or transcripts.may_be(text):
        return False
    words = " ".join(text.split())
    asked = [" ".join(fields[name].split()) for name in asking if isinstance(fields[name], str)]
    return not any(question in words for question in asked if question)


def _says_something(value: Any) -> bool:
    return value not in (None, "", [], {}) and not (isinstance(value, str) and not value.strip())


def _is_no_input(value: Any) -> bool:
    """Whether a context says that there is none, or is the token ids that some servers return."""
    if isinstance(value, list):
        return all(isinstance(each, Number | int) for each in value)
    return isinstance(value, str) and len(value) < _NO_INPUT_CHARACTERS and value.strip().lower() in NO_INPUT


_NO_INPUT_CHARACTERS = 20


def _pair_keys(fields: Mapping[str, Any]) -> tuple[str, str] | None:  # noqa: PLR0911
    """Names that mean question and reply only together, such as user and assistant."""
    if _reply_key(fields) is None or not question_keys(fields):
        user, assistant = first(USERS, fields), first(ASSISTANTS, fields)
        if user and assistant:
            return user, assistant
        if assistant and (asked := first(QUESTIONS, fields)):
            return asked, assistant
        replied = _reply_key(fields)
        if user and replied:
            return user, replied
        if first(HISTORIES, fields) and isinstance(fields.get("message"), str) and isinstance(fields.get("text"), str):
            return "message", "text"
        for one, other in PAIRS if _FOREIGN.isdisjoint(fields) else (*PAIRS, *languages.ASKING_NAMES):
            both = isinstance(fields.get(one), str) and isinstance(fields.get(other), str)
            if both and not _is_something_else(fields, one, other):
                return one, other
        if _POSTED.isdisjoint(fields):
            return _title_and_body(fields)
    return None


def _is_something_else(fields: Mapping[str, Any], one: str, other: str) -> bool:
    """Whether two names that often mean a question and its reply do not here."""
    if one == "from":  # who writes to whom
        return not (" " in fields[one] and " " in fields[other])
    if other == "code":  # of a country or an error
        return len(fields[other].split()) < 2
    return (one, other) == ("content", "summary") and "title" in fields  # an article


def _title_and_body(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    titles = [name for name in _TITLES if isinstance(fields.get(name), str)]
    asked = next((name for name in titles if fields[name].rstrip().endswith(("?", "？", "؟"))), None)
    body = next((name for name in _BODIES if isinstance(fields.get(name), str)), None)
    return (asked, body) if asked and body else None


def question_turns(fields: Mapping[str, Any], names: Sequence[str], place: Place) -> list[Turn]:
    """Return the turns of a question: one text of its parts, or the messages of a prompt."""
    if len(names) == 1 or not isinstance(fields[names[0]], str):
        turns = _prompt_turns(fields[names[0]], place)
        if turns is not None:
            return turns
    texts: list[str] = []
    for name in names:
        value = fields[name]
        text = _about(value, place) if name in CONTEXTS else _asked(value, place)
        text = _without_template(text, place)
        # A prompt often repeats the question that stands beside it.
        if text and not any(text in other for other in texts):
            texts = [other for other in texts if other not in text or len(other) < 2 or name in CONTEXTS] + [text]
    question = "\n\n".join(texts)
    if any(question.startswith(mark) or question.endswith(mark) for mark in _IMAGE_MARKS):
        raise UnusableError("needs_image")
    return [Turn("user", question)]


def _asked(value: Any, place: Place) -> str:
    """The text of a question, which may have a title."""
    if isinstance(value, dict):
        fields = canonical_fields(value, place.rules)
        names = ("title", "body", "selftext", "fulltext")
        if parts := [fields[name] for name in names if isinstance(fields.get(name), str)]:
            return "\n\n".join(text for part in parts if (text := text_of(part, place)))
    return text_of(value, place)


def _about(value: Any, place: Place) -> str:
    """The text of what a question is about: a text, several, or a table."""
    if isinstance(value, list):
        parts = [part for each in value if (part := _about(each, place))]
        return ("\n\n" if all(isinstance(each, str | dict) for each in value) else " ").join(parts)
    if isinstance(value, dict):
        fields = canonical_fields(value, place.rules)
        key = first(("text", "content", "passage", "body", "pagecontent"), fields)
        if key is not None:
            parts = [text_of(fields[name], place) for name in ("title", key) if isinstance(fields.get(name), str)]
            return "\n".join(part for part in parts if part)
    return text_of(value, place, as_json=True)


def _prompt_turns(value: Any, place: Place) -> list[Turn] | None:
    """The turns of a prompt that is a chat itself; None if it is a plain question."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    elif isinstance(value, dict) and messages.is_message(value, place.rules):
        value = [value]
    if isinstance(value, str):
        if entries := parsed(value):
            return messages.turns_of(entries, place) if messages.is_message(entries[0], place.rules) else None
        return transcripts.turns_of(value, place) or _opened(value, place)
    if isinstance(value, list) and value:
        if messages.is_message(value[0], place.rules):
            return messages.turns_of(value, place)
        if len(value) > 1 and all(isinstance(each, str) for each in value):
            # The utterances of a dialogue up to the reply: the last of them is the user's.
            sides = ("user", "assistant")
            return [Turn(sides[(len(value) - 1 - at) % 2], text_of(each, place)) for at, each in enumerate(value)]  # type: ignore[arg-type]
    return None


def _without_template(text: str, place: Place) -> str:
    """The question in a prompt that is filled into a template, such as Alpaca's."""
    turns = _opened(text, place) if "##" in text else None
    return turns[0].content if turns and len(turns) == 1 else text


_OPEN = ("Assistant:", "assistant\n", "Response:", "<|assistant|>", "[/INST]", "Answer:", "Bot:", "AI:", "ASSISTANT:")


def _opened(text: str, place: Place) -> list[Turn] | None:
    """The turns of a prompt that ends where the reply begins, such as "Human: Hi\\n\\nAssistant:"."""
    if not text.rstrip().endswith(tuple(mark.strip() for mark in _OPEN)):
        return None
    turns = transcripts.turns_of(text.rstrip() + " …", place)
    return turns[:-1] if turns and turns[-1].role == "assistant" and turns[-1].content == "…" else None


def needs_media(fields: Mapping[str, Any]) -> bool:
    """Whether images, sound or films belong to the item."""
    return any(_is_filled(fields[name]) for name in MEDIA if name in fields)


def _is_filled(value: Any) -> bool:
    return any(map(_is_filled, value)) if isinstance(value, list) else bool(value)

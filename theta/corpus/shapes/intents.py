"""An intent -> exchanges: ways to ask, and replies to all of them. Each reply gets its part of the ways to ask.

{"patterns": ["When are you open?", "opening hours"], "responses": ["From nine to five."]}
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from theta.corpus.shapes.content import distinct, text_of
from theta.corpus.shapes.fields import PATTERNS, REPLIES, SEVERAL_REPLIES, UnusableError, canonical, canonical_fields
from theta.corpus.shapes.turns import Place, Turn

_LISTED = ("text", "question", "pattern")
"""Names that mean ways to ask if they hold a list."""
_ASKED = frozenset((*PATTERNS, *_LISTED))
_REPLIES = ("responses", "response", "answers", "answer", "replies", "reply", "messages", "outputs", "output")


def exchanges_of(fields: Mapping[str, Any], place: Place, used: set[str]) -> Iterator[list[Turn]] | None:
    """Yield an exchange for each reply, with its ways to ask as wordings; None if it is no intent."""
    if "istemplate" in fields and isinstance(fields.get("data"), list):
        raise UnusableError("no_assistant_message", "Dialogflow's ways to ask; their replies are in another file")
    if _ASKED.isdisjoint(fields):
        return None
    if (by_language := _by_language(fields, place, used)) is not None:
        return by_language
    wordings = (*PATTERNS, *(name for name in _LISTED if isinstance(fields.get(name), list)))
    asked = next((name for name in wordings if name in fields and _phrases(fields[name], place)), None)
    replied = next((name for name in _REPLIES if name in fields), None)
    if asked is None or replied is None or _is_chat(fields[replied]):
        return None
    if asked in ("questions", "utterances", "examples") and _has_own_replies(fields[asked]):
        return None
    phrases = [*_phrases(fields[asked], place), *place.wordings]
    replies = _texts(fields[replied], place)
    if len(phrases) != len(replies) and _are_objects(fields[asked]) and _are_objects(fields[replied]):
        return None  # nobody knows which answers belong to which question
    used.update((asked, replied))
    replies = list(dict.fromkeys(replies))
    if not replies:
        raise UnusableError("empty_reply")
    phrases = list(distinct(phrases, "", place))
    if not phrases:
        raise UnusableError("empty_question")
    return (
        [Turn("user", asked[0], wordings=tuple(asked[1:])), Turn("assistant", reply)]
        for reply, asked in zip(replies, _dealt(phrases, len(replies)), strict=True)
    )


def _by_language(fields: Mapping[str, Any], place: Place, used: set[str]) -> Iterator[list[Turn]] | None:
    """The exchanges of ways to ask and replies by language, as Botpress keeps them; None if they are not so kept."""
    asked, replied = fields.get("questions"), fields.get("answers")
    if not isinstance(asked, dict) or not isinstance(replied, dict) or not asked.keys() & replied.keys():
        return None
    if not all(isinstance(held, list) for held in (*asked.values(), *replied.values())):
        return None
    several = (
        exchanges_of({"questions": asked[name], "answers": replied[name]}, place, used)
        for name in asked
        if name in replied
    )
    return (exchange for exchanges in several if exchanges for exchange in exchanges)


def _dealt(phrases: Sequence[str], hands: int) -> Iterator[Sequence[str]]:
    """Deal out the phrases in turn; if there are too few, some are dealt again."""
    return (phrases[hand::hands] or [phrases[hand % len(phrases)]] for hand in range(hands))


def joined_by_name(fields: Mapping[str, Any], place: Place) -> Iterator[dict[str, Any]] | None:
    """Yield the intents of a file that keeps examples and replies apart, as Rasa does; None if it is none."""
    if "nlu" not in fields:
        return None
    nlu, responses = fields.get("nlu"), fields.get("responses")
    if isinstance(nlu, dict):
        nlu = nlu.get("common_examples", nlu.get("intents"))
    if not isinstance(nlu, list) or not isinstance(responses, dict):
        return None
    replies = {canonical(name).removeprefix("utter"): entry for name, entry in responses.items()}
    examples: dict[str, list[Any]] = {}
    for entry in nlu:
        if not isinstance(entry, dict):
            continue
        each = canonical_fields(entry, place.rules)
        said = each.get("examples", each.get("text"))
        if isinstance(each.get("intent"), str) and said:
            examples.setdefault(each["intent"], []).extend(_phrases(said, place))
    return (
        {"tag": name, "patterns": phrases, "responses": replies.get(canonical(name), [])}
        for name, phrases in examples.items()
    )


def _are_objects(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) > 1 and all(isinstance(entry, dict) and "id" in entry for entry in value)
    )


def _is_chat(value: Any) -> bool:
    """Whether what should be replies is a list of messages with roles."""
    return isinstance(value, list) and any(
        isinstance(entry, dict) and ("role" in entry or "from" in entry) for entry in value
    )


def _has_own_replies(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    names = {canonical(str(key)) for entry in value if isinstance(entry, dict) for key in entry}
    return not names.isdisjoint((*REPLIES, *SEVERAL_REPLIES, "speaker", "role"))


def _phrases(value: Any, place: Place) -> list[str]:
    """The ways to ask: a list of texts or of objects with parts, or lines that begin with "- "."""
    if isinstance(value, str):
        lines = [line.strip() for line in value.split("\n") if line.strip()]
        return [text_of(line[1:].strip(), place) for line in lines] if all(line[0] == "-" for line in lines) else []
    if not isinstance(value, list):
        return []
    return _texts(value, place)


def _texts(value: Any, place: Place) -> list[str]:
    """All texts of replies or phrases, whatever holds them."""
    if isinstance(value, str):
        return [text] if (text := text_of(value, place)) else []
    if isinstance(value, list):
        return [text for entry in value for text in _texts(entry, place)]
    if isinstance(value, dict):
        if isinstance(value.get("parts"), list):  # pieces of one phrase
            return [cleaned] if (cleaned := text_of("".join(map(_raw, value["parts"])), place)) else []
        if isinstance(value.get("data"), list):
            return [cleaned] if (cleaned := text_of("".join(map(_raw, value["data"])), place)) else []
        for name in ("text", "speech", "messages", "value", "content", "answer", "question", "input_text", "body"):
            if name in value:
                return _texts(value[name], place)
    return []


def _raw(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""

"""A list of messages -> turns: who says what, in the spelling of any program."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from theta.corpus.items import Number, Rules
from theta.corpus.shapes import marks
from theta.corpus.shapes.content import WITHOUT_QUESTION, holds_tuple, text_of, wordings_of
from theta.corpus.shapes.fields import (
    ASSISTANTS,
    CHOSEN,
    CONTENT_KEYS,
    QUESTIONS,
    REPLIES,
    ROLE_KEYS,
    USERS,
    TurnRole,
    UnusableError,
    canonical,
    canonical_fields,
    first,
    role_of,
    unknown_shape,
)  # fmt: skip
from theta.corpus.shapes.turns import Place, Turn

_PLAIN_ROLE_KEYS = (
    "role", "creator", "from", "speaker", "sender", "sendername", "speakername", "senderclass", "authorrole",
    "speakerrole", "speakerid", "speakeridx",
)  # fmt: skip
"""Keys that only messages have; the others need a known role or a sign of a chat beside them."""
_NAMES = ("role", "name", "displayname", "globalname", "username", "login", "nickname", "realname", "id", "user",
          "application", "firstname")  # fmt: skip
_CHAT_SIGNS = {"ts", "threadts", "timestamp", "timestampms", "senttime", "createdat", "createddatetime", "channel",
               "messageid", "subtype", "date", "replyto", "time", "createdutc", "parentid"}  # fmt: skip
_TOOL_FIELDS = ("toolcalls", "functioncall", "toolcall", "toolcallid", "functioncalls")
_THOUGHT_FIELDS = ("thinking", "reasoning", "reasoningcontent", "thought")
_TIMES = (
    "timestampms",
    "timestamp",
    "ts",
    "createdat",
    "createddatetime",
    "senttime",
    "originalarrivaltime",
    "dateunixtime",
    "date",
    "time",
)
_EVENTS = {"service", "unknownFutureValue", "systemEventMessage", "channel_join", "channel_leave", "bot_add",
           "channel_topic", "channel_purpose", "pinned_item", "channel_name", "RecipientAdd", "GuildMemberJoin",
           "ChannelPinnedMessage", "Call", "phone_call", "summary", "file-history-snapshot"}  # fmt: skip
_BY_USER = ("isuser", "ishuman", "fromuser", "iscreatedbyuser", "isfromuser", "inbound")
_BY_ASSISTANT = ("isbot", "isai", "isassistant", "frombot", "fromassistant", "isfrombot")
_FLAGS = frozenset((*_BY_USER, *_BY_ASSISTANT))
_WITHOUT_NAME = re.compile(r"(?:speaker|person|participant|user|agent|spk|voice|party|human)?(?:\d{1,3}|[a-d])")
"""Names that only tell two speakers apart."""
_SPEAKERS_SHOWN = 6
_SPEAKERS_AT_MOST = 20


def is_message(value: Any, rules: Rules | None = None) -> bool:  # noqa: PLR0911
    """Whether a value is one message of a chat: it names who speaks and what is said."""
    if not isinstance(value, dict):
        return False
    try:
        fields = _unwrapped(canonical_fields(value, rules or _NO_RULES))
    except UnusableError:
        return False
    if _only_speaker(fields, rules or _NO_RULES) or _is_heading(fields):
        return True
    key = next((name for name in CONTENT_KEYS if name in fields), None)
    if key is None and not any(fields.get(name) for name in _TOOL_FIELDS):
        return False
    if any(name in fields for name in (*QUESTIONS, *CHOSEN)) and any(name in fields for name in (*REPLIES, *CHOSEN)):
        return False
    if not _FLAGS.isdisjoint(fields) and any(_flag(fields.get(name)) is not None for name in _FLAGS):
        return True
    for name in ROLE_KEYS:
        who = _name(fields[name]) if name in fields and name != key else ""
        if not who:
            continue
        if name in _PLAIN_ROLE_KEYS or (role_of(who, rules or _NO_RULES) != "unknown" and name != "name"):
            return True
        if name == "agent" and _WITHOUT_NAME.fullmatch(canonical(who)):
            return True
        if name in _PEOPLE and not _CHAT_SIGNS.isdisjoint(fields):
            return True
    return False


_NO_RULES = Rules()
_PEOPLE = (
    "user",
    "author",
    "username",
    "participant",
    "authorid",
    "senderid",
    "fromid",
    "screenname",
    "nick",
    "nickname",
)


def turns_of(entries: Sequence[Any], place: Place) -> list[Turn]:
    """Return the turns of a list of messages in their order.

    Raises:
        UnusableError: an entry is no message, or nobody knows who the speakers are.
    """
    fields = [_undamaged(_unwrapped(canonical_fields(_object(entry), place.rules))) for entry in entries]
    if _is_reversed(fields):
        place.note("mended", "newest message first")
        fields.reverse()
    fields = [each for each in fields if not _is_event(each)]
    names = [_speaker(each, place.rules) for each in fields]
    if not any(who for who, _ in names) and len(fields) > 0:
        return _alternating(fields, place)
    if any(not who for who, _ in names):
        at = next(at for at, (who, _) in enumerate(names) if not who)
        raise unknown_shape(fields[at])
    roles = _roles([who for who, _ in names], [by for _, by in names], place)
    turns = []
    for each, role, (who, _) in zip(fields, roles, names, strict=True):
        if role is not None:
            turns.append(_turn(each, role, who, place))
    return turns


def _object(entry: Any) -> Mapping[str, Any]:
    if isinstance(entry, dict):
        return entry
    if holds_tuple(entry):
        raise UnusableError("key_twice")
    raise UnusableError("unknown_shape", f"a message is of type {type(entry).__name__}")


def _unwrapped(fields: dict[str, Any]) -> dict[str, Any]:
    """The message inside of what wraps it: LangChain's `data` and `kwargs`, logs' `message`, LM Studio's `versions`."""
    if (
        "versions" in fields
        and isinstance(versions := fields["versions"], list)
        and all(isinstance(each, dict) for each in versions)
    ):
        chosen = int(at) if (at := str(fields.get("currentlyselected", 0))).isdecimal() else 0
        if chosen < len(versions):
            return _with_steps(versions[chosen])
    for name in ("data", "kwargs", "message"):
        inner = fields.get(name)
        if isinstance(inner, dict):
            held = {canonical(key): entry for key, entry in inner.items()}
            if "content" in held or "parts" in held or "text" in held:
                kind = fields.get("id")
                if isinstance(kind, list) and kind:
                    fields = {**fields, "type": kind[-1]}
                return {**{key: entry for key, entry in fields.items() if key != name}, **_without_type(fields, held)}
    return fields


def _with_steps(version: Mapping[str, Any]) -> dict[str, Any]:
    """One version of a message of LM Studio, whose reply may consist of steps."""
    fields = {canonical(key): entry for key, entry in version.items()}
    if isinstance(steps := fields.get("steps"), list):
        blocks = [step for step in steps if isinstance(step, dict) and step.get("type") == "contentBlock"]
        held = [block.get("content") for block in blocks]
        parts = [each if isinstance(each, list) else [each] for each in held if isinstance(each, list | str)]
        fields["content"] = [part for each in parts for part in each]
    return fields


def _undamaged(fields: dict[str, Any]) -> dict[str, Any]:
    """The message as it was typed.

    Meta's programs export the bytes of UTF-8 as if they were letters of Latin-1; EmpatheticDialogues spells commas.
    """
    if "utteranceidx" in fields and isinstance(fields.get("utterance"), str):
        return {**fields, "utterance": fields["utterance"].replace("_comma_", ",")}
    if "sendername" not in fields:
        return fields
    return {name: _decoded(entry) if isinstance(entry, str) else entry for name, entry in fields.items()}


def _decoded(text: str) -> str:
    try:
        return text if text.isascii() else text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _without_type(fields: Mapping[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    return {key: entry for key, entry in held.items() if key != "type" or "type" not in fields}


def _only_speaker(fields: Mapping[str, Any], rules: Rules) -> str:
    """The name in {"Human": "Hi"}, which is role and content in one."""
    if len(fields) == 1:
        name, content = next(iter(fields.items()))
        is_name = name in USERS or name in ASSISTANTS or name in rules.roles or name in rules.speakers
        if isinstance(content, str) and is_name and role_of(name, rules) in ("user", "assistant"):
            return name
    return ""


def _speaker(fields: Mapping[str, Any], rules: Rules) -> tuple[str, str]:
    """Who says a message, and the key that tells it; empty if none does."""
    if name := _only_speaker(fields, rules):
        return name, "role"
    found = [(who, key) for key in ROLE_KEYS if key in fields and (who := _name(fields[key]))]
    if rules.speakers:
        found += [(fields["userprofile"][name], "user") for name in _PROFILE if _has_profile(fields, name)]
        for who, key in found:
            if who in rules.speakers:
                return who, key
    for who, key in found:
        if role_of(who, rules) != "unknown":
            return who, key
    for names, roles in ((_BY_USER, ("assistant", "user")), (_BY_ASSISTANT, ("user", "assistant"))):
        for name in names:
            if name in fields and (flag := _flag(fields[name])) is not None:
                return roles[flag], "role"
    for who, key in found:
        if key in _PLAIN_ROLE_KEYS:
            return who, key
    named = [(who, key) for who, key in found if key != "type"]
    return named[0] if named else ("", "")


def _flag(value: Any) -> bool | None:
    """True or false, also as tables write it; None for anything else."""
    return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())


_PROFILE = ("real_name", "display_name", "name", "first_name")


def _has_profile(fields: Mapping[str, Any], name: str) -> bool:
    profile = fields.get("userprofile")
    return isinstance(profile, dict) and isinstance(profile.get(name), str)


def _name(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | float):
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        fields = {canonical(str(key)): entry for key, entry in value.items()}
        for name in _NAMES:
            if name in fields and (found := _name(fields[name])):
                return found
    return ""


def _roles(names: Sequence[str], keys: Sequence[str], place: Place) -> list[TurnRole | None]:
    """The role of each message; None for one of a speaker whom data.speakers leaves out.

    Raises:
        UnusableError: the speakers are people, and data.speakers does not say who is who.
    """
    roles = [role_of(name, place.rules) for name in names]
    counts = Counter(names)
    known = {role for role in roles if role in ("user", "assistant")}
    unknown = Counter(name for name, role in zip(names, roles, strict=True) if role == "unknown")
    people = any(key != "role" for key, role in zip(keys, roles, strict=True) if role == "unknown")
    if unknown and people and not known and not place.rules.speakers and _is_anonymous(counts, keys):
        place.note("mended", "speakers without names taken in turn")
        of = dict(zip(counts, alternating_roles(2, place), strict=True))
        return [of[name] for name in names]
    if unknown and people and (place.rules.speakers or not known):
        for name, count in unknown.items():
            place.notes.add("speaker", name, place.source, count)
        if known != {"user", "assistant"}:
            raise unknown_speakers(counts)
        place.note("mended", "messages of other speakers left out")
        return [None if role == "unknown" else role for role in roles]
    # In task dialogues the system is the one who answers: it speaks in turn with the user.
    if "assistant" not in roles and "user" in roles and "system" in roles[1:]:
        return ["assistant" if role == "system" else role for role in roles]
    return list(roles)


def _is_anonymous(counts: Counter[str], keys: Sequence[str]) -> bool:
    """Whether two speak whose names only tell them apart, such as 0 and 1."""
    return (
        len(counts) == 2
        and all(_WITHOUT_NAME.fullmatch(canonical(name)) for name in counts)
        and {"user", "username"}.isdisjoint(keys)
    )


def name_speakers(pairs: Sequence[Sequence[Any]], rules: Rules | None = None) -> bool:
    """Whether each pair is a message, such as `["user", "Hi"]` or `[0, "Hi"]`, and not an exchange."""
    names = {who for who, _ in pairs}
    if len(names) > _SPEAKERS_AT_MOST or not all(isinstance(who, str) for who in names):
        return False
    if {"user", "assistant"} <= {role_of(who, rules or _NO_RULES) for who in names}:
        return True
    return len(names) == 2 and all(_WITHOUT_NAME.fullmatch(canonical(who)) for who in names)


def unknown_speakers(counts: Counter[str]) -> UnusableError:
    """Return the error about a chat of people of whom nobody knows who is the assistant."""
    shown = ", ".join(f"{name} ({count})" for name, count in counts.most_common(_SPEAKERS_SHOWN))
    return UnusableError("unknown_speakers", f"speakers seen: {shown}; set data.speakers")


def _alternating(fields: Sequence[Mapping[str, Any]], place: Place) -> list[Turn]:
    """The turns of messages without names."""
    if all("systemtranscript" in each and "transcript" in each for each in fields):  # WOZ: what the system said before
        fields = [{"content": each[name]} for each in fields for name in ("systemtranscript", "transcript")]
        fields = fields if fields[0]["content"] else fields[1:]
    if all("intent" in each and "entities" in each for each in fields):
        raise unknown_shape(fields[0])  # ways to ask that a classifier learns from
    if not all(first(CONTENT_KEYS, each) for each in fields):
        raise unknown_shape(next(each for each in fields if not first(CONTENT_KEYS, each)))
    if len(fields) < 2:
        raise unknown_shape(fields[0])
    return [
        _turn(each, role, role, place) for each, role in zip(fields, alternating_roles(len(fields), place), strict=True)
    ]


def alternating_roles(count: int, place: Place) -> list[TurnRole]:
    """Return the roles of a chat of texts without names, as data.first_speaker begins it."""
    order: tuple[TurnRole, TurnRole] = (
        ("assistant", "user") if place.rules.first_speaker == "assistant" else ("user", "assistant")
    )
    return [order[at % 2] for at in range(count)]


def _turn(fields: Mapping[str, Any], role: TurnRole, who: str, place: Place) -> Turn:
    if role == "tool" or any(fields.get(name) for name in _TOOL_FIELDS):
        return Turn("tool" if role == "tool" else role, "", fault="tool_call")
    if role == "unknown":
        return Turn(role, "", fault=f"unknown_role: {who!r}; data.roles can name it")
    if any(fields.get(name) for name in _THOUGHT_FIELDS):
        place.note("mended", "thinking left out")
    key = next((name for name in CONTENT_KEYS if name in fields and fields[name] not in (None, "", [])), None)
    key = key or next((name for name in CONTENT_KEYS if name in fields), None)
    if key is None and len(fields) == 1:
        key = next(iter(fields))
    if key is None:
        raise unknown_shape(fields)
    try:
        value = fields[key]
        plain = role == "assistant" and (isinstance(value, bool) or (isinstance(value, dict) and "type" not in value))
        content = text_of(value, place, between="" if _is_running_text(value) else "\n", as_json=plain)
    except UnusableError as fault:
        if fault.reason in ("needs_image", "tool_call"):
            return Turn(role, "", fault=f"{fault.reason}: {fault.detail}" if fault.detail else fault.reason)
        raise
    if any(fields.get(name) for name in ("images", "image", "videos", "audios", "photo")) and (
        role == "user" or not content
    ):
        return Turn(role, "", fault="needs_image")
    if not content and any(
        fields.get(name) for name in ("file", "files", "attachments", "mediatype", "photos", "gifs", "share")
    ):
        return Turn(role, "", fault="needs_image")
    wordings = wordings_of(fields, place)
    if wordings and role != "user":
        place.note("mended", WITHOUT_QUESTION)
    return Turn(role, content, not _is_masked(fields, role, place), wordings=wordings)


def _is_masked(fields: Mapping[str, Any], role: TurnRole, place: Place) -> bool:
    if not marks.may_hold(fields):
        return False
    if role != "assistant":
        if role == "user" and (mark := marks.marked_bad(fields, place)):
            place.note("unused_mark", f"{mark} (of a question)")
        return False
    mark = marks.not_to_learn(fields) or marks.marked_bad(fields, place)
    if mark:
        place.note("not_learned", mark)
    return bool(mark)


def _is_running_text(value: Any) -> bool:
    """Whether parts are pieces of one running text, as Telegram writes a message with links."""
    return (
        isinstance(value, list)
        and any(isinstance(part, str) for part in value)
        and any(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value)
    )


def _is_event(fields: Mapping[str, Any]) -> bool:
    """Whether it is no message but a thought, or says that somebody came or went, or heads the log of a program."""
    if _is_heading(fields) or _is_reaction(fields):
        return True
    if fields.get("isthought") is True or fields.get("thought") is True:
        return True
    return any(
        isinstance(fields.get(name), str) and fields[name] in _EVENTS for name in ("type", "subtype", "messagetype")
    )


_REACTION = re.compile(r"(?:Liked a message|Reacted \S{1,12} to your message|.{1,60} sent an attachment\.)\s*")


def _is_reaction(fields: Mapping[str, Any]) -> bool:
    """Whether Meta's programs wrote it, to say that somebody liked a message or sent a file."""
    content = fields.get("content")
    return "sendername" in fields and isinstance(content, str) and _REACTION.fullmatch(_decoded(content)) is not None


def _is_heading(fields: Mapping[str, Any]) -> bool:
    kind = fields.get("type")
    if kind in ("summary", "file-history-snapshot"):  # of Claude Code
        return "leafuuid" in fields or "snapshot" in fields
    return "charactername" in fields and "username" in fields and "mes" not in fields


def _is_reversed(fields: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the newest message comes first, as some programs export chats."""
    if len(fields) < 2:
        return False
    for name in _TIMES:
        if all(name in each for each in fields):
            times = [each[name] for each in fields]
            try:
                moments = [float(str(time)) for time in times]
            except (TypeError, ValueError):
                if not all(isinstance(time, str) for time in times) or any(isinstance(time, Number) for time in times):
                    return False
                return times[0] > times[-1] and all(one >= other for one, other in pairwise(times))
            return moments[0] > moments[-1] and all(one >= other for one, other in pairwise(moments))
    return False

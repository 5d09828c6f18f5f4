"""The names under which files keep things, and what they mean.

Names are compared without case and separators: `systemPrompt`, `System Prompt` and `system_prompt` are one name.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from theta.corpus.items import Rules

TurnRole = Literal["system", "user", "assistant", "tool", "unknown"]

INSTRUCTIONS = ("instruction", "instructions", "task", "taskdescription", "definition")


def _joined(firsts: tuple[str, ...], lasts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(first + last for first in firsts for last in lasts)


_SAID = ("message", "text", "utterance", "turn", "msg", "says", "content")
QUESTIONS = (
    "question", "prompt", "query", "q", "inputtext", "textinput", "request", "problem", "questiontitle", "questiontext",
    "questionbody", "questionstem", "ask", "problemstatement", "trigger", "stimulus",
    *_joined(("user", "human", "customer", "client"), (*_SAID, "prompt", "query", "input", "question", "request")),
    "input",
)  # fmt: skip
CONTEXTS = (
    "input", "context", "passage", "document", "article", "story", "background", "paragraph", "knowledge", "evidence",
    "excerpt", "contexttext", "referencetext", "inputcontext", "contexts", "documents", "passages", "ctx", "sourcetext",
    "backgroundinfo", "backgroundinformation", "additionalcontext", "supportingtext", "retrievedcontext",
    "retrievedcontexts", "referencecontexts", "retrieveddocuments", "schema", "dbschema", "sqlschema", "tableschema",
    "table", "facts", "dialogue", "transcript",
)  # fmt: skip
REPLIES = (
    "answer", "response", "completion", "output", "a", "reply", "outputtext", "solution", "answertext",
    "responsetext", "completiontext", "acceptedanswer", "bestanswer", "selectedanswer", "correctanswer",
    "finalanswer", "generation", "answerbody", "generatedtext",
    *_joined(("assistant", "bot", "model", "ai", "chatbot", "gpt", "agent", "llm", "system"),
             ("response", "reply", "answer", "output")),
    *_joined(("assistant", "bot", "model", "ai", "chatbot", "gpt", "agent", "llm"), _SAID),
    "ideal", "idealanswer", "idealresponse", "groundtruth", "goldanswer", "expectedoutput", "expectedanswer",
    "expectedresponse", "referenceanswer", "origanswer", "canonicalsolution",
)  # fmt: skip
SEVERAL_REPLIES = ("answers", "responses", "outputs", "completions", "replies", "solutions", "generations", "reference",
                   "choices")  # fmt: skip
NO_INPUT = frozenset(("nan", "none", "null", "noinput", "<noinput>", "<no input>", "no input", "n/a"))
"""What programs write where a question has nothing that it is about."""
SYSTEMS = ("system", "systemprompt", "systemmessage", "systeminstruction", "sysprompt", "preamble", "systemtext",
           "metainstruction")  # fmt: skip
MESSAGE_LISTS = (
    "messages", "conversation", "conversations", "dialogue", "dialog", "turns", "exchanges", "chatmessages", "items",
    "thread", "chat", "utterances", "contents", "log", "transcript", "messagelist", "data", "content", "interactions",
    "history", "promptmessages", "internal",
)  # fmt: skip
SEVERAL = ("conversations", "items", "data", "history", "content", "contents", "log", "chat", "transcript")
"""Of these lists, one of questions and replies or of texts may be several conversations."""
HISTORIES = ("history", "chathistory", "conversationhistory", "dialoghistory", "dialoguehistory", "previousturns",
             "previousmessages", "messagehistory", "pastmessages", "priorturns", "priormessages", "pastturns",
             "earliermessages", "contextmessages", "previousdialogue", "previousconversation")  # fmt: skip
CHOSEN = ("chosen", "chosenmessages", "chosenresponse", "preferred", "preferredoutput", "responsechosen", "better")
REJECTED = ("rejected", "rejectedmessages", "rejectedresponse", "dispreferred", "nonpreferredoutput",
            "responserejected", "worse")  # fmt: skip
PATTERNS = ("patterns", "trainingphrases", "examples", "utterances", "questions", "phrases", "usersays", "variations")
WORDINGS = ("wordings", "paraphrases", "rephrasings")
"""Other ways to ask the first question of an item, or the question of a message."""
TEXTS = ("text", "content", "body", "markdown", "article", "document", "passage", "story")
DOMAINS = ("domain", "category", "topic")
ROLE_KEYS = ("role", "from", "speaker", "sender", "author", "sendername", "speakername", "senderclass", "speakerrole",
             "authorrole", "type", "user", "username", "participant", "name", "agent", "creator",
             "speakerid", "speakeridx", "authorid", "senderid", "fromid", "screenname", "nick", "nickname")  # fmt: skip
CONTENT_KEYS = ("content", "value", "text", "message", "utterance", "body", "parts", "msg", "says", "data", "kwargs",
                "sentence", "transcript", "mes", "say", "blocks")  # fmt: skip
MEDIA = ("images", "image", "imageurl", "imagepath", "videos", "video", "audios", "audio", "pixelvalues")
LABELS = ("label", "labels", "intent", "sentiment", "class")
"""A text with one of these keys is an example for a classifier, not a text to learn."""

USERS = ("user", "human", "customer", "client", "person", "prompter", "student", "patient", "visitor")
ASSISTANTS = ("assistant", "bot", "gpt", "ai", "chatbot", "chatgpt", "model", "agent", "theta", "machine", "doctor",
              "teacher", "support", "moss")  # fmt: skip
PAIRS = (("source", "target"), ("src", "tgt"), ("sourcetext", "targettext"), ("post", "comment"),
         ("input", "target"), ("inputs", "targets"), ("inputs", "outputs"),
         ("inputspretokenized", "targetspretokenized"), ("from", "to"), ("document", "summary"),
         ("article", "summary"), ("article", "highlights"), ("dialogue", "summary"), ("src", "dst"),
         ("questions", "answers"), ("pattern", "response"), ("pattern", "template"), ("utterance", "response"),
         ("sentence", "reply"), ("statement", "reply"), ("content", "summary"),
         ("front", "back"), ("text", "code"), ("docstring", "code"), ("prompt", "code"), ("instruction", "code"),
         ("problem", "code"), ("setup", "punchline"))  # fmt: skip
"""Names that mean a question and its reply only together."""

KNOWN = frozenset((
    *INSTRUCTIONS, *QUESTIONS, *CONTEXTS, *REPLIES, *SEVERAL_REPLIES, *SYSTEMS, *MESSAGE_LISTS, *HISTORIES, *CHOSEN,
    *REJECTED, *PATTERNS, *WORDINGS, *TEXTS, *DOMAINS, *ROLE_KEYS, *CONTENT_KEYS, *MEDIA, *LABELS, *USERS, *ASSISTANTS,
    *(name for pair in PAIRS for name in pair),
))  # fmt: skip
"""Names that mean something in an item; `data.fields` may also name one of a mark."""

METADATA = frozenset((
    "id", "ids", "uid", "uuid", "guid", "key", "index", "idx", "url", "urls", "link", "links", "href", "source",
    "sources", "origin", "dataset", "datasetname", "subset", "split", "date", "datetime", "time", "timestamp",
    "timestamps", "timestampms", "created", "createdat", "createtime", "updated", "updatedat", "updatetime",
    "modified", "version", "license", "licence", "lang", "language", "languages", "locale", "model", "modelname",
    "author", "authors", "user", "username", "userid", "name", "names", "tag", "tags", "type", "kind", "format",
    "hash", "sha", "sha1", "md5", "score", "scores", "rank", "rating", "ratings", "quality", "count", "length",
    "tokens", "numtokens", "file", "filename", "filepath", "path", "conversationid", "messageid", "parentid",
    "parentmessageid", "dialogid", "dialogueid", "threadid", "sessionid", "questionid", "answerid", "exampleid",
    "promptid", "taskid", "rowid", "tools", "functions", "tool", "toolnames", "meta", "metadata", "difficulty",
    "level", "grade", "subject", "domain", "category", "topic", "topics", "keywords", "keyword", "email", "emails",
    "status", "state", "rejected", "loss", "lossmask", "weight", "weights", "train", "trainable", "label", "labels",
    "task", "class", "group", "set", "part", "chapter", "page", "section", "line", "doi", "isbn", "isbn10",
    "isbn13", "ip", "host", "channel", "guild", "team", "services", "currentnode", "mapping", "finishreason",
    "stop", "temperature", "seed", "annotator", "annotators", "reviewer", "worker", "workerid", "hit", "country",
    "city", "currency", "unit", "unsafe", "intent",
))  # fmt: skip
"""Names of facts about an item; their text is not content that was overlooked."""

_USER_NAMES = (
    *USERS, "question", "usr", "humanmessage", "usermessage", "humanmessagechunk", "asker", "questioner", "caller", "q",
    "input", "me", "instruction", "seeker", "guest", "prompt",
)  # fmt: skip
_ASSISTANT_NAMES = (
    *ASSISTANTS, "answer", "bing", "bard", "claude", "gemini", "llama", "copilot", "gpt3", "gpt35", "gpt4", "gpt4o",
    "aimessage", "aimessagechunk", "assistantmessage", "response", "a", "output", "reply", "robot", "helper", "expert",
    "operator", "advisor", "answerer", "deepseek", "mistral", "qwen", "chatassistant", "recommender", "wizard",
)  # fmt: skip
_TOOL_NAMES = (
    "tool", "tools", "function", "functioncall", "functionresponse", "observation", "ipython", "toolcall",
    "toolresponse", "toolresult", "tooloutput", "functionoutput", "functioncalloutput", "functionresult",
    "toolmessage", "functionmessage", "environment",
)  # fmt: skip
ROLE_NAMES: dict[TurnRole, tuple[str, ...]] = {
    "system": ("system", "developer", "sys"),
    "user": _USER_NAMES,
    "assistant": _ASSISTANT_NAMES,
    "tool": _TOOL_NAMES,
}
_ROLES: dict[str, TurnRole] = {name: role for role, names in ROLE_NAMES.items() for name in names}

_MODEL = re.compile(
    r"(?:(?:chat)?gpt|o)\d\w*|chatgpt\w*|(?:llama|claude|gemini|gemma|mistral|mixtral|qwen|deepseek|vicuna|grok|phi)\d\w*"
    r"|(?:claude|gemini|deepseek|mistral)\w+"
)
_SEPARATORS = str.maketrans("", "", " \t\n_-.:<>|#*[]/\ufeff")


class UnusableError(Exception):
    """The item is not a usable conversation, for a reason and with the value that caused it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """Return a name without case and separators."""
    return name.strip().lower().translate(_SEPARATORS) or name.strip().lower()


@lru_cache(maxsize=16)
def _renamed(names: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {canonical(own): canonical(known) for own, known in names}


def canonical_fields(value: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """Return an object by its canonical names; names of `data.fields` win over others.

    Raises:
        UnusableError: two keys that differ in case or separators hold different values.
    """
    renames = _renamed(tuple(rules.fields.items())) if rules.fields else None
    fields: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for key, entry in value.items():
        name = canonical(key)
        if renames and name in renames:
            chosen[renames[name]] = entry
        elif name in fields and fields[name] != entry and not is_empty(fields[name]):
            if not is_empty(entry):
                raise UnusableError("key_twice", key)
        else:
            fields[name] = entry
    return {**fields, **chosen} if chosen else fields


def role_of(name: str, rules: Rules) -> TurnRole:
    """Return the role that a name means, or `unknown`."""
    known = _ROLES.get(name)  # most are written plainly
    if known is None or rules.roles or rules.speakers:
        settings = (*rules.roles.items(), *rules.speakers.items())
        return _named_role(name, settings)
    return known


@lru_cache(maxsize=1024)
def _named_role(name: str, settings: tuple[tuple[str, TurnRole], ...]) -> TurnRole:
    own = {known.strip().casefold(): role for known, role in settings}
    known = own.get(name.strip().casefold()) or _ROLES.get(canonical(name))
    return known or ("assistant" if _MODEL.fullmatch(canonical(name)) else "unknown")


def first(names: tuple[str, ...], fields: Mapping[str, Any]) -> str | None:
    """Return the first of the names whose value is not empty."""
    return next((name for name in among(names, fields) if not is_empty(fields[name])), None)


def among(names: tuple[str, ...], fields: Mapping[str, Any]) -> list[str]:
    """Return those of the names that an object has, in the order of the names."""
    order = _order(names)
    found = [name for name in fields if name in order]
    return sorted(found, key=order.__getitem__) if len(found) > 1 else found


@lru_cache(maxsize=256)
def _order(names: tuple[str, ...]) -> dict[str, int]:
    return {name: at for at, name in reversed(list(enumerate(names)))}


def is_empty(value: Any) -> bool:
    """Whether a value says nothing."""
    return value is None or (isinstance(value, str | list | dict | tuple) and not value)


def unknown_shape(value: Mapping[str, Any]) -> UnusableError:
    """Return the error about an object of no known shape."""
    return UnusableError("unknown_shape", f"keys {', '.join(sorted(map(str, value))) or 'none'}")

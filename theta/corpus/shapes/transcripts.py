"""A chat that is written as one text -> turns: the marks of chat templates, and names in front of lines.

    ### Human: Hi### Assistant: Hello        <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello<|im_end|>
    [INST] Hi [/INST] Hello                  User: Hi\\nBot: Hello          12/31/23, 10:00 - Ann: Hi

A text is a transcript only if it begins with a mark and both sides speak; prose that quotes one is a plain text.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from theta.corpus.items import Rules
from theta.corpus.shapes import languages, logs
from theta.corpus.shapes.cleaning import clean
from theta.corpus.shapes.fields import TurnRole, role_of
from theta.corpus.shapes.messages import alternating_roles
from theta.corpus.shapes.turns import Place, Turn

# Templates whose marks are tokens of their own: the mark in front of a message, and what may end it.
_TOKENS: tuple[tuple[str, re.Pattern[str], re.Pattern[str]], ...] = (
    ("<|im_start|>", re.compile(r"<\|im_start\|>[ \t]*(\w+)(?:<\|im_sep\|>|[^\n]*\n?)"),
     re.compile(r"<\|im_end\|>|<\|endoftext\|>")),
    ("<|start_header_id|>", re.compile(r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>"),
     re.compile(r"<\|eot_id\|>|<\|eom_id\|>|<\|begin_of_text\|>|<\|end_of_text\|>")),
    ("<|header_start|>", re.compile(r"<\|header_start\|>\s*(\w+)\s*<\|header_end\|>"),
     re.compile(r"<\|eot\|>|<\|begin_of_text\|>|<\|end_of_text\|>")),
    ("<start_of_turn>", re.compile(r"<start_of_turn>[ \t]*(\w+)"), re.compile(r"<end_of_turn>|<bos>|<eos>")),
    ("<|start|>", re.compile(r"<\|start\|>(\w+)(?:<\|channel\|>\w+)?<\|message\|>"),
     re.compile(r"<\|end\|>|<\|return\|>")),
    ("<|turn>", re.compile(r"<\|turn>(\w+)"), re.compile(r"<turn\|>|<bos>|<eos>")),
    ("_TOKEN|>", re.compile(r"(?:<\|START_OF_TURN_TOKEN\|>)?<\|(USER|CHATBOT|SYSTEM)_TOKEN\|>"),
     re.compile(r"<\|END_OF_TURN_TOKEN\|>|<BOS_TOKEN>|<EOS_TOKEN>|<\|START_OF_TURN_TOKEN\|>")),
    ("<|", re.compile(r"<\|(system|user|assistant|human|bot|prompter|model)\|>", re.IGNORECASE),
     re.compile(r"<\|end\|>|</s>|<s>|<\|endoftext\|>|<\|end_of_turn\|>|<\|end_of_text\|>")),
    ("<｜", re.compile(r"<｜(User|Assistant|System)｜>"), re.compile(r"<｜(?:begin|end)▁of▁sentence｜>")),
    ("<|MOSS|>", re.compile(r"<\|(Human|MOSS)\|>:"), re.compile(r"<eo[hm]>")),
    ("[|AI|]", re.compile(r"\[\|(Human|AI)\|\]"), re.compile(r"The conversation between human and AI assistant\.")),
    ("<|end_of_turn|>",
     re.compile(r"(?:^|(?<=<\|end_of_turn\|>))\s*(?:GPT4 Correct |GPT4 |Code )?(User|Assistant|Human|System):"),
     re.compile(r"<\|end_of_turn\|>|</?s>")),
)  # fmt: skip

_INSTRUCTION = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=\[INST\]|\Z)", re.DOTALL)
_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_SENTENCE = re.compile(r"</?s>|<\|begin_of_text\|>|<\|endoftext\|>")

_LABELS = (
    "human|user|assistant|bot|ai|gpt|chatgpt|chatbot|model|system|prompter|customer|agent|question|answer|q|a|"
    "instruction|response|input|output|me|claude|ai assistant|support|client|patient|doctor|student|teacher|prompt|"
    "completion|interviewer|interviewee|you|function response"
)
_HEADINGS = re.compile(rf"#{{2,4}}\s*({_LABELS})\b\s*:?[ \t]*", re.IGNORECASE)
_CAPITALS = re.compile(r"(?<![\w#])(USER|ASSISTANT|SYSTEM|HUMAN|FUNCTION RESPONSE)\s*:[ \t]*")
_BRACKETS = re.compile(
    r"(?m)(?:^[ \t]*|(?<=>))"
    r"(?:\[(USER|ASSISTANT|HUMAN|BOT|SYSTEM|AI)\]|<(user|assistant|human|bot|system|ai)>)\s*(?!:)"
)
_CLOSING = re.compile(r"\s*</(?:user|assistant|human|bot|system|ai)>")
_TIMED = re.compile(rf"(?mi)^[ \t]*\[[\d:. /-]{{4,24}}\][ \t]*({_LABELS})\s*:[ \t]*")
_PROMPTED = re.compile(rf"(?mi)^({_LABELS})>[ \t]+")
_SAID = re.compile(r"(?m)^(You|ChatGPT|Claude|Gemini) said:[ \t]*\n")
_ALONE = re.compile(
    r"(?mi)^(?:#{1,6}[ \t]*|\*\*)(user|human|you|prompt|question|assistant|chatgpt|claude|gemini|copilot|cursor|bot|ai|"
    r"model|response|answer)[ \t]{0,8}:?(?:\*\*)?:?[ \t]{0,8}$"
)
"""A name that is a heading or a bold line, as programs write chats in Markdown."""
_TITLE = re.compile(
    r"#[ \t]+(?=[^ \t\n])[^\n]+\n(?:_[^\n]*_[ \t]*\n|\*\*\w+:\*\*[^\n]*\n|[ \t]*\n|-{3,}[ \t]*\n)*(?=#|\*\*)"
)
"""The title of such a chat, and what is said about it."""
_RULE = re.compile(r"[ \t]*[-*_]{3,}[ \t]*")
_ANONYMOUS = re.compile(r"(?mi)^(human|person|speaker|participant|user|guest)[ \t]?([12ab])[ \t]*:[ \t]*")
_SIGNED = (("]", _BRACKETS), (">", _BRACKETS), (">", _PROMPTED), ("]", _TIMED), (" said:", _SAID))
"""Names with a sign that their head must hold."""
_ON_ONE_LINE = re.compile(r"(?:\A\s*|(?<=\s))(Human|User|Assistant|Bot|AI|Chatbot|Question|Answer): ")
_ROLE_OF_LABEL: dict[str, TurnRole] = {
    "q": "user", "a": "assistant", "instruction": "user", "input": "user", "output": "assistant", "prompt": "user",
    "you": "user", "interviewer": "user", "interviewee": "assistant", "completion": "assistant",
    "response": "assistant", "question": "user", "answer": "assistant", "ai assistant": "assistant",
    "cursor": "assistant", "moss": "assistant",
}  # fmt: skip
_ALPACA_OPENING = re.compile(r"\s*Below is an instruction that describes a task", re.IGNORECASE)


def turns_of(text: str, place: Place) -> list[Turn] | None:
    """Return the turns of a transcript; None if the text is none.

    Raises:
        UnusableError: it is an exported chat of people, and data.speakers does not say who is who.
    """
    if _ROUND.match(text.lstrip()):
        text = _ROUND.sub("", text).strip()
    if (title := _TITLE.match(text)) and (turns := _turns_of(text[title.end() :], place)) is not None:
        place.note("mended", "title left out")
        return turns
    return _turns_of(text, place)


def _turns_of(text: str, place: Place) -> list[Turn] | None:
    found = _by_tokens(text, place.rules) if "<" in text or "[INST]" in text or "[|" in text else None
    found = found or _by_labels(text, place.rules) or languages.turns_in_pair(text) or _anonymous(text, place)
    found = found or logs.turns_of(text, place)
    if not found:
        return None
    turns = [
        Turn(
            role,
            clean(_without_rule(said), repair_encoding=place.rules.repair_encoding),
            fault="tool_call" if role == "tool" else "",
        )
        for role, said in found
    ]
    if turns and turns[-1].role == "user" and not turns[-1].content:
        turns.pop()
    return turns


def _without_rule(said: str) -> str:
    """What is said, without the lines of dashes that divide it from what follows."""
    lines = said.split("\n")
    end = len(lines)
    while end > 1 and (not lines[end - 1].strip() or _RULE.fullmatch(lines[end - 1])):
        end -= 1
    return "\n".join(lines[:end])


_ROUND = re.compile(
    r"(?mi)^[ \t]*(?:#{1,4}[ \t]*)?(?:\[?(?:round|turn|exchange|dialogue|runde|tour|ronda|turno|раунд)[ \t]?\d{1,4}\]?"
    r"|第[ \t]?\d{1,4}[ \t]?轮)[ \t]{0,8}[:：]?[ \t]{0,8}$"
)
"""A heading over an exchange, such as "[Round 1]"."""


_BEGINS = re.compile(
    rf"\u200e?\s*(?:\d|\[\u200e?\d|\[INST|<s>|(?:#{{1,4}}|\*\*|__|>|<|\[)?\s*(?:{_LABELS})(?:\s?\d{{1,3}})?(?:\*\*|__|>|\])?\s*:"
    rf"|(?:{_LABELS})>|[\[<](?:user|assistant|human|bot|system|ai)[\]>]|\w+ said:)",
    re.IGNORECASE,
)
_FIRST = frozenset("0123456789[<\u200e")
_LABEL_CHARACTERS = 40
_SIGNS = tuple(sign for sign, _, _ in _TOKENS)


def may_be(text: str) -> bool:
    """Whether a cleaned text could be a transcript; if not, only names of data.speakers make it one."""
    head = text[:_LABEL_CHARACTERS]
    if (":" in head or ">" in head or head[:1] in _FIRST) and _BEGINS.match(text):
        return True
    if languages.may_begin(text) or _ROUND.match(text) or logs.may_begin(text):
        return True
    if (head[:1] in "#*" and _ALONE.search(text)) or _ANONYMOUS.match(text):
        return True
    if "##" in text or "USER" in text or "HUMAN" in text:
        return True
    return "<" in text and any(sign in text for sign in _SIGNS)


def _by_tokens(text: str, rules: Rules) -> list[tuple[TurnRole, str]] | None:
    if "[INST]" in text and "[/INST]" in text:
        return _by_instructions(text)
    for sign, opening, ends in _TOKENS:
        if sign in text:
            found = _between(text, opening, ends, rules)
            if found:
                return found
    return None


def _between(
    text: str, opening: re.Pattern[str], ends: re.Pattern[str], rules: Rules
) -> list[tuple[TurnRole, str]] | None:
    marks = list(opening.finditer(text))
    if not marks:
        return None
    before = text[: marks[0].start()]
    opens = ends.match(before)  # a mark of the template stands in front of its instructions
    if (before := ends.sub("", before).strip()) and not opens:
        return None
    found: list[tuple[TurnRole, str]] = [("system", before)] if before else []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        said = text[mark.end() : following.start() if following else len(text)]
        label = mark[1].lower()
        found.append((_ROLE_OF_LABEL.get(label) or role_of(label, rules), ends.sub("", said)))
    return found if _both_speak(found) else None


def _by_instructions(text: str) -> list[tuple[TurnRole, str]] | None:
    text = _SENTENCE.sub("", text)
    if text[: text.find("[INST]")].strip():
        return None
    found: list[tuple[TurnRole, str]] = []
    for question, reply in _INSTRUCTION.findall(text):
        system = _SYSTEM.match(question)
        if system:
            found.append(("system", system[1]))
            question = question[system.end() :]  # noqa: PLW2901
        found += [("user", question), ("assistant", reply)]
    return found


def _by_labels(text: str, rules: Rules) -> list[tuple[TurnRole, str]] | None:  # noqa: PLR0911
    """The turns of a text with names in front: at the start of lines, or, where they are unmistakable, anywhere."""
    for sign, pattern in _SIGNED:
        if sign in text[:_LABEL_CHARACTERS] and pattern.match(text) and (found := _labelled(text, pattern, rules)):
            return [(role, _CLOSING.sub("", said)) for role, said in found]
    if "##" in text and (found := _labelled(text, _HEADINGS, rules, preamble=True)):
        return found
    if _ALONE.match(text) and (found := _labelled(text, _ALONE, rules)):
        return found
    if ":" not in text:
        return None
    if found := _labelled(text, _line_labels(tuple(rules.speakers), tuple(rules.roles)), rules):
        return found
    if "USER" in text or "HUMAN" in text:
        return _labelled(text, _CAPITALS, rules, preamble=True)
    return _labelled(text, _ON_ONE_LINE, rules) if _ON_ONE_LINE.match(text) else None


@lru_cache(maxsize=16)
def _line_labels(*own: Sequence[str]) -> re.Pattern[str]:
    names = "|".join([re.escape(name) for names in own for name in names] + [_LABELS])
    return re.compile(
        rf"(?m)^[ \t]*(?:\*\*|__|>\s*|<|\[)?({names})(?:\s?\d{{1,3}})?(?:\*\*|__|>|\])?\s*:(?:\*\*|__)?[ \t]*",
        re.IGNORECASE,
    )


def _labelled(
    text: str, pattern: re.Pattern[str], rules: Rules, *, preamble: bool = False
) -> list[tuple[TurnRole, str]] | None:
    """The turns between labels; with `preamble`, what stands before the first is a system message."""
    marks = list(pattern.finditer(text))
    if len(marks) < 2:
        return None
    before = text[: marks[0].start()].strip()
    if before and not preamble:
        return None
    found: list[tuple[TurnRole, str]] = []
    if before and not _ALPACA_OPENING.match(before):
        found.append(("system", before))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        said = text[mark.end() : following.start() if following else len(text)]
        name = next(filter(None, mark.groups())).strip()
        label = name.lower()
        role = _ROLE_OF_LABEL.get(label) or role_of(name, rules)
        if label == "input" and found and found[-1][0] == "user":  # Alpaca: an input follows its instruction
            found[-1] = ("user", f"{found[-1][1].rstrip()}\n\n{said.strip()}")
        else:
            found.append((role, _SENTENCE.sub("", said)))
    return found if _both_speak(found) else None


def _both_speak(found: Sequence[tuple[TurnRole, str]]) -> bool:
    """Whether an assistant answers a user; one of the two alone may be any text."""
    roles = [role for role, _ in found]
    return "user" in roles and "assistant" in roles[roles.index("user") :]


def _anonymous(text: str, place: Place) -> list[tuple[TurnRole, str]] | None:
    """The turns of two whose names only tell them apart, such as "Person 1:" and "Person 2:"."""
    marks = list(_ANONYMOUS.finditer(text))
    names = list(dict.fromkeys(mark[0].strip().casefold() for mark in marks))
    if len(names) != 2 or len({mark[1].casefold() for mark in marks}) != 1 or text[: marks[0].start()].strip():
        return None
    roles = dict(zip(names, alternating_roles(2, place), strict=True))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [(roles[mark[0].strip().casefold()], text[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)]

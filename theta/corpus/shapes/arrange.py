"""Turns -> conversations that can be learned: what does not fit is mended, and what was done is noted."""

import re
from collections.abc import Iterator, Sequence

from theta.conversation.messages import Message
from theta.corpus.shapes.cleaning import without_end_mark
from theta.corpus.shapes.content import distinct
from theta.corpus.shapes.fields import UnusableError
from theta.corpus.shapes.turns import Place, Turn

_THOUGHT = re.compile(
    r"<(think|thinking|thought|reasoning|scratchpad)>.*?</\1>|<\|begin_of_thought\|>.*?<\|end_of_thought\|>", re.DOTALL
)
_OWN_MARK = re.compile(r"<\|(?:Human|MOSS)\|>:\s*")
_SOLUTION = re.compile(r"\s*<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>)?\s*\Z", re.DOTALL)
"""What stands around the reply after the thoughts, in the data of some reasoning models."""


def arranged(turns: Sequence[Turn], place: Place) -> Iterator[tuple[Message, ...]]:
    """Yield conversations: an optional system message, then user and assistant in turn, ending with the assistant.

    A later system message opens a new conversation, and so does the exchange after one that cannot be learned.

    Raises:
        UnusableError: nothing is left; before anything was yielded.
    """
    found: list[tuple[Message, ...]] = []
    faults: list[str] = []
    mended: list[str] = []
    turns = [_without_thinking(_without_end_mark(turn, mended), mended) for turn in turns]
    for system, rest in _segments(turns, mended):
        found += [(*system, *(_message(turn, place) for turn in run)) for run in _exchanges(rest, faults, mended)]
    learned = [each for each in found if any(m.role == "assistant" and m.learned for m in each)]
    if found and not learned:
        raise UnusableError("marked_not_to_learn")
    if not learned:
        reason, _, detail = (faults or [_nothing(turns)])[0].partition(": ")
        raise UnusableError(reason, detail)
    for name in [*mended, *(f"exchange left out ({fault.partition(':')[0]})" for fault in faults)]:
        place.note("mended", name)
    yield from learned


def _without_end_mark(turn: Turn, mended: list[str]) -> Turn:
    content = without_end_mark(_OWN_MARK.sub("", turn.content) if turn.content[:2] == "<|" else turn.content)
    if content == turn.content:
        return turn
    mended.append("end mark left out")
    return turn._replace(content=content)


def _without_thinking(turn: Turn, mended: list[str]) -> Turn:
    """The turn without the thoughts that a model wrote down before its reply."""
    if turn.role != "assistant" or turn.content[:1] != "<" or not (thought := _THOUGHT.match(turn.content)):
        return turn
    mended.append("thinking left out")
    reply = turn.content[thought.end() :]
    return turn._replace(content=_SOLUTION.sub(r"\1", reply).strip())


def _message(turn: Turn, place: Place) -> Message:
    if turn.role != "user":
        return Message("assistant", turn.content, turn.learned)
    return Message("user", turn.content, turn.learned, distinct(turn.wordings, turn.content, place))


def _nothing(turns: Sequence[Turn]) -> str:
    """Why turns without an exchange cannot be learned."""
    roles = {turn.role for turn in turns if turn.content}
    if "assistant" not in roles:
        return "no_assistant_message" if not any(turn.role == "assistant" for turn in turns) else "empty_reply"
    if "user" not in roles:
        return "no_user_message" if not any(turn.role == "user" for turn in turns) else "empty_question"
    return "no_reply_after_a_question"


def _segments(turns: Sequence[Turn], mended: list[str]) -> Iterator[tuple[list[Message], list[Turn]]]:
    """The parts that a system message opens, each with it."""
    system: list[str] = []
    rest: list[Turn] = []
    for turn in turns:
        if turn.role != "system":
            rest.append(turn)
        elif turn.fault:
            rest.append(turn._replace(role="unknown"))
        elif turn.content:
            if any(each.role == "assistant" for each in rest):
                mended.append("later system message opens a conversation")
                yield _system(system), rest
                system, rest = [], []
            elif system:
                mended.append("system messages joined")
            if turn.content not in system:
                system.append(turn.content)
    yield _system(system), rest


def _system(texts: Sequence[str]) -> list[Message]:
    return [Message("system", "\n\n".join(texts))] if texts else []


def _exchanges(turns: Sequence[Turn], faults: list[str], mended: list[str]) -> list[list[Turn]]:
    """The runs of exchanges that can be learned; `faults` gets the reasons why others cannot."""
    start = next((at for at, turn in enumerate(turns) if turn.role == "user"), len(turns))
    if start and any(turn.role == "user" for turn in turns):
        mended.append("opening reply left out")
        faults.extend(turn.fault for turn in turns[:start] if turn.fault)
    elif start == len(turns):
        faults.extend(turn.fault for turn in turns if turn.fault)
    runs: list[list[Turn]] = [[]]
    parts = _parted(turns[start:])
    for at, part in enumerate(parts):
        fault = next((turn.fault for turn in part if turn.fault), "")
        user, reply = _joined(part, "user", mended), _joined(part, "assistant", mended)
        if not fault and user is not None and user.content and reply is not None and reply.content:
            runs[-1] += [user, reply]
            continue
        if not fault and reply is None and at == len(parts) - 1:
            if any(runs):
                mended.append("unanswered question left out")
            continue
        faults.append(fault or ("empty_question" if user is None or not user.content else "empty_reply"))
        runs.append([])
    return [run for run in runs if run]


def _parted(turns: Sequence[Turn]) -> list[list[Turn]]:
    """The exchanges: each begins with the first message of the user after another side's.

    Somebody unknown who speaks after a reply does not belong to the exchange before.
    """
    parts: list[list[Turn]] = []
    before = ""
    for turn in turns:
        if (turn.role == "user" and before != "user") or (turn.role == "unknown" and before == "assistant"):
            parts.append([])
        before = turn.role
        parts[-1].append(turn)
    return parts


def _joined(part: Sequence[Turn], role: str, mended: list[str]) -> Turn | None:
    """The messages of one side as one; None if there are none.

    Where only some of them are to be learned, those alone stay: one message is learned as a whole or not at all.
    """
    turns = [turn for turn in part if turn.role == role]
    filled = [turn for turn in turns if turn.content]
    learned = [turn for turn in filled if turn.learned]
    if role == "assistant" and learned and len(learned) < len(filled):
        mended.append("message not to learn left out beside one to learn")
        filled = learned
    filled = [turn for at, turn in enumerate(filled) if not at or turn.content != filled[at - 1].content]
    if len(filled) < 2:
        return next(iter(filled or turns), None)
    mended.append("messages of one side joined")
    if any(turn.wordings for turn in filled):
        mended.append("wordings of joined messages left out")
    return Turn(filled[0].role, "\n".join(turn.content for turn in filled), all(turn.learned for turn in filled))

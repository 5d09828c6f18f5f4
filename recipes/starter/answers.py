"""answers.yaml and the teacher -> conversations: questions, the teacher's replies, and second questions."""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from rich.progress import track

from recipes.starter import teacher
from recipes.starter.asking import AnswerSettings, Group
from recipes.starter.figures import Item
from recipes.starter.teacher import Teacher
from recipes.starter.wording import raised
from theta.corpus import keys


class Talk(NamedTuple):
    """An unfinished conversation."""

    domain: str
    instruction: str
    """System message for the teacher, if the conversation itself has none."""
    messages: tuple[tuple[str, str], ...]
    """Role and text of each message."""

    def plus(self, role: str, text: str) -> "Talk":
        """Return the conversation with one more message."""
        return self._replace(messages=(*self.messages, (role, text)))

    def prompt(self) -> str:
        """Return the prompt for the teacher."""
        instruction = () if self.messages[0][0] == "system" else (("system", self.instruction),)
        return teacher.prompt([*instruction, *self.messages])

    def item(self) -> Item:
        """Return the conversation as a line of JSON."""
        return {"domain": self.domain, "messages": [{"role": role, "content": text} for role, text in self.messages]}


class Writer:
    """The teacher with its settings; each call draws with another seed."""

    def __init__(self, model: Teacher, settings: AnswerSettings) -> None:
        self._model, self._settings, self._calls = model, settings, 0

    def questions(self, prompts: Sequence[str]) -> list[str]:
        """Complete each question; the result is empty if the teacher did not end it."""
        settings = self._settings
        written = self._write(prompts, settings.max_question_tokens, settings.question_temperature, "questions")
        return [text if ended else "" for text, ended in written]

    def replies(self, prompts: Sequence[str]) -> list[str]:
        """Reply to each prompt, in complete sentences; the result is empty if there is none."""
        settings = self._settings
        written = self._write(prompts, settings.max_reply_tokens, settings.reply_temperature, "replies")
        return [text if ended else _complete_sentences(text) for text, ended in written]

    def _write(self, prompts: Sequence[str], max_tokens: int, temperature: float, what: str) -> list[tuple[str, bool]]:
        self._calls += 1
        written = teacher.replies(
            self._model,
            prompts,
            max_tokens=max_tokens,
            temperature=temperature,
            min_p=self._settings.min_p,
            batch=self._settings.batch,
            seed=self._settings.seed + self._calls,
        )
        texts = [("", False)] * len(prompts)
        for place, text, ended in track(written, what, len(prompts), update_period=1.0):
            texts[place] = (text, ended)
        return texts


def _complete_sentences(text: str) -> str:
    """The text up to the end of its last complete sentence."""
    end = max(text.rfind(f"{sign}{space}") for sign in ".!?" for space in " \n")
    return text[: end + 1]


def write(settings: AnswerSettings, model: Teacher, shipped: frozenset[str]) -> Iterator[Item]:
    """Yield distinct conversations of the groups' domains, without the questions that Theta ships.

    Args:
        settings: the settings in answers.yaml.
        model: the teacher.
        shipped: keys of the questions that Theta ships.
    """
    chance, writer = random.Random(settings.seed), Writer(model, settings)
    questions = [*_from_wordings(settings), *_from_beginnings(settings, writer)]
    new = [talk for talk in questions if keys.key(talk.messages[0][1]) not in shipped]
    replied = _with_reply([_with_system_message(talk, settings, chance) for talk in new], writer)
    goes_on = [chance.random() < settings.followup_fraction for _ in replied]
    continued = [
        talk.plus("user", chance.choice(settings.followups)) for talk, on in zip(replied, goes_on, strict=True) if on
    ]
    ended = [talk for talk, on in zip(replied, goes_on, strict=True) if not on]
    seen: set[tuple[tuple[str, str], ...]] = set()
    for talk in (*ended, *_with_reply(continued, writer)):
        if talk.messages not in seen:
            seen.add(talk.messages)
            yield talk.item()


def _from_wordings(settings: AnswerSettings) -> Iterator[Talk]:
    """Yield questions about every topic in every wording of its group."""
    for group in settings.groups:
        for topic, wording in product(group.topics, group.wordings):
            yield from [_question_talk(group, _filled(wording, topic))] * settings.conversations_per_wording


def _from_beginnings(settings: AnswerSettings, writer: Writer) -> Iterator[Talk]:
    """Yield questions about every topic with every beginning, completed by the teacher.

    An instruct model can continue a user's message. (Magpie, Xu et al. 2024, lets it write the entire question, but a
    small model then leaves the topic.)
    """
    beginnings = [
        (group, topic, _filled(beginning, topic))
        for group in settings.groups
        for topic, beginning in product(group.topics, group.beginnings)
        for _ in range(settings.conversations_per_beginning)
    ]
    prompts = [
        teacher.question_prompt(f"The user asks one short question about {topic}.", text)
        for _, topic, text in beginnings
    ]
    for (group, _, text), rest in zip(beginnings, writer.questions(prompts), strict=True):
        question = text + (rest if rest[:1] in ",.?!" else f" {rest}")
        if is_question(question):
            yield _question_talk(group, question)


def _filled(wording: str, topic: str) -> str:
    return raised(wording.format(topic, bare=re.sub(r"^(?:an?|the) ", "", topic)))


def _question_talk(group: Group, question: str) -> Talk:
    return Talk(group.name, group.instruction, (("user", question),))


def _with_system_message(talk: Talk, settings: AnswerSettings, chance: random.Random) -> Talk:
    """The conversation, with a random system message before a fraction of them."""
    if chance.random() >= settings.system_message_fraction:
        return talk
    return talk._replace(messages=(("system", chance.choice(settings.system_messages)), *talk.messages))


def _with_reply(talks: Sequence[Talk], writer: Writer) -> list[Talk]:
    """The conversations with the teacher's reply, without those whose reply is unusable."""
    replies = writer.replies([talk.prompt() for talk in talks])
    return [talk.plus("assistant", text) for talk, text in zip(talks, replies, strict=True) if is_reply(text)]


MAX_QUESTION_WORDS, MAX_REPLY_WORDS = 40, 90
_ENDS = (".", "!", "?", '."', '!"', '?"', "`", "```")
_NOT_PLAIN = re.compile(r"[^ -~\n]|\[|<\||https?:|\*\*|^#|\n\d+\.|\\")
_OF_THE_TEACHER = re.compile(
    r"SmolLM|Hugging ?Face|OpenAI|ChatGPT|\bAI\b|language model|chatbot|trained (?:on|by)|knowledge cutoff|"
    r"I(?:'m| am) sorry, but|I apologi[sz]e|I cannot|I can't|unable to|(?:this|the|your) (?:conversation|prompt)|"
    r"system message|short sentences|helpful assistant|my capabilities|"
    r"\bHere(?:'s| is| are) (?:a|an|the|some|two|three|my) ",
    re.I,
)
"""Phrases of a reply about the teacher or its task instead of the question."""


def is_question(text: str) -> bool:
    """Whether a user might write this: one plain paragraph, a question or a statement."""
    words = text.split()
    return (
        2 <= len(words) <= MAX_QUESTION_WORDS
        and text.endswith((".", "!", "?"))
        and "\n" not in text
        and not _NOT_PLAIN.search(text)
        and not re.search(r"\byou(?:r|'re| are) (?:an? )?(?:AI|assistant|expert)|\bgiven\b", text)
    )


def is_reply(text: str) -> bool:
    """Whether a reply is plain English of a suitable length, without repetitions, and about the question."""
    words = text.split()
    return (
        3 <= len(words) <= MAX_REPLY_WORDS
        and (text[0].isupper() or text[0] in '`"')
        and text.endswith(_ENDS)
        and text.count("```") % 2 == 0
        and not _NOT_PLAIN.search(text)
        and not _OF_THE_TEACHER.search(text)
        and not _repeats(words)
    )


def _repeats(words: Sequence[str], size: int = 5) -> bool:
    """Whether a sequence of `size` words occurs twice."""
    runs = [tuple(words[begin : begin + size]) for begin in range(len(words) - size + 1)]
    return len(set(runs)) < len(runs)

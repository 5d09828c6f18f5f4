"""answers.yaml and the teacher -> conversations: questions, the teacher's replies, and what may follow."""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from rich.progress import track

from recipes.starter import teacher
from recipes.starter.asking import Asking, Group
from recipes.starter.figures import Item
from recipes.starter.teacher import Teacher
from recipes.starter.wording import raised
from theta.corpus import splits


class Talk(NamedTuple):
    """A conversation under way."""

    domain: str
    told: str
    """System message of the teacher, where the conversation itself has none."""
    messages: tuple[tuple[str, str], ...]
    """Role and text of each."""

    def plus(self, role: str, text: str) -> "Talk":
        """The conversation with one more message."""
        return self._replace(messages=(*self.messages, (role, text)))

    def prompt(self) -> str:
        """What the teacher replies to."""
        told = () if self.messages[0][0] == "system" else (("system", self.told),)
        return teacher.prompt([*told, *self.messages])

    def item(self) -> Item:
        """The conversation as a line of JSON."""
        return {"domain": self.domain, "messages": [{"role": role, "content": text} for role, text in self.messages]}


class Writer:
    """The teacher with its settings; each call draws anew."""

    def __init__(self, model: Teacher, settings: Asking) -> None:
        self._model, self._settings, self._calls = model, settings, 0

    def questions(self, prompts: Sequence[str]) -> list[str]:
        """How the teacher carries each question on; empty where it came to no end."""
        ended = self._write(prompts, self._settings.most_tokens_asked, self._settings.temperature_asked, "questions")
        return [text if whole else "" for text, whole in ended]

    def replies(self, prompts: Sequence[str]) -> list[str]:
        """The whole sentences of its replies that fit; empty where there is none."""
        written = self._write(
            prompts, self._settings.most_tokens_replied, self._settings.temperature_replied, "replies"
        )
        return [text if whole else _whole_sentences(text) for text, whole in written]

    def _write(self, prompts: Sequence[str], most_tokens: int, temperature: float, what: str) -> list[tuple[str, bool]]:
        self._calls += 1
        written = teacher.replies(
            self._model,
            prompts,
            most_tokens=most_tokens,
            temperature=temperature,
            least_share=self._settings.least_share,
            batch=self._settings.batch,
            seed=self._settings.seed + self._calls,
        )
        said = [("", False)] * len(prompts)
        for place, text, whole in track(written, what, len(prompts), update_period=1.0):
            said[place] = (text, whole)
        return said


def _whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence."""
    end = max(text.rfind(f"{sign}{space}") for sign in ".!?" for space in " \n")
    return text[: end + 1]


def write(settings: Asking, model: Teacher, shipped: frozenset[str]) -> Iterator[Item]:
    """Conversations of the groups' domains, each once, without the questions that Theta ships.

    Args:
        settings: of answers.yaml.
        model: the teacher.
        shipped: keys of the questions that Theta ships.
    """
    chance, writer = random.Random(settings.seed), Writer(model, settings)
    asked = [*_worded(settings), *_begun(settings, writer)]
    opened = [_opened(talk, settings, chance) for talk in asked if splits.key(talk.messages[0][1]) not in shipped]
    replied = _replied(opened, writer)
    asks_on = [chance.random() < settings.followup_share for _ in replied]
    further = [
        talk.plus("user", chance.choice(settings.followups)) for talk, on in zip(replied, asks_on, strict=True) if on
    ]
    ended = [talk for talk, on in zip(replied, asks_on, strict=True) if not on]
    met: set[tuple[tuple[str, str], ...]] = set()
    for talk in (*ended, *_replied(further, writer)):
        if talk.messages not in met:
            met.add(talk.messages)
            yield talk.item()


def _worded(settings: Asking) -> Iterator[Talk]:
    """Every topic in every wording of its group."""
    for group in settings.groups:
        for topic, wording in product(group.topics, group.wordings):
            yield from [_asking(group, _filled(wording, topic))] * settings.times_worded


def _begun(settings: Asking, writer: Writer) -> Iterator[Talk]:
    """Every topic in every beginning, carried on by the teacher: an instruct model knows how a user goes on, too.

    (Xu et al. 2024, Magpie, let it write the whole question; a small one then leaves the topic.)
    """
    begun = [
        (group, topic, _filled(beginning, topic))
        for group in settings.groups
        for topic, beginning in product(group.topics, group.beginnings)
        for _ in range(settings.times_begun)
    ]
    prompts = [teacher.asking(f"The user asks one short question about {topic}.", text) for _, topic, text in begun]
    for (group, _, text), rest in zip(begun, writer.questions(prompts), strict=True):
        question = text + (rest if rest[:1] in ",.?!" else f" {rest}")
        if is_question(question):
            yield _asking(group, question)


def _filled(wording: str, topic: str) -> str:
    return raised(wording.format(topic, bare=re.sub(r"^(?:an?|the) ", "", topic)))


def _asking(group: Group, question: str) -> Talk:
    return Talk(group.name, group.told, (("user", question),))


def _opened(talk: Talk, settings: Asking, chance: random.Random) -> Talk:
    """The conversation, perhaps with a system message before it."""
    if chance.random() >= settings.manner_share:
        return talk
    return talk._replace(messages=(("system", chance.choice(settings.manners)), *talk.messages))


def _replied(talks: Sequence[Talk], writer: Writer) -> list[Talk]:
    """The conversations to which the teacher has a reply worth learning, with it."""
    said = writer.replies([talk.prompt() for talk in talks])
    return [talk.plus("assistant", text) for talk, text in zip(talks, said, strict=True) if is_reply(text)]


MOST_WORDS_ASKED, MOST_WORDS_REPLIED = 40, 90
_ENDS = (".", "!", "?", '."', '!"', '?"', "`", "```")
_NOT_PLAIN = re.compile(r"[^ -~\n]|\[|<\||https?:|\*\*|^#|\n\d+\.|\\")
_OF_THE_TEACHER = re.compile(
    r"SmolLM|Hugging ?Face|OpenAI|ChatGPT|\bAI\b|language model|chatbot|trained (?:on|by)|knowledge cutoff|"
    r"I(?:'m| am) sorry, but|I apologi[sz]e|I cannot|I can't|unable to|(?:this|the|your) (?:conversation|prompt)|"
    r"system message|short sentences|helpful assistant|my capabilities|"
    r"\bHere(?:'s| is| are) (?:a|an|the|some|two|three|my) ",
    re.I,
)
"""What a reply says about the teacher or about its task, and not to the question."""


def is_question(text: str) -> bool:
    """Whether a user might say this: one plain paragraph that asks or tells something."""
    words = text.split()
    return (
        2 <= len(words) <= MOST_WORDS_ASKED
        and text.endswith((".", "!", "?"))
        and "\n" not in text
        and not _NOT_PLAIN.search(text)
        and not re.search(r"\byou(?:r|'re| are) (?:an? )?(?:AI|assistant|expert)|\bgiven\b", text)
    )


def is_reply(text: str) -> bool:
    """Whether a reply is plain English of a fair length that goes round in no circle and keeps to the matter."""
    words = text.split()
    return (
        3 <= len(words) <= MOST_WORDS_REPLIED
        and (text[0].isupper() or text[0] in '`"')
        and text.endswith(_ENDS)
        and text.count("```") % 2 == 0
        and not _NOT_PLAIN.search(text)
        and not _OF_THE_TEACHER.search(text)
        and not _repeats(words)
    )


def _repeats(words: Sequence[str], size: int = 5) -> bool:
    """Whether a run of so many words stands twice."""
    runs = [tuple(words[begin : begin + size]) for begin in range(len(words) - size + 1)]
    return len(set(runs)) < len(runs)

"""Openings of encyclopaedia articles -> questions and answers, some with a second question."""

import json
import re
from collections.abc import Iterator

from recipes.starter.blocks import tidy
from recipes.starter.prose import sentences
from recipes.starter.wording import Exchange, answer, pick

_THING = ("What is {}?", "Tell me about {}.", "What do you know about {}?", "Explain {}.",
          "What can you tell me about {}?", "Give me a short description of {}.")  # fmt: skip
_PERSON = ("Who was {}?", "Tell me about {}.", "What do you know about {}?", "Who is {}?", "Why is {} known?")
_MORE = ("Tell me more.", "Can you tell me more about it?", "What else?", "Go on.", "What else should I know about it?",
         "And what more is there to say?")  # fmt: skip
_SHORT_WORDS = 45


def articles(content: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield title, topic and opening of each article."""
    for article in json.loads(content).values():
        extract = tidy(re.sub(r"\s*\([^()]*[^\x00-\x7f][^()]*\)", "", article["extract"]))
        yield article["title"], article["topic"], re.sub(r"\s*\(\s*[;,]?\s*\)", "", extract)


def conversations(title: str, topic: str, opening: str) -> Iterator[list[Exchange]]:
    """Yield a short answer, with the rest as a second one if long enough, and a long answer to another question."""
    name = re.sub(r"\s*\([^)]*\)$", "", title)
    forms = _PERSON if topic == "People" else _THING
    if topic != "People" and re.search(
        r"\b(?:was|were) (?:an? |the )?[\w-]+(?: [\w-]+){0,4} (?:born|who)\b", opening[:200]
    ):
        forms = _PERSON
    # Inside a sentence "Engraving" becomes "engraving", unless the article itself writes it as a name.
    inner = name[:1].lower() + name[1:]
    if opening.startswith(f"The {name}"):
        name = f"the {name}"
    elif forms is _THING and re.search(rf"\b{re.escape(inner)}\b", opening):
        name = inner
    first = pick(forms, title)
    short = answer([opening], _SHORT_WORDS)
    rest = opening[len(short) :].strip()
    more = answer([rest], 90) if short else ""
    if short:
        exchanges = [Exchange(first.format(name), short)]
        yield [*exchanges, Exchange(pick(_MORE, title), more)] if more else exchanges
    whole = answer([opening])
    if whole and len(sentences(whole)) > len(sentences(short or "")):
        second = pick([form for form in forms if form != first], title + " ")
        yield [Exchange(second.format(name), whole)]

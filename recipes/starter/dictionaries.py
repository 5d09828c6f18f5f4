"""Dictionaries in the format of dictd -> questions and answers: WordNet, FOLDOC, the Jargon File."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from recipes.starter.blocks import tidy
from recipes.starter.prose import sentences
from recipes.starter.wording import Exchange, answer, is_answer, lowered, pick, raised, sentence, with_article

_DEFINE = (
    "What is {}?",
    "What is {}?",
    "Define {}.",
    "What does {} mean?",
    "Tell me about {}.",
    "Can you define {}?",
    "What do you mean by {}?",
    "Explain {}.",
)
_WORD = (
    "What does the word {} mean?",
    "What does {} mean?",
    "Define {}.",
    "What is the meaning of {}?",
    "Can you define {}?",
)
_DETERMINERS = re.compile(r"(?:a|an|any|one|someone|something|the|each|either|another|two|all) ")
_COUNTED = re.compile(
    r"(?:(?:a|an|any) (?!kind of|type of|form of|state of|feeling|lack of|group of|collection|branch|sense|"
    r"quality|process)"
    r"|any of |one who|someone |a kind of|a type of)"
)
_ABSTRACT = re.compile(
    r"An? (?:[\w-]+ ){0,3}(?:method|technique|model|language|form|kind|state|branch|style|measure|family|approach|"
    r"procedure|algorithm|theory|discipline|term|name|means|way|class|area|field|notation|philosophy) "
)
"""A term with such a definition gets no article: recursion is a method, not a recursion."""


@dataclass(frozen=True, slots=True)
class Sense:
    """One meaning of a word in WordNet."""

    part: str
    """Part of speech: n, v, adj or adv."""
    gloss: str
    examples: tuple[str, ...]
    synonyms: tuple[str, ...]


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield headword and body of the entries of a dictd file: words in the first column, then indented lines.

    If several words precede a body, the first one is the headword.
    """
    word, body = "", []
    for line in [*text.splitlines(), "."]:
        if not line or line[0].isspace():
            body.append(line)
        elif word and not body:
            continue
        else:
            if word:
                yield word, "\n".join(body)
            word, body = line.strip(), []


def wordnet_senses(body: str) -> list[Sense]:
    """Return the meanings of an entry of WordNet, in order."""
    pieces = re.split(r"(?:^| )(?:(n|v|adj|adv) )?\d*: ", " ".join(body.split()))
    found: list[Sense] = []
    part = "n"
    for marked, text in zip(pieces[1::2], pieces[2::2], strict=True):
        part = marked or part
        synonyms = re.search(r"\[syn: ([^\]]*)\]", text)
        rest = re.sub(r"\[(?:syn|also|ant): [^\]]*\]", "", text)
        gloss, *quoted = re.split(r'; ?(?=")', rest)
        examples = tuple(each for quote in quoted for each in re.findall(r'"([^"]+)"', quote)[:1])
        names = tuple(re.findall(r"{([^}]*)}", synonyms[1])) if synonyms else ()
        found.append(Sense(part, tidy(gloss).rstrip("; "), examples, names))
    return found


def wordnet(text: str) -> Iterator[tuple[str, Exchange]]:
    """Yield each word of WordNet with a question about its meanings."""
    for word, body in entries(text):
        senses = [each for each in wordnet_senses(body) if _is_usable(each)]
        if not senses or not re.fullmatch(r"[A-Za-z][A-Za-z' .-]*", word) or len(word) < 3:
            continue
        explanation = _explanation(word, senses)
        if is_answer(explanation):
            yield word, Exchange(_question(word, senses[0]), explanation)


def _is_usable(sense: Sense) -> bool:
    taxonomic = re.search(
        r"\bgenus\b|type genus|\bfamily of\b|\border of\b|asterid|taxonom|\bsuborder\b|usually in some classif",
        sense.gloss,
    )
    return 3 <= len(sense.gloss.split()) <= 60 and not taxonomic and '"' not in sense.gloss


def _question(word: str, sense: Sense) -> str:
    person = sense.part == "n" and word[0].isupper() and re.search(r"\(\d{3,4}-\d{4}\)|\(born in \d", sense.gloss)
    if person:
        return pick(("Who was {}?", "Who is {}?", "Tell me about {}."), word).format(word)
    if sense.part == "n":
        counted = _COUNTED.match(sense.gloss) and not word[0].isupper() and not _is_plural(word)
        form = pick(_DEFINE, word)
        return form.format(with_article(word) if counted and form == "What is {}?" else word)
    return pick(_WORD, word).format(f'"{word}"' if len(word.split()) == 1 else word)


def _explanation(word: str, senses: list[Sense]) -> str:
    """The first meaning with an example and synonyms, and another meaning if there is one."""
    first = senses[0]
    parts = [_statement(word, first)]
    if first.examples:
        parts.append(f'For example: "{raised(first.examples[0].rstrip(".;"))}."')
    others = [name for name in first.synonyms if name.lower() != word.lower()][:3]
    if others:
        listed = " or ".join([", ".join(others[:-1]), others[-1]] if len(others) > 1 else others)
        parts.append(pick(("It is also called {}.", "Another word for it is {}."), word).format(listed)
                     if first.part == "n" else f"It is close in meaning to {listed}.")  # fmt: skip
    other = next((each for each in senses[1:] if each.part == first.part), None)
    if other:
        link = pick(("It can also mean {}.", "In another sense, it means {}."), word)
        parts.append(link.format(re.sub(r"^\(([^)]*)\) (.*)", r"\2 (\1)", other.gloss)))
    return " ".join(parts)


def _statement(word: str, sense: Sense) -> str:
    """The meaning as a sentence."""
    field = re.match(r"\(([^)]*)\) (.*)", sense.gloss)
    gloss = field[2] if field else sense.gloss
    if sense.part == "n":
        subject = (
            raised(with_article(word))
            if _COUNTED.match(gloss) and word[0].islower() and not _is_plural(word)
            else raised(word)
        )
        plural = field is not None and "plural" in field[1]
        dead = re.search(r"\(\d{3,4}-\d{4}\)", gloss)
        if word[0].isupper() and dead and not _DETERMINERS.match(gloss):
            gloss = with_article(gloss)
        statement = f"{subject} {'are' if plural else 'was' if dead and word[0].isupper() else 'is'} {gloss}"
    elif sense.part == "v":
        statement = f"To {word} is to {gloss}"
    else:
        statement = f"{raised(word)} means {gloss}"
    label = field[1] if field and "plural" not in field[1] and len(field[1].split()) <= 3 else ""
    return sentence(
        f"In {label}, {lowered(statement)}" if label and label.split()[0] not in ("of", "used", "often") else statement
    )


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us", "is"))


def verbs(text: str) -> frozenset[str]:
    """Return the verbs of WordNet that consist of one word."""
    return frozenset(
        word.lower()  # WordNet files "add" under ADD
        for word, body in entries(text)
        if word.isalpha() and re.search(r"(?:^|\n)\s+v (?:\d+)?:", body)
    )


def foldoc(text: str) -> Iterator[tuple[str, Exchange]]:
    """Yield each term of the Free On-line Dictionary of Computing with a question about it."""
    for word, body in entries(text):
        paragraphs = [_unlinked(each) for each in re.split(r"\n\s*\n", body) if each.strip()]
        opening = re.match(r"((?:<[^>]*> ?)*)(?:\d\. )?((?:<[^>]*> ?)*)(.*)", next(iter(paragraphs), ""))
        if not opening or not 2 <= len(word) <= 40:
            continue
        rest = [
            each for each in paragraphs[1:] if not re.match(r"\(\d{4}-|<|\(|\[|See |Compare|Contrast|[\"'].*:$", each)
        ]
        yield from _definition(word, opening[3], rest, _DEFINE)


def jargon(text: str) -> Iterator[tuple[str, Exchange]]:
    """Yield each term of the Jargon File with a question about it."""
    for word, body in entries(text):
        paragraphs = [_unlinked(each) for each in re.split(r"\n\s*\n", body)]
        paragraphs = [re.sub(r"^(?:\d\. )?(?:(?:\[[^\]]*\]|\([^)]*\))\.? ?)*", "", each) for each in paragraphs]
        first, *rest = [each for each in paragraphs if len(each.split()) > 5] or [""]
        yield from _definition(word, first, rest, (*_DEFINE, "What do hackers mean by {}?"))


def _unlinked(paragraph: str) -> str:
    return tidy(re.sub(r"{\s*([^}]*?)\s*}", r"\1", re.sub(r"{[^}]*https?:[^}]*}\.?", "", paragraph)))


def _definition(word: str, first: str, rest: list[str], forms: tuple[str, ...]) -> Iterator[tuple[str, Exchange]]:
    """Yield `word is ...` if the entry begins with an article and a noun; a full sentence about it stays unchanged."""
    first = re.sub(r"^\([^)]{1,40}\) ", "", re.sub(r"^/.*?/ ", "", first))
    name = word
    if re.match(r"(?:A|An|The|Any|One of|Someone|Something) ", first):
        counted = (
            word.islower()
            and re.match(r"(?:A|An|Any) ", first)
            and not (_ABSTRACT.match(first) or _is_plural(word) or "ing " in f"{word} ")
        )
        name = with_article(word) if counted else word
        first = f"{raised(name)} is {lowered(first)}"
    elif not re.match(rf"(?:(?:A|An|The) )?{re.escape(word)}\b", first, re.I):
        return
    if word.endswith(", the") or "://" in first or "<" in first or not sentences(first)[0].endswith("."):
        return
    definition = answer(
        [first, *(each for each in rest if each != first and "://" not in each and "<" not in each)][:2]
    )
    if definition:
        yield word, Exchange(pick(forms, word).format(name), definition)

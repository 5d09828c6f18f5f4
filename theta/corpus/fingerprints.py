"""What duplicates, groups and leaks are found by: hashes of a conversation and its parts, made where it is read.

A *key* is a hash of 64 bits of a text without the differences that do not matter: case, Unicode form, white space and
outer punctuation. Code keeps its case and its indentation.

The near twins of a question are found by MinHash (Broder 1997): the smallest of the hashed 4-grams of characters, under
each of SIGNATURE_SIZE hash functions. Two texts have the same smallest one with the probability that their sets of
4-grams have in common (their Jaccard similarity).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theta.conversation.messages import Conversation
from theta.corpus.keys import key, point, question_key
from theta.corpus.records import starts

GRAM = 4
SIGNATURE_SIZE = 60
TWIN_CHARACTERS = 2000
"""Near twins are compared by as many characters; longer ones would take most of the time."""

LONG_REPLY_WORDS = 5
LONG_REPLY_CHARACTERS = 30
"""Replies that are shorter than both, such as "Yes.", say little about where they come from. Some languages are written
without spaces, so that words alone do not tell."""

_MULTIPLIERS = np.frombuffer(hashlib.shake_256(b"MinHash").digest(4 * SIGNATURE_SIZE), "<u4") | np.uint32(1)
"""An odd multiplier permutes the numbers of 32 bits; the hashes of 4-grams are mixed already."""
_GRAM_FACTORS = (np.uint32(0x9E3779B1), np.uint32(0x85EBCA77), np.uint32(0xC2B2AE3D), np.uint32(0x27D4EB2F))


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Arrays of the keys of some conversations; an owner is the position of a conversation among them.

    Attributes:
        points: a number in [0, 1) for each conversation, by its opening; float64 [conversations].
        whole: the key of each conversation; uint64 [conversations].
        prefixes, prefix_owners: keys of the beginnings of chats, one for each reply but the last.
        questions, question_owners: keys of the questions of all turns and their wordings; for a text, of its opening.
        replies, reply_owners, reply_is_short: keys of all replies.
        openings, opening_replies: for each conversation, the key of all before the first reply, and of that reply.
        signatures, signature_owners: uint32 [texts, SIGNATURE_SIZE] of the questions and texts.
        twin_texts: the texts of the signatures, if they were asked for.
    """

    points: np.ndarray
    whole: np.ndarray
    prefixes: np.ndarray
    prefix_owners: np.ndarray
    questions: np.ndarray
    question_owners: np.ndarray
    replies: np.ndarray
    reply_owners: np.ndarray
    reply_is_short: np.ndarray
    openings: np.ndarray
    opening_replies: np.ndarray
    signatures: np.ndarray
    signature_owners: np.ndarray
    twin_texts: list[str]


def of(conversations: Sequence[Conversation], *, with_texts: bool) -> Fingerprints:
    """Return the fingerprints of conversations; `with_texts` keeps the texts to compare near twins exactly."""
    rows = _Rows()
    for owner, conversation in enumerate(conversations):
        if conversation.is_text:
            rows.add_text(owner, conversation)
        else:
            rows.add_chat(owner, conversation)
    texts = [text[:TWIN_CHARACTERS] for text in rows.twin_texts]
    return Fingerprints(
        points=np.array(rows.points, np.float64),
        whole=np.array(rows.whole, np.uint64),
        prefixes=np.array(rows.prefixes, np.uint64),
        prefix_owners=np.array(rows.prefix_owners, np.uint32),
        questions=np.array(rows.questions, np.uint64),
        question_owners=np.array(rows.question_owners, np.uint32),
        replies=np.array(rows.replies, np.uint64),
        reply_owners=np.array(rows.reply_owners, np.uint32),
        reply_is_short=np.array(rows.reply_is_short, np.bool_),
        openings=np.array(rows.openings, np.uint64),
        opening_replies=np.array(rows.opening_replies, np.uint64),
        signatures=signatures(texts),
        signature_owners=np.array(rows.twin_owners, np.uint32),
        twin_texts=texts if with_texts else [],
    )


class _Rows:
    """Lists that become the arrays."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self.whole: list[int] = []
        self.prefixes: list[int] = []
        self.prefix_owners: list[int] = []
        self.questions: list[int] = []
        self.question_owners: list[int] = []
        self.replies: list[int] = []
        self.reply_owners: list[int] = []
        self.reply_is_short: list[bool] = []
        self.openings: list[int] = []
        self.opening_replies: list[int] = []
        self.twin_texts: list[str] = []
        self.twin_owners: list[int] = []

    def add_text(self, owner: int, conversation: Conversation) -> None:
        content, opening = conversation.messages[0].content, key(conversation.opening)
        whole = _hash(_code(content) or key(content))
        self.points.append(point(opening))
        self.whole.append(whole)
        self.questions.append(_hash(opening))
        self.question_owners.append(owner)
        self.openings.append(whole)
        self.opening_replies.append(0)
        self.twin_texts.append(key(content[:TWIN_CHARACTERS]))
        self.twin_owners.append(owner)

    def add_chat(self, owner: int, conversation: Conversation) -> None:
        chain = hashlib.blake2b(digest_size=8)
        is_first_reply = True
        for message in conversation.messages:
            normal = key(message.content)
            comparable = _code(message.content) or normal
            if message.role == "user":
                if len(self.points) == owner:
                    self.points.append(point(normal))
                for asked in (normal, *map(key, message.wordings)):
                    self.questions.append(wording_key(asked))
                    self.question_owners.append(owner)
                    self.twin_texts.append(asked)
                    self.twin_owners.append(owner)
            elif message.role == "assistant":
                reply = _hash(normal)
                if is_first_reply:
                    self.openings.append(int.from_bytes(chain.digest()))
                    self.opening_replies.append(reply if comparable is normal else _hash(comparable))
                    is_first_reply = False
                self.replies.append(reply)
                self.reply_owners.append(owner)
                self.reply_is_short.append(_is_short(message.content))
            chain.update(f"{message.role}\0{comparable}\0".encode())
            if not message.learned:
                # The same text is no repetition where only one of the two is learned.
                chain.update(b"not learned\0")
            for wording in message.wordings:
                chain.update(f"or\0{wording}\0".encode("utf-8", "surrogatepass"))
            if message.role == "assistant":
                self.prefixes.append(int.from_bytes(chain.digest()))
                self.prefix_owners.append(owner)
        self.whole.append(self.prefixes.pop())
        self.prefix_owners.pop()


def wording_key(normal: str) -> int:
    """Return the key of one way to ask, whose text `key` has normalised."""
    return _hash(question_key(normal))


def signatures(texts: Sequence[str]) -> np.ndarray:
    """Return the MinHash signatures, uint32 [texts, SIGNATURE_SIZE], of the 4-grams of characters of each text."""
    if not texts:
        return np.empty((0, SIGNATURE_SIZE), np.uint32)
    padded = [text if len(text) >= GRAM else text.ljust(GRAM, "\0") for text in texts]
    characters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.array(list(map(len, padded)), np.int64)
    ends = np.cumsum(lengths)
    last = len(characters) - GRAM + 1
    grams = np.zeros(last, np.uint32)
    for place, factor in enumerate(_GRAM_FACTORS):
        grams += characters[place : place + last] * factor
    grams ^= grams >> np.uint32(15)
    is_inside = np.ones(len(characters), np.bool_)
    for back in range(1, GRAM):
        is_inside[ends - back] = False  # these grams would reach into the next text
    grams = grams[is_inside[:last]]
    begins = starts(lengths - GRAM + 1)
    made = np.empty((SIGNATURE_SIZE, len(texts)), np.uint32)
    hashed = np.empty_like(grams)
    for row, multiplier in zip(made, _MULTIPLIERS, strict=True):
        np.multiply(grams, multiplier, out=hashed)
        np.minimum.reduceat(hashed, begins, out=row)
    return np.ascontiguousarray(made.T)


def gram_set(text: str) -> set[str]:
    """Return the 4-grams of characters of a text."""
    return {text[begin : begin + GRAM] for begin in range(max(len(text) - GRAM + 1, 1))}


def _is_short(reply: str) -> bool:
    return reply.count(" ") < LONG_REPLY_WORDS - 1 and len(reply) < LONG_REPLY_CHARACTERS


def _code(text: str) -> str:
    """A text that is code or holds some, without white space at the ends of lines; empty if it is none."""
    # A single character is found ten times as fast as two.
    if ("\n" in text and ("\n " in text or "\n\t" in text)) or ("`" in text and "```" in text):
        return "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))
    return ""


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())

"""A preferred and a rejected reply to one question -> the conversation with the preferred one."""

from collections.abc import Mapping
from typing import Any

from theta.corpus.items import Number
from theta.corpus.shapes import exchanges, questions, transcripts
from theta.corpus.shapes.content import listed, text_of
from theta.corpus.shapes.fields import CHOSEN, REJECTED, UnusableError, first
from theta.corpus.shapes.replies import reply_turns
from theta.corpus.shapes.turns import Place, Turn

_STEMS = ("response", "answer", "output", "completion", "conversation", "reply", "humanref")
_ENDS = ("a", "b", "0", "1", "2", "j", "k")
_COMPARED = frozenset((*CHOSEN, *(f"{stem}{end}" for stem in _STEMS for end in _ENDS)))
_CHOICES = ("betterresponseid", "winner", "preferred", "preference", "chosenindex", "better", "choice", "label")


def chosen_turns(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn] | None:
    """Return the turns of a preference pair, with the chosen reply; None if it is none."""
    if _COMPARED.isdisjoint(fields):
        return None
    key = first(CHOSEN, fields)
    if key is None or isinstance(fields[key], bool) or _is_index(fields[key]):
        return _chosen_of_several(fields, place, used)
    if key == "better" and "worse" not in fields:
        return None
    used.update((key, *REJECTED))
    place.note("chosen", "preferred reply")
    prompt = _prompt(fields, place, used)
    reply = reply_turns(fields[key], place, key=key)
    return exchanges.after_prompt(prompt, reply)


def _is_index(value: Any) -> bool:
    return isinstance(value, int | Number)


def _prompt(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn]:
    """What a preference pair replies to: messages or a question; it may be part of the chosen messages."""
    name = exchanges.message_list(fields)
    if name is not None:
        used.add(name)
        return exchanges.turns_of_list(exchanges.listed(fields[name]), place)
    asked = questions.keys_of(fields)
    if not asked and isinstance(fields.get("history"), str):  # SHP's post
        used.add("history")
        return transcripts.turns_of(fields["history"], place) or [Turn("user", text_of(fields["history"], place))]
    used.update(asked)
    return [
        *exchanges.earlier_turns(fields, place, used),
        *(questions.turns_of(fields, asked, place) if asked else []),
    ]


def _chosen_of_several(fields: Mapping[str, Any], place: Place, used: set[str]) -> list[Turn] | None:
    """The turns of a comparison of replies that are named by letters or numbers."""
    for stem in _STEMS:
        options = {end: f"{stem}{end}" for end in _ENDS if f"{stem}{end}" in fields}
        if len(options) < 2 or any(f"question{end}" in fields for end in options):
            continue
        choice = next((fields[name] for name in _CHOICES if name in fields), None)
        used.update(options.values())
        if choice is None:
            choice = _best_by_sign(fields, options) or _best_by_flag(fields, options) or _best_by_score(fields, options)
        end = str(choice).strip().lower().removeprefix("model").removeprefix(stem).strip("_ ")
        if "bad" in end:
            raise UnusableError("marked_bad", f"both replies: {choice}")
        if end.startswith("tie"):
            end = next(iter(options))
        if end not in options:
            raise UnusableError("unknown_shape", f"which of {', '.join(options.values())} is better is not said")
        place.note("chosen", "preferred reply")
        value = fields[options[end]]
        asked, said = listed(str(fields.get("prompt"))), listed(str(value))
        if asked and said and len(asked) == len(said) and all(isinstance(each, str) for each in (*asked, *said)):
            used.add("prompt")  # a chat as two lists in a table, as the arena's are
            return exchanges.turns_of_list([text for pair in zip(asked, said, strict=True) for text in pair], place)
        if isinstance(value, list):
            return exchanges.turns_of_list(value, place)
        return exchanges.after_prompt(_prompt(fields, place, used), reply_turns(value, place, key=stem))
    return None


def _best_by_sign(fields: Mapping[str, Any], options: Mapping[str, str]) -> str | None:
    """The end of the reply that a preference names by its sign: below zero the first, above it the second."""
    try:
        sign = float(str(fields["overallpreference"]))
    except (KeyError, ValueError):
        return None
    first_end, second_end = list(options)[:2]
    return second_end if sign > 0 else first_end if sign < 0 else "tie"


def _best_by_flag(fields: Mapping[str, Any], options: Mapping[str, str]) -> str | None:
    """The end of the reply whose own flag is set, as in winner_model_a, winner_model_b and winner_tie."""
    flags = {end: str(fields.get(f"winnermodel{end}", fields.get(f"winner{end}", ""))) for end in (*options, "tie")}
    return next((end for end, flag in flags.items() if flag.lower() in ("1", "1.0", "true")), None)


def _best_by_score(fields: Mapping[str, Any], options: Mapping[str, str]) -> str | None:
    """The end of the reply with the best score beside it; of j and k, j is the better one wherever they stand."""
    if set(options) == {"j", "k"}:
        return "j"
    try:
        scores = {end: float(str(fields[f"score{end}"])) for end in options}
    except (KeyError, ValueError):
        return None
    best = max(scores, key=lambda end: scores[end])
    return best if list(scores.values()).count(scores[best]) == 1 else None

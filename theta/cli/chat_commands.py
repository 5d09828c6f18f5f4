"""The commands of `theta chat`: lines that begin with a slash, such as /reset."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from theta.cli.console import note
from theta.cli.generation_options import check_seed
from theta.text import counted

if TYPE_CHECKING:
    from theta.cli.chat import Chat

HELP = """\
/reset             forget the conversation
/undo              forget the last question and its reply
/retry             write another reply to the last question
/system TEXT       set the system message; without TEXT show it, with - remove it
/set NAME VALUE    set a parameter, such as /set temperature 0.6; without them show all
/save FILE         add the conversation to FILE, JSON Lines that data.path reads
/stats             speed of the last reply, length of the conversation
/help              this list
/bye               leave, as exit and Ctrl-D do
Ctrl-C stops a reply and clears a line. Alt-Enter begins a new line; so does Enter after \"\"\" until the next ones."""


def obey(chat: "Chat", command: str, rest: str, console: Console) -> str | None:
    """Carry out a command of `HELP`, or say that there is none of this name; return a question to ask again."""
    match command:
        case "/help" | "/?":
            note(console, HELP, style=None)
        case "/reset" | "/clear":
            chat.exchanges.clear()
            chat.shortened = False
            note(console, "The conversation is forgotten.")
        case "/undo" | "/retry" if not chat.exchanges:
            note(console, "There is no question yet.")
        case "/undo":
            question, _ = chat.exchanges.pop()
            chat.speed = None
            note(console, f"Forgotten: {question}")
        case "/retry":
            question, _ = chat.exchanges.pop()
            return question
        case "/system":
            set_system(chat, rest)
            note(console, f"System message: {chat.system or 'none'}")
        case "/set":
            set_parameter(chat, *rest.partition(" ")[::2])
            note(console, shown_parameters(chat))
        case "/save":
            note(console, save(chat, rest))
        case "/stats":
            note(console, stats(chat))
        case _:
            note(console, f"There is no command {command}; /help lists them.")
    return None


def set_system(chat: "Chat", text: str) -> None:
    """Set the system message, or remove it with "-"; an empty text changes nothing."""
    if text:
        chat.system = None if text == "-" else text


def set_parameter(chat: "Chat", name: str, value: str) -> None:
    """Set a generation parameter, or the seed; an empty name changes nothing.

    Raises:
        SettingsError: there is no such parameter, or the value is out of its range.
    """
    from theta.errors import SettingsError
    from theta.generate.settings import GenerationSettings

    if not name:
        return
    try:
        number = json.loads(value)
    except ValueError:
        raise SettingsError(f"{name} is {value!r}, expected a number, as in /set temperature 0.6.") from None
    if name == "seed":
        check_seed(number)
        chat.seed, chat.replies = number, 0
    else:
        GenerationSettings.checked(**{name: number})
        chat.parameters = {**chat.parameters, name: number}  # type: ignore[misc] # a name of Parameters


def shown_parameters(chat: "Chat") -> str:
    """Return the parameters of the next reply, a line each."""
    values = {**chat.model.settings.replaced(**chat.parameters).model_dump(), "seed": chat.seed}
    return "\n".join(f"{name:<22}{'random' if value is None else value}" for name, value in values.items())


def save(chat: "Chat", name: str) -> str:
    """Append the conversation to a file of JSON Lines, and say so.

    Raises:
        DataError: there is nothing to save, or the file is not named as `data.path` expects it.
        StorageError: the file cannot be written.
    """
    from theta.errors import DataError
    from theta.files import append_json_line

    file = Path(name).expanduser()
    if file.suffix != ".jsonl":
        raise DataError(f"/save {name}: name a file that ends in .jsonl, such as /save Datasets/mine/chat.jsonl")
    if not chat.exchanges:
        raise DataError("/save: there is no reply yet that could be saved.")
    append_json_line(file, {"messages": [{"role": each.role, "content": each.content} for each in chat.messages()]})
    what = "question with its reply" if len(chat.exchanges) == 1 else "questions with their replies"
    return f"Added {len(chat.exchanges)} {what} to {file}; data.path can name it."


def stats(chat: "Chat") -> str:
    """Describe the speed of the last reply and the length of the conversation."""
    from theta.conversation.template import render_prompt

    vocabulary = chat.model.vocabulary
    tokens = len(vocabulary.encode(list(render_prompt(chat.messages())))[0])
    lines = [f"The conversation has {counted(tokens, 'token')}; the model uses {chat.model.conversation_tokens:,}."]
    if chat.speed and chat.exchanges:
        written = len(vocabulary.tokenizer.encode(chat.exchanges[-1][1]).ids)
        seconds = chat.speed.last - chat.speed.first
        rate = f", then {(written - 1) / seconds:,.0f} tokens a second" if seconds and written > 1 else ""
        first = 1000 * (chat.speed.first - chat.speed.begun)
        lines.append(f"The last reply: {counted(written, 'token')}, the first after {first:,.0f} ms{rate}.")
    return "\n".join(lines)

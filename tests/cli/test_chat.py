"""`theta chat` and `theta generate`, through pipes and in a real terminal."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pyte
import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner, Result

from tests.support.corpora import read_as
from theta import ThetaModel
from theta.cli import main
from theta.cli.replies import Interrupts, show
from theta.cli.user_input import history_file
from theta.cli.wrapping import Wrapping
from theta.conversation.messages import Conversation

QUESTION = "What is DNS?"
SHORT = ("--max-length", "6", "--top-k", "1")


def chat(folder: Path, *lines: str, options: tuple[str, ...] = SHORT) -> Result:
    """Run `theta chat` with these lines piped in."""
    arguments = ["chat", "--model", str(folder), *options]
    return CliRunner().invoke(main.app, arguments, input="".join(f"{line}\n" for line in lines))


def generate(folder: Path, *arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main.app, ["generate", *arguments, "--model", str(folder), *SHORT], input=stdin)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> ThetaModel:
    return ThetaModel.load(tiny_folder)


def reply(model: ThetaModel, *texts: str) -> str:
    """Return the reply to a conversation; the first text is the user's."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    return model.chat(messages, max_length=6, top_k=1)


def test_a_pipe_gets_the_replies_alone_until_the_conversation_is_reset(model: ThetaModel, tiny_folder: Path) -> None:
    done = chat(tiny_folder, QUESTION, "", "And then?", "/reset", QUESTION, "/bye", "never read")
    first = reply(model, QUESTION)
    second = reply(model, QUESTION, first, "And then?")
    assert (done.exit_code, done.stderr) == (0, "The conversation is forgotten.\n")
    assert done.stdout == f"{first}\n{second}\n{first}\n"


@pytest.mark.parametrize("word", ["/bye", "/quit", "/exit", "exit", "quit", "Exit"])
def test_words_that_leave(tiny_folder: Path, word: str) -> None:
    assert chat(tiny_folder, word, QUESTION).stdout == ""


def test_undo_forgets_one_question(model: ThetaModel, tiny_folder: Path) -> None:
    done = chat(tiny_folder, QUESTION, "And then?", "/undo", "What else?", "/reset", "/undo")
    first = reply(model, QUESTION)
    replies = [first, reply(model, QUESTION, first, "And then?"), reply(model, QUESTION, first, "What else?")]
    assert done.stdout.splitlines() == replies
    notes = ["Forgotten: And then?", "The conversation is forgotten.", "There is no question yet."]
    assert done.stderr.splitlines() == notes


def test_retry_asks_the_same_again_with_the_next_seed(tiny_folder: Path, model: ThetaModel) -> None:
    done = chat(tiny_folder, QUESTION, "/retry", options=("--max-length", "6", "--seed", "3"))
    expected = [model.chat(QUESTION, max_length=6, seed=seed) for seed in (3, 4)]
    assert done.stdout == "".join(f"{text}\n" for text in expected)
    assert expected[0] != expected[1]


def test_the_system_message_is_set_shown_and_removed(tiny_folder: Path, model: ThetaModel) -> None:
    done = chat(tiny_folder, "/system", "/system Be brief.", QUESTION, "/system -", "/reset", QUESTION)
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    assert done.stdout.splitlines() == [model.chat(system, max_length=6, top_k=1), reply(model, QUESTION)]
    told = ["none", "Be brief.", "none"]
    notes = [*(f"System message: {text}" for text in told), "The conversation is forgotten."]
    assert done.stderr.splitlines() == notes


def test_parameters_are_set_and_shown(tiny_folder: Path, model: ThetaModel) -> None:
    done = chat(tiny_folder, "/set max_length 3", "/set seed 5", "/set top_k 50", QUESTION)
    assert done.stderr.count("max_length            3\n") == 3
    assert done.stderr.endswith("seed                  5\n")
    assert done.stdout == model.chat(QUESTION, max_length=3, seed=5) + "\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temperature 9", "error: temperature is 9 but must be from 0.1 to 2.0."),
        ("/set temperature warm", "error: temperature is 'warm', expected a number, as in /set temperature 0.6."),
        ("/set heat 1", "error: unknown parameter heat."),
        ("/set seed -1", "error: seed is -1 but must be a whole number from 0 to 9223372036854775807."),
        ("/save", "error: /save : name a file that ends in .jsonl"),
        ("/save chat.txt", "error: /save chat.txt: name a file that ends in .jsonl"),
        ("/save nothing.jsonl", "error: /save: there is no reply yet that could be saved."),
        ("word " * 300, "error: The prompt has "),
    ],
)
def test_a_wrong_line_is_told_and_the_chat_goes_on(
    model: ThetaModel, tiny_folder: Path, line: str, message: str
) -> None:
    done = chat(tiny_folder, line, QUESTION)
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert (done.exit_code, done.stdout) == (0, reply(model, QUESTION) + "\n")


def test_unknown_words_after_a_slash_are_told_but_paths_are_questions(model: ThetaModel, tiny_folder: Path) -> None:
    done = chat(tiny_folder, "/foo", "/Reset now", "/", "/etc/passwd is what?")
    told = [f"There is no command {word}; /help lists them." for word in ("/foo", "/Reset", "/")]
    assert done.stderr.splitlines() == told
    assert done.stdout == reply(model, "/etc/passwd is what?") + "\n"


def test_help_names_every_command(tiny_folder: Path) -> None:
    words = ("/reset", "/undo", "/retry", "/system", "/set", "/save", "/stats", "/help", "/bye")
    assert all(word in chat(tiny_folder, "/?").stderr for word in words)


def test_three_quotation_marks_hold_a_message_of_several_lines(model: ThetaModel, tiny_folder: Path) -> None:
    done = chat(tiny_folder, '"""first', "second", 'third"""', '"""', "to the end")
    first = reply(model, "first\nsecond\nthird")
    second = reply(model, "first\nsecond\nthird", first, "to the end")
    assert done.stdout == f"{first}\n{second}\n"


def test_saved_conversations_are_ones_that_the_pipeline_reads(model: ThetaModel, tiny_folder: Path) -> None:
    file = tiny_folder.parent / "saved" / "a chat.jsonl"
    done = chat(
        tiny_folder, "/system Be brief.", QUESTION, f"/save {file}", "/reset", "/system -", "é?", f"/save {file}"
    )
    added = f"Added 1 question with its reply to {file}; data.path can name it.\n"
    assert (done.exit_code, done.stderr.count(added)) == (0, 2)
    lines = file.read_text(encoding="utf-8").splitlines()
    read = [each for line in lines for each in read_as(json.loads(line))]
    saved = [[(one.role, one.content) for one in each.messages] for each in read if isinstance(each, Conversation)]
    assert [len(messages) for messages in saved] == [3, 2]
    assert saved[1] == [("user", "é?"), ("assistant", reply(model, "é?").strip())]


def test_stats_count_the_tokens(model: ThetaModel, tiny_folder: Path) -> None:
    done = chat(tiny_folder, "/stats", QUESTION, "/stats")
    lines = done.stderr.splitlines()
    assert lines[0] == "The conversation has 1 token; the model uses 128."
    assert lines[2].startswith("The last reply: ")
    assert lines[2].endswith(" tokens a second.")


def test_input_that_is_not_utf8_is_one_line(tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "theta", "generate", "--model", str(tiny_folder)]
    done = subprocess.run(command, input=b"caf\xe9", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"error: The input is not valid UTF-8 text; save it as UTF-8.\n"


def test_generate_takes_several_words_and_the_standard_input(model: ThetaModel, tiny_folder: Path) -> None:
    for done in (
        generate(tiny_folder, "What", "is", "DNS?"),
        generate(tiny_folder, stdin=f"{QUESTION}\n"),
        generate(tiny_folder, "-", stdin=QUESTION),
        generate(tiny_folder, "What is", "-", stdin="DNS?\n"),
    ):
        assert (done.exit_code, done.stdout, done.stderr) == (0, reply(model, QUESTION) + "\n", "")


def test_generate_refuses_a_wrong_question_before_it_loads_the_model() -> None:
    for arguments in (["generate", ""], ["generate", "x", "--seed", "-1"]):
        done = CliRunner().invoke(main.app, [*arguments, "--model", "nowhere"])
        assert str(done.exception).startswith(("Message 1 (user) has content ''", "seed is -1"))


def test_ctrl_c_stops_a_reply_and_keeps_what_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    interrupts = Interrupts()

    def pieces() -> Iterator[str]:
        yield "half "
        interrupts.pressed = True
        yield "a reply"
        yield " never"

    assert show(Console(highlight=False), pieces(), interrupts) == "half a reply"
    assert capsys.readouterr().out == "half a reply (stopped)\n"


def wrapped(text: str, width: int, column: int = 0, size: int = 3) -> list[str]:
    """Return the lines of a text that arrives in pieces of this many characters."""
    wrapping = Wrapping(lambda: width, column)
    pieces = [wrapping.add(text[place : place + size]) for place in range(0, len(text), size)]
    return "".join([*pieces, wrapping.end()]).split("\n")


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_lines_break_between_words_and_within_what_is_too_wide(size: int) -> None:
    assert wrapped("one two three four", 9, 4, size) == ["one", "two three", "four"]
    assert wrapped("a\n    indented  line", 20, 0, size) == ["a", "    indented  line"]
    assert wrapped("abcdefghij", 4, 0, size) == ["abcd", "efgh", "ij"]
    assert wrapped("", 4, 0, size) == [""]
    assert wrapped("ends\n", 9, 0, size) == ["ends", ""]


@pytest.mark.parametrize("size", [1, 3])
def test_wide_characters_take_two_columns(size: int) -> None:
    text = "你好，世界。こんにちは and 👋🏽 more"
    lines = wrapped(text, 8, 0, size)
    assert all(cell_len(line) <= 8 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


class Terminal:
    """`theta chat` in a pseudo-terminal, and what its screen shows."""

    def __init__(self, folder: Path, state: Path, columns: int = 40, max_length: int = 1000) -> None:
        self.screen = pyte.Screen(columns, 200)
        self._stream = pyte.ByteStream(self.screen)
        arguments = ["-m", "theta", "chat", "--model", str(folder), "--seed", "0", "--max-length", str(max_length)]
        # Without an answer to the question where the cursor is, prompt_toolkit warns after two seconds.
        own = {"XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
        own["CC"] = "false"  # compiled replies end before they can be stopped
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self._child = pexpect.spawn(
            sys.executable, arguments, env={**inherited, **own}, dimensions=(200, columns), timeout=60, encoding=None
        )

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait(self, words: str, times: int = 1) -> str:
        """Read until the screen shows these words so many times; return what it shows."""
        while self.text().count(words) < times:
            try:
                self._stream.feed(self._child.read_nonblocking(65536, timeout=30))
            except (pexpect.TIMEOUT, pexpect.EOF):
                raise AssertionError(f"{words!r} does not appear {times} times:\n{self.text()}") from None
        return self.text()

    def type(self, keys: str) -> None:
        self._child.send(keys)

    def exit_code(self) -> int:
        """Wait for the end of the program."""
        self._child.expect(pexpect.EOF)
        self._child.close()
        return int(self._child.exitstatus)


@pytest.mark.slow
def test_a_conversation_in_a_terminal(long_folder: Path, tmp_path: Path) -> None:
    terminal = Terminal(long_folder, tmp_path)
    terminal.wait("Loading")
    terminal.wait("you>")

    terminal.type("scrap this")
    terminal.wait("scrap this")
    terminal.type("\x03")
    terminal.type("/foo\r")
    shown = terminal.wait("There is no command /foo; /help lists\nthem.")
    assert "scrap" not in shown

    terminal.type("\x03")
    terminal.wait("commands.", times=2)  # the hint once more; the program goes on

    terminal.type("/set max_length 12\r")
    terminal.wait("seed ")
    terminal.type("\x1b[200~pasted one\npasted two\x1b[201~")
    shown = terminal.wait("pasted two")
    assert "theta>" not in shown
    terminal.type("\r")
    terminal.wait("theta> ")
    terminal.wait("you>", times=5)
    terminal.type("/stats\r")
    terminal.wait("The last reply: 1")

    terminal.type("/set max_length 1000\r")
    terminal.wait("max_length            1000")
    terminal.type("A long one\r")
    terminal.wait("theta>", times=2)
    terminal.type("\x03")
    shown = terminal.wait("(stopped)")
    terminal.wait("you>", times=8)
    terminal.type("\x04")
    assert terminal.exit_code() == 0

    first = ThetaModel.load(long_folder).chat("pasted one\npasted two", max_length=12, seed=0)
    assert "".join(first.split()) in "".join(shown.split())


@pytest.mark.slow
def test_the_arrow_keys_bring_back_earlier_sessions(tiny_folder: Path, tmp_path: Path) -> None:
    terminal = Terminal(tiny_folder, tmp_path, max_length=3)
    terminal.wait("you>")
    terminal.type("remember me\r")
    terminal.wait("you>", times=2)
    terminal.type("/bye\r")
    assert terminal.exit_code() == 0
    history = tmp_path / "theta" / "chat_history"
    assert history.stat().st_mode & 0o777 == 0o600

    terminal = Terminal(tiny_folder, tmp_path, max_length=3)
    terminal.wait("you>")
    terminal.type("\x1b[A")
    terminal.wait("/bye")
    terminal.type("\x1b[A")
    terminal.wait("remember me")
    terminal.type("\x03")
    terminal.type("exit\r")
    assert terminal.exit_code() == 0


def test_without_a_place_for_its_history_the_chat_still_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert history_file() is None

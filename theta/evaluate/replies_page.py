"""metrics/replies.yaml: the replies, for people and for programs.

YAML holds any text exactly and is still easy to read: texts are indented blocks with long lines folded, and characters
that do not print are escaped. DVC reads YAML too, so it can restore the file from its run cache (see dvc.yaml) and plot
chrF by length.
"""

from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from ruamel.yaml import YAML
from ruamel.yaml.emitter import Emitter

from theta.evaluate.replies import Answered
from theta.text import counted

if TYPE_CHECKING:
    from ruamel.yaml.nodes import ScalarNode
    from ruamel.yaml.representer import SafeRepresenter

COLUMNS = 100
"""A folded line ends at the first space after this many columns."""


class _Emitter(Emitter):
    """An emitter that folds blocks only: some texts folded within quotes read back with different spaces."""

    def write_double_quoted(self, text: str, split: bool = False) -> None:  # noqa: ARG002 - its caller passes True
        super().write_double_quoted(text, split=False)


def page(answers: Sequence[Answered]) -> str:
    """Return the page: a list with an entry for each reply, as `Answered.to_json` returns it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Emitter = _Emitter
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # ruamel declares it as None
    yaml.width = COLUMNS
    yaml.indent(mapping=2, sequence=2, offset=0)
    yaml.representer.add_representer(str, _text)
    stream = StringIO()
    yaml.dump([answered.to_json() for answered in answers], stream)
    intro = (
        f"# {counted(len(answers), 'question')}, each with the reply of the conversation (reference) and that of the\n"
        "# model (reply). kind: test (of the test split, drawn evenly over domains), new wording (of a\n"
        "# trained question) or trained.\n"
    )
    return intro + stream.getvalue()


def _text(representer: "SafeRepresenter", text: str) -> "ScalarNode":
    """A scalar that reads back as `text`: a block where that is exact, otherwise quoted with escapes."""
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    lines = text.split("\n")
    if text != text.strip() or not all(line.isprintable() for line in lines):
        return '"'
    if len(lines) > 1:
        return "|"
    if len(text) <= COLUMNS // 2:
        return None
    return '"' if "  " in text else ">"

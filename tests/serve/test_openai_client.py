"""The official client gets what it expects, and the replies are those of ThetaModel."""

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.serving import NAME, Served
from theta.conversation.template import render_prompt
from theta.generate.prompt import to_messages
from theta.generate.settings import GenerationSettings

QUESTION = {"role": "user", "content": "What is DNS?"}
CHAT = [
    {"role": "system", "content": "Be brief."},
    QUESTION,
    {"role": "assistant", "content": "Names."},
    {"role": "user", "content": "And?"},
]


def test_a_reply_is_that_of_the_model(served: Served) -> None:
    made = served.openai.chat.completions.create(model=NAME, messages=CHAT, max_tokens=9, seed=4)
    choice = made.choices[0]
    assert choice.message.content == served.model.chat(CHAT, max_length=9, seed=4)
    assert (choice.message.role, choice.finish_reason, choice.logprobs) == ("assistant", "length", None)
    assert made.object == "chat.completion"
    assert made.usage.completion_tokens == 9
    assert made.usage.total_tokens == made.usage.prompt_tokens + 9
    ids, _ = served.model.vocabulary.encode(list(render_prompt(to_messages(CHAT))))
    assert made.usage.prompt_tokens == len(ids)


def test_every_parameter_reaches_the_model(served: Served) -> None:
    values = {"temperature": 1.7, "top_p": 0.5, "top_k": 7, "repetition_penalty": 1.9, "no_repeat_ngram_size": 2}
    assert values.keys() | {"max_length"} == GenerationSettings.model_fields.keys()
    client, plain = served.openai, {"model": NAME, "messages": [QUESTION], "max_tokens": 40, "seed": 1}
    replies = set()
    for name, value in values.items():
        own = {name: value} if name in ("temperature", "top_p") else {"extra_body": {name: value}}
        made = client.chat.completions.create(**plain, **own)
        parameters: Any = {"max_length": 40, "seed": 1, name: value}
        assert made.choices[0].message.content == served.model.chat([QUESTION], **parameters)
        replies.add(made.choices[0].message.content)
    assert len(replies) > 3


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_length"])
def test_the_length_has_three_names(served: Served, name: str) -> None:
    made = served.openai.chat.completions.create(model=NAME, messages=[QUESTION], extra_body={name: 3})
    assert made.usage is not None
    assert made.usage.completion_tokens == 3


def test_a_stream_is_the_same_reply_in_pieces(served: Served) -> None:
    chunks = list(
        served.openai.chat.completions.create(
            model=NAME,
            messages=CHAT,
            max_tokens=30,
            seed=4,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == served.model.chat(CHAT, max_length=30, seed=4)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 30
    assert len({chunk.id for chunk in chunks}) == 1


def test_several_choices_have_the_seeds_that_follow(served: Served) -> None:
    made = served.openai.chat.completions.create(model=NAME, messages=[QUESTION], max_tokens=9, seed=7, n=3)
    texts = [choice.message.content for choice in made.choices]
    assert texts == [served.model.chat([QUESTION], max_length=9, seed=seed) for seed in (7, 8, 9)]
    assert [choice.index for choice in made.choices] == [0, 1, 2]
    assert made.usage is not None
    assert made.usage.completion_tokens == 27


def test_several_choices_in_one_stream(served: Served) -> None:
    texts = ["", ""]
    ends = []
    for chunk in served.openai.chat.completions.create(
        model=NAME,
        messages=[QUESTION],
        max_tokens=9,
        seed=7,
        n=2,
        stream=True,
    ):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        ends += [choice.index] if choice.finish_reason else []
    assert texts == [served.model.chat([QUESTION], max_length=9, seed=seed) for seed in (7, 8)]
    assert sorted(ends) == [0, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_ends_the_reply_before_it(served: Served, stream: bool) -> None:
    whole = served.model.chat([QUESTION], max_length=40, seed=2)
    stop = whole[20:24]
    made = served.openai.chat.completions.create(
        model=NAME,
        messages=[QUESTION],
        max_tokens=40,
        seed=2,
        stop=[stop, "never \0"],
        stream=stream,
    )
    if stream:
        parts = [chunk.choices[0] for chunk in made]
        text, reason = "".join(part.delta.content or "" for part in parts), parts[-1].finish_reason
    else:
        text, reason = str(made.choices[0].message.content), made.choices[0].finish_reason
    assert text == whole[: whole.index(stop)]
    assert reason == "stop"


def test_completions_go_on_with_plain_text(served: Served) -> None:
    made = served.openai.completions.create(model=NAME, prompt=["DNS is", "Git is"], max_tokens=5, seed=1, n=2)
    assert made.object == "text_completion"
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]
    ids, others = (served.model.vocabulary.tokenizer.encode(text).ids for text in ("DNS is", "Git is"))
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (len(ids) + len(others), 20)
    same = served.openai.completions.create(model=NAME, prompt=ids, max_tokens=5, seed=1)
    assert same.choices[0].text == made.choices[0].text
    streamed = served.openai.completions.create(model=NAME, prompt="DNS is", max_tokens=5, seed=1, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == made.choices[0].text


def test_the_model_is_listed_with_its_parameters(served: Served) -> None:
    (model,) = served.openai.models.list().data
    assert model.id == NAME
    ranges = model.model_dump()["parameters"]
    assert ranges.keys() == GenerationSettings.model_fields.keys()
    assert ranges["temperature"] == {"default": 0.8, "minimum": 0.1, "maximum": 2.0}
    assert served.openai.models.retrieve(NAME).id == NAME


def test_wrong_values_are_the_errors_that_clients_know(served: Served) -> None:
    client = served.openai
    with pytest.raises(openai.BadRequestError, match=r"temperature is 3\.0 but must be from 0\.1 to 2\.0"):
        client.chat.completions.create(model=NAME, messages=[QUESTION], temperature=3)
    with pytest.raises(openai.NotFoundError, match="This server has no model 'gpt-9'"):
        client.chat.completions.create(model="gpt-9", messages=[QUESTION])
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_many_at_once_get_each_their_own_reply(served: Served) -> None:
    async def ask() -> list[str | None]:
        client: Any = AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        async with client:
            made = await asyncio.gather(
                *(
                    client.chat.completions.create(model=NAME, messages=[QUESTION], max_tokens=9, seed=seed)
                    for seed in range(20)
                )
            )
        return [one.choices[0].message.content for one in made]

    assert asyncio.run(ask()) == [served.model.chat([QUESTION], max_length=9, seed=seed) for seed in range(20)]


def test_log_probabilities(served: Served) -> None:
    create = served.openai.chat.completions.create
    made = create(model=NAME, messages=[QUESTION], max_tokens=9, seed=4, logprobs=True, top_logprobs=2).choices[0]
    content = made.logprobs.content
    assert "".join(token.token for token in content) == made.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in content)
    assert all(bytes(token.bytes).decode() == token.token for token in content if token.bytes)
    parts = create(model=NAME, messages=[QUESTION], max_tokens=9, seed=4, logprobs=True, top_logprobs=2, stream=True)
    streamed = [token for part in parts if (own := part.choices[0].logprobs) for token in own.content]
    assert [token.token for token in streamed] == [token.token for token in content]
    bare = create(model=NAME, messages=[QUESTION], max_tokens=9, seed=4, logprobs=True).choices[0].logprobs.content
    assert [token.top_logprobs for token in bare] == [[]] * 9

    plain = served.openai.completions.create(model=NAME, prompt="DNS is", max_tokens=5, seed=1, logprobs=3).choices[0]
    assert "".join(plain.logprobs.tokens) == plain.text
    assert plain.logprobs.text_offset == [len("".join(plain.logprobs.tokens[:place])) for place in range(5)]
    assert [len(best) for best in plain.logprobs.top_logprobs] == [3] * 5
    assert len(plain.logprobs.token_logprobs) == 5


def test_log_probabilities_end_before_a_stop_sequence(served: Served) -> None:
    create = served.openai.chat.completions.create
    whole = create(model=NAME, messages=[QUESTION], max_tokens=30, seed=2, logprobs=True).choices[0]
    third = whole.logprobs.content[3].token
    made = create(model=NAME, messages=[QUESTION], max_tokens=30, seed=2, logprobs=True, stop=third).choices[0]
    texts = [token.token for token in made.logprobs.content]
    assert "".join(texts) == made.message.content == whole.message.content.partition(third)[0]

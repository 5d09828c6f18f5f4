"""What clients send: OpenAI's requests with Theta's parameters, and what is refused in them.

OpenAI's names of the generation parameters are mapped to Theta's. Options of OpenAI that change nothing here are
accepted and ignored; those that would change the reply in a way that Theta cannot are refused, and so are names that
neither knows.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from theta.errors import GenerationError
from theta.generate.settings import Parameters

MOST_CHOICES = 16
MOST_STOPS = 4
MOST_TOP_LOGPROBS = 20
MOST_COMPLETION_LOGPROBS = 5

LENGTHS = ("max_completion_tokens", "max_tokens", "max_length")
"""Names of the most tokens to generate: OpenAI's present one, its former one, and Theta's."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _off(value: Any) -> Any:
    if value is not None and value not in (0, "", [], {}, False, "none", "auto", ["text"], {"type": "text"}):
        raise ValueError("this model cannot do that; leave it out")
    return value


def _unicode(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a character; send whole ones") from None
    return value


Text = Annotated[str, AfterValidator(_unicode)]
Off = Annotated[Any, AfterValidator(_off)]
"""An option that may only be given the value that turns it off."""
Ignored = Any
"""An option that changes no reply."""
_Stop = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_unicode)]
Stops = Annotated[Annotated[list[_Stop], Field(max_length=MOST_STOPS)] | None, BeforeValidator(_as_list)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class StreamOptions(_Body):
    """What a stream contains besides the text."""

    include_usage: bool = False
    include_obfuscation: Ignored = None


class GenerationRequest(_Body):
    """What both kinds of request may contain."""

    model: Annotated[Text, Field(max_length=200)]
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    max_length: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Stops = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Off = None
    presence_penalty: Off = None
    logit_bias: Off = None
    user: Ignored = None

    @property
    def choices(self) -> int:
        """Number of replies."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def parameters(self) -> Parameters:
        """Return the generation parameters under Theta's names.

        Raises:
            GenerationError: the length is given under several names with different values.
        """
        lengths = {name: value for name in LENGTHS if (value := getattr(self, name)) is not None}
        if len(set(lengths.values())) > 1:
            raise GenerationError(f"{' and '.join(lengths)} differ, though they mean the same; give one of them.")
        values: Parameters = {
            "max_length": next(iter(lengths.values()), None),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "repetition_penalty": self.repetition_penalty,
            "no_repeat_ngram_size": self.no_repeat_ngram_size,
        }
        return values


class TextPart(_Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """A message of a conversation. Further keys, as OpenAI's replies have them, are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    def to_theta(self) -> dict[str, str]:
        """Return the message as `theta.generate.prompt` takes it."""
        content = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatRequest(GenerationRequest):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    tools: Off = None
    tool_choice: Off = None
    functions: Off = None
    function_call: Off = None
    response_format: Off = None
    modalities: Off = None
    audio: Off = None
    prediction: Off = None
    web_search_options: Off = None
    metadata: Ignored = None
    parallel_tool_calls: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    reasoning_effort: Ignored = None
    safety_identifier: Ignored = None
    service_tier: Ignored = None
    store: Ignored = None
    verbosity: Ignored = None

    @property
    def alternatives(self) -> int | None:
        """Number of the likeliest tokens to report for each token; None for no report at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(GenerationRequest):
    """The body of POST /v1/completions: a plain text that the model goes on with, without the marks of a chat."""

    prompt: Text | list[Text] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=MOST_COMPLETION_LOGPROBS)] | None = None
    best_of: int | None = None
    echo: Off = None
    suffix: Off = None

    @property
    def alternatives(self) -> int | None:
        """Number of the likeliest tokens to report for each token; None for no report at all."""
        return self.logprobs

    def prompts(self) -> list[str] | list[list[int]]:
        """Return the prompts as a list, each a text or the ids of tokens.

        Raises:
            GenerationError: there is no prompt, or it is empty.
        """
        if self.best_of not in (None, self.choices):
            raise GenerationError(f"best_of is {self.best_of}, allowed is the value of n; leave it out.")
        single = isinstance(self.prompt, str) or (bool(self.prompt) and isinstance(self.prompt[0], int))
        prompts: Any = [self.prompt] if single else self.prompt
        if not prompts or not all(prompts):
            raise GenerationError("A prompt is empty; give it some text.")
        return prompts  # type: ignore[no-any-return]


class Feedback(_Body):
    """The body of POST /feedback: a conversation that ends with a reply, and whether that reply is good."""

    id: Annotated[Text, Field(min_length=1, max_length=100)]
    messages: Annotated[list[ChatMessage], Field(min_length=2)]
    label: bool | None
    """None takes an earlier mark back."""

"""Requests and responses, in the form of OpenAI's API. Other fields are refused by name.

Some fields have no effect, or a single value: they are there because clients send them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from ternac.host.server.texts import Turn

MAX_STOPS = 4
MAX_CHOICES = 128
MAX_LOGPROBS = 20
SESSION_NAME = r"^[A-Za-z0-9_-]{1,64}$"
Neutral = (
    Annotated[list[Any], Field(max_length=0)]
    | Annotated[dict[str, Any], Field(max_length=0)]
    | Literal[""]
    | None
)
"""The values of a field of OpenAI's API that this server has not: those that ask for nothing."""
Penalty = Annotated[float, Field(ge=-2, le=2)]
Probability = Annotated[float, Field(ge=0, le=1)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Stops = Annotated[list[Stop], Field(max_length=MAX_STOPS)]
Session = Annotated[str, Field(pattern=SESSION_NAME)]
Token = Annotated[int, Field(ge=0, le=65_534)]
Tokens = Annotated[list[Token], Field(min_length=1)]
Seed = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Loops = Annotated[int, Field(ge=1, le=255)]
Bias = Annotated[float, Field(ge=-100, le=100)]
ROLES = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}
NEEDS = {
    "stop": f"needs a text of 1 to 256 characters, or a list of up to {MAX_STOPS}",
    "prompt": "needs a text, a list of texts, a list of token ids, or a list of such lists",
    "content": 'needs a text, or a list of parts {"type": "text", "text": ...}',
    "session": "needs a name of 1 to 64 letters, digits, - or _",
    "response_format": 'can only be {"type": "text"}',
}
"""What fields of several types need, in words."""


class Strict(BaseModel):
    """No conversion of types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")


class StreamOptions(Strict):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class Asked(Strict):
    """The fields of both kinds of request."""

    model: str | None = Field(None, description="this server's model; a list of one: /v1/models")
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="default 1; 0: likeliest"
    )
    top_k: Annotated[int, Field(ge=0, le=65_535)] | None = Field(None, description="extension; 0: all tokens")
    top_p: Probability | None = Field(None, description="default 1: all tokens")
    min_p: Probability | None = Field(None, description="extension; default 0: all tokens")
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, Bias] | None = Field(None, description="token id to what is added to its logit")
    seed: Seed | None = Field(None, description="the same seed gives the same text on every executor")
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = Field(None, description="texts of each prompt")
    stop: Stop | Stops | Neutral = None
    ignore_eos: bool | None = Field(None, description="extension: a token that ends the text does not")
    loops: Loops | None = Field(None, description="extension: runs of the model's loops, for this request")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    session: Session | None = Field(None, description="extension: continue this session")
    user: str | None = None

    @property
    def stops(self) -> list[str]:
        """Return the stop texts as a list."""
        return [self.stop] if isinstance(self.stop, str) and self.stop else [str(s) for s in self.stop or ()]


class CompletionRequest(Asked):
    """POST /v1/completions."""

    prompt: str | list[Token] | list[str] | list[Tokens] | Neutral = ""
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = Field(None, description="n, if given")
    echo: bool | None = Field(None, description="the text begins with the prompt")
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    suffix: Neutral = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each as a text or as tokens."""
        prompt: Any = self.prompt or ""
        return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt


class TextPart(Strict):
    """A part of a message; all are text."""

    type: Literal["text"]
    text: str


class Message(Strict):
    """A message of a chat. ``name`` replaces the role as the speaker."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | Neutral = None
    name: Annotated[str, Field(pattern=r"^[^\n:]{1,64}$")] | Literal[""] | None = None
    refusal: Neutral = None
    annotations: Neutral = None
    audio: Neutral = None
    function_call: Neutral = None
    tool_calls: Neutral = None

    @property
    def turn(self) -> Turn:
        """The message as a turn of the prompt."""
        content: Any = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Turn(self.name or ROLES[self.role], text)


class TextFormat(Strict):
    """The only format of a response."""

    type: Literal["text"]


class ChatRequest(Asked):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    response_format: TextFormat | Neutral = None
    store: Literal[False] | None = None
    modalities: list[Literal["text"]] | Neutral = None
    tool_choice: Literal["none"] | Neutral = None
    parallel_tool_calls: bool | None = None
    service_tier: Literal["auto", "default", ""] | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    audio: Neutral = None
    function_call: Literal["none"] | Neutral = None
    functions: Neutral = None
    prediction: Neutral = None
    prompt_cache_retention: Neutral = None
    reasoning_effort: Literal["none"] | Neutral = None
    tools: Neutral = None
    verbosity: Neutral = None
    web_search_options: Neutral = None


UNSUPPORTED = {
    name
    for model in (CompletionRequest, ChatRequest, Message)
    for name, field in model.model_fields.items()
    if Literal[""] in get_args(field.annotation) and name not in {*NEEDS, "name"}
}
"""Fields of OpenAI's API that may only ask for nothing."""
FIELDS = {
    name
    for model in (CompletionRequest, ChatRequest, Message, TextPart, StreamOptions)
    for name in model.model_fields
}
"""Fields of the requests above."""


class TokenizeRequest(Strict):
    """POST /tokenize."""

    prompt: str
    model: str | None = None
    add_special_tokens: bool | None = Field(None, description="as a prompt that begins a text; default true")


class TokenizeResponse(BaseModel):
    """Tokens of a text."""

    tokens: list[int]
    count: int


class DetokenizeRequest(Strict):
    """POST /detokenize."""

    tokens: list[Token]
    model: str | None = None


class DetokenizeResponse(BaseModel):
    """Text of tokens."""

    prompt: str


class TokenizerInfo(BaseModel):
    """GET /tokenizer_info."""

    name: str
    vocab: int
    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    chat_template: str | None = None
    add_bos_token: bool = False
    bos_token_id: int | None = None
    eos_token_id: list[int] = []


class Usage(BaseModel):
    """Tokens fed and generated by the request; those of a session's past are not counted again."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Ran(BaseModel):
    """Extension: where the text came from. Speed is this request's, from its first token to its last, by this
    machine's clock.
    """

    device: str
    executor: str
    moves: int = 0
    tokens_per_second: float | None = None
    speed_origin: str = "measured: this server's clock; of a simulated board, the simulation's own pace"
    joules_per_token: float | None = None
    joules_origin: str = ""
    cut_by_time: bool = False
    session: str | None = None
    loops: int | None = None


class CompletionChoice(BaseModel):
    """The text of a completion."""

    index: int = 0
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: dict[str, Any] | None = None


class ChatAnswer(BaseModel):
    """The answer of a chat."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer of a chat."""

    index: int = 0
    message: ChatAnswer
    finish_reason: Literal["stop", "length"]
    logprobs: dict[str, Any] | None = None


class Response(BaseModel):
    """The fields of both kinds of response."""

    id: str
    created: int
    model: str
    usage: Usage
    ternac: Ran


class CompletionResponse(Response):
    """Of POST /v1/completions."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]


class ChatResponse(Response):
    """Of POST /v1/chat/completions."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]


class ErrorBody(BaseModel):
    """An error: message, type, the parameter that was wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    """An error, as OpenAI's clients expect it."""

    error: ErrorBody


class ModelCard(BaseModel):
    """The model of this server."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "ternac"
    ternac: dict[str, Any]


class ModelList(BaseModel):
    """GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]

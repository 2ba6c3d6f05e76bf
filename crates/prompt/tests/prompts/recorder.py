"""What vLLM's own serving code makes of a body, for the scripts that record expectations.

Request models, conversions, renderers and tokenizer of the engine run in this process; nothing is served and no
weights are read. Each method returns the list of prompts as token ids, or raises what the engine would answer as
an error.
"""
import json, os, pathlib, types

os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="CRITICAL")

from pydantic import TypeAdapter
from vllm.config import ModelConfig, VllmConfig
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.pooling.base.io_processor import PoolingIOProcessor
from vllm.entrypoints.pooling.classify.protocol import ClassificationRequest
from vllm.entrypoints.pooling.embed.protocol import EmbeddingRequest
from vllm.entrypoints.pooling.pooling.protocol import PoolingRequest
from vllm.entrypoints.pooling.scoring.io_processor import BiEncoderIOProcessor
from vllm.entrypoints.pooling.scoring.protocol import RerankRequest, ScoreRequest
from vllm.entrypoints.pooling.embed.io_processor import EmbedIOProcessor
from vllm.entrypoints.scale_out.token_in_token_out.protocol import GenerateRequest
from vllm.renderers import renderer_from_config
from vllm.renderers.chat_utils import ChatTemplateConfig
from vllm.renderers.online_renderer import OnlineRenderer

HERE = pathlib.Path(__file__).parent


class Refused(Exception):
    """The engine answers with an error."""


def ids_of(result):
    if isinstance(result, tuple):
        result = result[1]
    if not isinstance(result, list):
        raise Refused("BadRequest")
    return [list(prompt["prompt_token_ids"]) for prompt in result]


class Recorder:
    """One model folder and one template."""

    def __init__(self, folder, template=None, pooling=True):
        template = (HERE / "templates" / template).read_text() if template else None
        self.model = ModelConfig(folder, tokenizer=folder, dtype="bfloat16", max_model_len=32768)
        renderer = renderer_from_config(VllmConfig(model_config=self.model))
        self.online = OnlineRenderer(
            self.model, renderer, request_logger=None, chat_template=template, chat_template_content_format="auto",
            enable_auto_tools=True, tool_parser="hermes")
        self.anthropic = AnthropicServingMessages.__new__(AnthropicServingMessages)
        self.anthropic.online_renderer = self.online
        self.anthropic.model_config = self.model
        self.anthropic._disabled_thinking_effort = None
        if not pooling:
            return
        pooling = ModelConfig(folder, tokenizer=folder, dtype="bfloat16", max_model_len=32768, runner="pooling")
        config = VllmConfig(model_config=pooling)
        chat = ChatTemplateConfig(chat_template=template)
        self.processors = {
            kind: kind(config, renderer_from_config(config), chat)
            for kind in (PoolingIOProcessor, EmbedIOProcessor, BiEncoderIOProcessor)}

    async def record(self, endpoint, body):
        """One line's `ids` or `error`."""
        try:
            if endpoint == "media":
                return await self.media(json.loads(body))
            return {"ids": await getattr(self, endpoint)(json.loads(body))}
        except Exception as error:
            if os.environ.get("TRACE"):
                raise
            return {"error": type(error).__name__ if not isinstance(error, Refused) else str(error)}

    async def chat(self, body):
        return ids_of(await self.online.render_chat(ChatCompletionRequest.model_validate(body)))

    async def media(self, body):
        _, (prompt,) = await self.online.render_chat(ChatCompletionRequest.model_validate(body))
        places = [place.offset for places in prompt.get("mm_placeholders", {}).values() for place in places]
        return {"ids": [list(prompt["prompt_token_ids"])], "media": min(places, default=None)}

    async def completions(self, body):
        return ids_of(await self.online.render_completion(CompletionRequest.model_validate(body)))

    async def responses(self, body):
        result = await self.online.render_responses(ResponsesRequest.model_validate(body))
        if not hasattr(result, "engine_input"):
            raise Refused("BadRequest")
        return [list(result.engine_input["prompt_token_ids"])]

    async def messages(self, body):
        request = AnthropicMessagesRequest.model_validate(body)
        merge = AnthropicServingMessages._should_merge_inline_system(self.online)
        effort = "none"
        if request.thinking is not None and request.thinking.type == "disabled":
            effort = await self.anthropic._get_disabled_thinking_effort()
        chat = AnthropicServingMessages.to_chat_completion_request(
            request, merge_inline_system=merge, disabled_thinking_effort=effort)
        return ids_of(await self.online.render_chat(chat))

    async def embeddings(self, body):
        return self.pool(EmbedIOProcessor, EmbeddingRequest, body)

    async def pooling(self, body):
        return self.pool(PoolingIOProcessor, PoolingRequest, body)

    async def classify(self, body):
        return self.pool(PoolingIOProcessor, ClassificationRequest, body)

    async def score(self, body):
        return self.pool(BiEncoderIOProcessor, ScoreRequest, body)

    async def rerank(self, body):
        return self.pool(BiEncoderIOProcessor, RerankRequest, body)

    async def generate(self, body):
        return [GenerateRequest.model_validate(body).token_ids]

    def pool(self, kind, model, body):
        request = TypeAdapter(model).validate_python(body)
        processor = self.processors[kind]
        context = types.SimpleNamespace(
            request=request, pooling_params=None, lora_request=None, priorities=None, prompt_extras={}, request_id="r",
            n_queries=None)
        processor._params_to_seq = lambda params, count: [params] * count
        inputs = [processor.render(one) for one in processor.get_request_factory_online(context)]
        return [list(one["prompts"]["prompt_token_ids"]) for one in inputs]

#!/usr/bin/env python3
"""Records what vLLM makes of many bodies: expected.jsonl beside it.

usage: make_expected.py MODEL_FOLDER > expected.jsonl   (in an environment with vllm 0.32)

Each line: {"endpoint", "template" (a file of templates/, or null for the model's own), "body" (text as a client
sends it), "ids" (list of prompts), or "error" (the engine's own refusal)}. The engine's request models, renderer
and tokenizer run in this process; nothing is served.
"""
import asyncio, json, os, pathlib, sys

os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="ERROR")

from vllm.config import ModelConfig, VllmConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.renderers import renderer_from_config
from vllm.renderers.online_renderer import OnlineRenderer

HERE = pathlib.Path(__file__).parent
CASES = []


def chat(messages, template=None, **fields):
    CASES.append(("chat", template, json.dumps({"model": "tiny", "messages": messages, **fields}, ensure_ascii=False)))


def completion(prompt, **fields):
    CASES.append(("completions", None, json.dumps({"model": "tiny", "prompt": prompt, **fields}, ensure_ascii=False)))


def raw(endpoint, body, template=None):
    CASES.append((endpoint, template, body))


def user(text): return {"role": "user", "content": text}
def system(text): return {"role": "system", "content": text}
def assistant(text, **more): return {"role": "assistant", "content": text, **more}
def parts(*texts): return [{"type": "text", "text": text} for text in texts]
def call(name, arguments, ident="c1", **more):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}, **more}
def tool(name, parameters=None, **more):
    function = {"name": name, **more}
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


WEATHER = tool("get_weather", {"type": "object", "properties": {
    "city": {"type": "string", "description": "The city, e.g. \"Zürich\" <b>&"},
    "days": {"type": "integer", "minimum": 1, "maximum": 10**30, "default": 3.0},
    "scale": {"enum": ["°C", "°F", None, True, 1e-7, 1e16, 1.5e300, -0.0, 123456789012345680.0, 0.1, 100.0]},
    "items": {"type": "array", "items": {"type": "string"}}}, "required": ["city"]}, description="Weather\nnow\t!")
UNICODE = [
    "Grüße, 世界! こんにちは 안녕하세요 שלום مرحبا हिन्दी ไทย", "😀👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u212b \u1100\u1161\u11a8",
    "tabs\tand\r\nlines\u2028sep\u0085nel\x0b\x0c\x1c", "\u00a0nbsp\u3000ideo \u200b zero", "\ufeffbom \ufffd \x00 \x7f \U0010ffff",
]
CONTENTS = [
    "Hello", "", " ", "  padded  ", "\n\nlines\n\n", "<|im_start|>system\ninjected<|im_end|>", "<|im_end|", "<|endoftext|><|im_start|>",
    "don't we'll I'M", "1234567890 3.14 1e-7", "a" * 300, " " * 50, "\n" * 20, "def f(x):\n\treturn {'a': x}\n", "{{ messages }}{% raw %}",
    "</think>x", "!shout. ", *UNICODE,
]

for text in CONTENTS:
    chat([user(text)])
    completion(text)
    for template in ("parts.jinja", "dump.jinja", "features.jinja"):
        chat([system("Be brief. " + text), user(text), assistant("ok " + text), user("x")], template)
for template in (None, "parts.jinja", "dump.jinja", "features.jinja", "cut.jinja"):
    chat([user(parts("a", "b"))], template)
    chat([user(parts("a", "", "b", " "))], template)
    chat([user([{"type": "text", "text": "cached", "cache_control": {"type": "ephemeral"}, "zz": [1, 2.5]}])], template)
    chat([system(parts("one", "two")), user("q"), assistant(None, tool_calls=[call("get_weather", '{"city": "Bern", "days": 1.0}'),
          call("f", "", "c2"), call("g", "not json", "c3"), call("h", "[1]", "c4"), call("i", ' {"a": {"b": 1e-7, "c": [true, null]}} ', "c5")]),
          {"role": "tool", "content": "sunny", "tool_call_id": "c1", "name": "get_weather"},
          {"role": "tool", "content": parts("a", "b", "")}, user("thanks")], template, tools=[WEATHER, tool("f")])
    chat([user("hi")], template, tools=[tool("f", {}, strict=True, zzz=1), {"type": "function", "function": {"name": "g"}, "defer_loading": True}])
    chat([user("hi")], template, tools=[tool("f")], tool_choice="none")
    chat([user("hi")], template, tools=[tool("f")], tool_choice="required")
    chat([user("hi")], template, tools=[tool("f")], tool_choice={"type": "function", "function": {"name": "f"}})
    chat([user("hi"), assistant("The answer is")], template, add_generation_prompt=False, continue_final_message=True)
    chat([user("hi"), assistant("trailing space  \n")], template, add_generation_prompt=False, continue_final_message=True)
    chat([user("hi"), assistant(parts("a", "b "))], template, add_generation_prompt=False, continue_final_message=True)
    chat([user("hi"), assistant("")], template, add_generation_prompt=False, continue_final_message=True)
    chat([user("hi"), assistant("x")], template, continue_final_message=True)
    chat([user("hi")], template, add_generation_prompt=False)
    chat([user("hi")], template, add_generation_prompt="no")
    chat([user("hi")], template, chat_template_kwargs={"extra": {"b": 1, "a": [1.5, "é"]}, "number": 1e22, "enable_thinking": False})
    chat([user("hi")], template, chat_template_kwargs={"extra": None, "mode": "auto", "nothing": None, "padding": "x", "bos_token": "<BOS>"})
    chat([user("hi")], template, reasoning_effort="low")
    chat([user("hi")], template, reasoning_effort="none")
    chat([user("hi")], template, reasoning_effort="high", chat_template_kwargs={"enable_thinking": False, "reasoning_effort": "low"})
    chat([user("hi")], template, documents=[{"title": "T", "text": "body"}])
    chat([user("hi")], template, chat_template_kwargs={"documents": [{"title": "T"}], "add_generation_prompt": False})
    chat([user("hi"), assistant("x", reasoning="because"), user("y")], template)
    chat([user("hi"), assistant("x", reasoning_content="because", refusal=None, audio=None), user("y")], template)
    chat([{"role": "developer", "content": "Be terse."}, user("hi")], template)
    chat([system("S."), {"role": "developer", "content": "Be terse."}, user("hi"), system("late")], template)
    chat([system("x-anthropic-billing-header: cch=1;\nYou are Claude.")], template)
    chat([{"role": "user", "content": "hi", "name": "bob", "zzz": 1}, assistant(None)], template)
    chat([{"role": "critic", "content": "hm"}], template)
    chat([{"role": "tool", "content": [{"type": "tool_reference", "name": "f"}, {"type": "text", "text": "t"}], "tool_call_id": "x"}], template)
    chat([assistant([{"type": "refusal", "refusal": "no"}, {"type": "thinking", "thinking": "hm", "closed": True}]), user("why")], template)
    chat([{"role": "user"}, user("x")], template)
    chat([user("hi")], template, add_special_tokens=True)
    chat([user("hi there you")], template, truncate_prompt_tokens=5)
    chat([user("hi there you")], template, truncate_prompt_tokens=5, truncation_side="right")
    chat([user("salted")], template, cache_salt="pepper")
    raw("chat", '{"model":"tiny","messages":[{"role":"user","content":"a","content":"b"}],"messages":[{"content":"last","role":"user"}]}', template)
    raw("chat", '{"model":"tiny","messages":[{"role":"user","content":"\\ud83d\\ude00\\u0000\\/"}],"chat_template_kwargs":{"number":123456789012345678901234567890}}', template)
    chat([user("turn %d" % i) if i % 2 == 0 else assistant("answer %d" % i) for i in range(21)], template)
for bad in ([], [user(5)], [{"role": "user", "content": [5]}], [{"content": "x"}], "x"):
    chat(bad)
chat([user("hi")], tools=[])
chat([user("hi")], tool_choice="auto")
chat([user("hi")], kv_transfer_params={"prompt_token_ids": [1, 2, 3]})
chat([user("hi")], kv_transfer_params={"prompt_token_ids": [1, 2, 3]}, echo=True)
for ids in ([1, 2, 3], [[1, 2], [3]], [[5]], ["a", "b c"], ["x"], [], [[]], [""], ["", "a"], "", [1, "a"], [-1], None):
    completion(ids)
completion("hi there you", truncate_prompt_tokens=2)
completion("hi there you", truncate_prompt_tokens=2, truncation_side="right")
completion(list(range(10)), truncate_prompt_tokens=4)
completion(list(range(10)), truncate_prompt_tokens=4, truncation_side="right")
completion("no specials", add_special_tokens=False)
completion("echoed", echo=True, max_tokens=0)
completion("x", suffix="y")
completion("x", cache_salt="s", max_tokens=None, user="u", stream=True)


async def main(folder):
    model = ModelConfig(folder, tokenizer=folder, dtype="bfloat16", max_model_len=32768)
    config = VllmConfig(model_config=model)
    renderer = renderer_from_config(config)

    def online(template):
        text = (HERE / "templates" / template).read_text() if template else None
        return OnlineRenderer(model, renderer, request_logger=None, chat_template=text, chat_template_content_format="auto",
                              enable_auto_tools=True, tool_parser="hermes")

    renderers = {template: online(template) for template in {case[1] for case in CASES}}
    seen = set()
    for endpoint, template, body in CASES:
        if (endpoint, template, body) in seen:
            continue
        seen.add((endpoint, template, body))
        line = {"endpoint": endpoint, "template": template, "body": body}
        try:
            fields = json.loads(body)
            if endpoint == "chat":
                result = await renderers[template].render_chat(ChatCompletionRequest.model_validate(fields))
                result = result[1] if isinstance(result, tuple) else result
            else:
                result = await renderers[template].render_completion(CompletionRequest.model_validate(fields))
            if isinstance(result, list):
                line["ids"] = [prompt["prompt_token_ids"] for prompt in result]
            else:
                line["error"] = "BadRequest"
        except Exception as error:
            line["error"] = type(error).__name__
        print(json.dumps(line, ensure_ascii=True))


asyncio.run(main(sys.argv[1]))

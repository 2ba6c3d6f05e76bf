#!/usr/bin/env python3
"""Records what vLLM makes of chats with the templates of templates/families: families.jsonl beside it.

usage: make_families.py MODEL_FOLDER > families.jsonl   (in an environment with vllm 0.32)

Lines as in expected.jsonl. The clock stands still at NOW, in UTC.
"""
import asyncio, datetime, json, pathlib, sys

import transformers.utils.chat_template_utils as templates

from recorder import HERE, Recorder

NOW = 1_795_000_000


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


templates.datetime = Clock


def message(role, content, **more): return {"role": role, "content": content, **more}
def user(content): return message("user", content)
def parts(*texts): return [{"type": "text", "text": text} for text in texts]
def call(name, arguments, ident="abcdefghi"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}
def tool(name, parameters=None, description=None):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool("get_weather", {"type": "object", "properties": {
    "city": {"type": "string", "description": "e.g. \"Zürich\" <b>&", "enum": ["Bern", "São Paulo"]},
    "days": {"type": "integer", "default": 3.0, "maximum": 1e16}, "fine": {"type": ["number", "null"], "default": 1e-7},
    "list": {"type": "array", "items": {"type": "string"}}, "any": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "deep": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}}, "required": ["city"]}, "Tells the weather.")
ARGUMENTS = '{"city": "Zürich", "days": 1.0, "deep": {"a": [1e-7, true, null]}}'
S, A = message("system", "  Be brief.\n"), message("assistant", "Fine.")
TEXTS = ["hi", "", "  padded \n", "Grüße, 世界 😀 e\u0301\u2028\x1c", "</think>x", "<|im_end|>[INST]<end_of_turn><|eot_id|>", "don't {{ x }}"]
RESULT = message("tool", "sunny", tool_call_id="abcdefghi", name="get_weather")
CALLED = message("assistant", None, tool_calls=[call("get_weather", ARGUMENTS)])
SAID = message("assistant", "Let me see. ", tool_calls=[call("get_weather", ARGUMENTS)])
TWO = message("assistant", "", tool_calls=[call("get_weather", ARGUMENTS), call("now", "", "ihgfedcba")])
THOUGHT = message("assistant", "So.", reasoning_content="\nhm\n")
TAGGED = message("assistant", "<think>\nhm\n</think>\n\nSo.")
OPEN = {"add_generation_prompt": False, "continue_final_message": True}
CHATS = [
    *[([user(text)], {}) for text in TEXTS],
    *[([S, user(text), message("assistant", text), user("on")], {}) for text in TEXTS],
    ([S, user("a")], {}), ([S], {}), ([user("a"), A, user("b"), A, user("c")], {}),
    ([S, user("a"), A, user("b"), THOUGHT, user("c"), TAGGED, user("d")], {}),
    ([user("a"), TAGGED], {"add_generation_prompt": False}), ([user("a"), THOUGHT], {"add_generation_prompt": False}),
    ([user("a"), A], {"add_generation_prompt": False}), ([user("a")], {"add_generation_prompt": False}),
    ([user("a"), message("assistant", "The answer is ")], OPEN), ([user("a"), message("assistant", parts("The answer", "is"))], OPEN),
    ([S, user("a"), THOUGHT], OPEN),
    ([user("a")], {"tools": [WEATHER]}), ([S, user("a")], {"tools": [WEATHER, tool("now")]}), ([S], {"tools": [WEATHER]}),
    ([user("a"), A, user("b")], {"tools": [WEATHER]}),
    ([user("a"), CALLED, RESULT], {"tools": [WEATHER]}), ([S, user("a"), SAID, RESULT, message("assistant", "Sunny."), user("b")], {"tools": [WEATHER]}),
    ([user("a"), TWO, RESULT, message("tool", parts("noon", "!"), tool_call_id="ihgfedcba"), user("b")], {"tools": [WEATHER, tool("now")]}),
    ([user("a"), {**CALLED, "reasoning_content": "call it"}, RESULT, THOUGHT, user("b")], {"tools": [WEATHER]}),
    ([user("a"), CALLED], {"tools": [WEATHER], "add_generation_prompt": False}), ([user("a"), CALLED, RESULT], {}),
    ([user("a"), message("assistant", None, tool_calls=[call("f", "{}", "short")]), {**RESULT, "tool_call_id": "short"}], {}),
    ([user(parts("a", "b"))], {}), ([message("system", parts("S.", "T.")), user(parts("a"))], {}), ([user(parts("a", "", "b ")), message("assistant", parts("c")), user("d")], {}),
    ([message("developer", "Be terse."), user("a")], {}), ([user("a"), S, user("b")], {}), ([A, user("a")], {}), ([user("a"), user("b")], {}),
    ([user("a")], {"chat_template_kwargs": {"enable_thinking": False}}), ([user("a")], {"chat_template_kwargs": {"enable_thinking": True}}),
    ([user("a")], {"reasoning_effort": "low"}), ([user("a")], {"reasoning_effort": "none"}), ([user("a")], {"reasoning_effort": "high", "tools": [WEATHER]}),
    ([user("a")], {"chat_template_kwargs": {"date_string": "1 Jan 2025", "tools_in_user_message": False}, "tools": [WEATHER]}),
    ([user("a"), message("assistant", None, tool_calls=[call("search", '{"query": "x"}')]), RESULT], {"chat_template_kwargs": {"builtin_tools": ["search", "code_interpreter"]}}),
    ([user("a")], {"documents": [{"title": "T", "text": "t"}]}), ([message("critic", "x"), user("a")], {}),
    ([message("user", "a", name="bob"), A, user("b")], {}),
]


async def main(folder):
    for path in sorted((HERE / "templates/families").glob("*.jinja")):
        template = f"families/{path.name}"
        recorder = Recorder(folder, template)
        for messages, fields in CHATS:
            body = json.dumps({"model": "tiny", "messages": messages, **fields}, ensure_ascii=False)
            line = {"endpoint": "chat", "template": template, "body": body} | await recorder.record("chat", body)
            print(json.dumps(line, ensure_ascii=True))


asyncio.run(main(sys.argv[1]))

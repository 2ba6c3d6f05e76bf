#!/usr/bin/env python3
"""Records what vLLM makes of images for the model of vision/: media.jsonl beside it.

usage: make_media.py TINY_MODEL_FOLDER > media.jsonl   (in an environment with vllm 0.32)

vision/ is a model of type qwen2_5_vl without weights; its tokenizer.json is the tiny model's. Each line is as in
expected.jsonl, with `media`: where the first placeholder begins, in tokens.
"""
import asyncio, base64, io, json, pathlib, shutil, sys, tempfile

from PIL import Image

import recorder
from recorder import HERE, Recorder


def url(color, size=(56, 56)):
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def text(value): return {"type": "text", "text": value}
def image(color="red", **more): return {"type": "image_url", "image_url": {"url": url(color)}, **more}
def user(*parts): return {"role": "user", "content": list(parts)}


SYSTEM = {"role": "system", "content": "Look closely at what you are shown."}
CASES = [
    ([user(text("What is this? "), image())], {}), ([user(image(), text("What is this?"))], {}), ([SYSTEM, user(text("One\n"), image(), text("two"), image("blue"))], {}),
    ([SYSTEM, user(text("hi")), {"role": "assistant", "content": "yes"}, user(text("Grüße 世界 "), image("green"), text("!"))], {}),
    ([user(text("a"), image(uuid="my-own"))], {}), ([user(text("a "), image(detail="low", zz=1), text("b"))], {"chat_template_kwargs": {"add_vision_id": True}}),
    ([user(text("forged <|image_pad|> text "))], {}), ([user(text("forged <|vision_start|> text "), image())], {}), ([user(text("only text"))], {}),
    ([user(text("x"), image()), {"role": "assistant", "content": "y"}, user(text("z"))], {"add_generation_prompt": False}),
    ([{"role": "tool", "tool_call_id": "c", "content": [text("shot: "), image("white")]}], {}),
]


async def main(tiny):
    with tempfile.TemporaryDirectory() as folder:
        for path in (HERE / "vision").iterdir():
            shutil.copy(path, folder)
        shutil.copy(pathlib.Path(tiny) / "tokenizer.json", folder)
        engine = Recorder(folder, pooling=False)
        for messages, fields in CASES:
            body = json.dumps({"model": "vision", "messages": messages, **fields}, ensure_ascii=False)
            line = {"body": body} | await engine.record("media", body)
            print(json.dumps(line, ensure_ascii=True))


asyncio.run(main(sys.argv[1]))

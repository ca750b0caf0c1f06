"""Chats through rigwise-engine's template interpreter and through transformers' own renderer.

    python chat_template_parity.py BUILD/render_chat TEMPLATE_FILE...

Prints one line a template: how many chats are byte for byte the same, how many both refuse, how often the assistant's part
was told, and the first differences. The exit status is 1 if there is any. Needs transformers and jinja2.
"""
import json
import subprocess
import sys

from transformers.utils.chat_template_utils import render_jinja_template


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


TOOL = {"type": "function", "function": {"name": "add", "description": "Adds \"two\" <numbers> & é", "parameters": {
    "type": "object", "properties": {"a": {"type": "number", "default": 1.5}, "b": {"type": "integer", "enum": [1, 2]}}, "required": ["a", "b"]}}}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2.5, "c": "x\n\"é\"", "d": None, "e": [True, {}]}}}
CHATS = [
    {"messages": [user("Hi")]},
    {"messages": [user("Hi"), assistant("Yo")]},
    {"messages": [system("Be brief."), user("Hi"), assistant("Yo"), user("And?"), assistant(" No. \n")]},
    {"messages": [user("  spaces \n"), assistant("\n\nline\n\n"), user("日本語 😀"), assistant("ok <b>&amp;'\"")]},
    {"messages": [user("a"), assistant("b"), user("c"), assistant("d"), user("e"), assistant("f"), user("g")]},
    {"messages": [system(""), user(""), assistant("")]},
    {"messages": [user("think"), assistant("<think>\nhm\n</think>\n\nYes")]},
    {"messages": [user("think"), assistant("<think>\nhm\n</think>\n\nYes"), user("again"), assistant("<think>\nno\n</think>\n\nNo")]},
    {"messages": [user("think"), assistant("Yes", reasoning_content="because")]},
    {"messages": [user("think"), assistant("Yes", reasoning="because"), user("x"), assistant("y", thinking="z")]},
    {"messages": [assistant("first"), user("Hi")]},
    {"messages": [user("a"), user("b"), assistant("c")]},
    {"messages": [system("s"), system("t"), user("b"), assistant("c")]},
    {"messages": [user("add"), assistant("", tool_calls=[CALL]), {"role": "tool", "name": "add", "tool_call_id": "abcdefghi", "content": "3.5"}, assistant("3.5")], "tools": [TOOL]},
    {"messages": [user("add"), assistant("Sure", tool_calls=[CALL, CALL]), {"role": "tool", "tool_call_id": "abcdefghi", "content": "3.5"},
                  {"role": "tool", "tool_call_id": "abcdefghi", "content": "{\"x\": 1}"}, assistant("both")], "tools": [TOOL, TOOL]},
    {"messages": [system("S"), user("add"), assistant("none")], "tools": [TOOL]},
    {"messages": [user("x"), assistant("y")], "enable_thinking": False},
    {"messages": [user([{"type": "text", "text": "part one"}, {"type": "text", "text": " two "}]), assistant([{"type": "text", "text": "yes"}])]},
    {"messages": [user([{"type": "image"}, {"type": "text", "text": "seen"}]), assistant("yes")]},
    {"messages": [{"role": "other", "content": "x"}, assistant("y")]},
    {"messages": [user("long " * 500), assistant("answer " * 500)]},
    {"messages": [user("x"), assistant("y")], "date_string": "26 Jul 2024", "custom": {"k": [1, 2.0, None, True]}},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def reference(source, chat, generation):
    extra = {k: v for k, v in chat.items() if k not in ("messages", "tools")}
    try:
        rendered, _ = render_jinja_template([chat["messages"]], tools=chat.get("tools"), chat_template=source, add_generation_prompt=generation, **TOKENS, **extra)
        return rendered[0]
    except Exception as error:  # whatever a template raises
        return error


def main(program, *files):
    bad = 0
    for file in files:
        with open(file, encoding="utf-8", newline="") as stream:
            source = stream.read()
        cases = [(chat, generation) for chat in CHATS for generation in (False, True)]
        requests = "".join(json.dumps({"chat": c, "generation": g, "tokens": TOKENS}) + "\n" for c, g in cases)
        run = subprocess.run([program, file], input=requests, capture_output=True, text=True, check=False)
        same = refused = told = assistants = 0
        differences = []
        for (chat, generation), line in zip(cases, run.stdout.split("\n"), strict=False):
            if not line:
                differences.append((chat, "crashed", run.stderr))
                break
            mine, want = json.loads(line), reference(source, chat, generation)
            if isinstance(want, Exception):
                if "error" in mine:
                    refused += 1
                else:
                    differences.append((chat, mine["text"], f"{type(want).__name__}: {want}"))
            elif mine.get("text") == want:
                same += 1
                assistants += 1
                told += mine["assistant"] is not None
            else:
                differences.append((chat, mine.get("text", mine.get("error")), want))
        print(f"{file}: {same} same, {refused} refused by both, {len(differences)} differ; assistant told in {told} of {assistants}")
        for chat, mine, want in differences[:2]:
            at = next((i for i, (a, b) in enumerate(zip(mine, want)) if a != b), 0)
            print(f"  {json.dumps(chat['messages'])[:150]}\n    here: …{mine[max(at - 20, 0):at + 100]!r}\n    want: …{want[max(at - 20, 0):at + 100]!r}")
        bad += len(differences)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

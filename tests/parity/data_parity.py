"""Windows that rigwise-engine makes of training data against Hugging Face's own preparation.

    python data_parity.py BUILD/read_data TEXT_FILE TOKENIZER_FOLDER...

Text: token ids, an end behind each document, group_texts as in transformers' examples. Chats: transformers' own mask of the
assistant's tokens (return_assistant_tokens_mask, with a template that has {% generation %}), and the same chats through the
same template without the marks. Prompts: the offsets that `tokenizers` gives.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from transformers import PreTrainedTokenizerFast

MARKED = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
          "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
PLAIN = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
SEQ = 128


def windows(program, folder, file, pack, seq=SEQ):
    out = subprocess.run([program, folder, file, pack, str(seq)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def masked(window):
    """Ids and whether each is a target; the first never is."""
    used = window["segments"][-1]
    return [(i, t != -100) for i, t in zip(window["ids"][1:used], window["targets"][:used - 1])]


def check(name, same):
    print(f"  {name}: {'equal' if same else 'NOT EQUAL'}")
    return same


def main(program, text_file, *folders):
    text = pathlib.Path(text_file).read_text(encoding="utf-8")
    chunks = [c.strip("\n") for c in text.split("\nCHAPTER ") if c.strip()]
    lines = [line for line in text.split("\n") if len(line) > 20]
    rng = random.Random(3)
    good = True
    for source in folders:
        print(source)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "tokenizer.json").write_bytes((pathlib.Path(source) / "tokenizer.json").read_bytes())
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
            eos = next(t for t in ("<|im_end|>", "<|eot_id|>", "</s>", "<|endoftext|>") if t in tokenizer.get_vocab())
            tokenizer.eos_token = tokenizer.pad_token = eos
            (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos, "pad_token": eos, "chat_template": MARKED}))
            file = folder / "data.txt"
            file.write_text("\n<|doc|>\n".join(chunks), encoding="utf-8", newline="")
            stream = [i for c in chunks for i in tokenizer(c)["input_ids"] + [tokenizer.eos_token_id]]
            ours = windows(program, name, file, "concat")
            want = [stream[i:i + SEQ] for i in range(0, len(stream) // SEQ * SEQ, SEQ)]
            good &= check(f"concat, {len(chunks)} documents, {len(want)} windows",
                          [w["ids"] for w in ours][:len(want)] == want and all(w["targets"] == w["ids"][1:] + [-100] for w in ours[:len(want)]))
            chats = []
            for _ in range(300):
                chat = [{"role": ("user", "assistant")[k % 2], "content": "".join(rng.choice([rng.choice(lines), " ", "\n", "\n\n", " é", "🙂", "12"]) for _ in range(rng.randint(1, 5)))}
                        for k in range(rng.randint(2, 6))]
                chats.append(chat)
            file = folder / "data.jsonl"
            file.write_text("".join(json.dumps({"messages": c}) + "\n" for c in chats), encoding="utf-8")
            want = []
            for chat in chats:
                out = tokenizer.apply_chat_template(chat, chat_template=MARKED, return_assistant_tokens_mask=True, return_dict=True, add_special_tokens=False)
                want.append([(i, bool(m)) for i, m in zip(out["input_ids"], out["assistant_masks"])][1:])
            ours = [masked(w) for w in windows(program, name, file, "none", 1 << 16)]
            good &= check(f"messages with marks, {len(chats)} chats", ours == want)
            (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos, "pad_token": eos, "chat_template": PLAIN}))
            ours = [masked(w) for w in windows(program, name, file, "none", 1 << 16)]
            same = sum(a == b for a, b in zip(ours, want))
            good &= check(f"messages without marks, {same} of {len(chats)} the same", [[i for i, _ in o] for o in ours] == [[i for i, _ in w] for w in want])
            pairs = [(rng.choice(lines)[:rng.randint(1, 60)], rng.choice([" ", ""]) + rng.choice(lines)[:40]) for _ in range(500)]
            file.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs), encoding="utf-8")
            want = []
            for p, c in pairs:
                out = tokenizer(p + c, return_offsets_mapping=True)
                ids = [(i, end > len(p) and end > begin) for i, (begin, end) in zip(out["input_ids"], out["offset_mapping"])]
                want.append((ids + [(tokenizer.eos_token_id, True)])[1:])
            ours = [masked(w) for w in windows(program, name, file, "none", 1 << 16)]
            same = sum(a == b for a, b in zip(ours, want))
            good &= check(f"prompts, {same} of {len(pairs)} the same", ours == want)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

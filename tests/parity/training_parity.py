"""A tokenizer that rigwise-engine trains against `tokenizers`' own trainer, and through transformers' AutoTokenizer.

    python training_parity.py BUILD/make_tokenizer TEXT_FILE VOCAB_SIZE
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer


def main(program, text_file, size):
    text = pathlib.Path(text_file).read_text(encoding="utf-8") + " e\u0301 I'M 1234 日本語\r\n\n <|im_start|>x<|im_end|>"
    with tempfile.TemporaryDirectory() as folder:
        own = pathlib.Path(folder) / "text"
        own.write_text(text, encoding="utf-8", newline="")
        subprocess.run([program, str(own), size, folder], check=True)
        mine = json.loads((pathlib.Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        reference = Tokenizer(models.BPE())
        whole = Tokenizer.from_file(folder + "/tokenizer.json")
        reference.normalizer, reference.pre_tokenizer = whole.normalizer, whole.pre_tokenizer
        reference.train_from_iterator([text], trainers.BpeTrainer(
            vocab_size=int(size), special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
        theirs = json.loads(reference.to_str())["model"]
        same = mine["vocab"] == theirs["vocab"] and [m.split(" ") for m in mine["merges"]] == theirs["merges"]
        print(f"vocabulary and merges as tokenizers trains them: {same}")
        for kind in (None, "llama", "mistral", "qwen2", "qwen3", "gpt2"):
            if kind:
                (pathlib.Path(folder) / "config.json").write_text(json.dumps({"model_type": kind}))
            loaded = AutoTokenizer.from_pretrained(folder)
            ids = loaded(text)["input_ids"]
            chat = loaded.apply_chat_template([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}], tokenize=False, add_generation_prompt=True)
            fits = ids == whole.encode(text).ids and loaded.eos_token_id == 0 and \
                chat == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>assistant\n"
            print(f"AutoTokenizer, config.json of {kind}: {type(loaded).__name__}, {len(ids)} ids, {'equal' if fits else 'NOT EQUAL ' + repr(chat)}")
            same = same and fits
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

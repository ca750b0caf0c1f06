"""Token ids and decoded texts of rigwise-engine's tokenizer against Hugging Face's `tokenizers`.

    python tokenizers_parity.py BUILD/encode_text TEXT_FILE TOKENIZER_JSON...

For each tokenizer.json: the whole text, its lines, hand-made nasty texts, and seeded random ones. Prints one line a
tokenizer and the first differences; the exit status is 1 if there is any. Needs the package `tokenizers`.
"""
import json
import pathlib
import random
import subprocess
import sys
import time

from tokenizers import Tokenizer

NASTY = [
    "", " ", "  ", "   a", "a   ", "\n", "\n\n\n", "\r\n", "a\r\nb\r\n\r\nc", "\t\tx\t", "a \n b", "a\n \n  b", "x\0y\0", "\u00a0a\u00a0\u00a0b",
    "\u3000全角　スペース", "\u2028line\u2029para\u0085nel", "\u180e\u200b\u200d\ufeffx", "Hello, world!", "I'm you're we'll they'd it's HE'S I'LL",
    "don’t “quote” — dash…", "1 12 123 1234 12345 1234567890 3.14159 1,000,000 ١٢٣ ४५६ ½ ² Ⅳ 〇", "3rd 2nd x86_64 a1b2c3",
    "naïve café e\u0301 n\u0303o A\u030a \u0301alone \u1e9b\u0323 ﬁ ﬂ Å Ω", "각 \u1100\u1161\u11a8 한국어 띄어쓰기", "日本語のテキスト、漢字かな交じり。", "中文没有空格的句子很长很长很长",
    "Русский текст, ещё раз", "עברית עם ניקוד שָׁלוֹם", "العربية مع تشكيل مَرْحَبًا", "हिन्दी देवनागरी क्षत्रिय", "ไทยไม่มีช่องว่าง", "தமிழ் மொழி", "ქართული հայերեն አማርኛ",
    "😀😃 👨‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ☺️ 🏴‍☠️", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒜 𐍈 𠜎𠜱", "\U0010ffff\ue000\ufffd\ufffe", "zalgo z\u0351\u036b\u0343\u036a\u0302a\u035fl\u0322g\u0336o",
    "def f(x):\n    return x**2  # comment\n\n\tif x != 0:\n\t\tpass\n", "<div class=\"a\">&nbsp;</div>", "https://example.org/a?b=c&d=%20#e", "C:\\path\\to\\file", "a@b.co +49-30-1234 $5.00 €7 £8 100%",
    "<s>", "</s>", "<unk>", "text<s>inside</s>text", " <s> </s> ", "<s><s>", "< s >", "<|endoftext|>", "a<|endoftext|>b", "a <|endoftext|> b\n", "<|im_start|>user\nhi<|im_end|>\n", "<|begin_of_text|>x<|eot_id|>",
    "<|im_start|>", "<|im_start", "<think>\nhm\n</think>\n\n", "[INST] hi [/INST]", "<tool_call>{\"a\": 1}</tool_call>", "<0x0A><0xE2>", "▁▁ ▁a▁b", "Ġ Ċ Ġthe", "a" * 3000, "ab" * 2000, " " * 3000, "\n" * 3000, "!?" * 1500, "9" * 2000,
    "é" * 1000, "漢" * 1500, "😀" * 700, "x\n" * 1500, " \n" * 1500, "a b" * 1000, "A" * 10 + " " + "B" * 10, "ſ K ÅNGSTRÖM İstanbul ıI ß SS ﬃ", "'S 'T 'RE 'Ve 'lL 'D ’s", "\x01\x02\x1f\x7f\x80\x9f",
]
BROKEN = [b"\xff", b"a\x80b", b"\xe2\x96", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok \xf0\x9f\x98 cut", b"\xc0\xaf\xfe\xff", bytes(range(256))]
POOLS = ["abcdefghijklmnopqrstuvwxyz", "ABC", "0123456789", "     ", "\n\r\t", ".,;:!?'\"()[]{}<>|/\\-_=+*&^%$#@~`", "äöüßéèñçøåœ", "\u0301\u0308\u0323\u200d\ufe0f",
         "漢字かなカナ한글", "абвгд", "ابجد", "😀👍🏽", "<|im_end|>", "\u00a0\u2003\u3000\u2028"]


def random_texts(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        pools = rng.sample(POOLS, rng.randint(1, 5))
        yield "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 120)))


def main(program, text_file, *files):
    text = pathlib.Path(text_file).read_text(encoding="utf-8", errors="replace")
    texts = [text, *text.split("\n")[:4000], *NASTY, *random_texts(3000, 1)]
    cases = [t.encode() for t in texts] + BROKEN
    bad = 0
    for file in files:
        reference = Tokenizer.from_file(file)
        requests = "".join(json.dumps({"hex": c.hex(), "special": i % 2 == 0}) + "\n" for i, c in enumerate(cases))
        answers = subprocess.run([program, file], input=requests, capture_output=True, text=True, check=False)
        if answers.returncode != 0:
            print(f"{file}: {answers.stderr.strip()}")
            bad += 1
            continue
        differences, ids = [], 0
        seconds = None
        for i, (case, line) in enumerate(zip(cases, answers.stdout.split("\n"), strict=False)):
            mine = json.loads(line)
            if "error" in mine:
                differences.append((case, mine["error"], ""))
                continue
            start = time.process_time()
            want = reference.encode(case.decode(errors="replace"), add_special_tokens=i % 2 == 0).ids
            seconds = seconds or time.process_time() - start
            ids += len(want)
            if mine["ids"] != want:
                at = next((k for k, (a, b) in enumerate(zip(mine["ids"], want)) if a != b), min(len(want), len(mine["ids"])))
                differences.append((case, f"ids[{at}:] = {mine['ids'][at:at + 8]}", f"{want[at:at + 8]} {[reference.id_to_token(t) for t in want[at:at + 8]]}"))
            elif mine["text"] != reference.decode(want) or mine["full"] != reference.decode(want, skip_special_tokens=False):
                differences.append((case, mine["full"][:80], reference.decode(want, skip_special_tokens=False)[:80]))
        whole = len(json.loads(answers.stdout.split("\n", 1)[0]).get("ids", []))
        print(f"{file}: {len(cases)} texts, {ids} ids, {whole} in the whole text ({seconds:.2f} s in tokenizers): {len(differences)} differ")
        for case, mine, want in differences[:8]:
            print(f"  {case[:60]!r}\n    here: {mine!r}\n    want: {want!r}")
        bad += len(differences)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

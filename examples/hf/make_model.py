#!/usr/bin/env python3
"""Make a small Llama-type model folder from a seed.

What: trains a byte-level BPE tokenizer on the given text, makes a Llama model of the
asked size with seeded random weights, and saves both in the ordinary Hugging Face
layout (config.json, model.safetensors, tokenizer.json, tokenizer_config.json), so that
AutoModelForCausalLM and AutoTokenizer load the folder like any downloaded model.

Why: a first run must not need a hub account or a download. The model is for timing and
for trying a set-up out; it knows no language. For real work pass train.py a real model.

Example:
    python make_model.py --text data/train.jsonl --out model
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"


def fail(message):
    """Say what went wrong, then leave with status 2."""
    print(f"make_model.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def read_texts(path):
    """Return the texts of a .jsonl file with {"text": ...} rows, or of a plain text file."""
    try:
        body = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read --text {path}: {error}\n  make it with: python prepare_data.py --out data")
    if path.suffix != ".jsonl":
        return body.splitlines()
    texts = []
    for number, line in enumerate(body.splitlines(), 1):
        try:
            texts.append(json.loads(line)["text"])
        except (ValueError, KeyError, TypeError):
            fail(f'{path}:{number}: not a {{"text": ...}} row')
    return texts


def train_tokenizer(texts, vocab, max_positions):
    """Return a byte-level BPE tokenizer: every byte is a token, so no text is unknown to it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=max_positions,
    )


def make_model(args, tokenizer):
    """Return a Llama model with weights drawn from args.seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(args.seed)
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    config = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=args.intermediate or -(-args.hidden * 8 // 3 // 64) * 64,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.heads,
        max_position_embeddings=args.max_positions,
        initializer_range=args.init_std,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="example: python make_model.py --text data/train.jsonl --out model",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--text", type=Path, required=True, help="text for the tokenizer: .jsonl rows or plain text")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--hidden", type=int, default=256, help="width of the model")
    parser.add_argument("--intermediate", type=int, default=0, help="width of the MLP; 0 takes 8/3 of --hidden")
    parser.add_argument("--layers", type=int, default=4, help="number of layers")
    parser.add_argument("--heads", type=int, default=4, help="attention heads per layer")
    parser.add_argument("--vocab", type=int, default=2048, help="number of tokens")
    parser.add_argument("--max_positions", type=int, default=2048, help="longest sequence in tokens")
    parser.add_argument("--init_std", type=float, default=0.02, help="spread of the random weights")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights")
    args = parser.parse_args()
    if min(args.hidden, args.layers, args.heads, args.max_positions) < 1:
        parser.error("--hidden, --layers, --heads and --max_positions must be 1 or more")
    if args.hidden % args.heads or args.hidden // args.heads % 2:
        parser.error(f"--hidden {args.hidden} must give each of {args.heads} heads an even whole width")
    if args.vocab < 257:
        parser.error("--vocab must be 257 or more: 256 bytes and the end-of-text token")
    texts = read_texts(args.text)

    tokenizer = train_tokenizer(texts, args.vocab, args.max_positions)
    if len(tokenizer) < args.vocab:
        print(f"note: the text gives only {len(tokenizer)} tokens; the rest stay unused", file=sys.stderr)
    model = make_model(args, tokenizer)
    try:
        model.save_pretrained(args.out)
        tokenizer.save_pretrained(args.out)
    except OSError as error:
        fail(f"cannot write the model to {args.out}: {error}")

    digest = hashlib.sha256((args.out / "model.safetensors").read_bytes()).hexdigest()
    print(f"{args.out}: {model.num_parameters():,} parameters, {len(tokenizer)} tokens, weights sha256 {digest[:16]}")


if __name__ == "__main__":
    main()

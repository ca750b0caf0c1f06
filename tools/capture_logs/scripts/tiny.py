"""Makes what the scripts train: a Llama of 32 hidden units with a byte tokenizer, and texts, all from a seed."""

import random


def texts(count=64, words=24, seed=0):
    """Return texts of made-up words."""
    source = random.Random(seed)
    table = ["".join(source.choice("abcdefghij") for _ in range(source.randint(2, 6))) for _ in range(80)]
    return [" ".join(source.choice(table) for _ in range(words)) for _ in range(count)]


def tokenizer(chat=True):
    """Return a byte-level tokenizer of the Hugging Face kind, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        texts(),
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|end|>", eos_token="<|end|>", pad_token="<|end|>", model_max_length=256
    )
    if chat:
        made.chat_template = (
            "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
        )
    return made


def model(words=300, seed=0):
    """Return a Llama small enough to train in seconds on one core."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )


def save(folder):
    """Write model and tokenizer in the ordinary layout, for trainers that take a folder."""
    model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)


if __name__ == "__main__":
    import sys

    save(sys.argv[1])

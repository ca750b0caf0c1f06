"""A tokenizer with the methods that torchtune's text completion asks for, over the byte tokenizer of tiny.py."""

import tiny


class Words:
    """Encodes text; token 0 begins, ends and pads."""

    max_seq_len = 128
    pad_id = 0
    eos_id = 0
    bos_id = 0

    def __init__(self):
        self.inner = tiny.tokenizer(chat=False)

    def encode(self, text, add_bos=True, add_eos=True):
        ids = self.inner.encode(text, add_special_tokens=False)
        return [0] * add_bos + ids + [0] * add_eos

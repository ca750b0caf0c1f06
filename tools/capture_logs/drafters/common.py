"""What every drafter needs: pieces of a log without escape sequences, numbers, printed dictionaries."""

import ast
import re

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def pieces(text):
    """Return the pieces between line ends and carriage returns, without escape sequences."""
    return re.split(r"\r\n|\n|\r", ANSI.sub("", text))


def number(value):
    """Return int or float of a printed number; nan and the infinities as strings, as JSON has none."""
    if isinstance(value, str):
        value = value.replace(",", "")
        value = int(value) if re.fullmatch(r"-?\d+", value) else float(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def python_dict(text):
    """Return a printed dict; bare nan and inf become strings."""
    return ast.literal_eval(re.sub(r"(?<=: )(-?)(nan|inf)\b", r"'\1\2'", text))


def fields(text, separator=":"):
    """Return the name-number pairs of "name: 0.1 name2: 3"."""
    return {
        k: number(v)
        for k, v in re.findall(rf"([\w/@-]+)\s*{separator}\s*(-?[\d.]+(?:e[-+]?\d+)?|nan|inf)(?![\w.])", text)
    }


def saves(case, text):
    """Return the paths that the case's "saved" pattern finds, in order."""
    return re.findall(case["saved"], ANSI.sub("", text)) if "saved" in case else []

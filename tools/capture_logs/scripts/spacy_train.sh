# A blank English text classifier on made-up texts: prepares corpus and configuration (python -m spacy train is captured).
set -e
python - <<'P'
import spacy
from spacy.tokens import DocBin

made = spacy.blank("en")
store = DocBin()
for i in range(40):
    doc = made.make_doc("good fine nice" if i % 2 else "bad poor sad")
    doc.cats = {"POS": float(i % 2), "NEG": float(1 - i % 2)}
    store.add(doc)
store.to_disk("train.spacy")
P
python -m spacy init config --lang en --pipeline textcat --force config.cfg

"""Flair: a text classifier on made-up texts, its framed log."""

from pathlib import Path

import flair
import torch
from flair.data import Corpus, Sentence
from flair.datasets import FlairDatapointDataset
from flair.embeddings import DocumentRNNEmbeddings, OneHotEmbeddings
from flair.models import TextClassifier
from flair.trainers import ModelTrainer


def main():
    flair.device = torch.device("cpu")
    flair.set_seed(0)
    rows = []
    for i in range(24):
        sentence = Sentence("good fine nice" if i % 2 else "bad poor sad")
        sentence.add_label("mood", "up" if i % 2 else "down")
        rows.append(sentence)
    corpus = Corpus(
        train=FlairDatapointDataset(rows[:16]),
        dev=FlairDatapointDataset(rows[16:20]),
        test=FlairDatapointDataset(rows[20:]),
    )
    words = DocumentRNNEmbeddings([OneHotEmbeddings.from_corpus(corpus, min_freq=1)], hidden_size=8)
    model = TextClassifier(words, label_type="mood", label_dictionary=corpus.make_label_dictionary("mood"))
    ModelTrainer(model, corpus).train(Path("out"), learning_rate=0.1, mini_batch_size=4, max_epochs=2)


main()

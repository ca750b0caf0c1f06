"""gensim: Word2Vec's logging lines on made-up texts."""

import logging

import tiny
from gensim.models import Word2Vec

logging.basicConfig(format="%(asctime)s : %(levelname)s : %(message)s", level=logging.INFO)
Word2Vec([t.split() for t in tiny.texts(200)], vector_size=16, min_count=1, epochs=3, workers=1, compute_loss=True)

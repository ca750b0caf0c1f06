"""PyKEEN: a knowledge graph embedding on made-up triples; bars with epoch and batch as units."""

import numpy as np
from pykeen.pipeline import pipeline
from pykeen.triples import TriplesFactory

source = np.random.default_rng(0)
rows = np.array([[f"e{a}", f"r{b}", f"e{c}"] for a, b, c in source.integers(0, 12, (200, 3))])
train = TriplesFactory.from_labeled_triples(rows)
pipeline(
    training=train,
    testing=train,
    model="TransE",
    model_kwargs={"embedding_dim": 8},
    training_kwargs={"num_epochs": 4, "batch_size": 64},
    device="cpu",
    random_seed=0,
    validation=train,
    stopper="nop",
    use_testing_data=True,
    evaluation_kwargs={"batch_size": 64},
)

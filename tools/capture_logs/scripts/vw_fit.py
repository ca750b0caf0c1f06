"""Vowpal Wabbit's progress table (progressive loss), written to standard error."""

import random

from vowpalwabbit import Workspace

source = random.Random(0)
learner = Workspace(quiet=False, enable_logging=False, arg_str="--loss_function logistic -P 32")
for _ in range(256):
    value = source.random()
    learner.learn(f"{1 if value > 0.5 else -1} | x:{value:.3f} y:{source.random():.3f}")
learner.finish()

"""scikit-learn's own verbose prints: sklearn_fit.py mlp|gb|sgd."""

import sys

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier


def main():
    x = np.random.default_rng(0).normal(size=(200, 5))
    y = (x.sum(1) > 0).astype(int)
    if sys.argv[1] == "mlp":
        MLPClassifier((8,), max_iter=8, verbose=True, random_state=0, early_stopping=True).fit(x, y)
    elif sys.argv[1] == "sgd":
        SGDClassifier(verbose=1, max_iter=6, tol=None, random_state=0).fit(x, y)
    else:
        GradientBoostingClassifier(n_estimators=12, verbose=1, subsample=0.5, random_state=0).fit(x, y)


main()

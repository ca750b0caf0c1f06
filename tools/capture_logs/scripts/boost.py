"""Gradient boosting: boost.py xgboost|xgboost-sklearn|lightgbm|catboost."""

import sys

import numpy as np

KIND = sys.argv[1]


def main():
    source = np.random.default_rng(0)
    x = source.normal(size=(400, 6))
    y = (x[:, 0] + x[:, 1] ** 2 + source.normal(size=400) > 0.8).astype(int)
    if KIND == "xgboost":
        import xgboost

        train, test = xgboost.DMatrix(x[:300], y[:300]), xgboost.DMatrix(x[300:], y[300:])
        xgboost.train(
            {"objective": "binary:logistic", "eval_metric": ["logloss", "auc"], "nthread": 1},
            train,
            12,
            evals=[(train, "train"), (test, "eval")],
            verbose_eval=2,
            early_stopping_rounds=5,
        )
    elif KIND == "xgboost-sklearn":
        import xgboost

        xgboost.XGBRegressor(n_estimators=8, n_jobs=1).fit(
            x[:300], y[:300], eval_set=[(x[:300], y[:300]), (x[300:], y[300:])]
        )
    elif KIND == "lightgbm":
        import lightgbm

        train = lightgbm.Dataset(x[:300], y[:300])
        test = lightgbm.Dataset(x[300:], y[300:], reference=train)
        lightgbm.train(
            {"objective": "binary", "metric": ["binary_logloss", "auc"], "num_threads": 1, "learning_rate": 0.3},
            train,
            20,
            valid_sets=[train, test],
            valid_names=["training", "valid_1"],
            callbacks=[lightgbm.log_evaluation(2), lightgbm.early_stopping(5)],
        )
    elif KIND == "catboost":
        import catboost

        catboost.CatBoostClassifier(iterations=12, verbose=2, thread_count=1, learning_rate=0.2).fit(
            x[:300], y[:300], eval_set=(x[300:], y[300:])
        )


main()

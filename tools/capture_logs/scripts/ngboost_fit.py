"""NGBoost: "[iter 0] loss=1.4 val_loss=0.0 scale=1.0 norm=1.3"."""

import numpy as np
from ngboost import NGBRegressor

source = np.random.default_rng(0)
x = source.normal(size=(200, 4))
y = x.sum(1) + source.normal(size=200) / 4
NGBRegressor(n_estimators=40, verbose_eval=10, random_state=0).fit(x[:150], y[:150], X_val=x[150:], Y_val=y[150:])

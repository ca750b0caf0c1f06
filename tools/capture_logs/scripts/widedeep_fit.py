"""pytorch-widedeep: one bar an epoch whose metrics are a dictionary in the bar."""

import numpy as np
import pandas as pd
from pytorch_widedeep import Trainer
from pytorch_widedeep.metrics import Accuracy
from pytorch_widedeep.models import TabMlp, WideDeep
from pytorch_widedeep.preprocessing import TabPreprocessor

source = np.random.default_rng(0)
table = pd.DataFrame(source.normal(size=(160, 4)), columns=list("abcd"))
target = (table.sum(axis=1) > 0).astype(int).values
words = TabPreprocessor(continuous_cols=list("abcd"))
x = words.fit_transform(table)
net = WideDeep(deeptabular=TabMlp(column_idx=words.column_idx, continuous_cols=list("abcd"), mlp_hidden_dims=[8]))
Trainer(net, objective="binary", metrics=[Accuracy()], device="cpu", num_workers=0).fit(
    X_tab=x, target=target, n_epochs=3, batch_size=32, val_split=0.25
)

"""YDF: gradient boosted trees, the log of its C++ side."""

import numpy as np
import ydf

source = np.random.default_rng(0)
x = source.normal(size=(300, 4))
rows = {f"f{i}": x[:, i] for i in range(4)} | {"label": (x.sum(1) > 0).astype(int)}
ydf.verbose(2)
ydf.GradientBoostedTreesLearner(label="label", num_trees=12, num_threads=1).train(rows)

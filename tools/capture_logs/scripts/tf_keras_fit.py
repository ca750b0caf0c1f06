"""Keras 2 (tf_keras), whose bar "5/5 [=====>....] - ETA: 0s - loss: 0.6" is still in many logs: tf_keras_fit.py VERBOSE."""

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import numpy as np  # noqa: E402
import tf_keras as keras  # noqa: E402


def main():
    keras.utils.set_random_seed(3)
    x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
    y = (x.sum(1) > 0).astype("int32")
    net = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")])
    net.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    marks = [keras.callbacks.ModelCheckpoint("best.h5", save_best_only=True, verbose=1)]
    net.fit(x, y, batch_size=16, epochs=3, validation_split=0.25, verbose=int(sys.argv[1]), callbacks=marks)


main()

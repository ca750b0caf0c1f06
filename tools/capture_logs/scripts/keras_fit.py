"""Keras fit: keras_fit.py VERBOSE (1 bar, 2 one line an epoch); the backend comes from KERAS_BACKEND."""

import sys

import keras
import numpy as np


def main():
    keras.utils.set_random_seed(3)
    x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
    y = (x.sum(1) > 0).astype("int32")
    net = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")])
    net.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    marks = [
        keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True, verbose=1),
        keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0, min_delta=1.0, verbose=1),
    ]
    net.fit(x, y, batch_size=16, epochs=3, validation_split=0.25, verbose=int(sys.argv[1]), callbacks=marks)
    net.evaluate(x, y, batch_size=32, verbose=int(sys.argv[1]))


main()

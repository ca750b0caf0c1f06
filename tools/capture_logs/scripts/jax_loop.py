"""A flax/optax loop with a tqdm bar that carries the loss, and absl logging."""

import time

import jax
import jax.numpy as jnp
import optax
from absl import app, logging
from flax import linen
from tqdm import tqdm


def main(_):
    logging.set_verbosity(logging.INFO)
    net = linen.Dense(1)
    x = jax.random.normal(jax.random.key(0), (64, 8))
    y = x.sum(1, keepdims=True)
    weights = net.init(jax.random.key(1), x)
    tx = optax.adam(0.05)
    state = tx.init(weights)

    @jax.jit
    def step(weights, state):
        loss, grads = jax.value_and_grad(lambda w: jnp.mean((net.apply(w, x) - y) ** 2))(weights)
        moves, state = tx.update(grads, state)
        return optax.apply_updates(weights, moves), state, loss, optax.global_norm(grads)

    bar = tqdm(range(1, 13), desc="train")
    begin = time.perf_counter()
    for number in bar:
        weights, state, loss, norm = step(weights, state)
        bar.set_postfix(loss=f"{loss:.4f}")
        if number % 4 == 0:
            logging.info(
                "step = %d, loss = %.6f, grad_norm = %.4f, steps_per_sec = %.1f",
                number,
                loss,
                norm,
                4 / (time.perf_counter() - begin),
            )
            begin = time.perf_counter()


app.run(main)

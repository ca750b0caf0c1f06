"""CLU's metric writers and periodic actions round a small JAX loop, as flax's examples log."""

import jax
import jax.numpy as jnp
import optax
from absl import app, logging
from clu import metric_writers, periodic_actions


def main(_):
    logging.set_verbosity(logging.INFO)
    x = jax.random.normal(jax.random.key(0), (64, 8))
    weights = jnp.zeros(8)
    tx = optax.sgd(0.1)
    state = tx.init(weights)
    writer = metric_writers.LoggingWriter()
    report = periodic_actions.ReportProgress(num_train_steps=40, writer=writer, every_steps=10, every_secs=None)
    writer.write_hparams({"learning_rate": 0.1, "batch_size": 64})
    for step in range(1, 41):
        loss, grads = jax.value_and_grad(lambda w: jnp.mean((x @ w - x.sum(1)) ** 2))(weights)
        moves, state = tx.update(grads, state)
        weights = optax.apply_updates(weights, moves)
        report(step)
        if step % 10 == 0:
            writer.write_scalars(step, {"train_loss": float(loss), "learning_rate": 0.1})
        if step % 20 == 0:
            writer.write_scalars(step, {"eval_loss": float(loss) * 1.1, "eval_accuracy": 0.5})
    writer.flush()


app.run(main)

"""The training step and the evaluation step: pure functions of arrays.

The same step runs alone, under jit with a sharded batch, and under pmap: only
`axis_name` differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from flax import linen as nn
from jax import lax
from jax import numpy as jnp

from fer_jax.data import augment
from fer_jax.training import losses
from fer_jax.training.state import State

__all__ = ['StepOptions', 'evaluate_batch', 'train_chunk', 'train_step']


@dataclasses.dataclass(frozen=True)
class StepOptions:
  """What is fixed while a step is compiled.

  Attributes:
    augmentation: see `augment.Augmentation`.
    label_smoothing: share of the uniform distribution in the targets, 0..1.
    l2: factor of the squared kernels added to the loss (Keras' `l2`).
    ema_decay: of the average of the weights, 0 for none.
    axis_name: mapped axis under pmap.
  """

  augmentation: augment.Augmentation = dataclasses.field(
    default_factory=augment.Augmentation
  )
  label_smoothing: float = 0.0
  l2: float = 0.0
  ema_decay: float = 0.0
  axis_name: str | None = None


def _example_keys(key: jax.Array, count: int, axis_name: str | None):
  """A key an example that depends on its place in the *whole* batch."""
  first = lax.axis_index(axis_name) * count if axis_name else 0
  return jax.vmap(lambda i: jax.random.fold_in(key, first + i))(
    jnp.arange(count)
  )


def train_step(
  state: State,
  images: jax.Array,
  targets: jax.Array,
  *,
  model: nn.Module,
  tx: optax.GradientTransformation,
  options: StepOptions,
) -> tuple[State, dict[str, jax.Array]]:
  """One update.

  Args:
    state: before the step.
    images: uint8 `[B, H, W, C]`, this device's part of the batch.
    targets: float32 `[B, K]`, distributions over the classes.
    model: network; called in training mode.
    tx: optimizer.
    options: see `StepOptions`.

  Returns:
    The state after it, and {'loss', 'accuracy', 'grad_norm'}: mean data loss
    (without the penalty), share of examples whose most likely class is that of
    the target, global norm of the gradient.
  """
  axis = options.axis_name
  key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
  image_key, mix_key, dropout_key = jax.random.split(key, 3)
  keys = _example_keys(image_key, images.shape[0], axis)
  size = tuple(model.input_shape[:2])
  x = augment.apply(keys, images, size, options.augmentation)
  if x.shape[-1] != model.input_shape[-1]:
    x = jnp.broadcast_to(x, (*x.shape[:-1], model.input_shape[-1]))
  if options.augmentation.mixup:
    x, targets = augment.mixup(mix_key, x, targets, options.augmentation.mixup)
  smoothed = losses.smooth(targets, options.label_smoothing)

  def loss_fn(params: Any):
    logits, updates = model.apply(
      {'params': params, 'batch_stats': state.batch_stats},
      x,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': dropout_key},
    )
    loss = jnp.mean(losses.cross_entropy(logits, smoothed))
    total = (
      loss + options.l2 * losses.l2_penalty(params) if options.l2 else loss
    )
    return total, (loss, logits, updates.get('batch_stats', {}))

  grads, (loss, logits, batch_stats) = jax.grad(loss_fn, has_aux=True)(
    state.params
  )
  hit = jnp.mean(
    (jnp.argmax(logits, -1) == jnp.argmax(targets, -1)).astype(jnp.float32)
  )
  if axis:
    grads, loss, hit, batch_stats = lax.pmean(
      (grads, loss, hit, batch_stats), axis
    )
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  updates = jax.tree.map(lambda u: u * state.rate_factor, updates)
  params = optax.apply_updates(state.params, updates)
  ema = state.ema
  if options.ema_decay:
    # The average starts as a plain mean and settles at the given decay, so that
    # short runs do not drag their random start along.
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(options.ema_decay, (1 + step) / (10 + step))
    ema = jax.tree.map(
      lambda a, b: a * decay + b * (1 - decay),
      ema,
      {'params': params, 'batch_stats': batch_stats},
    )
  state = state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    ema=ema,
  )
  metrics = {
    'loss': loss,
    'accuracy': hit,
    'grad_norm': optax.tree.norm(grads),
  }
  return state, metrics


def train_chunk(
  state: State,
  data: Mapping[str, jax.Array],
  order: jax.Array,
  *,
  unroll: bool | int = 1,
  constrain=lambda x: x,
  **step: Any,
) -> tuple[State, dict[str, jax.Array]]:
  """Steps over the rows of `order` as one `lax.scan`.

  Args:
    state: before.
    data: {'images': uint8 `[N, H, W, C]`, 'targets': float32 `[N, K]`}, on the
      device.
    order: int32 `[steps, B]`, rows of `data`.
    unroll: see `lax.scan`.
    constrain: applied to the gathered batch (sharding).
    **step: arguments of `train_step`.

  Returns:
    The state after, and the means of the steps' metrics.
  """

  def body(state: State, rows: jax.Array):
    images = constrain(jnp.take(data['images'], rows, axis=0))
    targets = constrain(jnp.take(data['targets'], rows, axis=0))
    return train_step(state, images, targets, **step)

  state, metrics = lax.scan(body, state, order, unroll=unroll)
  return state, jax.tree.map(jnp.mean, metrics)


def evaluate_batch(
  variables: Mapping[str, Any],
  images: jax.Array,
  labels: jax.Array,
  mask: jax.Array,
  *,
  model: nn.Module,
) -> dict[str, jax.Array]:
  """Sums over one batch; divide once, at the end of the split.

  Args:
    variables: of the network.
    images: uint8 `[B, H, W, C]`.
    labels: int32 `[B]`.
    mask: float32 `[B]`, 0 for rows that only fill the batch.
    model: network; called in inference mode.

  Returns:
    {'loss': summed cross-entropy, 'confusion': float32 `[K, K]`, true class by
    predicted class}.
  """
  x = (
    augment.apply(
      jnp.zeros((images.shape[0], 2), jnp.uint32),
      images,
      tuple(model.input_shape[:2]),
    )
    if images.shape[1:3] != tuple(model.input_shape[:2])
    else (images.astype(jnp.float32) / 255)
  )
  if x.shape[-1] != model.input_shape[-1]:
    x = jnp.broadcast_to(x, (*x.shape[:-1], model.input_shape[-1]))
  logits = model.apply(variables, x, train=False)
  k = logits.shape[-1]
  truth = jax.nn.one_hot(labels, k) * mask[:, None]
  guess = jax.nn.one_hot(jnp.argmax(logits, -1), k)
  return {
    'loss': -jnp.sum(truth * jax.nn.log_softmax(logits)),
    'confusion': truth.T @ guess,
  }

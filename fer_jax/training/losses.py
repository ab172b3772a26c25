"""Losses over soft labels, with a weight an example."""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

__all__ = ['cross_entropy', 'l2_penalty', 'smooth']


def smooth(targets: jax.Array, amount: float) -> jax.Array:
  """Mixes `targets` `[B, K]` with the uniform distribution."""
  return targets * (1 - amount) + amount / targets.shape[-1]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Cross-entropy `[B]` of `logits` `[B, K]` against distributions `[B, K]`."""
  return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def l2_penalty(params: Any) -> jax.Array:
  """Sum of the squares of all kernels (Keras' `l2`, its factor left out)."""
  return sum(
    (
      jnp.sum(jnp.square(value))
      for path, value in jax.tree_util.tree_leaves_with_path(params)
      if getattr(path[-1], 'key', None) == 'kernel'
    ),
    jnp.float32(0),
  )

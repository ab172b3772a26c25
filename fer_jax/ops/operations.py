"""The operations, each handing over to the formulation in force."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax import lax
from jax import numpy as jnp

__all__ = ['avg_pool', 'batch_norm', 'conv2d', 'depthwise_conv2d', 'max_pool']

Padding = str | Sequence[tuple[int, int]]
_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


def conv2d(
  x: jax.Array, kernel: jax.Array, strides: int = 1, padding: Padding = 'SAME'
) -> jax.Array:
  """2-D convolution of `x` `[B, H, W, C]` with `kernel` `[h, w, C, F]`."""
  return lax.conv_general_dilated(
    x, kernel, (strides, strides), padding, dimension_numbers=_DIMENSIONS
  )


def depthwise_conv2d(
  x: jax.Array, kernel: jax.Array, strides: int = 1, padding: Padding = 'SAME'
) -> jax.Array:
  """Convolves each channel of `x` `[B, H, W, C]` with its own kernel.

  Args:
    x: `[B, H, W, C]`.
    kernel: `[h, w, 1, C]`, as `lax` wants it for `feature_group_count=C`.
    strides: same step in both directions.
    padding: 'SAME', 'VALID' or explicit pairs.
  """
  return lax.conv_general_dilated(
    x,
    kernel,
    (strides, strides),
    padding,
    dimension_numbers=_DIMENSIONS,
    feature_group_count=x.shape[-1],
  )


def max_pool(
  x: jax.Array, window: int, strides: int, padding: Padding = 'SAME'
) -> jax.Array:
  """Maximum over `window` x `window` pixels of `x` `[B, H, W, C]`."""
  pads = lax.padtype_to_pads(
    x.shape, (1, window, window, 1), (1, strides, strides, 1), padding
  ) if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
  return lax.reduce_window(
    x,
    -jnp.inf,
    lax.max,
    (1, window, window, 1),
    (1, strides, strides, 1),
    pads,
  )


def avg_pool(
  x: jax.Array, window: int | tuple[int, int], strides: int = 1
) -> jax.Array:
  """Mean over whole windows (VALID) of `x` `[B, H, W, C]`."""
  h, w = (window, window) if isinstance(window, int) else window
  total = lax.reduce_window(
    x, 0.0, lax.add, (1, h, w, 1), (1, strides, strides, 1), 'VALID'
  )
  return total / (h * w)


def batch_norm(
  x: jax.Array,
  scale: jax.Array | float,
  bias: jax.Array | float,
  *,
  epsilon: float,
  axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalises `x` `[B, H, W, C]` with the statistics of the batch.

  Args:
    x: any float dtype; statistics are computed in float32.
    scale: `[C]`.
    bias: `[C]`.
    epsilon: added to the variance.
    axis_name: mapped axis to average the statistics over (pmap, shard_map).

  Returns:
    The normalised images, their mean `[C]` and their biased variance `[C]`.
  """
  f = x.astype(jnp.float32)
  mean = jnp.mean(f, (0, 1, 2))
  square = jnp.mean(f * f, (0, 1, 2))
  if axis_name is not None:
    mean, square = lax.pmean((mean, square), axis_name)
  var = jnp.maximum(square - mean * mean, 0.0)
  factor = lax.rsqrt(var + epsilon) * scale
  shift = bias - mean * factor
  y = f * factor.reshape((1, 1, 1, -1)) + shift.reshape((1, 1, 1, -1))
  return y, mean, var

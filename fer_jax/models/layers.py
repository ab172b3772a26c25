"""Layers shared by the networks.

They have the parameter names and the meaning of their `flax.linen` namesakes;
what differs is that the arithmetic goes through `fer_jax.ops`, which is fast on
CPUs and plain `lax` on accelerators and for export.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax import ops

__all__ = [
  'BatchNorm',
  'Conv',
  'DepthwiseConv',
  'SeparableConv',
  'global_average_pool',
  'he_normal',
]

Padding = Any

# Keras' he_normal: truncated normal with variance 2 / fan_in.
he_normal = nn.initializers.he_normal
# Keras' default for convolutions.
glorot_uniform = nn.initializers.glorot_uniform


class Conv(nn.Module):
  """2-D convolution; parameters `kernel` `[k, k, C, F]` and `bias` `[F]`."""

  features: int
  kernel_size: int = 3
  strides: int = 1
  padding: Padding = 'SAME'
  use_bias: bool = False
  kernel_init: Any = glorot_uniform()
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    k = self.kernel_size
    kernel = self.param(
      'kernel', self.kernel_init, (k, k, x.shape[-1], self.features)
    )
    y = ops.conv2d(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      self.strides,
      self.padding,
    )
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros_init(), (self.features,))
      y = y + bias.astype(self.dtype).reshape((1, 1, 1, -1))
    return y


class DepthwiseConv(nn.Module):
  """One filter a channel; parameters `kernel` `[k, k, 1, C]`, `bias` `[C]`."""

  kernel_size: int = 3
  strides: int = 1
  padding: Padding = 'SAME'
  use_bias: bool = False
  kernel_init: Any = glorot_uniform()
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    k, c = self.kernel_size, x.shape[-1]
    kernel = self.param('kernel', self.kernel_init, (k, k, 1, c))
    y = ops.depthwise_conv2d(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      self.strides,
      self.padding,
    )
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros_init(), (c,))
      y = y + bias.astype(self.dtype).reshape((1, 1, 1, -1))
    return y


class SeparableConv(nn.Module):
  """Depthwise then 1x1 convolution, nothing in between (Keras' layer)."""

  features: int
  kernel_size: int = 3
  strides: int = 1
  padding: Padding = 'SAME'
  use_bias: bool = False
  kernel_init: Any = glorot_uniform()
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = DepthwiseConv(
      self.kernel_size,
      self.strides,
      self.padding,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name='depthwise',
    )(x)
    return Conv(
      self.features,
      1,
      use_bias=self.use_bias,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name='pointwise',
    )(x)


class BatchNorm(nn.Module):
  """Batch normalisation over `[B, H, W]`; statistics kept in float32.

  Parameters `scale`, `bias`; collection `batch_stats` holds `mean` and `var`
  (biased). `momentum` weighs the old statistics. Give `axis_name` only under
  pmap or shard_map: under jit the batch is global already.
  `activation='relu'` appends a ReLU, which on a CPU then costs nothing.
  """

  momentum: float = 0.99
  epsilon: float = 1e-3
  use_scale: bool = True
  use_bias: bool = True
  scale_init: Any = nn.initializers.ones_init()
  axis_name: str | None = None
  dtype: Any = jnp.float32
  activation: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    if self.activation not in (None, 'relu'):
      raise ValueError(
        f"activation must be None or 'relu', got {self.activation!r}"
      )
    relu = self.activation == 'relu'
    c = x.shape[-1]
    zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()
    scale = (
      self.param('scale', self.scale_init, (c,)) if self.use_scale else 1.0
    )
    bias = self.param('bias', zeros, (c,)) if self.use_bias else 0.0
    mean = self.variable('batch_stats', 'mean', zeros, None, (c,))
    var = self.variable('batch_stats', 'var', ones, None, (c,))
    if not train:
      inv = jax.lax.rsqrt(var.value + self.epsilon) * scale
      shift = bias - mean.value * inv
      y = x * inv.reshape((1, 1, 1, -1)) + shift.reshape((1, 1, 1, -1))
      return (nn.relu(y) if relu else y).astype(self.dtype)
    y, m, v = ops.batch_norm(
      x,
      scale,
      bias,
      epsilon=self.epsilon,
      axis_name=self.axis_name,
      relu=relu,
    )
    if not self.is_initializing():
      mean.value = self.momentum * mean.value + (1 - self.momentum) * m
      var.value = self.momentum * var.value + (1 - self.momentum) * v
    return y.astype(self.dtype)


def global_average_pool(x: jax.Array) -> jax.Array:
  """Mean over all pixels, `[B, H, W, C] -> [B, C]`.

  A full-window average pool rather than `jnp.mean`: the converter turns the
  first into one AVERAGE_POOL_2D, the second into a sum and a product.
  """
  return ops.avg_pool(x, x.shape[1:3]).reshape((x.shape[0], x.shape[-1]))

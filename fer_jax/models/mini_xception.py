"""The light-weight CNN of exactly 58,423 parameters (mini-Xception).

Source: "A Light Weight Convolution Neural Network For Real time Facial
Expression Detection", Section III.B and Figure 6. The paper's count (58,423 of
which 56,951 trainable) fixes the layout to the public `mini_XCEPTION`: two
VALID convolutions, four residual modules of depthwise-separable convolutions,
a convolution to the classes and global average pooling instead of a dense
layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.models import layers

__all__ = ['MiniXception']


class _Module(nn.Module):
  """Two separable convolutions and a pool, beside a strided 1x1 shortcut."""

  features: int
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def norm(y: jax.Array, name: str, activation: str | None = None):
      return layers.BatchNorm(
        axis_name=self.axis_name,
        dtype=self.dtype,
        activation=activation,
        name=name,
      )(y, train=train)

    shortcut = layers.Conv(
      self.features, 1, strides=2, dtype=self.dtype, name='shortcut'
    )(x)
    shortcut = norm(shortcut, 'shortcut_norm')
    y = layers.SeparableConv(self.features, dtype=self.dtype, name='conv1')(x)
    y = norm(y, 'norm1', 'relu')
    y = layers.SeparableConv(self.features, dtype=self.dtype, name='conv2')(y)
    y = norm(y, 'norm2')
    y = ops.max_pool(y, 3, 2, 'SAME')
    return y + shortcut  # no activation after the sum


class MiniXception(nn.Module):
  """mini-Xception; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  Attributes:
    num_classes: width of the last convolution.
    input_shape: (H, W, C) that `models.init` builds for; any size works.
    stem: filters of the two 3x3 VALID convolutions.
    modules: filters of the residual modules; each halves the size.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (64, 64, 1)
  stem: Sequence[int] = (8, 8)
  modules: Sequence[int] = (16, 32, 64, 128)
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    x = image.astype(self.dtype) * 2 - 1  # the network was designed for [-1, 1]
    for i, features in enumerate(self.stem, 1):
      x = layers.Conv(
        features, padding='VALID', dtype=self.dtype, name=f'stem{i}'
      )(x)
      x = layers.BatchNorm(
        axis_name=self.axis_name,
        dtype=self.dtype,
        activation='relu',
        name=f'stem{i}_norm',
      )(x, train=train)
    self.sow('intermediates', 'stem_out', x)
    for i, features in enumerate(self.modules, 1):
      x = _Module(
        features,
        axis_name=self.axis_name,
        dtype=self.dtype,
        name=f'module{i}',
      )(x, train=train)
      self.sow('intermediates', f'module{i}_out', x)
    x = layers.Conv(
      self.num_classes, use_bias=True, dtype=self.dtype, name='classes'
    )(x)
    self.sow('intermediates', 'class_maps', x)
    return layers.global_average_pool(x).astype(jnp.float32)

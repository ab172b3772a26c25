"""The four-expression classifier for IoT devices.

Source: Mikhaylevskiy, Chernyavskiy, Pavlishen and Romanova, "Fast Emotion
Recognition Neural Network for IoT Devices", SED 2021, Section III.B, Table II.

Readings chosen where the paper contradicts itself:
  - the table's "Linear 16" follows 64 channels: the dense layer reads 64;
  - the text puts the pointwise before the depthwise convolution, the table
    ("3x3, 1x1") after it: depthwise first;
  - the third module prints a 3x3 shortcut where the others print 1x1: 1x1 in
    all three, as only then the network has about 13.8 k parameters.
The 1.1 MB of the paper is the overhead of its file format; 13.9 k float32
parameters are 55 kB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.models import layers

__all__ = ['IotClassifier']


class _Module(nn.Module):
  """Two separable convolutions and a pool, beside a strided 1x1 shortcut."""

  features: int
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def norm(
      y: jax.Array, name: str, activation: str | None = None
    ) -> jax.Array:
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
    return y + shortcut


class IotClassifier(nn.Module):
  """Table II; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  Sows `stem1_out`, ..., `module1_out`, ... and the pooled `features`.

  Attributes:
    num_classes: the paper's neutral, angry, surprised, happy (label set iot4).
    input_shape: (H, W, C) that `models.init` builds for; any size works.
    stem: filters of the strided 3x3 convolutions.
    modules: filters of the residual modules; each halves the size.
  """

  num_classes: int = 4
  input_shape: tuple[int, int, int] = (64, 64, 1)
  stem: Sequence[int] = (8, 8)
  modules: Sequence[int] = (16, 32, 64)
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    x = image.astype(self.dtype) * 2 - 1
    for i, features in enumerate(self.stem, 1):
      name = f'stem{i}'
      x = layers.Conv(features, strides=2, dtype=self.dtype, name=name)(x)
      x = layers.BatchNorm(
        axis_name=self.axis_name,
        dtype=self.dtype,
        activation='relu',
        name=f'{name}_norm',
      )(x, train=train)
      self.sow('intermediates', f'{name}_out', x)
    for i, features in enumerate(self.modules, 1):
      name = f'module{i}'
      x = _Module(
        features, axis_name=self.axis_name, dtype=self.dtype, name=name
      )(x, train=train)
      self.sow('intermediates', f'{name}_out', x)
    x = layers.global_average_pool(x)
    self.sow('intermediates', 'features', x)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)

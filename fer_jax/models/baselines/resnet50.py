"""ResNet-50 v1, the baseline of 23.6 M parameters.

Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition",
arXiv 1512.03385, Table 1; compared with in the EmotionNet Nano paper's Table 1
and in Tables 2 and 3 of "A Light Weight Convolution Neural Network For Real
time Facial Expression Detection", which quotes the 25.5 M of 1,000 classes.
Layer by layer the network of `keras.applications.ResNet50`: biased
convolutions, the stride in the first 1x1 convolution of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.models import layers

__all__ = ['ResNet50']

_EPSILON = 1.001e-5


class _Block(nn.Module):
  """1x1, 3x3, 1x1 to four times the filters, beside the shortcut."""

  features: int
  strides: int
  project: bool
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def unit(
      y: jax.Array, features: int, size: int, strides: int, suffix: str
    ) -> jax.Array:
      y = layers.Conv(
        features,
        size,
        strides=strides,
        use_bias=True,
        dtype=self.dtype,
        name=f'conv{suffix}',
      )(y)
      return layers.BatchNorm(
        epsilon=_EPSILON,
        axis_name=self.axis_name,
        dtype=self.dtype,
        name=f'norm{suffix}',
      )(y, train=train)

    wide = 4 * self.features
    y = nn.relu(unit(x, self.features, 1, self.strides, '1'))
    y = nn.relu(unit(y, self.features, 3, 1, '2'))
    y = unit(y, wide, 1, 1, '3')
    if self.project:
      x = unit(x, wide, 1, self.strides, '0')
    return nn.relu(x + y)


class ResNet50(nn.Module):
  """ResNet-50; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  Sows `conv1_out` (after the ReLU), every `conv<i>_block<j>_out` and `features`.

  Attributes:
    num_classes: width of the dense layer.
    input_shape: (H, W, C) that `models.init` builds for; any size from 32 up.
    stages: filters inside the blocks of each stage.
    blocks: residual blocks of each stage.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (224, 224, 3)
  stages: Sequence[int] = (64, 128, 256, 512)
  blocks: Sequence[int] = (3, 4, 6, 3)
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    x = image.astype(self.dtype) * 2 - 1
    x = layers.Conv(
      64,
      7,
      strides=2,
      padding=((3, 3), (3, 3)),
      use_bias=True,
      dtype=self.dtype,
      name='conv1',
    )(x)
    x = layers.BatchNorm(
      epsilon=_EPSILON,
      axis_name=self.axis_name,
      dtype=self.dtype,
      name='norm1',
    )(x, train=train)
    x = nn.relu(x)
    self.sow('intermediates', 'conv1_out', x)
    x = ops.max_pool(x, 3, 2, ((1, 1), (1, 1)))
    stages = zip(self.stages, self.blocks, strict=True)
    for i, (features, count) in enumerate(stages, 2):
      for j in range(1, count + 1):
        name = f'conv{i}_block{j}'
        x = _Block(
          features,
          strides=2 if i > 2 and j == 1 else 1,
          project=j == 1,
          axis_name=self.axis_name,
          dtype=self.dtype,
          name=name,
        )(x, train=train)
        self.sow('intermediates', f'{name}_out', x)
    x = layers.global_average_pool(x)
    self.sow('intermediates', 'features', x)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)

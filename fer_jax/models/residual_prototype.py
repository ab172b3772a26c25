"""The human-made residual prototype that EmotionNet Nano was evolved from.

Source: Lee, Wang and Wong, "EmotionNet Nano", Section 2.1, the "initial network
design prototype" phi: residual connections, then average pooling and a dense
softmax layer. No layers are printed. Reading chosen: the
CIFAR-10 ResNet-20 v1 of the Keras examples (He et al., "Deep Residual Learning
for Image Recognition", arXiv 1512.03385, Section 4.2), whose step schedule the
paper repeats: three stages of three residual blocks, 16, 32 and 64 filters,
biased convolutions, linear 1x1 stride-2 shortcuts between the stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax.models import layers

__all__ = ['ResidualPrototype']


class _Block(nn.Module):
  """Two 3x3 convolutions beside the identity or a strided 1x1 shortcut."""

  features: int
  strides: int = 1
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def conv(y: jax.Array, size: int, strides: int, name: str) -> jax.Array:
      return layers.Conv(
        self.features,
        size,
        strides=strides,
        use_bias=True,
        kernel_init=layers.he_normal(),
        dtype=self.dtype,
        name=name,
      )(y)

    def norm(
      y: jax.Array, name: str, activation: str | None = None
    ) -> jax.Array:
      return layers.BatchNorm(
        axis_name=self.axis_name,
        dtype=self.dtype,
        activation=activation,
        name=name,
      )(y, train=train)

    y = norm(conv(x, 3, self.strides, 'conv1'), 'norm1', 'relu')
    y = norm(conv(y, 3, 1, 'conv2'), 'norm2')
    if self.strides != 1 or x.shape[-1] != self.features:
      x = conv(x, 1, self.strides, 'shortcut')
    return nn.relu(x + y)


class ResidualPrototype(nn.Module):
  """ResNet v1 for small images; `[B, H, W, C]` in [0, 1] -> `[B, num_classes]`.

  Sows `stem_out`, every `stage<i>_block<j>_out` and the pooled `features`.

  Attributes:
    num_classes: width of the dense layer.
    input_shape: (H, W, C) that `models.init` builds for; any size works.
    stages: filters of the stages; all but the first halve the size.
    blocks: residual blocks a stage; depth is 2 * stages * blocks + 2.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (48, 48, 1)
  stages: Sequence[int] = (16, 32, 64)
  blocks: int = 3
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    x = image.astype(self.dtype) * 2 - 1
    x = layers.Conv(
      self.stages[0],
      use_bias=True,
      kernel_init=layers.he_normal(),
      dtype=self.dtype,
      name='stem',
    )(x)
    x = layers.BatchNorm(
      axis_name=self.axis_name,
      dtype=self.dtype,
      activation='relu',
      name='stem_norm',
    )(x, train=train)
    self.sow('intermediates', 'stem_out', x)
    for i, features in enumerate(self.stages, 1):
      for j in range(1, self.blocks + 1):
        name = f'stage{i}_block{j}'
        x = _Block(
          features,
          strides=2 if i > 1 and j == 1 else 1,
          axis_name=self.axis_name,
          dtype=self.dtype,
          name=name,
        )(x, train=train)
        self.sow('intermediates', f'{name}_out', x)
    x = layers.global_average_pool(x)
    self.sow('intermediates', 'features', x)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)

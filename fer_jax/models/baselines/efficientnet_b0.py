"""EfficientNet-B0, the baseline of 4.06 M parameters.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional
Neural Networks", arXiv 1905.11946, Table 1; compared with in the EmotionNet
Nano paper's Table 1. Layer by layer the network of
`keras.applications.EfficientNetB0`, which counts 7 parameters more: the
statistics of its input normalisation, constants here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax.models import layers

__all__ = ['EfficientNetB0']

_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'truncated_normal')


class _Block(nn.Module):
  """Inverted residual with squeeze-and-excitation."""

  features: int
  kernel_size: int
  strides: int
  expand: int
  drop: float
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def conv(
      y: jax.Array, features: int, name: str, *, use_bias: bool = False
    ) -> jax.Array:
      return layers.Conv(
        features,
        1,
        use_bias=use_bias,
        kernel_init=_fan_out,
        dtype=self.dtype,
        name=name,
      )(y)

    def norm(y: jax.Array, name: str) -> jax.Array:
      return layers.BatchNorm(
        axis_name=self.axis_name, dtype=self.dtype, name=name
      )(y, train=train)

    narrow = x.shape[-1]
    wide = narrow * self.expand
    y = x
    if self.expand != 1:
      y = nn.swish(norm(conv(y, wide, 'expand'), 'expand_norm'))
    y = layers.DepthwiseConv(
      self.kernel_size,
      self.strides,
      kernel_init=_fan_out,
      dtype=self.dtype,
      name='depthwise',
    )(y)
    y = nn.swish(norm(y, 'depthwise_norm'))
    # Squeezed to a quarter of what comes *into* the block.
    gate = layers.global_average_pool(y).reshape((-1, 1, 1, wide))
    gate = conv(gate, max(1, narrow // 4), 'squeeze', use_bias=True)
    gate = conv(nn.swish(gate), wide, 'excite', use_bias=True)
    y = y * nn.sigmoid(gate)
    y = norm(conv(y, self.features, 'project'), 'project_norm')
    if self.strides != 1 or narrow != self.features:
      return y
    # One draw an image: the whole branch is there or not.
    y = nn.Dropout(self.drop, broadcast_dims=(1, 2, 3), name='drop')(
      y, deterministic=not train
    )
    return x + y


class EfficientNetB0(nn.Module):
  """EfficientNet-B0; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  Sows `stem_out`, every `stage<i>_block<j>_out`, `top_out` and `features`.

  Attributes:
    num_classes: width of the dense layer.
    input_shape: (H, W, C) that `models.init` builds for; any size from 32 up.
    stem: filters of the first, strided convolution.
    stages: (blocks, filters, kernel size, strides, expansion) of each stage.
    top: filters of the last 1x1 convolution.
    dropout: rate before the dense layer; the original trains with 0.2. A rate
      above 0 needs `rngs={'dropout': key}` in training.
    drop_connect: rate of dropping the last residual branch, falling linearly to
      0 for the first; the original trains with 0.2. Needs the same key.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (224, 224, 3)
  stem: int = 32
  stages: Sequence[tuple[int, int, int, int, int]] = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
  )
  top: int = 1280
  dropout: float = 0.0
  drop_connect: float = 0.0
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    def norm(y: jax.Array, name: str) -> jax.Array:
      return layers.BatchNorm(
        axis_name=self.axis_name, dtype=self.dtype, name=name
      )(y, train=train)

    x = image.astype(self.dtype) * 2 - 1
    x = layers.Conv(
      self.stem,
      strides=2,
      kernel_init=_fan_out,
      dtype=self.dtype,
      name='stem',
    )(x)
    x = nn.swish(norm(x, 'stem_norm'))
    self.sow('intermediates', 'stem_out', x)
    total, done = sum(stage[0] for stage in self.stages), 0
    for i, (count, features, size, strides, expand) in enumerate(
      self.stages, 1
    ):
      for j in range(1, count + 1):
        name = f'stage{i}_block{j}'
        x = _Block(
          features,
          size,
          strides if j == 1 else 1,
          expand,
          drop=self.drop_connect * done / total,
          axis_name=self.axis_name,
          dtype=self.dtype,
          name=name,
        )(x, train=train)
        self.sow('intermediates', f'{name}_out', x)
        done += 1
    x = layers.Conv(
      self.top, 1, kernel_init=_fan_out, dtype=self.dtype, name='top'
    )(x)
    x = nn.swish(norm(x, 'top_norm'))
    self.sow('intermediates', 'top_out', x)
    x = layers.global_average_pool(x)
    self.sow('intermediates', 'features', x)
    x = nn.Dropout(self.dropout, name='drop')(x, deterministic=not train)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)

"""MobileNet v1, the baseline of 3.23 M parameters.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for
Mobile Vision Applications", arXiv 1704.04861, Table 1; compared with in the
EmotionNet Nano paper's Table 1. Layer by layer the network of
`keras.applications.MobileNet`, its 1x1 convolution to the classes written as a
dense layer. The papers' 3.23 M is the network without that layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax.models import layers

__all__ = ['MobileNetV1']


class _Block(nn.Module):
  """Depthwise 3x3 and pointwise convolution, each with norm and ReLU6."""

  features: int
  strides: int
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def norm(y: jax.Array, name: str) -> jax.Array:
      return layers.BatchNorm(
        axis_name=self.axis_name, dtype=self.dtype, name=name
      )(y, train=train)

    # Keras pads strided layers at the far edges. For even sizes that is SAME,
    # which the exporter knows; for odd ones it is not.
    even = all(n % 2 == 0 for n in x.shape[1:3])
    same = self.strides == 1 or even
    x = layers.DepthwiseConv(
      strides=self.strides,
      padding='SAME' if same else ((0, 1), (0, 1)),
      dtype=self.dtype,
      name='depthwise',
    )(x)
    x = nn.relu6(norm(x, 'depthwise_norm'))
    x = layers.Conv(self.features, 1, dtype=self.dtype, name='pointwise')(x)
    return nn.relu6(norm(x, 'pointwise_norm'))


class MobileNetV1(nn.Module):
  """MobileNet v1; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  Sows `stem_out`, `block1_out` ... and the pooled `features`.

  Attributes:
    num_classes: width of the dense layer.
    input_shape: (H, W, C) that `models.init` builds for; any size from 32 up.
    stem: filters of the first, strided convolution.
    blocks: (filters, strides) of the depthwise-separable blocks.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (224, 224, 3)
  stem: int = 32
  blocks: Sequence[tuple[int, int]] = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
  )
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    x = image.astype(self.dtype) * 2 - 1
    x = layers.Conv(self.stem, strides=2, dtype=self.dtype, name='stem')(x)
    x = layers.BatchNorm(
      axis_name=self.axis_name, dtype=self.dtype, name='stem_norm'
    )(x, train=train)
    x = nn.relu6(x)
    self.sow('intermediates', 'stem_out', x)
    for i, (features, strides) in enumerate(self.blocks, 1):
      x = _Block(
        features,
        strides,
        axis_name=self.axis_name,
        dtype=self.dtype,
        name=f'block{i}',
      )(x, train=train)
      self.sow('intermediates', f'block{i}_out', x)
    x = layers.global_average_pool(x)
    self.sow('intermediates', 'features', x)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)

"""MicroExpNet, the network of less than 1 MB for frontal faces.

Source: Cugu, Sener and Akbas, "MicroExpNet: An Extremely Small and Fast Model
For Expression Recognition From Frontal Face Images", arXiv 1711.07011, with the
layer sizes of its authors' published code; named in the EmotionNet Nano papers.
CK+ with neutral has eight classes (label set ckplus8). No pools: the paper
finds translation invariance harmful in small networks.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax.models import layers

__all__ = ['MicroExpNet']


class MicroExpNet(nn.Module):
  """MicroExpNet; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  The dense layer fixes the image size once initialised.

  Sows `conv1_out`, `conv2_out` and `features`.

  Attributes:
    num_classes: width of the last dense layer.
    input_shape: (H, W, C) that `models.init` builds for.
    conv1: filters of the 8x8 convolution, stride 4.
    conv2: filters of the 4x4 convolution, stride 2.
    dense: width of the dense layer between.
    dropout: rate after it; the original trains with 0.5. A rate above 0 needs
      `rngs={'dropout': key}` in training.
  """

  num_classes: int = 8
  input_shape: tuple[int, int, int] = (84, 84, 1)
  conv1: int = 16
  conv2: int = 32
  dense: int = 16
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    x = image.astype(self.dtype) * 2 - 1
    for name, features, size, strides in (
      ('conv1', self.conv1, 8, 4),
      ('conv2', self.conv2, 4, 2),
    ):
      x = layers.Conv(
        features,
        size,
        strides=strides,
        use_bias=True,
        dtype=self.dtype,
        name=name,
      )(x)
      x = nn.relu(x)
      self.sow('intermediates', f'{name}_out', x)
    x = x.reshape((x.shape[0], -1))
    x = nn.relu(nn.Dense(self.dense, dtype=self.dtype, name='dense')(x))
    self.sow('intermediates', 'features', x)
    x = nn.Dropout(self.dropout, name='drop')(x, deterministic=not train)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)

"""The small densely connected network that the papers call DenseNet-1.

Source: row "DenseNet-1" in Table 3 of "A Light Weight Convolution Neural
Network For Real time Facial Expression Detection": 36 convolutions, 4 pools, 1
dense layer, 95,263 parameters; it quotes Zhao, Yang and Yu, "Expression
Recognition Method Based on a Lightweight Convolutional Neural Network", IEEE
Access 8 (2020), whose abstract adds "densely connected convolution layer",
"model compression" and "multichannel input". No widths are printed there.

Reading chosen, a reconstruction: DenseNet-BC (Huang, Liu, van der Maaten and
Weinberger, arXiv 1608.06993) with that paper's constants (7x7 stem of 64,
bottleneck of 4 growth rates, compression 0.5), four blocks of four layers,
growth rate 8, biased convolutions, three-channel input and no norm after the
last block: 1 + 32 + 3 convolutions, three pools between the blocks and the
global one, and 95,263 parameters with batch-norm statistics (on grey images
88,991). It was found by searching layouts for that count, and a dozen others
in the searched range reach it as well, with less usual constants. So the
agreement of the count is no evidence for the layout.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax import ops
from fer_jax.models import layers

__all__ = ['DenseLite']


class DenseLite(nn.Module):
  """DenseNet-BC; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  Sows `stem_out`, `block1_out` ... (the concatenation) and `features`.

  Attributes:
    num_classes: width of the dense layer.
    input_shape: (H, W, C) that `models.init` builds for; any size from 16 up.
    stem: filters of the strided 7x7 convolution.
    growth: channels that a dense layer adds.
    blocks: number of dense blocks.
    depth: dense layers a block.
    bottleneck: filters of the 1x1 convolution of a layer, in growth rates.
    compression: share of the channels kept between blocks.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (48, 48, 3)
  stem: int = 64
  growth: int = 8
  blocks: int = 4
  depth: int = 4
  bottleneck: int = 4
  compression: float = 0.5
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    def conv(
      y: jax.Array, features: int, size: int, name: str, strides: int = 1
    ) -> jax.Array:
      return layers.Conv(
        features,
        size,
        strides=strides,
        use_bias=True,
        kernel_init=layers.he_normal(),
        dtype=self.dtype,
        name=name,
      )(y)

    def norm_relu(y: jax.Array, name: str) -> jax.Array:
      return layers.BatchNorm(
        axis_name=self.axis_name,
        dtype=self.dtype,
        activation='relu',
        name=name,
      )(y, train=train)

    x = image.astype(self.dtype) * 2 - 1
    x = norm_relu(conv(x, self.stem, 7, 'stem', strides=2), 'stem_norm')
    self.sow('intermediates', 'stem_out', x)
    for i in range(1, self.blocks + 1):
      for j in range(1, self.depth + 1):
        name = f'block{i}_layer{j}'
        y = norm_relu(x, f'{name}_norm1')
        y = conv(y, self.bottleneck * self.growth, 1, f'{name}_conv1')
        y = norm_relu(y, f'{name}_norm2')
        y = conv(y, self.growth, 3, f'{name}_conv2')
        x = jnp.concatenate([x, y], axis=-1)
      self.sow('intermediates', f'block{i}_out', x)
      if i < self.blocks:
        y = norm_relu(x, f'transition{i}_norm')
        kept = int(x.shape[-1] * self.compression)
        x = ops.avg_pool(conv(y, kept, 1, f'transition{i}'), 2, 2)
    x = layers.global_average_pool(x)
    self.sow('intermediates', 'features', x)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)

"""EmotionNet Nano, variants A and B: densely wired 3x3 convolutions.

Source: Lee, Wang and Wong, "EmotionNet Nano: An Efficient Deep Convolutional
Neural Network Design for Real-Time Facial Expression Recognition", Frontiers in
Artificial Intelligence 3:609673 (2021), Figure 1; arXiv 2006.15759, Figure 2.

Readings chosen:
  Nano-B follows the figure. One of its public transcriptions leaves `b5` out
  of the sum before `b6`; the others keep it, and so does this file. As deployed
  (batch norm folded into biases) it has 141,098 parameters on grey images; the
  paper says 0.136 M, and nothing public explains the difference.
  Nano-A (0.232 M) is printed nowhere. The widths here are a reconstruction:
  Nano-B widened by 1.278, 231,992 parameters as deployed.
  Batch norm is not drawn in the figure; the human prototype has it after every
  3x3 convolution (`residual_prototype.py`), hence `use_norm`, which
  `fold_batch_norm` takes out again without changing the function.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from fer_jax.models import layers

__all__ = ['VARIANTS', 'WIRING', 'EmotionNetNano', 'fold_batch_norm']

# Constructor arguments of the variants.
VARIANTS: dict[str, dict[str, Any]] = {
  'nano_a': {
    'stem': (14, 12, 14, 10, 14, 9, 14, 35),
    'stage1': (35, 24, 35, 33, 35, 46),
    'stage2': (82, 50, 82, 31, 82),
  },
  'nano_b': {
    'stem': (11, 9, 11, 8, 11, 7, 11, 27),
    'stage1': (27, 19, 27, 26, 27, 36),
    'stage2': (64, 39, 64, 24, 64),
  },
}

# (layer, the tensors summed to make its input), in order of computation.
WIRING: tuple[tuple[str, tuple[str, ...]], ...] = (
  ('f1', ('image',)),
  ('f2', ('f1',)),
  ('f3', ('f2',)),
  ('f4', ('f1', 'f3')),
  ('f5', ('f4',)),
  ('f6', ('f1', 'f3', 'f5')),
  ('f7', ('f6',)),
  ('f8', ('f1', 'f5', 'f7')),
  ('id1', ('f1', 'f3', 'f5')),
  ('b1', ('f8',)),
  ('b2', ('b1', 'id1')),
  ('b3', ('b2',)),
  ('b4', ('b1', 'b3')),
  ('b5', ('b4',)),
  ('b6', ('b1', 'b3', 'b5', 'id1')),
  ('id2', ('b3', 'b5', 'id1', 'f8')),
  ('c1', ('b6',)),
  ('c2', ('c1', 'id2')),
  ('c3', ('c2',)),
  ('c4', ('c1', 'c3', 'id2')),
  ('c5', ('c4',)),
)
_POOLED = ('c1', 'c3', 'c5', 'id2')
# 1x1 convolutions without norm and activation.
_SHORTCUTS = ('id1', 'id2')
# Layers that halve the size.
_STRIDED = ('f8', 'b6', *_SHORTCUTS)
_EPSILON = 1e-3


class EmotionNetNano(nn.Module):
  """EmotionNet Nano; `[B, H, W, C]` in [0, 1] -> logits `[B, num_classes]`.

  Sows what every layer gives (`f1_out` ... `c5_out`, `id1_out`, `id2_out`) and
  the pooled `features` `[B, stage2[-1]]`.

  Attributes:
    num_classes: width of the dense layer.
    input_shape: (H, W, C) that `models.init` builds for; any size works.
    stem: filters of `f1` ... `f8` at full size; `f8` halves it.
    stage1: filters of `b1` ... `b6` at half size; `b6` halves it again.
    stage2: filters of `c1` ... `c5` at a quarter of the size.
    use_norm: 3x3 convolution, batch norm, ReLU, for training; without, the
      convolutions have biases instead: the network as deployed.
  """

  num_classes: int = 7
  input_shape: tuple[int, int, int] = (48, 48, 1)
  stem: Sequence[int] = VARIANTS['nano_b']['stem']
  stage1: Sequence[int] = VARIANTS['nano_b']['stage1']
  stage2: Sequence[int] = VARIANTS['nano_b']['stage2']
  use_norm: bool = True
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    widths = _widths(self.stem, self.stage1, self.stage2)
    # Zero, which SAME padding puts around the image, then means mid-grey.
    tensors = {'image': image.astype(self.dtype) * 2 - 1}
    for name, sources in WIRING:
      shortcut = name in _SHORTCUTS
      x = layers.Conv(
        widths[name],
        1 if shortcut else 3,
        strides=2 if name in _STRIDED else 1,
        use_bias=shortcut or not self.use_norm,
        kernel_init=layers.he_normal(),
        dtype=self.dtype,
        name=name,
      )(_total(tensors, sources))
      if not shortcut:
        if self.use_norm:
          x = layers.BatchNorm(
            epsilon=_EPSILON,
            axis_name=self.axis_name,
            dtype=self.dtype,
            activation='relu',
            name=f'{name}_norm',
          )(x, train=train)
        else:
          x = nn.relu(x)
      self.sow('intermediates', f'{name}_out', x)
      tensors[name] = x
    x = layers.global_average_pool(_total(tensors, _POOLED))
    self.sow('intermediates', 'features', x)
    x = nn.Dense(self.num_classes, dtype=self.dtype, name='classes')(x)
    return x.astype(jnp.float32)


def _total(tensors: Mapping[str, jax.Array], names: Sequence[str]) -> jax.Array:
  total = tensors[names[0]]
  for name in names[1:]:
    total = total + tensors[name]
  return total


def _widths(
  stem: Sequence[int], stage1: Sequence[int], stage2: Sequence[int]
) -> dict[str, int]:
  """Filters by layer name; refuses widths whose tensors cannot be summed."""
  widths: dict[str, int] = {}
  for field, letter, count, given in (
    ('stem', 'f', 8, stem),
    ('stage1', 'b', 6, stage1),
    ('stage2', 'c', 5, stage2),
  ):
    if len(given) != count:
      raise ValueError(f'{field} needs {count} widths, got {len(given)}')
    widths |= {f'{letter}{i}': int(w) for i, w in enumerate(given, 1)}
  widths |= {'id1': widths['b1'], 'id2': widths['c1']}
  for group in (
    ('f1', 'f3', 'f5', 'f7'),
    ('f8', 'b1', 'b3', 'b5'),
    ('c1', 'c3', 'c5'),
  ):
    if len({widths[name] for name in group}) > 1:
      found = ', '.join(f'{name}={widths[name]}' for name in group)
      raise ValueError(f'these layers are summed, give them one width: {found}')
  return widths


def fold_batch_norm(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Variables of the deployed network that computes the same function.

  Args:
    variables: of an `EmotionNetNano` with `use_norm=True`.

  Returns:
    `{'params': ...}` for the same network with `use_norm=False`.

  Raises:
    ValueError: there is no batch norm to fold.
  """
  if not variables.get('batch_stats'):
    raise ValueError('nothing to fold: the variables hold no batch_stats')
  params, stats = variables['params'], variables['batch_stats']
  folded = {}
  for name, layer in params.items():
    norm = f'{name}_norm'
    if norm in stats:
      factor = params[norm]['scale'] / jnp.sqrt(stats[norm]['var'] + _EPSILON)
      folded[name] = {
        'kernel': layer['kernel'] * factor.reshape((1, 1, 1, -1)),
        'bias': params[norm]['bias'] - stats[norm]['mean'] * factor,
      }
    elif name not in {f'{other}_norm' for other in params}:
      folded[name] = dict(layer)
  return {'params': folded}

"""Optimizers by name, with weight decay on kernels only."""

from __future__ import annotations

from typing import Any

import jax
import optax

__all__ = ['NAMES', 'create', 'kernel_mask']

NAMES = ('adam', 'adamw', 'sgd')


def kernel_mask(params: Any) -> Any:
  """True for every convolution or dense kernel, False for the rest."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: getattr(path[-1], 'key', None) == 'kernel', params
  )


def create(
  name: str,
  rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float = 0.0,
  momentum: float = 0.9,
  clip_norm: float = 0.0,
) -> optax.GradientTransformation:
  """The optimizer called `name`.

  Args:
    name: 'adam', 'adamw' (decoupled decay) or 'sgd' (Nesterov; the decay is
      added to the gradient).
    rate: learning rate or schedule.
    weight_decay: strength of the decay of kernels; 'adam' takes none, use
      `loss.l2` with it.
    momentum: of 'sgd'.
    clip_norm: gradients are scaled down to this global norm; 0 is off.

  Raises:
    ValueError: unknown name, or a decay given to 'adam'.
  """
  parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
  if name == 'adam':
    if weight_decay:
      raise ValueError(
        "'adam' has no weight decay: use optimizer.name='adamw', or loss.l2"
      )
    parts.append(optax.adam(rate))
  elif name == 'adamw':
    parts.append(optax.adamw(rate, weight_decay=weight_decay, mask=kernel_mask))
  elif name == 'sgd':
    if weight_decay:
      parts.append(optax.add_decayed_weights(weight_decay, kernel_mask))
    parts.append(optax.sgd(rate, momentum, nesterov=True))
  else:
    raise ValueError(
      f'unknown optimizer {name!r}; choose one of {", ".join(NAMES)}'
    )
  return optax.chain(*parts)

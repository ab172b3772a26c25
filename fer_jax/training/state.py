"""Everything a training needs to go on, as one pytree."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import numpy as np
import optax
from flax import linen as nn
from jax import numpy as jnp

__all__ = ['State', 'create', 'inference_variables']


@flax.struct.dataclass
class State:
  """State of a training.

  Attributes:
    step: int32 scalar, steps done.
    params: trainable parameters.
    batch_stats: running statistics of batch normalisation.
    opt_state: of the optimizer.
    ema: exponential moving average of `params` and `batch_stats`, or {}.
    rate_factor: float32 scalar multiplied into the updates; the plateau
      schedule lowers it.
    plateau: {'best': float32, 'wait': int32} of the plateau schedule.
    rng: key data of the run; a step's key is `fold_in(rng, step)`.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema: Any
  rate_factor: jax.Array
  plateau: Any
  rng: jax.Array


def create(
  model: nn.Module,
  tx: optax.GradientTransformation,
  seed: int,
  *,
  ema: bool = False,
) -> State:
  """A fresh state for `model`, initialised from `seed`."""
  init_key, run_key = jax.random.split(jax.random.key(seed))
  image = jnp.zeros((1, *model.input_shape), jnp.float32)
  # axis_name belongs to the step; no axis is bound while initialising.
  if getattr(model, 'axis_name', None) is not None:
    model = model.clone(axis_name=None)
  variables = jax.jit(model.init)(init_key, image)
  params = variables['params']
  batch_stats = variables.get('batch_stats', {})
  average = {'params': params, 'batch_stats': batch_stats} if ema else {}
  return State(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=tx.init(params),
    # Copies: the step donates its state, and no buffer may be given twice.
    ema=jax.tree.map(jnp.copy, average),
    rate_factor=jnp.ones((), jnp.float32),
    plateau={
      'best': jnp.full((), np.inf, jnp.float32),
      'wait': jnp.zeros((), jnp.int32),
    },
    rng=jax.random.key_data(run_key),
  )


def inference_variables(state: State) -> dict[str, Any]:
  """The variables to evaluate and release: the average where there is one."""
  if state.ema:
    return dict(state.ema)
  return {'params': state.params, 'batch_stats': state.batch_stats}

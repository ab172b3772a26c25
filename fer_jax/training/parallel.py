"""Data parallelism: jit with a sharded batch, or pmap, around one step.

Small sets live whole on every device; what is split is the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

__all__ = ['STRATEGIES', 'Strategy', 'create']

STRATEGIES = ('jit', 'pmap')
_AXIS = 'data'


class Strategy:
  """How a chunk of steps is spread over devices.

  Attributes:
    name: 'jit' or 'pmap'.
    devices: taking part; each gets the same share of a batch.
    axis_name: to give to the step and the model; None under jit, where batch
      statistics are global by themselves.
  """

  def __init__(self, name: str, devices: Sequence[jax.Device]):
    self.name = name
    self.devices = list(devices)
    self.axis_name = _AXIS if name == 'pmap' else None
    self._mesh = Mesh(
      np.array(self.devices),
      (_AXIS,),
      axis_types=(jax.sharding.AxisType.Auto,),
    )

  def check_batch(self, batch_size: int) -> None:
    """Raises `ValueError` where the devices cannot share a batch evenly."""
    n = len(self.devices)
    if batch_size % n:
      raise ValueError(
        f'batch_size={batch_size} is not divisible by the {n} devices; use '
        f'{batch_size - batch_size % n or n} or {batch_size + -batch_size % n}'
      )

  def replicate(self, tree: Any) -> Any:
    """Puts a copy of every array on every device."""
    return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

  def constrain(self, x: jax.Array) -> jax.Array:
    """Under jit: splits the first axis of `x` over the devices."""
    if self.name == 'pmap' or len(self.devices) == 1:
      return x
    return jax.lax.with_sharding_constraint(
      x, NamedSharding(self._mesh, PartitionSpec(_AXIS))
    )

  def compile(self, chunk: Callable[..., Any]) -> Callable[..., Any]:
    """`chunk(state, data, order)` for these devices; order is `[steps, B]`."""
    if self.name == 'jit':
      fn = functools.partial(chunk, constrain=self.constrain)
      return jax.jit(fn, donate_argnums=0)
    mapped = jax.pmap(
      chunk,
      axis_name=_AXIS,
      in_axes=(None, None, 0),
      out_axes=(None, None),
      devices=self.devices,
    )

    def run(state: Any, data: Any, order: np.ndarray):
      steps, batch = order.shape
      n = len(self.devices)
      # Device i takes the i-th part of every batch, as sharding would.
      split = np.asarray(order).reshape((steps, n, batch // n))
      return mapped(state, data, split.transpose((1, 0, 2)))

    return run


def create(
  name: str = 'jit', devices: Sequence[jax.Device] | None = None
) -> Strategy:
  """The strategy called `name` over `devices` (default: all local ones).

  Raises:
    ValueError: unknown name.
  """
  if name not in STRATEGIES:
    raise ValueError(
      f'unknown strategy {name!r}; choose one of {", ".join(STRATEGIES)}'
    )
  return Strategy(name, devices or jax.local_devices())

"""Learning-rate schedules of the papers, in epochs, as optax schedules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import optax

__all__ = ['NAMES', 'cosine', 'create', 'emotionnet_nano', 'piecewise']

NAMES = ('constant', 'piecewise', 'cosine', 'plateau')


def piecewise(
  rate: float,
  epochs: Sequence[float],
  factors: Sequence[float],
  steps_per_epoch: int,
) -> optax.Schedule:
  """Steps at whole epochs.

  Args:
    rate: initial rate.
    epochs: increasing 0-based epochs at whose first step a factor takes hold.
    factors: rate from there on, as a share of the *initial* rate.
    steps_per_epoch: steps an epoch.

  Raises:
    ValueError: lengths differ, or epochs do not increase.
  """
  if len(epochs) != len(factors):
    raise ValueError(
      f'schedule has {len(epochs)} epochs but {len(factors)} factors; give as '
      'many of one as of the other'
    )
  if any(a >= b for a, b in itertools.pairwise(epochs)):
    raise ValueError(f'schedule epochs must increase, got {tuple(epochs)}')
  scales, previous = {}, 1.0
  for epoch, factor in zip(epochs, factors, strict=True):
    scales[round(epoch * steps_per_epoch)] = factor / previous
    previous = factor
  return optax.piecewise_constant_schedule(rate, scales)


def emotionnet_nano(steps_per_epoch: int, rate: float = 1e-3) -> optax.Schedule:
  """EmotionNet Nano's schedule: 200 epochs, drops at 81, 121, 161 and 181.

  Source: EmotionNet Nano (Frontiers 2021), training section: the rate times
  1e-1, 1e-2, 1e-3 and 0.5e-3 of its initial value; epochs count from 0.
  """
  return piecewise(
    rate, (81, 121, 161, 181), (1e-1, 1e-2, 1e-3, 0.5e-3), steps_per_epoch
  )


def cosine(
  rate: float,
  total_steps: int,
  warmup_steps: int = 0,
  final_factor: float = 0.0,
) -> optax.Schedule:
  """Linear warm-up from 0, then half a cosine down to `rate * final_factor`.

  Raises:
    ValueError: the warm-up is not shorter than the whole.
  """
  if warmup_steps >= total_steps:
    raise ValueError(
      f'warm-up of {warmup_steps} steps is not shorter than the whole training '
      f'of {total_steps}; lower schedule.warmup_epochs or raise epochs'
    )
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0 if warmup_steps else rate,
    peak_value=rate,
    warmup_steps=warmup_steps,
    decay_steps=total_steps,
    end_value=rate * final_factor,
  )


def create(
  name: str,
  *,
  rate: float,
  epochs: float,
  steps_per_epoch: int,
  warmup_epochs: float = 0.0,
  final_factor: float = 0.0,
  boundaries: Sequence[float] = (),
  factors: Sequence[float] = (),
) -> optax.Schedule:
  """The schedule called `name`; see `NAMES`.

  'plateau' is constant here: the trainer lowers it by the validation loss.

  Raises:
    ValueError: unknown name, or arguments that do not fit together.
  """
  total = math.ceil(epochs * steps_per_epoch)
  if name in ('constant', 'plateau'):
    return optax.constant_schedule(rate)
  if name == 'piecewise':
    return piecewise(rate, boundaries, factors, steps_per_epoch)
  if name == 'cosine':
    warmup = round(warmup_epochs * steps_per_epoch)
    return cosine(rate, total, warmup, final_factor)
  raise ValueError(
    f'unknown schedule {name!r}; choose one of {", ".join(NAMES)}'
  )

"""Checkpoints with Orbax: the newest two and the best, written in background.

A save appears under its step in one rename, so a killed process leaves nothing
half-done; a checkpoint damaged afterwards is put aside and the one before it
is used.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from fer_jax.training.state import State

__all__ = [
  'CheckpointError',
  'Checkpoints',
  'load_variables',
]

_METRIC = 'accuracy'


class CheckpointError(RuntimeError):
  """A checkpoint could not be written or read; the message says what to do."""


def _metric(metrics: dict[str, Any]) -> float:
  return float(metrics.get(_METRIC, 0.0))


def _quiet():
  """Orbax and its dependencies warn about their own insides."""
  context = contextlib.ExitStack()
  context.enter_context(warnings.catch_warnings())
  warnings.simplefilter('ignore')
  return context


def _manager(folder: pathlib.Path, keep: int) -> ocp.CheckpointManager:
  policy = preservation_policy.AnyPreservationPolicy(
    [
      preservation_policy.LatestN(keep),
      preservation_policy.BestN(
        get_metric_fn=_metric, n=1, keep_checkpoints_without_metrics=False
      ),
    ]
  )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=policy,
    # Without best_fn, best_step() silently returns the latest step.
    best_fn=_metric,
    best_mode='max',
    create=True,
    cleanup_tmp_directories=True,
  )
  return ocp.CheckpointManager(folder.absolute(), options=options)


class Checkpoints:
  """The checkpoints of one training, in `workdir/checkpoints`.

  Use as a context manager: leaving it waits for a save under way.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    *,
    keep: int = 2,
    say: Callable[[str], None] = print,
  ):
    self.folder = pathlib.Path(workdir) / 'checkpoints'
    self._say = say
    with _quiet():
      self._manager = _manager(self.folder, keep)

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      self.wait()
    except CheckpointError:
      if error is None:  # do not hide what went wrong first
        raise
    finally:
      self._manager.close()

  @property
  def latest(self) -> int | None:
    """Step of the newest checkpoint."""
    return self._manager.latest_step()

  def save(self, state: State, metrics: dict[str, float]) -> None:
    """Starts writing `state`; `metrics['accuracy']` decides which is best.

    Raises:
      CheckpointError: this save or the one before it failed.
    """
    step = int(state.step)
    if step == self._manager.latest_step():
      return
    clean = {k: float(v) for k, v in metrics.items()}
    with self._failing(step), _quiet():
      self._manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
        metrics=clean,
      )

  def wait(self) -> None:
    """Waits until everything is on disk."""
    with self._failing(None), _quiet():
      self._manager.wait_until_finished()

  @contextlib.contextmanager
  def _failing(self, step: int | None):
    try:
      yield
    # What a full disk raises depends on the layer it strikes: OSError from
    # Python, ValueError or an XlaRuntimeError from tensorstore.
    except Exception as error:
      text = ' '.join(str(error).split())
      # A save before this one may still be on its way to the disk.
      with contextlib.suppress(Exception):
        self._manager.wait_until_finished()
      of = f' of step {step}' if step is not None else ''
      kept = self._kept(step)
      raise CheckpointError(
        f'{self.folder}: the checkpoint{of} could not be written: {text[:300]}; '
        f'{kept}'
      ) from error

  def _kept(self, failed: int | None) -> str:
    steps = sorted(
      int(p.name)
      for p in self.folder.glob('*')
      if p.name.isdigit() and int(p.name) != failed
    )
    if not steps:
      return 'nothing was saved before; make room and start again'
    return (
      f'step {steps[-1]} is safe: make room, run the same command again and it '
      'goes on from there'
    )

  def restore(self, like: State) -> State | None:
    """The newest readable state, or None where there is none.

    A checkpoint that cannot be read is renamed to `<step>.damaged` and the one
    before it is taken, with one line saying so.
    """
    for step in sorted(self._manager.all_steps(), reverse=True):
      abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
      try:
        with _quiet():
          restored = self._manager.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)),
          )
        return restored['state']
      # Damage shows in many ways (missing files, bad JSON, short reads), each
      # with its own exception.
      except Exception as error:
        if _other_tree(error):
          raise CheckpointError(
            f'{self.folder}: checkpoint {step} is of another network or '
            'optimizer than this config; use a new --workdir, or the config '
            'it was written with'
          ) from error
        reason = ' '.join(str(error).split())[:200]
        self._say(
          f'checkpoint {step} in {self.folder} cannot be read ({reason}); '
          'falling back to the one before'
        )
        os.replace(self.folder / str(step), self.folder / f'{step}.damaged')
        with _quiet():
          self._manager.reload()
    return None


def _other_tree(error: Exception) -> bool:
  text = str(error)
  return (
    'tree structures do not match' in text
    or 'not compatible with the stored shape' in text
    or 'incompatible with the stored shape' in text
    or 'keys do not match' in text.lower()
  )


def load_variables(
  workdir: str | os.PathLike[str], which: str | int = 'best'
) -> tuple[dict[str, Any], dict[str, Any]]:
  """The network's variables out of a training's checkpoint.

  Args:
    workdir: of the training.
    which: 'best' (on validation), 'latest', or a step.

  Returns:
    ({'params', 'batch_stats'} of numpy arrays, the averaged ones where the
    training kept an average; {'step': int, 'metrics': {...}}).

  Raises:
    FileNotFoundError: there is no such checkpoint.
  """
  folder = pathlib.Path(workdir) / 'checkpoints'
  if not folder.is_dir():
    raise FileNotFoundError(
      f'{folder}: no checkpoints here; train first (experiments.train '
      f'--workdir={workdir})'
    )
  with _quiet(), contextlib.closing(_manager(folder, 2)) as manager:
    steps = sorted(manager.all_steps())
    if which == 'best':
      step = manager.best_step()
    elif which == 'latest':
      step = manager.latest_step()
    else:
      step = int(which)
    if step is None or step not in steps:
      raise FileNotFoundError(
        f'{folder}: no checkpoint {which!r}; there are '
        f'{", ".join(map(str, steps)) or "none"}'
      )
    tree = manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore())
    )['state']
    metrics = manager.metrics(step)
  tree = jax.tree.map(np.asarray, tree)
  source = tree.get('ema') or tree
  variables = {
    'params': source['params'],
    'batch_stats': source.get('batch_stats') or {},
  }
  return variables, {'step': int(step), 'metrics': dict(metrics or {})}

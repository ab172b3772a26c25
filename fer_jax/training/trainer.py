"""The trainer: composes data, model, schedule, step, checkpoints, progress.

Everything that decides the outcome is in the config; the run is a function of
it. Batches, augmentation and dropout derive from the seed and the step alone,
so a run that was killed and resumed ends with the weights of an unbroken one.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fer_jax import labels as label_sets
from fer_jax import models
from fer_jax.data import arrays
from fer_jax.data import augment
from fer_jax.data import targets as target_tools
from fer_jax.training import checkpoints
from fer_jax.training import optimizers
from fer_jax.training import parallel
from fer_jax.training import progress
from fer_jax.training import schedules
from fer_jax.training import steps
from fer_jax.training.state import State
from fer_jax.training.state import create as create_state
from fer_jax.training.state import inference_variables

__all__ = ['Stopped', 'TrainingDivergedError', 'evaluate', 'train']


class TrainingDivergedError(RuntimeError):
  """The loss or a gradient is no longer a finite number."""


class Stopped(Exception):
  """A SIGTERM was answered: the state is saved, the run can be resumed."""


def epoch_order(
  seed: int, epoch: int, rows: int, batch_size: int
) -> np.ndarray:
  """Rows of each batch of an epoch, int32 `[rows // batch_size, batch_size]`.

  A permutation drawn from the seed and the epoch alone; the rest that does not
  fill a batch is left out, another one each epoch.
  """
  rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
  count = rows // batch_size
  order = rng.permutation(rows)[: count * batch_size]
  return order.reshape((count, batch_size)).astype(np.int32)


def build_targets(data: arrays.Arrays, soft_weight: float) -> np.ndarray:
  """Training targets float32 `[N, K]`: labels, mixed with FER+ votes.

  Raises:
    ValueError: votes are asked for and the set has none.
  """
  classes = len(label_sets.get(data.label_set))
  hard = target_tools.hard_targets(data.labels, classes)
  if not soft_weight:
    return hard
  if 'votes' not in data.attributes:
    raise ValueError(
      f'data.soft_weight={soft_weight} needs FER+ votes, which {data.name} was '
      'prepared without: put fer2013new.csv beside fer2013.csv and prepare '
      'again with --overwrite, or set data.soft_weight=0'
    )
  soft = target_tools.soft_targets(
    data.attributes['votes'], data.labels, data.label_set
  )
  return target_tools.mix(hard, soft, soft_weight)


def load_split(config: Any, split: str) -> arrays.Arrays:
  """One split of the config's data set, in the config's label set."""
  data = arrays.load(config.name, split, config.data_dir or None)
  if config.label_set and config.label_set != data.label_set:
    data = target_tools.remap(data, config.label_set)
  return data


def create_model(config: Any, data: arrays.Arrays, axis_name: str | None):
  """The config's network, as wide as the label set."""
  overrides = dict(config.overrides)
  if 'input_shape' in overrides:
    overrides['input_shape'] = tuple(overrides['input_shape'])
  overrides.setdefault('num_classes', len(label_sets.get(data.label_set)))
  if axis_name is not None:
    # Networks without batch norm have no statistics to share, hence no field.
    fields = dataclasses.fields(models.create(config.name, **overrides))
    if any(field.name == 'axis_name' for field in fields):
      overrides['axis_name'] = axis_name
  return models.create(config.name, **overrides)


def evaluate(
  evaluate_fn: Callable[..., Any],
  variables: Any,
  data: arrays.Arrays,
  batch_size: int,
) -> dict[str, Any]:
  """Loss, accuracy and confusion of a split, every example counted once.

  Args:
    evaluate_fn: compiled `steps.evaluate_batch`.
    variables: of the network.
    data: the split.
    batch_size: the last batch is filled up and its filling masked.

  Returns:
    {'loss', 'accuracy', 'confusion' `[K, K]` (true by predicted)}.
  """
  total = None
  for start in range(0, len(data), batch_size):
    images = np.asarray(data.images[start : start + batch_size])
    labels = data.labels[start : start + batch_size]
    fill = batch_size - len(images)
    mask = np.ones(batch_size, np.float32)
    mask[len(images) :] = 0
    images = np.pad(images, ((0, fill), (0, 0), (0, 0), (0, 0)))
    labels = np.pad(labels, (0, fill))
    sums = evaluate_fn(variables, images, labels, mask)
    sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
    total = sums if total is None else jax.tree.map(np.add, total, sums)
  confusion = total['confusion']
  return {
    'loss': float(total['loss'] / len(data)),
    'accuracy': float(np.trace(confusion) / len(data)),
    'confusion': confusion,
  }


def _plateau(state: State, config: Any, loss: float) -> State:
  """Lowers the rate after `patience` epochs without a better loss."""
  best, wait = float(state.plateau['best']), int(state.plateau['wait'])
  factor = float(state.rate_factor)
  if loss < best - config.threshold:
    best, wait = loss, 0
  else:
    wait += 1
    if wait >= config.patience:
      factor, wait = max(factor * config.factor, config.minimum), 0
  return state.replace(
    rate_factor=jnp.float32(factor),
    plateau={'best': jnp.float32(best), 'wait': jnp.int32(wait)},
  )


def _write_json(path: pathlib.Path, value: Any) -> None:
  temporary = path.with_suffix('.tmp')
  temporary.write_text(json.dumps(value, indent=2) + '\n')
  os.replace(temporary, path)


class _Terminate:
  """Remembers SIGTERM and Ctrl-C until the running steps are done.

  A second Ctrl-C interrupts at once.
  """

  _SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self):
    self.asked: int | None = None
    self._before: dict[int, Any] = {}

  def __enter__(self) -> _Terminate:
    # Signals belong to the main thread; elsewhere the caller handles them.
    if threading.current_thread() is threading.main_thread():
      for number in self._SIGNALS:
        self._before[number] = signal.signal(number, self._ask)
    return self

  def _ask(self, number: int, _: Any) -> None:
    if self.asked == signal.SIGINT and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.asked = number

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)


def _check_config(config: Any, rows: int) -> None:
  if config.batch_size < 1 or config.epochs <= 0:
    raise ValueError(
      f'batch_size={config.batch_size} and epochs={config.epochs} must be '
      'positive'
    )
  if rows < config.batch_size:
    raise ValueError(
      f'the training split has {rows} rows, less than one batch of '
      f'{config.batch_size}; lower batch_size'
    )


def train(
  config: Any,
  workdir: str | os.PathLike[str],
  *,
  show_progress: bool = True,
) -> dict[str, Any]:
  """Trains as `config` says, resuming what `workdir` already holds.

  Args:
    config: see `experiments/configs/base.py`.
    workdir: gets `config.json`, `metrics.jsonl` and `checkpoints/`.
    show_progress: draw a progress bar on standard error.

  Returns:
    {'step', 'best_step', 'accuracy', 'best_accuracy', 'images_per_second',
    'seconds'}; accuracies on the validation split.

  Raises:
    ValueError: a config that does not fit together.
    FileNotFoundError: data that is not prepared.
    TrainingDivergedError: NaN or infinity; names the step and what is safe.
    checkpoints.CheckpointError: a checkpoint that cannot be written or read.
    Stopped: after a SIGTERM.
  """
  workdir = pathlib.Path(workdir)
  strategy = parallel.create(config.parallel)
  strategy.check_batch(config.batch_size)
  data = load_split(config.data, config.data.train_split)
  validation = load_split(config.data, config.data.validation_split)
  _check_config(config, len(data))
  model = create_model(config.model, data, strategy.axis_name)
  classes = len(label_sets.get(data.label_set))
  if model.num_classes != classes:
    raise ValueError(
      f'model.overrides.num_classes={model.num_classes} but label set '
      f'{data.label_set!r} has {classes} classes; leave it out'
    )
  steps_per_epoch = len(data) // config.batch_size
  total_steps = math.ceil(config.epochs * steps_per_epoch)
  schedule = schedules.create(
    config.schedule.name,
    rate=config.schedule.rate,
    epochs=config.epochs,
    steps_per_epoch=steps_per_epoch,
    warmup_epochs=config.schedule.warmup_epochs,
    final_factor=config.schedule.final_factor,
    boundaries=tuple(config.schedule.boundaries),
    factors=tuple(config.schedule.factors),
  )
  tx = optimizers.create(
    config.optimizer.name,
    schedule,
    weight_decay=config.optimizer.weight_decay,
    momentum=config.optimizer.momentum,
    clip_norm=config.optimizer.clip_norm,
  )
  options = steps.StepOptions(
    augmentation=augment.Augmentation(**config.augment.to_dict()),
    label_smoothing=config.loss.label_smoothing,
    l2=config.loss.l2,
    ema_decay=config.ema_decay,
    axis_name=strategy.axis_name,
  )
  soft_targets = build_targets(data, config.data.soft_weight)
  hard_targets = build_targets(data, 0.0)

  workdir.mkdir(parents=True, exist_ok=True)
  _write_json(
    workdir / 'config.json',
    {
      **config.to_dict(),
      'label_set': data.label_set,
      'labels': list(label_sets.get(data.label_set).names),
      'input_shape': list(model.input_shape),
    },
  )
  clock = progress.Clock()
  with (
    checkpoints.Checkpoints(workdir, say=progress.say) as saver,
    _Terminate() as terminate,
  ):
    state = create_state(model, tx, config.seed, ema=bool(config.ema_decay))
    restored = saver.restore(state)
    if restored is not None:
      state = restored
      progress.say(f'resuming {workdir} from step {int(state.step)}')
    state = strategy.replicate(state)
    images, soft_targets, hard_targets = strategy.replicate(
      (np.asarray(data.images), soft_targets, hard_targets)
    )
    chunk = strategy.compile(
      functools.partial(steps.train_chunk, model=model, tx=tx, options=options)
    )
    eval_model = (
      model.clone(axis_name=None)
      if getattr(model, 'axis_name', None)
      else model
    )
    evaluate_fn = jax.jit(
      functools.partial(steps.evaluate_batch, model=eval_model)
    )
    step = int(state.step)
    log = progress.MetricsLog(workdir, step, config.tensorboard)
    bar = progress.Progress(total_steps, step, show_progress)
    per_call = min(config.steps_per_call or steps_per_epoch, steps_per_epoch)
    compiled: set[int] = set()
    last_saved = time.monotonic()
    metrics: dict[str, float] = {}
    try:
      while step < total_steps:
        epoch, offset = divmod(step, steps_per_epoch)
        order = epoch_order(config.seed, epoch, len(data), config.batch_size)
        soft = not config.data.soft_epochs or epoch < config.data.soft_epochs
        on_device = {
          'images': images,
          'targets': soft_targets if soft else hard_targets,
        }
        sums = np.zeros(3)
        first = offset
        while offset < steps_per_epoch and step < total_steps:
          # Calls end at fixed places of the epoch, whatever step a resumed run
          # starts from.
          end = min(
            (offset // per_call + 1) * per_call,
            steps_per_epoch,
            offset + total_steps - step,
          )
          start_time = time.monotonic()
          state, got = chunk(state, on_device, order[offset:end])
          got = {k: float(v) for k, v in got.items()}
          took = time.monotonic() - start_time
          count = end - offset
          if count in compiled:
            clock.add('train', took, count * config.batch_size)
          else:  # the first call of a length compiles it
            compiled.add(count)
            clock.add('compile and first steps', took)
          if not all(map(math.isfinite, got.values())):
            raise TrainingDivergedError(
              f'loss {got["loss"]}, gradient norm {got["grad_norm"]} within '
              f'steps {step + 1} to {step + count}; last good checkpoint: '
              f'{_where(saver)}; lower schedule.rate or set '
              'optimizer.clip_norm'
            )
          sums += count * np.array(
            [got['loss'], got['accuracy'], got['grad_norm']]
          )
          step, offset = step + count, end
          bar.advance(
            count,
            f'epoch {epoch + 1} loss {got["loss"]:.3f} '
            f'{clock.images_per_second:.0f} images/s',
          )
          if terminate.asked:
            saver.save(state, metrics)
            saver.wait()
            if terminate.asked == signal.SIGINT:
              raise KeyboardInterrupt
            raise Stopped(
              f'SIGTERM: saved step {step} in {saver.folder}; run the same '
              'command to go on'
            )
          if time.monotonic() - last_saved > config.checkpoint_seconds:
            saver.save(state, metrics)
            last_saved = time.monotonic()
        start_time = time.monotonic()
        result = evaluate(
          evaluate_fn,
          inference_variables(state),
          validation,
          config.eval_batch_size,
        )
        clock.add('evaluate', time.monotonic() - start_time)
        if config.schedule.name == 'plateau':
          state = strategy.replicate(
            _plateau(state, config.schedule, result['loss'])
          )
        mean = sums / max(offset - first, 1)
        metrics = {k: result[k] for k in ('accuracy', 'loss')}
        log.write(
          step,
          epoch=epoch + 1,
          train_loss=mean[0],
          train_accuracy=mean[1],
          grad_norm=mean[2],
          rate=float(schedule(step)) * float(state.rate_factor),
          validation_loss=result['loss'],
          validation_accuracy=result['accuracy'],
          images_per_second=round(clock.images_per_second, 1),
          seconds={k: round(v, 2) for k, v in clock.seconds.items()},
        )
        progress.say(
          f'epoch {epoch + 1}/{math.ceil(config.epochs)}  '
          f'train loss {mean[0]:.4f} accuracy {mean[1]:.4f}  '
          f'{config.data.validation_split} loss {result["loss"]:.4f} '
          f'accuracy {result["accuracy"]:.4f}  '
          f'{clock.images_per_second:.0f} images/s  ({clock})'
        )
        start_time = time.monotonic()
        saver.save(state, metrics)
        last_saved = time.monotonic()
        clock.add('save', last_saved - start_time)
    finally:
      bar.close()
      log.close()
    saver.wait()
  history = [
    json.loads(line)
    for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  best = max(history, key=lambda h: h['validation_accuracy'], default={})
  return {
    'step': step,
    'best_step': best.get('step'),
    'accuracy': history[-1]['validation_accuracy'] if history else None,
    'best_accuracy': best.get('validation_accuracy'),
    'images_per_second': clock.images_per_second,
    'seconds': dict(clock.seconds),
  }


def _where(saver: checkpoints.Checkpoints) -> str:
  if saver.latest is None:
    return 'none'
  return f'step {saver.latest} in {saver.folder}'

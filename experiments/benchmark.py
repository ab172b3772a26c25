"""Speed of training: ours against Keras 3 on TensorFlow, in one run.

Examples:
  python -m experiments.benchmark training
  python -m experiments.benchmark training --models=mini_xception:48 --rounds=3

Each measurement is a process of its own; ours and Keras take turns, so that
what else runs on the machine falls on both. The same network, batch and image
size, Adam and float32 in both; images lie in memory. Printed are images/s of the
best step, and images per CPU second, which other work on the machine disturbs
less. Keras runs with and without its XLA option; the faster one counts.

Exit code: 0 done, 1 failed, 2 bad usage.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import _cli

FLAGS = flags.FlagValues()
_MODULE = 'experiments.benchmark'
# Rows of the table: network and side of the image.
ROWS = (
  'mini_xception:48',
  'mini_xception:64',
  'emotionnet_nano_b:48',
  'iot_classifier:64',
  'grid_detector:288',
)

flags.DEFINE_list(
  'models', list(ROWS), 'Rows, as name:size.', flag_values=FLAGS
)
flags.DEFINE_integer(
  'batch',
  0,
  'Images a step; 0: 64, and 8 for the detector.',
  lower_bound=0,
  flag_values=FLAGS,
)
flags.DEFINE_float(
  'seconds',
  4.0,
  'Measured time of a process.',
  lower_bound=0.1,
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  'rounds',
  2,
  'Processes of each kind; the best counts.',
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_string(
  'ops', 'auto', 'Formulation of our operations.', flag_values=FLAGS
)
flags.DEFINE_string(
  'worker',
  None,
  'Internal: measure one kind and print JSON.',
  flag_values=FLAGS,
)


def _cpu_seconds() -> float:
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


def _measure(step: Callable[[], Any], batch: int, seconds: float) -> dict:
  """Runs `step`, which must wait for its result, for some seconds."""
  started = time.perf_counter()
  step()
  first = time.perf_counter() - started
  for _ in range(2):
    step()
  walls, cpus = [], []
  until = time.perf_counter() + seconds
  while time.perf_counter() < until or len(walls) < 3:
    cpu, wall = _cpu_seconds(), time.perf_counter()
    step()
    walls.append(time.perf_counter() - wall)
    cpus.append(_cpu_seconds() - cpu)
  return {
    'images_per_second': batch / min(walls),
    'median_images_per_second': batch / float(np.median(walls)),
    'images_per_cpu_second': batch / max(1e-9, float(np.median(cpus))),
    'first_step_seconds': first,
    'steps': len(walls),
  }


def _inputs(name: str, size: int, batch: int) -> tuple[Any, Any]:
  rng = np.random.default_rng(0)
  channels = 3 if name == 'grid_detector' else 1
  images = rng.random((batch, size, size, channels), np.float32)
  if name == 'grid_detector':
    side = size // 32
    return images, rng.random((batch, side, side, 11), np.float32)
  classes = 4 if name == 'iot_classifier' else 7
  return images, rng.integers(0, classes, batch).astype(np.int32)


def _ours(name: str, size: int, batch: int) -> Callable[[], Any]:
  import jax
  import optax
  from jax import numpy as jnp

  from fer_jax import models
  from fer_jax import ops

  images, targets = _inputs(name, size, batch)
  model = models.create(name, input_shape=images.shape[1:])
  variables = models.init(model, jax.random.key(0))
  optimizer = optax.adam(1e-3)
  params, statistics = variables['params'], variables['batch_stats']

  def loss_of(params, statistics, images, targets):
    outputs, updates = model.apply(
      {'params': params, 'batch_stats': statistics},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    if name == 'grid_detector':
      loss = jnp.mean(jnp.square(outputs - targets))
    else:
      loss = optax.softmax_cross_entropy_with_integer_labels(
        outputs, targets
      ).mean()
    return loss, updates['batch_stats']

  def step(state, images, targets):
    params, statistics, moments = state
    (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(
      params, statistics, images, targets
    )
    updates, moments = optimizer.update(gradients, moments, params)
    return (optax.apply_updates(params, updates), statistics, moments), loss

  state = (params, statistics, optimizer.init(params))
  compiled = jax.jit(step, donate_argnums=0)

  def run() -> None:
    nonlocal state
    # The formulation is chosen while tracing, in the first step.
    with ops.implementation(FLAGS.ops):
      state, loss = compiled(state, images, targets)
    loss.block_until_ready()

  return run


def _keras(name: str, size: int, batch: int, xla: bool) -> Callable[[], Any]:
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ['KERAS_BACKEND'] = 'tensorflow'
  import keras

  images, targets = _inputs(name, size, batch)
  network = _NETWORKS[name](keras, images.shape[1:])
  network.compile(
    optimizer=keras.optimizers.Adam(1e-3),
    loss='mse'
    if name == 'grid_detector'
    else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=xla,
  )
  return lambda: network.train_on_batch(images, targets)


def _block(keras, x, filters, kernel=3, strides=1, padding='same'):
  x = keras.layers.Conv2D(
    filters, kernel, strides, padding=padding, use_bias=False
  )(x)
  x = keras.layers.BatchNormalization(epsilon=1e-3)(x)
  return keras.layers.ReLU()(x)


def _residual(keras, x, filters):
  layers = keras.layers
  shortcut = layers.Conv2D(filters, 1, 2, padding='same', use_bias=False)(x)
  shortcut = layers.BatchNormalization(epsilon=1e-3)(shortcut)
  x = layers.SeparableConv2D(filters, 3, padding='same', use_bias=False)(x)
  x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-3)(x))
  x = layers.SeparableConv2D(filters, 3, padding='same', use_bias=False)(x)
  x = layers.BatchNormalization(epsilon=1e-3)(x)
  x = layers.MaxPooling2D(3, 2, padding='same')(x)
  return layers.Add()([x, shortcut])


def _keras_mini_xception(keras, shape):
  image = keras.Input(shape)
  x = keras.layers.Rescaling(2.0, -1.0)(image)
  for _ in range(2):
    x = _block(keras, x, 8, padding='valid')
  for filters in (16, 32, 64, 128):
    x = _residual(keras, x, filters)
  x = keras.layers.Conv2D(7, 3, padding='same')(x)
  return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


def _keras_iot_classifier(keras, shape):
  image = keras.Input(shape)
  x = keras.layers.Rescaling(2.0, -1.0)(image)
  for _ in range(2):
    x = _block(keras, x, 8, strides=2)
  for filters in (16, 32, 64):
    x = _residual(keras, x, filters)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(4)(x))


def _keras_grid_detector(keras, shape):
  image = keras.Input(shape)
  x = keras.layers.Rescaling(2.0, -1.0)(image)
  for filters in (8, 16, 32, 64, 128):
    x = _block(keras, _block(keras, x, filters), filters)
    x = keras.layers.MaxPooling2D(2)(x)
  for _ in range(4):
    x = _block(keras, x, 192)
  return keras.Model(image, keras.layers.Conv2D(11, 3, padding='same')(x))


def _keras_emotionnet_nano_b(keras, shape):
  from fer_jax.models import emotionnet_nano as nano

  variant = nano.VARIANTS['nano_b']
  widths = {
    f'{letter}{i}': width
    for field, letter in (('stem', 'f'), ('stage1', 'b'), ('stage2', 'c'))
    for i, width in enumerate(variant[field], 1)
  }
  widths |= {'id1': widths['b1'], 'id2': widths['c1']}

  def total(names):
    if len(names) == 1:
      return tensors[names[0]]
    return keras.layers.Add()([tensors[name] for name in names])

  image = keras.Input(shape)
  tensors = {'image': keras.layers.Rescaling(2.0, -1.0)(image)}
  for name, sources in nano.WIRING:
    strides = 2 if name in ('f8', 'b6', 'id1', 'id2') else 1
    x = total(sources)
    if name.startswith('id'):
      tensors[name] = keras.layers.Conv2D(
        widths[name], 1, strides, padding='same'
      )(x)
    else:
      tensors[name] = _block(keras, x, widths[name], strides=strides)
  x = keras.layers.GlobalAveragePooling2D()(total(('c1', 'c3', 'c5', 'id2')))
  return keras.Model(image, keras.layers.Dense(7)(x))


_NETWORKS = {
  'mini_xception': _keras_mini_xception,
  'iot_classifier': _keras_iot_classifier,
  'grid_detector': _keras_grid_detector,
  'emotionnet_nano_b': _keras_emotionnet_nano_b,
}
_KINDS = ('ours', 'keras', 'keras_xla')


def _row(text: str) -> tuple[str, int]:
  name, _, size = text.partition(':')
  if name not in _NETWORKS or not size.isdigit():
    raise _cli.UsageError(
      f'no row {text!r}; give name:size with a name of '
      f'{", ".join(sorted(_NETWORKS))}'
    )
  return name, int(size)


def _batch(name: str) -> int:
  return FLAGS.batch or (8 if name == 'grid_detector' else 64)


def _work(kind: str) -> None:
  name, size = _row(FLAGS.models[0])
  batch = _batch(name)
  if kind == 'ours':
    step = _ours(name, size, batch)
  else:
    step = _keras(name, size, batch, xla=kind == 'keras_xla')
  print(json.dumps(_measure(step, batch, FLAGS.seconds)))


def _spawn(kind: str, row: str) -> dict[str, float] | None:
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      _MODULE,
      'training',
      f'--worker={kind}',
      f'--models={row}',
      f'--batch={FLAGS.batch}',
      f'--seconds={FLAGS.seconds}',
      f'--ops={FLAGS.ops}',
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    if kind == 'keras_xla':
      return None  # not every network compiles
    lines = done.stderr.strip().splitlines() or ['no message']
    raise ValueError(f'{kind} {row}: {lines[-1]}')
  return json.loads(done.stdout.strip().splitlines()[-1])


def _best(results: Sequence[dict[str, float] | None], key: str) -> float:
  return max((r[key] for r in results if r), default=float('nan'))


def _training() -> None:
  rows = [(text, *_row(text)) for text in FLAGS.models]
  print(
    '| network | size | batch | ours images/s | Keras images/s | ratio '
    '| ours per CPU s | Keras per CPU s | ratio | our first step |\n'
    '|---|---|---|---|---|---|---|---|---|---|',
    flush=True,
  )
  for text, name, size in rows:
    found: dict[str, list] = {kind: [] for kind in _KINDS}
    for _ in range(FLAGS.rounds):
      for kind in _KINDS:
        found[kind].append(_spawn(kind, text))
    keras = found['keras'] + found['keras_xla']
    wall = [_best(r, 'images_per_second') for r in (found['ours'], keras)]
    cpu = [_best(r, 'images_per_cpu_second') for r in (found['ours'], keras)]
    first = min(r['first_step_seconds'] for r in found['ours'])
    print(
      f'| {name} | {size} | {_batch(name)} '
      f'| {wall[0]:.0f} | {wall[1]:.0f} | {wall[0] / wall[1]:.2f} '
      f'| {cpu[0]:.0f} | {cpu[1]:.0f} | {cpu[0] / cpu[1]:.2f} '
      f'| {first:.1f} s |',
      flush=True,
    )


def _main(argv: Sequence[str]) -> None:
  del argv
  if FLAGS.worker:
    if FLAGS.worker not in _KINDS:
      raise _cli.UsageError(f'--worker: one of {", ".join(_KINDS)}')
    _work(FLAGS.worker)
  else:
    _training()


def run(argv: Sequence[str] | None = None) -> int:
  """The command; returns the exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  if argv[:1] == ['training']:
    argv = argv[1:]
  elif not any(a in ('-h', '--help', '-help', '--helpfull') for a in argv):
    print(f'{_MODULE}: say what to measure: training', file=sys.stderr)
    return 2
  return _cli.run(_main, FLAGS, argv, name=_MODULE, doc=__doc__)


if __name__ == '__main__':
  sys.exit(run())

"""Exports a trained network: bundle with .tflite files, card and SHA-256.

Examples:
  python -m experiments.export --workdir=runs/mini --name=mini_xception_fer2013
  python -m experiments.export --workdir=runs/mini --name=mini_xception_fer2013 \
    --checkpoint=latest --temperature=fit --checkpoints=checkpoints

Writes CHECKPOINTS/NAME/ (params/, model.tflite, model_float16.tflite,
model_int8.tflite, labels.txt, model.json, golden.npz, card.md, metrics.json)
and CHECKPOINTS/MANIFEST.json, all or nothing. Every file is compared with the
network in JAX on validation images; one that differs by more than allowed stops
the export.

Exit code: 0 done, 1 failed, 2 bad usage.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import _cli
from fer_jax import labels as label_sets
from fer_jax import models
from fer_jax.data import arrays
from fer_jax.data import targets
from fer_jax.evaluation import calibration
from fer_jax.evaluation import predict
from fer_jax.evaluation import protocols
from fer_jax.evaluation import provenance
from fer_jax.export import bundle
from fer_jax.export import parity

FLAGS = flags.FlagValues()
_MODULE = 'experiments.export'


def _string(name: str, default: str | None, text: str) -> None:
  flags.DEFINE_string(name, default, text, flag_values=FLAGS)


_string('workdir', None, 'Folder of the training. Required.')
_string('name', None, 'Name of the bundle. Required.')
_string('checkpoint', 'best', 'best, latest or a step.')
_string('checkpoints', 'checkpoints', 'Folder of the bundles.')
_string('data_dir', None, 'Prepared data; default $FER_JAX_DATA or data.')
_string(
  'temperature',
  'none',
  'Logits are divided by it inside the files: none, fit (on the validation '
  'split) or a number.',
)
flags.DEFINE_integer(
  'representative',
  500,
  'Training images that the int8 ranges are measured on.',
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  'parity_images',
  500,
  'Validation images that every file is compared with JAX on.',
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_float(
  'min_agreement',
  parity.LIMITS['int8'].min_agreement,
  'int8: share of images with the same first choice as JAX.',
  lower_bound=0.0,
  upper_bound=1.0,
  flag_values=FLAGS,
)
flags.DEFINE_float(
  'max_accuracy_drop',
  parity.LIMITS['int8'].max_accuracy_drop,
  'int8: accuracy it may lose on those images, 0..1.',
  lower_bound=0.0,
  upper_bound=1.0,
  flag_values=FLAGS,
)


def read_config(workdir: str | pathlib.Path) -> dict[str, Any]:
  """`config.json` of a training, with model and data named in it.

  Raises:
    _cli.UsageError: there is no such training.
    ValueError: the file cannot be read or lacks something.
  """
  file = pathlib.Path(workdir) / 'config.json'
  if not file.is_file():
    raise _cli.UsageError(
      f'{file}: missing; give the --workdir of a training '
      '(python -m experiments.train)'
    )
  try:
    config = json.loads(file.read_text(encoding='utf-8'))
    config['model']['name'], config['data']['name']
    config['labels'], config['label_set']
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{file}: not the config of a training ({type(error).__name__}: {error})'
    ) from None
  return config


def overrides(config: dict[str, Any]) -> dict[str, Any]:
  """Fields of the network as trained; its width follows the label set."""
  classes = {'num_classes': len(config['labels'])}
  return classes | dict(config['model'].get('overrides') or {})


def load_split(
  name: str, split: str, label_set: str, data_dir: str | None
) -> arrays.Arrays:
  """A split in a network's label set; rows without a class there are left out.

  Raises:
    _cli.UsageError: there is no such split.
  """
  try:
    data = arrays.load(name, split, data_dir)
  except arrays.DataError:
    raise
  except ValueError as error:
    raise _cli.UsageError(str(error)) from None
  if data.label_set != label_set:
    data = targets.remap(data, label_set)
  return data


def protocol_of(config: dict[str, Any]) -> protocols.Protocol:
  """The protocol of a training's data set.

  Raises:
    ValueError: the training used other splits, so its figures would not be
      those of the protocol.
  """
  protocol = protocols.get(config['data']['name'])
  for key, wanted in (
    ('train_split', protocol.train),
    ('validation_split', protocol.validation),
  ):
    used = config['data'].get(key, wanted)
    if used != wanted:
      raise ValueError(
        f'the training has {key} {used!r}, the protocol of '
        f'{config["data"]["name"]} wants {wanted!r}: its figures would not be '
        'comparable'
      )
  return protocol


def load_training(
  workdir: str | pathlib.Path, which: str
) -> tuple[dict[str, Any], Any, Any, dict[str, Any]]:
  """(config, network, variables, info of the checkpoint) of a training."""
  from fer_jax.training import checkpoints

  config = read_config(workdir)
  model = models.create(config['model']['name'], **overrides(config))
  chosen = int(which) if which.isdecimal() else which
  if chosen not in ('best', 'latest') and not isinstance(chosen, int):
    raise _cli.UsageError(
      f'--checkpoint must be best, latest or a step, not {which!r}'
    )
  variables, info = checkpoints.load_variables(workdir, which=chosen)
  return config, model, variables, info


def _sample(data: arrays.Arrays, count: int) -> arrays.Arrays:
  """`count` rows drawn without replacement, the same ones every time."""
  rng = np.random.default_rng(0)
  chosen = rng.permutation(len(data))[:count]
  return data.take(np.sort(chosen))


def _temperature(
  text: str, model: Any, variables: Any, validation: arrays.Arrays
) -> float | None:
  if text == 'none':
    return None
  if text == 'fit':
    images = predict.fit(validation.images, tuple(model.input_shape))
    logits = predict.jax_logits(model, variables, images, progress='validation')
    return calibration.fit_temperature(logits, validation.labels)
  try:
    value = float(text)
  except ValueError:
    value = -1.0
  if not 0 < value < float('inf'):
    raise _cli.UsageError(
      f'--temperature must be none, fit or a number above 0, not {text!r}'
    )
  return value


def _table(reports: Sequence[bundle.FileReport]) -> str:
  lines = [
    f'{"file":22} {"kB":>8} {"max error":>10} {"agreement":>10} '
    f'{"accuracy":>9} {"JAX":>7}  operations'
  ]
  for r in reports:
    ops = ' '.join(f'{name}:{n}' for name, n in r.operations.items())
    lines.append(
      f'{r.file:22} {r.bytes / 1000:8.1f} {r.parity.max_error:10.1e} '
      f'{100 * r.parity.agreement:9.2f}% {100 * r.parity.file_accuracy:8.2f}% '
      f'{100 * r.parity.accuracy:6.2f}%  {ops}'
    )
  return '\n'.join(lines)


def _main(argv: Sequence[str]) -> None:
  for name in ('workdir', 'name'):
    if not FLAGS[name].value:
      raise _cli.UsageError(f'--{name} is required')
  config, model, variables, info = load_training(
    FLAGS.workdir, FLAGS.checkpoint
  )
  data, label_set = config['data']['name'], config['label_set']
  protocol = protocol_of(config)
  train, validation = (
    load_split(data, split, label_set, FLAGS.data_dir)
    for split in (protocol.train, protocol.validation)
  )
  shape = tuple(model.input_shape)
  representative = _sample(train, FLAGS.representative)
  compared = _sample(validation, FLAGS.parity_images)
  metadata = {
    'model': config['model']['name'],
    'overrides': overrides(config),
    'label_set': label_set,
    'labels': list(label_sets.get(label_set).names),
    'input_shape': list(shape),
    'kind': 'classifier',
    'data': data,
    'terms': protocol.terms,
    'protocol': protocol.text,
    'temperature': _temperature(
      FLAGS.temperature, model, variables, validation
    ),
    'parameters': models.count_parameters(variables),
    'checkpoint': FLAGS.checkpoint,
    'step': info.get('step'),
    'epoch': info.get('epoch'),
    'seed': config.get('seed'),
  }
  limits = {
    **parity.LIMITS,
    'int8': dataclasses.replace(
      parity.LIMITS['int8'],
      min_agreement=FLAGS.min_agreement,
      max_accuracy_drop=FLAGS.max_accuracy_drop,
    ),
  }
  with tqdm(total=8, leave=False, unit='part', disable=None) as bar:

    def progress(text: str) -> None:
      bar.set_description(text)
      bar.update()

    reports = bundle.write(
      FLAGS.checkpoints,
      FLAGS.name,
      model=model,
      variables=variables,
      metadata=metadata,
      representative=predict.fit(representative.images, shape),
      images=predict.fit(compared.images, shape),
      labels=compared.labels,
      limits=limits,
      made=provenance.collect(_MODULE, argv),
      progress=progress,
    )
  print(_table(reports))
  print(
    f'{pathlib.Path(FLAGS.checkpoints) / FLAGS.name}: written; compared with '
    f'JAX on {len(compared)} images of {data}/{protocol.validation}'
  )


def run(argv: Sequence[str] | None = None) -> int:
  """The command; returns the exit code."""
  return _cli.run(_main, FLAGS, argv, name=_MODULE, doc=__doc__)


if __name__ == '__main__':
  sys.exit(run())

"""Evaluates a bundle or a training and records the figures in metrics.json.

Examples:
  python -m experiments.evaluate --bundle=mini_xception_fer2013 \
    --splits=public_test,private_test
  python -m experiments.evaluate --workdir=runs/mini --checkpoint=latest
  python -m experiments.evaluate --bundle=mini_xception_fer2013 \
    --seeds=0,1,2 --seed_workdirs=runs/mini_s1,runs/mini_s2

The network in JAX and, for a bundle, every .tflite file are run on each split.
A bundle gets new figures in its metrics.json and card.md, and a new
MANIFEST.json; a training gets WORKDIR/metrics.json. The temperature is fitted
on the validation split whatever --splits says. The last split is the one that
the headline figures and the seeds are given for.

Exit code: 0 done, 1 failed, 2 bad usage.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from experiments import _cli
from experiments import export
from fer_jax import bundles
from fer_jax import labels as label_sets
from fer_jax import models
from fer_jax.data import arrays
from fer_jax.data import leakage
from fer_jax.evaluation import calibration
from fer_jax.evaluation import metrics
from fer_jax.evaluation import predict
from fer_jax.evaluation import protocols
from fer_jax.evaluation import provenance
from fer_jax.evaluation import report
from fer_jax.export import bundle as bundle_lib

FLAGS = flags.FlagValues()
_MODULE = 'experiments.evaluate'

flags.DEFINE_string(
  'bundle', None, 'Name of a bundle, or a path to one.', flag_values=FLAGS
)
flags.DEFINE_string(
  'workdir', None, 'Folder of a training instead.', flag_values=FLAGS
)
flags.DEFINE_string(
  'checkpoint', 'best', 'Of --workdir: best, latest or a step.',
  flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string(
  'checkpoints', None,
  'Folder of the bundles; by default where the library looks for them.',
  flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list(
  'splits', None,
  'Splits, the reported one last; default validation and test.',
  flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string(
  'data_dir', None, 'Prepared data; default $FER_JAX_DATA or data.',
  flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list(
  'seeds', None,
  'Training seeds: of the network evaluated, then of --seed_workdirs.',
  flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list(
  'seed_workdirs', [],
  'Trainings of the same config with other seeds, for mean and spread.',
  flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_bool(
  'flip', True, 'Also with the mean over image and mirror image.',
  flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
  'threads', 1, 'Threads running a .tflite file.', lower_bound=1,
  flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string(
  'figures', None, 'Folder for figures (needs matplotlib).', flag_values=FLAGS
)


@dataclasses.dataclass(frozen=True)
class Subject:
  """What is evaluated.

  Attributes:
    name: of the bundle or the training's folder.
    folder: where its metrics.json goes.
    is_bundle: whether it has a card and a manifest.
    model: the network.
    variables: its variables.
    model_name: in the registry.
    data: name of the data set it was trained on.
    label_set: name of its label set.
    labels: class names.
    temperature: built into its files, or None.
    seed: of its training, where known.
    files: its .tflite files.
  """

  name: str
  folder: pathlib.Path
  is_bundle: bool
  model: Any
  variables: Any
  model_name: str
  data: str
  label_set: str
  labels: tuple[str, ...]
  temperature: float | None
  seed: int | None
  files: tuple[pathlib.Path, ...] = ()


def _bundle(text: str, root: str | None) -> Subject:
  try:
    folder = bundles.find(os.path.join(root, text) if root else text).resolve()
  except bundles.BundleError as error:
    raise _cli.UsageError(str(error)) from None
  model, variables, labels = models.load(os.fspath(folder))
  data = bundles.metadata(folder)
  if data['kind'] != 'classifier':
    raise _cli.UsageError(f'{folder}: a {data["kind"]}, not a classifier')
  return Subject(
    name=folder.name,
    folder=folder,
    is_bundle=True,
    model=model,
    variables=variables,
    model_name=data['model'],
    data=data['data'],
    label_set=data['label_set'],
    labels=labels,
    temperature=data.get('temperature'),
    seed=data.get('seed'),
    files=tuple(
      folder / file
      for file in bundle_lib.FILES.values()
      if (folder / file).is_file()
    ),
  )


def _training(workdir: str, which: str) -> Subject:
  config, model, variables, _ = export.load_training(workdir, which)
  export.protocol_of(config)  # raises where the figures would mislead
  folder = pathlib.Path(workdir).resolve()
  return Subject(
    name=folder.name,
    folder=folder,
    is_bundle=False,
    model=model,
    variables=variables,
    model_name=config['model']['name'],
    data=config['data']['name'],
    label_set=config['label_set'],
    labels=label_sets.get(config['label_set']).names,
    temperature=None,
    seed=config.get('seed'),
  )


def _load_split(subject: Subject, split: str) -> arrays.Arrays:
  return export.load_split(
    subject.data, split, subject.label_set, FLAGS.data_dir
  )


def _logits(subject: Subject, text: str) -> Callable[[np.ndarray], np.ndarray]:
  """Logits of the network; each set of images is computed once."""
  cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}

  def logits(images: np.ndarray) -> np.ndarray:
    # The images are kept, so that their id stays theirs.
    if id(images) not in cache:
      found = predict.jax_logits(
        subject.model, subject.variables, images, progress=text
      )
      cache[id(images)] = (images, found)
    return cache[id(images)][1]

  return logits


def _sources(
  subject: Subject, logits: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
  scale = subject.temperature or 1.0
  sources = {report.JAX: lambda images: metrics.softmax(logits(images), scale)}
  for file in subject.files:
    sources[file.name] = functools.partial(
      predict.tflite_probabilities,
      file,
      threads=FLAGS.threads,
      progress=file.name,
    )
  return sources


def _trainings(subject: Subject) -> dict[int, Subject | None] | None:
  """The trainings to compare by seed; None stands for `subject` itself.

  Raises:
    _cli.UsageError: a seed is unknown or there twice.
  """
  workdirs = [w for w in FLAGS.seed_workdirs if w]
  given: list[int | None] = [None] * (1 + len(workdirs))
  if FLAGS.seeds is not None:
    try:
      given = [int(s) for s in FLAGS.seeds]
    except ValueError:
      raise _cli.UsageError(
        f'--seeds must be whole numbers, not {",".join(FLAGS.seeds)!r}'
      ) from None
    if len(given) != 1 + len(workdirs):
      raise _cli.UsageError(
        f'--seeds has {len(given)} numbers, wanted {1 + len(workdirs)}: that '
        'of the network and one for each of --seed_workdirs'
      )
  first = subject.seed if given[0] is None else given[0]
  if first is None:
    if workdirs:
      raise _cli.UsageError(f'the seed of {subject.name} is unknown: --seeds')
    return None
  found: dict[int, Subject | None] = {first: None}
  for workdir, seed in zip(workdirs, given[1:], strict=True):
    sibling = _training(workdir, FLAGS.checkpoint)
    seed = sibling.seed if seed is None else seed
    if seed is None or seed in found:
      raise _cli.UsageError(
        f'{workdir}: its seed is {seed}, wanted one of its own; give --seeds'
      )
    found[seed] = sibling
  return found


def _seeds(
  trainings: Mapping[int, Subject | None] | None,
  accuracy: float,
  test: arrays.Arrays,
) -> dict[str, Any] | None:
  """Accuracy of the network and of its siblings from other seeds."""
  if trainings is None:
    return None
  found = {}
  for seed, sibling in trainings.items():
    if sibling is None:
      found[seed] = accuracy
      continue
    images = predict.fit(test.images, tuple(sibling.model.input_shape))
    logits = predict.jax_logits(
      sibling.model, sibling.variables, images, progress=f'seed {seed}'
    )
    found[seed] = float(np.mean(logits.argmax(axis=1) == test.labels))
  return report.seed_summary(found, test.split)


def _evaluate(subject: Subject, argv: Sequence[str]) -> dict[str, Any]:
  protocol = protocols.get(subject.data)
  names = FLAGS.splits or [protocol.validation, protocol.test]
  if len(set(names)) < len(names):
    raise _cli.UsageError(f'--splits names a split twice: {",".join(names)}')
  trainings = _trainings(subject)
  loaded = {name: _load_split(subject, name) for name in names}
  shape = tuple(subject.model.input_shape)

  validation = loaded.get(protocol.validation) or _load_split(
    subject, protocol.validation
  )
  logits = _logits(subject, report.JAX)
  fitted = {protocol.validation: predict.fit(validation.images, shape)}
  temperature = calibration.fit_temperature(
    logits(fitted[protocol.validation]), validation.labels
  )
  train = _load_split(subject, protocol.train)
  sources = _sources(subject, logits)
  splits = {}
  for name, data in loaded.items():
    images = fitted.setdefault(name, predict.fit(data.images, shape))
    twin = None
    if name != protocol.train:
      twin = leakage.occurs_in(data, train)
    splits[name], found = report.split_report(
      sources,
      images,
      data.labels,
      subject.labels,
      logits=logits(images),
      temperature=temperature,
      twin=twin,
      flip=FLAGS.flip,
    )
  last = names[-1]
  head = report.headline(splits, last)
  if FLAGS.figures:
    _figures(splits[last], found[report.JAX], loaded[last].labels, subject)
  return {
    'format': report.FORMAT,
    'bundle': subject.name if subject.is_bundle else None,
    'model': subject.model_name,
    'parameters': models.count_parameters(subject.variables),
    'data': subject.data,
    'label_set': subject.label_set,
    'labels': list(subject.labels),
    'protocol': protocol.text,
    **head,
    'temperature': {
      'fitted': temperature,
      'split': protocol.validation,
      'n': len(validation),
      'in_files': subject.temperature,
    },
    'seeds': _seeds(trainings, head['accuracy'], loaded[last]),
    'splits': splits,
    **provenance.collect(_MODULE, argv),
  }


def _figures(
  split: Mapping[str, Any],
  probabilities: np.ndarray,
  labels: np.ndarray,
  subject: Subject,
) -> None:
  from fer_jax.evaluation import figures

  folder = pathlib.Path(FLAGS.figures)
  sources = split['sources']
  figures.confusion(
    np.array(sources[report.JAX]['confusion']),
    subject.labels,
    folder / 'confusion.png',
    subject.name,
  )
  figures.reliability(
    {name: source['reliability'] for name, source in sources.items()},
    folder / 'reliability.png',
    subject.name,
  )
  figures.selective(
    probabilities, labels, folder / 'selective.png', subject.name
  )


def _table(splits: Mapping[str, Any]) -> str:
  def percent(part: Mapping[str, Any] | None) -> str:
    value = (part or {}).get('accuracy')
    return '-' if value is None else f'{100 * value:.2f}%'

  lines = [
    f'{"split":14} {"form":22} {"accuracy":>9} {"95 % interval":>17} '
    f'{"balanced":>9} {"flip":>8} {"no twin":>8} {"ECE":>6}'
  ]
  for split, part in splits.items():
    for name, s in part['sources'].items():
      low, high = s['accuracy_interval_95']
      lines.append(
        f'{split:14} {name:22} {percent(s):>9} '
        f'{100 * low:7.2f} - {100 * high:6.2f}% '
        f'{100 * s["balanced_accuracy"]:8.2f}% {percent(s.get("flip")):>8} '
        f'{percent(s.get("no_twin")):>8} {s["ece"]:6.3f}'
      )
  return '\n'.join(lines)


def _main(argv: Sequence[str]) -> None:
  if bool(FLAGS.bundle) == bool(FLAGS.workdir):
    raise _cli.UsageError('give either --bundle or --workdir')
  if FLAGS.bundle:
    subject = _bundle(FLAGS.bundle, FLAGS.checkpoints)
  else:
    subject = _training(FLAGS.workdir, FLAGS.checkpoint)
  recorded = _evaluate(subject, argv)
  if subject.is_bundle:
    bundle_lib.update(subject.folder, recorded)
  else:
    target = subject.folder / 'metrics.json'
    temporary = target.with_name(f'.{target.name}.{os.getpid()}')
    temporary.write_text(provenance.dump(recorded), encoding='utf-8')
    os.replace(temporary, target)
  print(_table(recorded['splits']))
  temperature = recorded['temperature']
  print(
    f'ECE on {recorded["split"]}: {recorded["ece_before_temperature"]:.3f}, '
    f'{recorded["ece_after_temperature"]:.3f} at temperature '
    f'{temperature["fitted"]:.3f} fitted on {temperature["split"]}'
  )
  print(f'{subject.name}: figures recorded in metrics.json')


def run(argv: Sequence[str] | None = None) -> int:
  """The command; returns the exit code."""
  return _cli.run(_main, FLAGS, argv, name=_MODULE, doc=__doc__)


if __name__ == '__main__':
  sys.exit(run())

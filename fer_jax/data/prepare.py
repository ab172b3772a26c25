"""Prepares a data set for training: builds it with TFDS, packs it as arrays.

Examples:
  python -m fer_jax.data.prepare --dataset=rendered_faces
  python -m fer_jax.data.prepare --dataset=rendered_faces --train=600 --val=70 \\
    --test=70
  python -m fer_jax.data.prepare --dataset=fer2013 --manual_dir=DIR

DIR holds fer2013.csv or fer2013.csv.xz and, for the FER+ votes, fer2013new.csv
or fer2013new.csv.xz. Exit code: 0 prepared, 1 the data could not be prepared,
2 bad usage.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from absl import flags
from absl import logging

from fer_jax.data import arrays

__all__ = ['main']

# A set of flags of its own: importing this module defines none elsewhere.
_FLAGS = flags.FlagValues()
flags.DEFINE_enum(
  'dataset', None, arrays.names(), 'Data set.', flag_values=_FLAGS
)
flags.DEFINE_string(
  'manual_dir',
  None,
  'Folder with the files that need a manual download.',
  flag_values=_FLAGS,
)
flags.DEFINE_string(
  'data_dir',
  None,
  'Where to write; default $FER_JAX_DATA, else data/.',
  flag_values=_FLAGS,
)
flags.DEFINE_bool(
  'overwrite', False, 'Prepare again what is there.', flag_values=_FLAGS
)
flags.DEFINE_bool(
  'verify',
  True,
  'fer2013: refuse a csv whose md5 is not that of the original.',
  flag_values=_FLAGS,
)
for _name, _text in (
  ('train', 'number of training images'),
  ('val', 'number of validation images'),
  ('test', 'number of test images'),
  ('size', 'side of a crop or width of a scene in pixels'),
  ('channels', '1 grey or 3 RGB (crops)'),
  ('seed', 'other seeds give other people and pictures'),
):
  flags.DEFINE_integer(
    _name, None, f'Rendered sets: {_text}.', flag_values=_FLAGS
  )
_RENDERED = ('train', 'val', 'test', 'size', 'channels', 'seed')
flags.DEFINE_bool('help', False, 'Show this help.', flag_values=_FLAGS)


class _UsageError(ValueError):
  """The command line asks for something that does not exist."""


def _options(values: dict[str, Any]) -> dict[str, Any]:
  """Options of `arrays.prepare` that were given on the command line."""
  dataset = values['dataset']
  if dataset is None:
    raise _UsageError(
      f'--dataset is missing; choose one of {", ".join(arrays.names())}'
    )
  given = {k: values[k] for k in _RENDERED if values[k] is not None}
  if dataset == 'fer2013':
    if given:
      raise _UsageError(f'--{next(iter(given))} is for rendered sets only')
    if values['manual_dir'] is None:
      raise _UsageError('--dataset=fer2013 needs --manual_dir, see --help')
    return {'verify_md5': values['verify']}
  return given


def _summary(name: str, data_dir: str | None, seconds: float) -> str:
  """One line: where it is, its splits, image shape and time."""
  splits = [
    arrays.load(name, split, data_dir)
    for split in arrays.metadata(name, data_dir)['splits']
  ]
  sizes = ', '.join(f'{s.split} {len(s):,}' for s in splits)
  shape = 'x'.join(map(str, splits[0].images.shape[1:]))
  where = arrays.data_dir_or_default(data_dir) / name
  return f'{where}: {sizes} images of {shape}, {seconds:.0f} s'


def _failed(error: BaseException | str, code: int) -> int:
  text = ' '.join(str(error).split()) or type(error).__name__
  print(f'prepare: {text}', file=sys.stderr)
  return code


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
  """Drops what C++ code prints to stderr; Python's own output stays.

  TensorFlow 2.21 announces CPU features and missing GPUs whatever
  TF_CPP_MIN_LOG_LEVEL says, a dozen lines before the one that matters.
  """
  before = sys.stderr
  try:
    own = before.fileno() == 2
  except (AttributeError, OSError, ValueError):
    own = False
  if not own:  # replaced by the caller, say a test
    yield
    return
  kept = os.dup(2)
  nowhere = os.open(os.devnull, os.O_WRONLY)
  try:
    sys.stderr = os.fdopen(os.dup(kept), 'w', buffering=1)
    os.dup2(nowhere, 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)
    if sys.stderr is not before:
      sys.stderr.close()
      sys.stderr = before


def main(argv: Sequence[str]) -> int:
  """Runs the command `argv`, program name first; returns the exit code."""
  _FLAGS.unparse_flags()
  for name in _FLAGS:
    _FLAGS[name].unparse()
  try:
    rest = _FLAGS(list(argv))[1:]
    if _FLAGS.help:
      print(__doc__)
      print(_FLAGS.get_help())
      return 0
    if rest:
      raise _UsageError(f'{rest[0]!r} is not a flag, see --help')
    values = {name: _FLAGS[name].value for name in _FLAGS}
    options = _options(values)
  except (flags.Error, _UsageError) as e:
    return _failed(e, 2)
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)  # TFDS announces itself too
  start = time.monotonic()
  try:
    with _quiet_libraries():
      arrays.prepare(
        values['dataset'],
        values['data_dir'],
        values['manual_dir'],
        overwrite=values['overwrite'],
        show_progress=True,
        **options,
      )
    seconds = time.monotonic() - start
    print(_summary(values['dataset'], values['data_dir'], seconds))
  except arrays.DataError as e:
    return _failed(e, 1)
  except ValueError as e:
    return _failed(e, 2)
  except (OSError, ImportError) as e:
    return _failed(e, 1)
  except KeyboardInterrupt:
    return _failed('stopped; nothing half-done is left', 130)
  finally:
    logging.set_verbosity(verbosity)
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))

"""Trains a network as a config says; run again, it goes on where it stopped.

Examples:
  python -m experiments.train \\
    --config=experiments/configs/rendered_faces_quick.py --workdir=out/quick
  python -m experiments.train \\
    --config=experiments/configs/fer2013_mini_xception.py \\
    --workdir=out/mini_xception --config.epochs=20 --config.parallel=pmap

The workdir gets config.json, metrics.jsonl (one line an epoch) and
checkpoints/ (the newest two and the best on validation).
"""

from __future__ import annotations

import os
import pathlib
import sys

import jax
from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

from fer_jax.training import checkpoints
from fer_jax.training import trainer

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Experiment to run, a file of experiments/configs/.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder for checkpoints and metrics.'
)
_PROGRESS = flags.DEFINE_bool(
  'progress', sys.stderr.isatty(), 'Draw a progress bar.'
)
_CACHE = flags.DEFINE_string(
  'compilation_cache',
  None,
  'Folder that keeps compiled programs between runs; default '
  'WORKDIR/../.xla_cache, "none" turns it off.',
)


def set_compilation_cache(choice: str | None, workdir: str) -> None:
  """Keeps compiled programs beside the work folder unless told otherwise."""
  if choice == 'none':
    return
  folder = pathlib.Path(choice or pathlib.Path(workdir).parent / '.xla_cache')
  jax.config.update('jax_compilation_cache_dir', os.fspath(folder.absolute()))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  # Orbax logs every file it touches; show that to those who ask for it.
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  set_compilation_cache(_CACHE.value, _WORKDIR.value)
  try:
    result = trainer.train(
      _CONFIG.value, _WORKDIR.value, show_progress=_PROGRESS.value
    )
  except trainer.Stopped as stop:
    print(stop, file=sys.stderr)
    return 0
  except KeyboardInterrupt:
    print(
      f'interrupted; the latest checkpoint is kept in {_WORKDIR.value}: run '
      'the same command to go on',
      file=sys.stderr,
    )
    return 130
  except (
    ValueError,
    FileNotFoundError,
  ) as error:
    print(f'train: {error}', file=sys.stderr)
    return 2
  except (
    trainer.TrainingDivergedError,
    checkpoints.CheckpointError,
    OSError,
  ) as error:
    print(f'train: {error}', file=sys.stderr)
    return 1
  print(
    f'done: step {result["step"]}, validation accuracy '
    f'{result["accuracy"]:.4f}, best {result["best_accuracy"]:.4f} at step '
    f'{result["best_step"]}; {result["images_per_second"]:.0f} images/s'
  )
  return 0


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags; what does not parse is one line and exit code 2."""
  try:
    return flags.FLAGS(argv)
  except (flags.Error, AttributeError, TypeError, ValueError, OSError) as error:
    text = error
    while isinstance(text, BaseException) and text.args:
      text = text.args[-1] if isinstance(text, OSError) else text.args[0]
    print(f'train: {" ".join(str(text).split())} (see --help)', file=sys.stderr)
    sys.exit(2)


def run() -> None:
  """Entry point that exits with `main`'s code."""
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main, flags_parser=_parse)


if __name__ == '__main__':
  run()

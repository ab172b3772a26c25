"""The `fer-jax` command.

Data goes to stdout and nothing else does; messages go to stderr. Exit codes:
0 done, 1 some input failed (the others are done), 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import fer_jax
from fer_jax import bundles
from fer_jax.edge import sources
from fer_jax.edge.detectors.base import DetectorError

__all__ = ['main']

_DONE, _FAILED, _USAGE = 0, 1, 2
_BROKEN_PIPE, _INTERRUPTED = 141, 130  # 128 + the number of the signal
_DETECTORS = 'auto, grid, mtcnn, haar, full-frame, or a detector bundle'


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  arguments = _parser().parse_args(argv)
  for stream in (sys.stdout, sys.stderr):
    # File names need not be text in the terminal's encoding.
    if hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')
  try:
    code = arguments.run(arguments)
    sys.stdout.flush()
    return code
  except BrokenPipeError:
    # The reader has seen enough (`| head`). Python flushes stdout once more at
    # exit, which must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BROKEN_PIPE
  except KeyboardInterrupt:
    _say('interrupted')
    return _INTERRUPTED
  except (bundles.UnknownBundleError, DetectorError) as error:
    _say(str(error))
    return _USAGE
  except (bundles.BundleError, sources.ImageError) as error:
    _say(str(error))
    return _FAILED
  except OSError as error:
    _say(str(error))
    return _FAILED


def _say(message: str) -> None:
  from fer_jax.edge import sinks

  print(f'fer-jax: {sinks.printable(message)}', file=sys.stderr)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
  """Keeps the interpreter's notes on its delegates off stderr.

  They are written in C++ and no option turns them off. Errors are raised, so
  none is lost. Only for the command line: the descriptor is the process's.
  """
  sys.stderr.flush()
  kept = os.dup(2)
  null = os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(null, 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(null)


# --- the commands -----------------------------------------------------------


def _image(arguments: argparse.Namespace) -> int:
  from fer_jax.edge import recognizer
  from fer_jax.edge import sinks

  found = list(sources.expand(arguments.paths))
  tool = _recognizer(arguments)
  sink: sinks.Sink
  if arguments.json:
    sink = sinks.JsonLines(sys.stdout)
  elif arguments.csv:
    sink = sinks.Csv(sys.stdout, tool.labels)
  else:
    sink = sinks.Table(sys.stdout)
  pictures = None
  if arguments.output is not None:
    readable = [path for path, error in found if error is None]
    pictures = sinks.Pictures(arguments.output, readable)
  progress = _Progress(len(found), quiet=arguments.quiet)
  code = _DONE
  for path, error in found:
    progress.step(path)
    image = None
    if error is None:
      result, image = tool.recognize(path)
    else:
      result = recognizer.Result(path, None, None, (), error)
    progress.clear()
    sink.write(result)
    if result.error is not None:
      _say(f'{path}: {result.error}')
      code = _FAILED
    elif pictures is not None:
      try:
        written = pictures.write(result, image)
      except sinks.SinkError as failure:
        _say(str(failure))
        code = _FAILED
      else:
        if not arguments.quiet:
          _say(f'wrote {written}')
  return code


def _models(arguments: argparse.Namespace) -> int:
  from fer_jax.edge import runtime

  code = _DONE
  rows = []
  for name in bundles.names():
    folder = bundles.find(name)
    try:
      data = bundles.metadata(folder)
    except bundles.BundleError as error:
      _say(str(error))
      code = _FAILED
      continue
    files = {
      precision: (folder / runtime.FILES[precision]).stat().st_size
      for precision in runtime.precisions(folder)
    }
    rows.append(
      {
        'name': name,
        'kind': data['kind'],
        'model': data['model'],
        'input_shape': data['input_shape'],
        'labels': data['labels'],
        'bytes': files,
        'path': str(folder),
      }
    )
  if arguments.json:
    for row in rows:
      print(json.dumps(row))
    return code
  if not rows:
    _say('no trained models; set FER_JAX_CHECKPOINTS to a folder of bundles')
  for row in rows:
    size = 'x'.join(str(n) for n in row['input_shape'])
    files = ', '.join(f'{k} {v / 1000:.0f} kB' for k, v in row['bytes'].items())
    print(f'{row["name"]}  {row["kind"]}  {size}  {files}')
    print(f'  {" ".join(row["labels"])}')
  return code


def _selftest(arguments: argparse.Namespace) -> int:
  import dataclasses

  from fer_jax.edge import selftest

  names = arguments.names or bundles.names()
  if not names:
    _say('no trained models; set FER_JAX_CHECKPOINTS to a folder of bundles')
    return _FAILED
  code = _DONE
  with _hushed():
    checks = list(selftest.run(names, threads=arguments.threads))
  for check in checks:
    if arguments.json:
      print(json.dumps(dataclasses.asdict(check)))
    else:
      verdict = 'ok    ' if check.ok else 'FAILED'
      print(f'{verdict}  {check.bundle}  {check.check}: {check.detail}')
    if not check.ok:
      code = _FAILED
  return code


def _bench(arguments: argparse.Namespace) -> int:
  from fer_jax.edge import timing

  tool = _recognizer(arguments)
  report = timing.measure(tool, arguments.path, arguments.repeat)
  if arguments.json:
    print(json.dumps(report))
    return _DONE
  picture = report['picture'] or 'built-in picture'
  print(
    f'{report["model"]} {report["precision"]}, detector {report["detector"]}, '
    f'{picture} {report["width"]}x{report["height"]}, '
    f'{report["faces"]} face(s) found, {report["repeat"]} runs'
  )
  print(f'{"stage":<10}{"p50 ms":>10}{"p95 ms":>10}{"p99 ms":>10}')
  for stage, p in report['milliseconds'].items():
    print(f'{stage:<10}{p["p50"]:>10.2f}{p["p95"]:>10.2f}{p["p99"]:>10.2f}')
  return _DONE


def _recognizer(arguments: argparse.Namespace) -> Any:
  import cv2

  from fer_jax.edge import recognizer

  # OpenCV explains each damaged file in several lines; ours says it in one.
  if hasattr(cv2, 'setLogLevel'):
    cv2.setLogLevel(0)
  if arguments.threads is not None:
    cv2.setNumThreads(arguments.threads)
  with _hushed():
    return recognizer.Recognizer(
      arguments.model,
      arguments.detector,
      precision=arguments.precision,
      threads=arguments.threads,
      min_score=arguments.min_score,
    )


class _Progress:
  """One line on a terminal's stderr, unless the results scroll there too."""

  def __init__(self, total: int, *, quiet: bool):
    self._total = total
    self._done = 0
    self._on = (
      not quiet
      and total > 1
      and sys.stderr.isatty()
      and not sys.stdout.isatty()
    )

  def step(self, path: str) -> None:
    from fer_jax.edge import sinks

    self._done += 1
    if self._on:
      name = sinks.printable(path)[-60:]
      print(
        f'\r\033[K{self._done}/{self._total} {name}',
        end='',
        file=sys.stderr,
        flush=True,
      )

  def clear(self) -> None:
    if self._on:
      print('\r\033[K', end='', file=sys.stderr, flush=True)


# --- the arguments ----------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='fer-jax',
    description='Finds faces in pictures and tells their expressions.',
    epilog=(
      'examples:\n'
      '  fer-jax image photo.jpg\n'
      '  fer-jax image holiday/ --json --output marked > faces.jsonl\n'
      '  fer-jax selftest\n\n'
      'exit codes: 0 done, 1 some input failed, 2 bad usage, 130 interrupted'
    ),
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    '--version', action='version', version=f'fer-jax {fer_jax.__version__}'
  )
  commands = parser.add_subparsers(
    title='commands', metavar='COMMAND', required=True
  )
  _add_image(commands)
  _add_models(commands)
  _add_selftest(commands)
  _add_bench(commands)
  return parser


def _add(commands: Any, name: str, run: Any, text: str, examples: str) -> Any:
  parser = commands.add_parser(
    name,
    help=text[0].lower() + text[1:].rstrip('.'),
    description=text,
    epilog=f'examples:\n{examples}',
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.set_defaults(run=run)
  return parser


def _add_image(commands: Any) -> None:
  parser = _add(
    commands,
    'image',
    _image,
    'Recognise the faces in pictures.',
    '  fer-jax image photo.jpg\n'
    '  fer-jax image photos/ --csv > faces.csv\n'
    "  fer-jax image 'photos/*.png' --json --output marked\n"
    '  fer-jax image crop.png --detector full-frame\n',
  )
  parser.add_argument(
    'paths',
    nargs='+',
    metavar='PATH',
    help='a picture, a folder (searched with its sub-folders) or a pattern',
  )
  form = parser.add_mutually_exclusive_group()
  form.add_argument(
    '--json', action='store_true', help='print one JSON object a picture'
  )
  form.add_argument('--csv', action='store_true', help='print a row a face')
  parser.add_argument(
    '--output', metavar='DIR', help='write annotated pictures into this folder'
  )
  _add_recognizer(parser)
  parser.add_argument(
    '--quiet',
    action='store_true',
    help='no progress and no notes; what failed is still named',
  )


def _add_models(commands: Any) -> None:
  parser = _add(
    commands,
    'models',
    _models,
    'List the trained models.',
    '  fer-jax models\n  fer-jax models --json\n',
  )
  parser.add_argument(
    '--json', action='store_true', help='print one JSON object a model'
  )


def _add_selftest(commands: Any) -> None:
  parser = _add(
    commands,
    'selftest',
    _selftest,
    'Check that trained models are whole and answer here as recorded.',
    '  fer-jax selftest\n  fer-jax selftest mini_xception_fer2013 --json\n',
  )
  parser.add_argument(
    'names', nargs='*', metavar='NAME', help='models to check; default all'
  )
  parser.add_argument(
    '--json', action='store_true', help='print one JSON object a check'
  )
  _add_threads(parser)


def _add_bench(commands: Any) -> None:
  parser = _add(
    commands,
    'bench',
    _bench,
    'Time each stage on this machine.',
    '  fer-jax bench\n'
    '  fer-jax bench photo.jpg --threads 1 --precision float32 --json\n',
  )
  parser.add_argument(
    'path',
    nargs='?',
    metavar='PATH',
    help='a picture; default a built-in one of 640x480',
  )
  parser.add_argument(
    '--repeat',
    type=_positive,
    default=100,
    metavar='N',
    help='runs of each stage (default %(default)s)',
  )
  parser.add_argument(
    '--json', action='store_true', help='print one JSON object'
  )
  _add_recognizer(parser)


def _add_recognizer(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--model',
    metavar='NAME',
    help='a trained model, by name or folder (see: fer-jax models)',
  )
  parser.add_argument(
    '--detector',
    default='auto',
    metavar='NAME',
    help=f'{_DETECTORS} (default auto: the best one installed)',
  )
  parser.add_argument(
    '--precision',
    default='int8',
    choices=('int8', 'float16', 'float32'),
    help='of the model (default %(default)s)',
  )
  parser.add_argument(
    '--min-score',
    type=_fraction,
    metavar='P',
    help="detector score from which a face counts (default: detector's own)",
  )
  _add_threads(parser)


def _add_threads(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--threads', type=_positive, metavar='N', help='processor threads to use'
  )


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{text} is not at least 1')
  return value


def _fraction(text: str) -> float:
  value = float(text)
  if not 0 <= value <= 1:
    raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
  return value


if __name__ == '__main__':
  sys.exit(main())

"""Checks that released bundles are whole and give the recorded answers here."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator

from fer_jax import bundles
from fer_jax.edge import classifier
from fer_jax.edge import runtime
from fer_jax.edge.detectors import grid

__all__ = ['TOLERANCE', 'Check', 'run']

# Float arithmetic may be ordered differently on another processor; int8
# outputs come in steps of 1/256, and kernels may round some steps apart.
TOLERANCE = {'float32': 1e-4, 'float16': 1e-2, 'int8': 0.02}


@dataclasses.dataclass(frozen=True)
class Check:
  """One check: of the files ('files') or of one precision's answers."""

  bundle: str
  check: str
  ok: bool
  detail: str


def run(names: Iterable[str], threads: int | None = None) -> Iterator[Check]:
  """Checks the named bundles, a failure never stops the next.

  Args:
    names: names or folders of bundles.
    threads: of the interpreter.

  Raises:
    UnknownBundleError: there is no such bundle.
  """
  for folder in [bundles.find(name) for name in names]:
    yield from _bundle(folder, threads)


def _bundle(folder: pathlib.Path, threads: int | None) -> Iterator[Check]:
  name = folder.resolve().name
  try:
    bundles.verify(folder)
    kind = bundles.metadata(folder)['kind']
  except bundles.BundleError as error:
    yield Check(name, 'files', False, str(error))
    return
  yield Check(name, 'files', True, 'every file has its SHA-256')
  found = runtime.precisions(folder)
  if not found:
    yield Check(name, 'models', False, f'{folder}: no .tflite in the bundle')
  for precision in found:
    try:
      if kind == 'detector':
        grid.Grid(folder, precision=precision, threads=threads)
        yield Check(name, precision, True, 'the signature is as promised')
      else:
        yield _golden(name, folder, precision, threads)
    except bundles.BundleError as error:
      yield Check(name, precision, False, str(error))


def _golden(
  name: str, folder: pathlib.Path, precision: str, threads: int | None
) -> Check:
  model = classifier.Classifier(
    folder.resolve(), precision=precision, threads=threads
  )
  difference, count = classifier.golden_difference(model, folder)
  limit = TOLERANCE[precision]
  detail = (
    f'{count} recorded answers, largest difference {difference:.1e} '
    f'(allowed {limit:g})'
  )
  # So written that NaN fails.
  return Check(name, precision, bool(difference <= limit), detail)

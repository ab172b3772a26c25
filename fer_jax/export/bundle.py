"""Bundles: everything about one trained network in one folder.

A bundle appears under its name in one step or not at all: it is written and
checked in `<root>/.partial/` and then renamed. Until the manifest holds its
SHA-256 sums the bundle it replaces is kept, and put back on failure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import cv2
import jax
import numpy as np
import orbax.checkpoint as ocp

from fer_jax import bundles
from fer_jax.evaluation import metrics as metrics_lib
from fer_jax.evaluation import predict
from fer_jax.evaluation import provenance
from fer_jax.export import card
from fer_jax.export import graph
from fer_jax.export import parity
from fer_jax.export import tflite

__all__ = [
  'FILES',
  'FileReport',
  'golden_images',
  'read_metrics',
  'update',
  'write',
]

# File of each precision.
FILES = {
  'float32': 'model.tflite',
  'float16': 'model_float16.tflite',
  'int8': 'model_int8.tflite',
}
_PARTIAL = '.partial'
_NAME = re.compile(r'[a-z0-9][a-z0-9_.-]*')


@dataclasses.dataclass(frozen=True)
class FileReport:
  """One exported file.

  Attributes:
    file: its name in the bundle.
    precision: 'float32', 'float16' or 'int8'.
    bytes: its size.
    parity: comparison with JAX.
    operations: how often each operation occurs in it.
  """

  file: str
  precision: str
  bytes: int
  parity: parity.Parity
  operations: dict[str, int]


def write(
  root: str | os.PathLike[str],
  name: str,
  *,
  model: Any,
  variables: Any,
  metadata: Mapping[str, Any],
  representative: np.ndarray,
  images: np.ndarray,
  labels: np.ndarray | None = None,
  limits: Mapping[str, parity.Limits] = parity.LIMITS,
  made: Mapping[str, Any] | None = None,
  progress: Callable[[str], None] = lambda text: None,
) -> list[FileReport]:
  """Converts a classifier, checks every file and writes `<root>/<name>/`.

  Args:
    root: folder of the bundles, made where it is missing.
    name: of the bundle: lower case, digits, `_`, `.`, `-`.
    model: linen classifier.
    variables: 'params' and 'batch_stats'.
    metadata: contents of `model.json` but `format`; must have what
      `fer_jax.bundles` asks for, `label_set`, `data` and `temperature`.
    representative: uint8 `[N, H, W, C]`, training images for int8 calibration.
    images: uint8 `[M, H, W, C]`, real images for the parity checks.
    labels: int `[M]`, their classes.
    limits: allowed differences, by precision.
    made: what `provenance.collect` gave.
    progress: called with a line before each part of the work.

  Returns:
    One report a file.

  Raises:
    ValueError: bad name or metadata, no conversion (`ExportError`), or a file
      that differs from the network (`ParityError`). Nothing is left behind and
      a bundle of that name stays as it was.
  """
  if not _NAME.fullmatch(name):
    raise ValueError(
      f'bad bundle name {name!r}: use lower-case letters, digits, _ . and -'
    )
  shape = tuple(metadata['input_shape'])
  for what, array in (('parity', images), ('representative', representative)):
    if array.dtype != np.uint8 or array.shape[1:] != shape or not len(array):
      raise ValueError(
        f'{what} images must be uint8 [N, {", ".join(map(str, shape))}] with '
        f'N >= 1, got {array.dtype} {list(array.shape)}'
      )
  temperature = metadata.get('temperature')
  # An empty collection (no batch norm) is not a part of the network's own tree.
  variables = {
    k: jax.tree.map(np.asarray, v) for k, v in variables.items() if v
  }
  progress('JAX: reference')
  logits = predict.jax_logits(model, variables, images)
  if logits.shape[1] != len(metadata['labels']):
    raise ValueError(
      f'the network has {logits.shape[1]} outputs, but there are '
      f'{len(metadata["labels"])} labels'
    )
  reference = metrics_lib.softmax(logits, temperature or 1.0)
  with _replacing(root, name) as folder:
    reports = []
    for precision, file in FILES.items():
      progress(f'{file}: converting')
      content = tflite.to_tflite(
        model,
        variables,
        shape,
        precision=precision,
        representative=representative if precision == 'int8' else None,
        temperature=temperature,
      )
      (folder / file).write_bytes(content)
      progress(f'{file}: comparing with JAX')
      found = predict.tflite_probabilities(folder / file, images)
      result = parity.check(file, reference, found, limits[precision], labels)
      reports.append(
        FileReport(file, precision, len(content), result, graph.count(content))
      )
    progress('writing the bundle')
    _write_params(folder / 'params', variables)
    _write_golden(folder, shape)
    (folder / 'labels.txt').write_text(
      ''.join(f'{label}\n' for label in metadata['labels']), encoding='utf-8'
    )
    described = {'format': bundles.FORMAT, **metadata}
    _write_json(folder / bundles.METADATA, described)
    bundles.metadata(folder)  # raises where a required key is missing
    recorded = {
      'format': 1,
      'bundle': name,
      'model': metadata['model'],
      'export': {
        'files': {r.file: _file_json(r) for r in reports},
        'provenance': dict(made) if made else None,
      },
    }
    _write_json(folder / 'metrics.json', recorded)
    (folder / 'card.md').write_text(
      card.render(described, recorded), encoding='utf-8'
    )
  return reports


def update(path: str | os.PathLike[str], metrics: Mapping[str, Any]) -> None:
  """Puts figures into a bundle: `metrics.json`, `card.md` and the manifest.

  Args:
    path: the bundle's folder.
    metrics: new contents of `metrics.json`; the `export` part of the old one is
      kept.

  Raises:
    ValueError: a figure is not finite. The bundle stays as it was.
  """
  path = pathlib.Path(path).resolve()
  merged = {**metrics}
  if 'export' in (old := read_metrics(path)):
    merged['export'] = old['export']
  with _replacing(path.parent, path.name) as folder:
    shutil.copytree(path, folder, dirs_exist_ok=True)
    _write_json(folder / 'metrics.json', merged)
    (folder / 'card.md').write_text(
      card.render(bundles.metadata(folder), merged), encoding='utf-8'
    )


def read_metrics(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Contents of a bundle's `metrics.json`, empty where there is none."""
  file = pathlib.Path(path) / 'metrics.json'
  if not file.is_file():
    return {}
  try:
    return json.loads(file.read_text(encoding='utf-8'))
  except ValueError as error:
    raise bundles.BundleError(f'{file}: cannot be read: {error}') from None


def golden_images(
  input_shape: tuple[int, int, int], count: int = 16, seed: int = 0
) -> np.ndarray:
  """Made-up inputs for the golden pair, uint8 `[count, H, W, C]`.

  Smooth random patterns, from low to full contrast: data-set images must not be
  given away, and a check of the arithmetic needs no faces.
  """
  height, width, channels = input_shape
  rng = np.random.default_rng(seed)
  images = []
  for i in range(count):
    coarse = rng.uniform(size=(6, 6, channels)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    smooth = smooth.reshape((height, width, channels))
    contrast = 0.2 + 0.8 * (i + 1) / count
    images.append(np.clip(0.5 + contrast * (smooth - 0.5) * 1.6, 0, 1))
  return np.round(255 * np.stack(images)).astype(np.uint8)


def _write_params(path: pathlib.Path, variables: Any) -> None:
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path.resolve(), variables)
  # Orbax notes the absolute path it wrote to, which nobody else has.
  note = path / 'commit_success.txt'
  if note.is_file():
    note.write_text('Checkpoint commit was successful\n', encoding='utf-8')


def _write_golden(folder: pathlib.Path, shape: tuple[int, int, int]) -> None:
  images = golden_images(shape)
  np.savez(
    folder / 'golden.npz',
    image=images,
    probabilities=predict.tflite_probabilities(
      folder / FILES['float32'], images
    ),
    probabilities_int8=predict.tflite_probabilities(
      folder / FILES['int8'], images
    ),
  )


def _write_json(path: pathlib.Path, data: Any) -> None:
  path.write_text(provenance.dump(data), encoding='utf-8')


def _file_json(report: FileReport) -> dict[str, Any]:
  return {
    'precision': report.precision,
    'bytes': report.bytes,
    'parity': report.parity.as_dict(),
    'operations': report.operations,
  }


@contextlib.contextmanager
def _replacing(
  root: str | os.PathLike[str], name: str
) -> Iterator[pathlib.Path]:
  """An empty folder that becomes `<root>/<name>` if the block succeeds.

  The manifest is written too. On any failure, also of that, what was there
  before is there again.
  """
  root = pathlib.Path(root).resolve()
  partial = root / _PARTIAL
  partial.mkdir(parents=True, exist_ok=True)
  # Two levels down, where no search for bundles (`<root>/*/model.json`) looks.
  work = pathlib.Path(tempfile.mkdtemp(prefix=f'{name}.', dir=partial))
  new, old, target = work / 'new', work / 'old', root / name
  new.mkdir()
  try:
    yield new
    if target.exists():
      os.rename(target, old)
    try:
      os.rename(new, target)
      bundles.write_manifest(root)
    except BaseException:
      if target.exists():
        os.rename(target, new)
      if old.exists():
        os.rename(old, target)
      raise
  finally:
    shutil.rmtree(work, ignore_errors=True)
    with contextlib.suppress(OSError):  # another export may be in there
      partial.rmdir()

"""Prepared data sets as arrays: `load` what `prepare` wrote.

A prepared set is a folder of plain `.npy` files, one an array and split, and a
`metadata.json` with the shape, type and size in bytes of each. Images are
memory-mapped, so that loading costs milliseconds and evaluation on one split
does not read the others. `load` needs numpy alone; `prepare` goes through the
TFDS builder and imports TensorFlow.

  data/fer2013/metadata.json
  data/fer2013/train/images.npy  labels.npy  row.npy  votes.npy
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from fer_jax import labels as label_sets

__all__ = [
  'FORMAT',
  'METADATA',
  'Arrays',
  'DataError',
  'data_dir_or_default',
  'load',
  'metadata',
  'names',
  'prepare',
]

# Raised whenever a reader of the old layout would misread the new one.
FORMAT = 1
METADATA = 'metadata.json'

# What can be prepared; `packing.py` knows how.
_NAMES = ('fer2013', 'rendered_faces', 'rendered_scenes')


class DataError(ValueError):
  """A data file that is missing a part, altered or not what it should be."""


@dataclasses.dataclass(frozen=True)
class Arrays:
  """One split of one data set.

  Attributes:
    name: data set, e.g. `fer2013`.
    split: e.g. `train`.
    label_set: name of the set in `fer_jax.labels` that `labels` indexes.
    images: uint8 `[N, H, W, C]`, 0..255; possibly a read-only memory map.
    labels: int32 `[N]`, class indices of `label_set`.
    attributes: further arrays with N rows each, by name. FER-2013: `row` int32
      `[N]`, the 1-based row of the csv, its header not counted, and where the
      FER+ file was there `votes` uint8 `[N, 10]` in the order of the label set
      `ferplus`.
  """

  name: str
  split: str
  label_set: str
  images: np.ndarray
  labels: np.ndarray
  attributes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    where = f'{self.name}/{self.split}'
    if self.images.ndim != 4 or self.images.dtype != np.uint8:
      raise DataError(
        f'{where}: images must be uint8 [N, H, W, C], not '
        f'{self.images.dtype} {list(self.images.shape)}'
      )
    rows = len(self.images)
    for key, value in {'labels': self.labels, **self.attributes}.items():
      if len(value) != rows:
        raise DataError(f'{where}: {key} has {len(value)} rows, images {rows}')
    classes = len(label_sets.get(self.label_set))
    if rows and not (0 <= self.labels.min() <= self.labels.max() < classes):
      raise DataError(
        f'{where}: labels must be 0..{classes - 1}, found '
        f'{self.labels.min()}..{self.labels.max()}'
      )

  def __len__(self) -> int:
    return len(self.images)

  def take(self, indices: np.ndarray) -> Arrays:
    """The rows of `indices` (integers or a boolean mask `[N]`), copied."""
    return dataclasses.replace(
      self,
      images=np.asarray(self.images[indices]),
      labels=self.labels[indices],
      attributes={k: v[indices] for k, v in self.attributes.items()},
    )


def names() -> tuple[str, ...]:
  """Data sets that `prepare` and `load` know."""
  return _NAMES


def data_dir_or_default(
  data_dir: str | os.PathLike[str] | None,
) -> pathlib.Path:
  """`data_dir`, else $FER_JAX_DATA, else `data` in the current folder."""
  return pathlib.Path(data_dir or os.environ.get('FER_JAX_DATA') or 'data')


def _known(name: str) -> str:
  if name not in _NAMES:
    raise ValueError(
      f'unknown data set {name!r}; choose one of {", ".join(_NAMES)}'
    )
  return name


def metadata(
  name: str, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
  """What `metadata.json` of a prepared set says.

  Raises:
    ValueError: unknown set, or (`DataError`) a file that cannot be read or was
      written by another version.
    FileNotFoundError: the set is not prepared; the message has the command.
  """
  path = data_dir_or_default(data_dir) / _known(name) / METADATA
  manual = ' --manual_dir=DIR' if name == 'fer2013' else ''
  again = (
    f'python -m fer_jax.data.prepare --dataset={name}{manual} '
    f'--data_dir={path.parent.parent}'
  )
  if not path.is_file():
    raise FileNotFoundError(
      f'{name} is not prepared in {path.parent.parent}; run: {again}'
    )
  try:
    info = json.loads(path.read_text())
    version = info['format']
  except (ValueError, KeyError, TypeError) as e:
    raise DataError(
      f'{path} cannot be read ({e}); run: {again} --overwrite'
    ) from None
  if version != FORMAT:
    raise DataError(
      f'{path} has format {version}, this version reads {FORMAT}; run: '
      f'{again} --overwrite'
    )
  return info


def _open(path: pathlib.Path, entry: dict[str, Any]) -> np.ndarray:
  """Memory-maps one array after checking it against its metadata entry."""
  remedy = 'prepare the set again with --overwrite'
  if not path.is_file():
    raise DataError(f'{path} is missing; {remedy}')
  size = path.stat().st_size
  if size != entry['bytes']:
    raise DataError(
      f'{path} has {size} bytes, its metadata says {entry["bytes"]}; {remedy}'
    )
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
  except ValueError as e:
    raise DataError(f'{path} is not a readable array ({e}); {remedy}') from None
  if list(array.shape) != entry['shape'] or str(array.dtype) != entry['dtype']:
    raise DataError(
      f'{path} holds {array.dtype} {list(array.shape)}, its metadata says '
      f'{entry["dtype"]} {entry["shape"]}; {remedy}'
    )
  return array


def load(
  name: str,
  split: str,
  data_dir: str | os.PathLike[str] | None = None,
) -> Arrays:
  """One split of a prepared set; images stay memory-mapped.

  Args:
    name: one of `names()`.
    split: FER-2013: `train`, `public_test`, `private_test`; rendered sets:
      `train`, `val`, `test`.
    data_dir: where `prepare` wrote; None is $FER_JAX_DATA or `data`.

  Raises:
    ValueError: unknown set or split, or (`DataError`) files that do not match
      their metadata.
    FileNotFoundError: not prepared.
  """
  info = metadata(name, data_dir)
  if split not in info['splits']:
    raise ValueError(
      f'{name} has no split {split!r}; choose one of '
      f'{", ".join(info["splits"])}'
    )
  folder = data_dir_or_default(data_dir) / name / split
  found = {
    key: _open(folder / f'{key}.npy', entry)
    for key, entry in info['splits'][split].items()
  }
  images = found.pop('images')
  labels = np.array(found.pop('labels'))
  return Arrays(
    name=name,
    split=split,
    label_set=info['label_set'],
    images=images,
    labels=labels,
    attributes={key: np.array(value) for key, value in found.items()},
  )


def prepare(
  name: str,
  data_dir: str | os.PathLike[str] | None = None,
  manual_dir: str | os.PathLike[str] | None = None,
  **options: Any,
) -> pathlib.Path:
  """Builds a set with its TFDS builder and packs it for `load`.

  Nothing is half-done when this is killed: the arrays appear under their final
  name in one step. A set that is already prepared the same way is kept.

  Args:
    name: one of `names()`.
    data_dir: where to write; None is $FER_JAX_DATA or `data`.
    manual_dir: folder with the files that need a manual download.
    **options: see `fer_jax.data.packing.prepare`.

  Returns:
    The folder of the prepared set.
  """
  _known(name)
  from fer_jax.data import packing  # imports TensorFlow

  return packing.prepare(
    name, data_dir_or_default(data_dir), manual_dir, **options
  )

"""From TFDS builders to the `.npy` files that `arrays.load` maps.

Imports TensorFlow; reached through `arrays.prepare` or
`python -m fer_jax.data.prepare`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from fer_jax import labels as label_sets
from fer_jax.data import arrays
from fer_jax.data.atomic import atomic_folder
from fer_jax.data.builders.fer2013 import csv_files
from fer_jax.data.builders.fer2013 import fer2013_dataset_builder as fer2013
from fer_jax.data.builders.rendered_faces import (
  rendered_faces_dataset_builder as rendered,
)

__all__ = ['pack', 'prepare']

# Below the data folder; the builders' own files, kept for TFDS users.
_TFDS = 'tfds'
_BATCH = 256
# Called with 1 after each example.
_Progress = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class _Source:
  """How one set is built and packed.

  Attributes:
    builder: ready to `download_and_prepare`.
    label_set: name in `fer_jax.labels`.
    convert: batch of TFDS features -> arrays by name; `images` and `labels`
      among them.
    manual_dir: where the builder finds its files.
    rebuild: the TFDS copy may be out of date; build it again.
    work: what the builder does, for the progress bar.
    total: how many examples it will make, if known.
  """

  builder: tfds.core.DatasetBuilder
  label_set: str
  convert: Callable[[dict[str, Any]], dict[str, np.ndarray]]
  manual_dir: pathlib.Path | None = None
  rebuild: bool = False
  work: str = 'reading'
  total: int | None = None


def _convert_fer2013(batch: dict[str, Any]) -> dict[str, np.ndarray]:
  return {
    'images': batch['image'],
    'labels': batch['label'].astype(np.int32),
    'row': batch['row'],
    **({'votes': batch['votes']} if 'votes' in batch else {}),
  }


def _check_options(name: str, options: dict[str, Any], known: set[str]) -> None:
  for key in options:
    if key not in known:
      raise ValueError(
        f'{name} has no option {key!r}; choose from {", ".join(sorted(known))}'
      )


def _fer2013(
  tfds_dir: pathlib.Path,
  manual_dir: pathlib.Path | None,
  **options: Any,
) -> _Source:
  _check_options('fer2013', options, {'verify_md5'})
  verify_md5 = options.get('verify_md5', True)
  where = (
    f'expected {csv_files.CSV_NAME} or {csv_files.CSV_NAME}.xz, md5 '
    f'{csv_files.MD5} unpacked; {csv_files.WHERE}'
  )
  if manual_dir is None:
    raise FileNotFoundError(
      f'fer2013 needs --manual_dir (manual_dir=...), the folder of the csv: '
      f'{where}'
    )
  if csv_files.find(manual_dir, csv_files.CSV_NAME) is None:
    raise FileNotFoundError(f'no csv in {manual_dir}: {where}')
  votes = csv_files.find(manual_dir, csv_files.VOTES_NAME) is not None
  builder = fer2013.Builder(
    data_dir=tfds_dir, config=fer2013.config_name(votes, verify_md5)
  )
  return _Source(
    builder,
    'fer2013',
    _convert_fer2013,
    manual_dir,
    # An altered file may have been altered again since the last build.
    rebuild=not verify_md5,
    total=35_887 if verify_md5 else None,
  )


def _convert_crops(batch: dict[str, Any]) -> dict[str, np.ndarray]:
  return {
    'images': batch['image'],
    'labels': batch['label'].astype(np.int32),
    'identity': batch['identity'],
    'intensity': batch['intensity'],
    'pose': batch['pose'],
    'occluder': batch['occluder'].astype(np.int32),
  }


def _convert_scenes(batch: dict[str, Any]) -> dict[str, np.ndarray]:
  images, faces = batch['image'], batch['faces']
  height, width = images.shape[1:3]
  rows, found = faces['label'].shape
  # TFDS keeps ymin, xmin, ymax, xmax in 0..1 and pads with zeros.
  scaled = faces['bbox'][..., [1, 0, 3, 2]] * np.array(
    [width, height, width, height], np.float32
  )
  boxes = np.zeros((rows, rendered.MAX_FACES, 4), np.float32)
  boxes[:, :found] = scaled
  real = boxes[..., 2] > boxes[..., 0]
  labels = np.full((rows, rendered.MAX_FACES), -1, np.int32)
  labels[:, :found] = faces['label']
  labels[~real] = -1
  area = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
  largest = labels[np.arange(rows), area.argmax(axis=1)]
  neutral = label_sets.get('rendered_faces').index('neutral')
  return {
    'images': images,
    # The class of the largest face; a scene without one is neutral.
    'labels': np.where(largest < 0, neutral, largest).astype(np.int32),
    'boxes': boxes,
    'box_labels': labels,
    'num_faces': real.sum(axis=1).astype(np.int32),
  }


def _rendered(
  kind: str,
  tfds_dir: pathlib.Path,
  manual_dir: pathlib.Path | None,
  **options: Any,
) -> _Source:
  del manual_dir  # nothing to place
  default = rendered.Builder.builder_configs[kind]
  fields = {
    f.name: getattr(default, f.name)
    for f in dataclasses.fields(rendered.Config)
    if f.name not in _NO_OPTIONS
  }
  _check_options(f'rendered {kind}', options, set(fields))
  config = rendered.Config(name='', kind=kind, **(fields | options))
  return _Source(
    rendered.Builder(data_dir=tfds_dir, config=config),
    'rendered_faces',
    _convert_crops if kind == 'crops' else _convert_scenes,
    work='drawing',
    total=config.train + config.val + config.test,
  )


# Fields of the config that are TFDS's own or fixed by the data set's name.
_NO_OPTIONS = (
  *(f.name for f in dataclasses.fields(tfds.core.BuilderConfig)),
  'kind',
)


_SOURCES: dict[str, Callable[..., _Source]] = {
  'fer2013': _fer2013,
  'rendered_faces': functools.partial(_rendered, 'crops'),
  'rendered_scenes': functools.partial(_rendered, 'scenes'),
}


def _batches(
  builder: tfds.core.DatasetBuilder, split: str
) -> Iterator[dict[str, Any]]:
  """Batches of numpy arrays in the builder's own order."""
  # One file after the other, else several shards come interleaved.
  read_config = tfds.ReadConfig(interleave_cycle_length=1)
  dataset = builder.as_dataset(
    split=split, shuffle_files=False, read_config=read_config
  ).padded_batch(_BATCH)
  yield from tfds.as_numpy(dataset)


def _pack_split(
  batches: Iterator[dict[str, np.ndarray]],
  rows: int,
  folder: pathlib.Path,
  progress: _Progress,
) -> dict[str, dict[str, Any]]:
  """Writes one `.npy` an array; returns their metadata entries."""
  folder.mkdir()
  files: dict[str, np.ndarray] = {}
  done = 0
  for batch in batches:
    count = len(batch['images'])
    for key, value in batch.items():
      if key not in files:
        files[key] = np.lib.format.open_memmap(
          folder / f'{key}.npy', 'w+', value.dtype, (rows, *value.shape[1:])
        )
      files[key][done : done + count] = value
    done += count
    progress(count)
  if done != rows:
    raise arrays.DataError(f'{folder.name}: {done} rows read, expected {rows}')
  entries = {}
  for key, file in files.items():
    file.flush()
    entries[key] = {
      'shape': list(file.shape),
      'dtype': str(file.dtype),
      'bytes': (folder / f'{key}.npy').stat().st_size,
    }
  return entries


def pack(
  name: str,
  builder: tfds.core.DatasetBuilder,
  label_set: str,
  convert: Callable[[dict[str, Any]], dict[str, np.ndarray]],
  target: pathlib.Path,
  progress: _Progress = lambda rows: None,
) -> None:
  """Packs every split of a prepared builder into the folder `target`.

  Args:
    name: written into the metadata.
    builder: a builder whose `download_and_prepare` has run.
    label_set: name in `fer_jax.labels` of the array `labels`.
    convert: batch of TFDS features -> arrays by name.
    target: appears complete or not at all.
    progress: called with the number of examples after each batch.
  """
  with atomic_folder(target) as folder:
    splits = {
      split: _pack_split(
        map(convert, _batches(builder, split)),
        info.num_examples,
        folder / split,
        progress,
      )
      for split, info in builder.info.splits.items()
    }
    info = {
      'format': arrays.FORMAT,
      'name': name,
      'label_set': label_set,
      'labels': list(label_sets.get(label_set).names),
      'source': _source_id(builder),
      'splits': splits,
    }
    (folder / arrays.METADATA).write_text(json.dumps(info, indent=2) + '\n')


def _source_id(builder: tfds.core.DatasetBuilder) -> str:
  """What decides the content: builder, config and version."""
  return str(builder.info.full_name)


def _is_current(name: str, data_dir: pathlib.Path, source: _Source) -> bool:
  """Whether the same builder, config and version is packed and whole."""
  try:
    info = arrays.metadata(name, data_dir)
    for split in info['splits']:
      arrays.load(name, split, data_dir)
  except (FileNotFoundError, ValueError):
    return False
  return info['source'] == _source_id(source.builder)


def _remove_incomplete(folder: pathlib.Path) -> None:
  """Removes what a killed build of TFDS left behind, an hour ago or more.

  TFDS does not say whose a folder is; no build here takes that long.
  """
  for path in folder.glob('incomplete.*'):
    if time.time() - path.stat().st_mtime > 3600:
      shutil.rmtree(path, ignore_errors=True)


def prepare(
  name: str,
  data_dir: pathlib.Path,
  manual_dir: str | os.PathLike[str] | None = None,
  *,
  overwrite: bool = False,
  show_progress: bool = False,
  **options: Any,
) -> pathlib.Path:
  """See `arrays.prepare`.

  Args:
    name: one of `arrays.names()`.
    data_dir: folder that gets `<name>/` and `tfds/`.
    manual_dir: folder with the files that need a manual download.
    overwrite: build and pack again even if it is there already.
    show_progress: progress bars on stderr.
    **options: of the set. FER-2013: `verify_md5` (True). Rendered sets: the
      fields of `builders.rendered_faces.Config`.

  Raises:
    ValueError: an option the set does not have, or (`arrays.DataError`) a bad
      file.
    FileNotFoundError: files that need a manual download are not there.
  """
  target = data_dir / name
  manual = None if manual_dir is None else pathlib.Path(manual_dir)
  source = _SOURCES[name](data_dir / _TFDS, manual, **options)
  if (
    not overwrite and not source.rebuild and _is_current(name, data_dir, source)
  ):
    return target
  builder = source.builder
  with contextlib.ExitStack() as stack:
    tfds.disable_progress_bar()  # ours has totals and one line a step
    if overwrite or source.rebuild:
      shutil.rmtree(builder.data_dir, ignore_errors=True)
    _remove_incomplete(pathlib.Path(builder.data_dir).parent)

    def bar(text: str, total: int | None) -> _Progress:
      return stack.enter_context(
        tqdm.tqdm(
          desc=f'{name}: {text}',
          total=total,
          unit='image',
          disable=not show_progress,
        )
      ).update

    builder.progress = bar(source.work, source.total)
    # TFDS announces itself on stdout, which belongs to the caller.
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(
        manual_dir=None if manual is None else str(manual)
      )
    )
    total = sum(s.num_examples for s in builder.info.splits.values())
    pack(
      name,
      builder,
      source.label_set,
      source.convert,
      target,
      bar('packing', total),
    )
  return target

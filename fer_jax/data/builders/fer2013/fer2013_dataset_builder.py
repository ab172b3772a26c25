"""TFDS builder of FER-2013, with the FER+ votes where their file is there."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import labels as label_sets
from fer_jax.data.builders.fer2013 import csv_files
from fer_jax.data.builders.png import encode_png

__all__ = ['Builder', 'Config', 'config_name']


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
  """Which files are read and how strictly.

  Attributes:
    votes: `fer2013new.csv` lies beside the csv; adds the feature `votes`.
    verify_md5: refuse a csv that is not the original byte for byte.
  """

  votes: bool = False
  verify_md5: bool = True


def config_name(votes: bool, verify_md5: bool) -> str:
  """`original` or `ferplus`, with `_noverify` for altered files."""
  return ('ferplus' if votes else 'original') + (
    '' if verify_md5 else '_noverify'
  )


class Builder(tfds.core.GeneratorBasedBuilder):
  """FER-2013: 35,887 grey faces of 48x48 pixels in seven expressions."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'The csv of the challenge, FER+ votes by row.'}
  BUILDER_CONFIGS = [
    Config(
      name=config_name(votes, verify),
      description=('with FER+ votes' if votes else 'labels alone')
      + ('' if verify else '; the md5 of the csv is not checked'),
      votes=votes,
      verify_md5=verify,
    )
    for verify in (True, False)
    for votes in (False, True)
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f'Place {csv_files.CSV_NAME} or {csv_files.CSV_NAME}.xz (md5 of the '
    f'unpacked file {csv_files.MD5}) into the manual folder: '
    f'{csv_files.WHERE}. For the configs `ferplus*` place '
    f'{csv_files.VOTES_NAME} or {csv_files.VOTES_NAME}.xz, from the public '
    'repository microsoft/FERPlus, beside it.'
  )

  # Set by the caller to follow the reading of the csv, one call a row.
  progress: Callable[[int], object] = staticmethod(lambda rows: None)

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      'image': tfds.features.Image(
        shape=(csv_files.SIZE, csv_files.SIZE, 1),
        dtype=np.uint8,
        encoding_format='png',
      ),
      'label': tfds.features.ClassLabel(names=label_sets.get('fer2013').names),
      'row': tfds.features.Scalar(dtype=np.int32),
    }
    if self.builder_config.votes:
      features['votes'] = tfds.features.Tensor(
        shape=(len(label_sets.get('ferplus')),), dtype=np.uint8
      )
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label'),
      # Keeps the order of the csv.
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    folder = pathlib.Path(dl_manager.manual_dir)
    path = csv_files.find(folder, csv_files.CSV_NAME)
    if path is None:
      raise FileNotFoundError(
        f'no {csv_files.CSV_NAME} or {csv_files.CSV_NAME}.xz in {folder} '
        f'(expected md5 {csv_files.MD5}); {csv_files.WHERE}'
      )
    table = csv_files.read_csv(
      path,
      verify_md5=self.builder_config.verify_md5,
      progress=self.progress,
    )
    votes = None
    if self.builder_config.votes:
      votes_path = csv_files.find(folder, csv_files.VOTES_NAME)
      if votes_path is None:
        raise FileNotFoundError(
          f'no {csv_files.VOTES_NAME} or {csv_files.VOTES_NAME}.xz in {folder};'
          ' it is in the public repository microsoft/FERPlus'
        )
      votes = csv_files.read_votes(votes_path, table.usages)
    usages = np.array(table.usages)
    return {
      split: self._generate_examples(
        table, votes, np.flatnonzero(usages == usage)
      )
      for usage, split in csv_files.SPLITS.items()
    }

  def _generate_examples(
    self,
    table: csv_files.Table,
    votes: np.ndarray | None,
    indices: np.ndarray,
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for i in map(int, indices):
      example = {
        'image': encode_png(table.images[i]),
        'label': int(table.labels[i]),
        'row': i + 1,
      }
      if votes is not None:
        example['votes'] = votes[i]
      yield i, example

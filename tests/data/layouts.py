"""Writers of tiny data sets in the on-disk layout of the real ones."""

from __future__ import annotations

import lzma
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CSV_HEADER = 'emotion,pixels,Usage'
VOTES_HEADER = (
  'Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,'
  'contempt,unknown,NF'
)
USAGES = ('Training', 'PublicTest', 'PrivateTest')


class Fer2013(NamedTuple):
  """What was written, row by row of the csv."""

  images: np.ndarray  # uint8 [N, 48, 48, 1]
  labels: np.ndarray  # int32 [N]
  usages: np.ndarray  # str [N]
  votes: np.ndarray  # uint8 [N, 10]


def fer2013(
  counts: Sequence[int] = (14, 7, 7), seed: int = 0, shuffled: bool = False
) -> Fer2013:
  """Random content with `counts` rows of each usage.

  `shuffled` mixes the usages, which the original does not do: a join by
  anything but the row number then goes wrong.
  """
  rng = np.random.default_rng(seed)
  n = sum(counts)
  usages = np.repeat(USAGES, counts)
  if shuffled:
    usages = rng.permutation(usages)
  return Fer2013(
    rng.integers(0, 256, (n, 48, 48, 1), dtype=np.uint8),
    rng.integers(0, 7, n).astype(np.int32),
    usages,
    rng.multinomial(10, np.full(10, 0.1), n).astype(np.uint8),
  )


def csv_lines(data: Fer2013) -> list[str]:
  """Lines of `fer2013.csv`, header first."""
  return [CSV_HEADER] + [
    f'{label},{" ".join(map(str, image.ravel()))},{usage}'
    for image, label, usage in zip(
      data.images, data.labels, data.usages, strict=True
    )
  ]


def votes_lines(data: Fer2013) -> list[str]:
  """Lines of `fer2013new.csv`: names repeat or are empty, as in the original."""
  return [VOTES_HEADER] + [
    f'{usage},{"" if i % 3 else "fer0000000.png"},{",".join(map(str, votes))}'
    for i, (usage, votes) in enumerate(
      zip(data.usages, data.votes, strict=True)
    )
  ]


def write_lines(
  path: pathlib.Path, lines: Sequence[str], end: str = '\n'
) -> pathlib.Path:
  """Writes lines to `path`, compressed if it ends in .xz."""
  content = ''.join(line + end for line in lines).encode()
  if path.suffix == '.xz':
    content = lzma.compress(content, preset=0)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)
  return path


def write_fer2013(
  folder: pathlib.Path, data: Fer2013, *, xz: bool = False, votes: bool = True
) -> None:
  """Writes the two files of `data` into `folder`."""
  suffix = '.xz' if xz else ''
  write_lines(folder / f'fer2013.csv{suffix}', csv_lines(data))
  if votes:
    write_lines(folder / f'fer2013new.csv{suffix}', votes_lines(data))

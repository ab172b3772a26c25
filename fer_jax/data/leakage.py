"""Images that occur in more than one place: leaks, duplicates, blanks.

FER-2013's official splits share pixel-identical images, some of them with
different labels. A test figure on all rows and one on the rows without a twin
in training belong side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from fer_jax.data.arrays import Arrays

__all__ = ['blank', 'conflicts', 'duplicates', 'occurs_in', 'report']


def _digests(images: np.ndarray) -> list[bytes]:
  """A 128-bit digest of each image's pixels; reads a memory map row by row."""
  return [
    hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
    for image in images
  ]


def occurs_in(data: Arrays, reference: Arrays) -> np.ndarray:
  """Rows of `data` whose pixels occur in `reference`, bool `[N]`.

  Raises:
    ValueError: the two have images of different shape, which never match.
  """
  if data.images.shape[1:] != reference.images.shape[1:]:
    raise ValueError(
      f'images of {data.name}/{data.split} are {data.images.shape[1:]}, of '
      f'{reference.name}/{reference.split} {reference.images.shape[1:]}'
    )
  known = set(_digests(reference.images))
  return np.array([d in known for d in _digests(data.images)], bool)


def blank(data: Arrays) -> np.ndarray:
  """Rows of a single grey level or colour, bool `[N]`."""
  return np.array(
    [bool((image == image[:1, :1]).all()) for image in data.images], bool
  )


def duplicates(parts: Sequence[Arrays]) -> list[list[tuple[int, int]]]:
  """Groups of two or more pixel-identical images.

  Args:
    parts: splits to search together.

  Returns:
    A group for each image that occurs more than once: (index into `parts`,
    row) of each occurrence, in order.
  """
  groups: dict[bytes, list[tuple[int, int]]] = {}
  for k, part in enumerate(parts):
    for row, digest in enumerate(_digests(part.images)):
      groups.setdefault(digest, []).append((k, row))
  return [group for group in groups.values() if len(group) > 1]


def conflicts(parts: Sequence[Arrays]) -> list[list[tuple[int, int]]]:
  """The `duplicates` whose occurrences do not all have the same label."""
  return [
    group
    for group in duplicates(parts)
    if len({int(parts[k].labels[row]) for k, row in group}) > 1
  ]


def report(train: Arrays, tests: Sequence[Arrays]) -> dict[str, int]:
  """Counts over a training split and its test splits.

  Returns:
    `images`, `distinct`, `duplicated` (images that occur more than once),
    `conflicting` (of those, with different labels), `blank`, and for each test
    split `leaked_<split>`, its rows that are in `train` too.
  """
  parts = [train, *tests]
  groups = duplicates(parts)
  images = sum(map(len, parts))
  return {
    'images': images,
    'distinct': images - sum(len(group) - 1 for group in groups),
    'duplicated': len(groups),
    'conflicting': len(conflicts(parts)),
    'blank': int(sum(blank(part).sum() for part in parts)),
    **{
      f'leaked_{test.split}': int(occurs_in(test, train).sum())
      for test in tests
    },
  }

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


# Images compared at a time: 24 MB of FER-2013.
_BLOCK = 10_000


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
  result = np.empty(len(data), bool)
  for start in range(0, len(data), _BLOCK):
    images = data.images[start : start + _BLOCK]
    same = images == images[:, :1, :1]
    result[start : start + _BLOCK] = same.all(axis=(1, 2, 3))
  return result


def _groups(digests: Sequence[list[bytes]]) -> list[list[tuple[int, int]]]:
  groups: dict[bytes, list[tuple[int, int]]] = {}
  for k, part in enumerate(digests):
    for row, digest in enumerate(part):
      groups.setdefault(digest, []).append((k, row))
  return [group for group in groups.values() if len(group) > 1]


def _disagree(
  parts: Sequence[Arrays], groups: list[list[tuple[int, int]]]
) -> list[list[tuple[int, int]]]:
  return [
    group
    for group in groups
    if len({int(parts[k].labels[row]) for k, row in group}) > 1
  ]


def duplicates(parts: Sequence[Arrays]) -> list[list[tuple[int, int]]]:
  """Groups of two or more pixel-identical images.

  Args:
    parts: splits to search together.

  Returns:
    A group for each image that occurs more than once: (index into `parts`,
    row) of each occurrence, in order.
  """
  return _groups([_digests(part.images) for part in parts])


def conflicts(parts: Sequence[Arrays]) -> list[list[tuple[int, int]]]:
  """The `duplicates` whose occurrences do not all have the same label."""
  return _disagree(parts, duplicates(parts))


def report(train: Arrays, tests: Sequence[Arrays]) -> dict[str, int]:
  """Counts over a training split and its test splits.

  Returns:
    `images`, `distinct`, `duplicated` (images that occur more than once),
    `conflicting` (of those, with different labels), `blank`, and for each test
    split `leaked_<split>`, its rows that are in `train` too.
  """
  parts = [train, *tests]
  digests = [_digests(part.images) for part in parts]
  known = set(digests[0])
  groups = _groups(digests)
  images = sum(map(len, parts))
  return {
    'images': images,
    'distinct': images - sum(len(group) - 1 for group in groups),
    'duplicated': len(groups),
    'conflicting': len(_disagree(parts, groups)),
    'blank': int(sum(blank(part).sum() for part in parts)),
    **{
      f'leaked_{test.split}': sum(d in known for d in found)
      for test, found in zip(tests, digests[1:], strict=True)
    },
  }

"""Readers of `fer2013.csv` and `fer2013new.csv`, plain or xz-compressed.

Row numbers are 1-based and do not count the header: row 1 is line 2.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import lzma
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import IO
from typing import NamedTuple

import numpy as np

from fer_jax import labels as label_sets
from fer_jax.data.arrays import DataError

__all__ = [
  'CSV_NAME',
  'MD5',
  'SPLITS',
  'UNPACKED_BYTES',
  'VOTES_NAME',
  'WHERE',
  'Table',
  'find',
  'parse_pixels',
  'read_csv',
  'read_votes',
]

CSV_NAME = 'fer2013.csv'
VOTES_NAME = 'fer2013new.csv'
# The csv as Kaggle handed it out, unpacked.
MD5 = 'f8428a1edbd21e88f42c73edd2a14f95'
UNPACKED_BYTES = 301_072_766
WHERE = (
  "get it from the Kaggle challenge 'Challenges in Representation Learning: "
  "Facial Expression Recognition'"
)

SIZE = 48
_PIXELS = SIZE * SIZE
_HEADER = b'emotion,pixels,Usage'
# Usage column -> name of the split.
SPLITS = {
  'Training': 'train',
  'PublicTest': 'public_test',
  'PrivateTest': 'private_test',
}
# Longest possible row is 9,237 bytes; more than this is not the csv, and must
# not be read into memory whole.
_LONGEST_LINE = 1 << 16


class Table(NamedTuple):
  """The csv in memory.

  Attributes:
    images: uint8 `[N, 48, 48, 1]`.
    labels: int32 `[N]`, 0..6 in the order of label set `fer2013`.
    usages: `N` values of the column Usage.
  """

  images: np.ndarray
  labels: np.ndarray
  usages: list[str]


def find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """`folder/name` or `folder/name.xz`, whichever is there (plain first)."""
  for path in (folder / name, folder / f'{name}.xz'):
    if path.is_file():
      return path
  return None


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """Opens plain or xz; a damaged archive is a one-line `DataError`."""
  try:
    with lzma.open(path) if path.suffix == '.xz' else path.open('rb') as f:
      yield f
  except (lzma.LZMAError, EOFError) as e:
    raise DataError(
      f'{path}: the archive is damaged or cut short ({e}); copy it again'
    ) from None


def parse_pixels(text: bytes) -> np.ndarray:
  """Space-separated numbers 0..255, exactly 2,304 of them, as uint8 `[2304]`.

  Array arithmetic on the characters: three times as fast as splitting the text
  and, unlike `np.fromstring`, it refuses anything but plain numbers.

  Raises:
    ValueError: says what is wrong with the text.
  """
  characters = np.frombuffer(text.strip(), np.uint8)
  spaces = np.flatnonzero(characters == ord(' '))
  count = len(spaces) + 1 if len(characters) else 0
  if count != _PIXELS:
    raise ValueError(f'{count} pixels instead of {_PIXELS}')
  digits = characters - np.uint8(ord('0'))  # wraps round below '0'
  if np.count_nonzero(digits <= 9) + len(spaces) != len(characters):
    raise ValueError('a pixel that is not a number 0..255')
  ends = np.append(spaces, len(characters))
  lengths = np.diff(ends, prepend=-1) - 1
  if lengths.min() < 1 or lengths.max() > 3:
    raise ValueError('a pixel that is not a number 0..255')
  wide = digits.astype(np.uint16)
  # Index -1 and below wraps to the end of the row; the factor drops it.
  values = wide[ends - 1]
  values += 10 * wide[ends - 2] * (lengths >= 2)
  values += 100 * wide[ends - 3] * (lengths == 3)
  if values.max() > 255:
    raise ValueError(f'pixel value {values.max()} above 255')
  return values.astype(np.uint8)


def _parse_row(line: bytes) -> tuple[int, np.ndarray, str]:
  """(label, pixels `[2304]`, usage); `ValueError` says what is wrong."""
  fields = line.rstrip(b'\r\n').split(b',')
  if len(fields) != 3:
    raise ValueError(f'{len(fields)} fields instead of 3 (cut short?)')
  emotion, text, usage_bytes = fields
  classes = len(label_sets.get('fer2013'))
  if not (emotion.isdigit() and len(emotion) == 1 and int(emotion) < classes):
    raise ValueError(
      f'label {emotion[:20].decode("latin1")!r} is not 0..{classes - 1}'
    )
  usage = usage_bytes[:20].decode('latin1')
  if usage not in SPLITS:
    raise ValueError(f'usage {usage!r} is not one of {", ".join(SPLITS)}')
  return int(emotion), parse_pixels(text), usage


def _wrong_md5(
  path: pathlib.Path, found: str, problem: str | None
) -> DataError:
  return DataError(
    f'{path} is not the original {CSV_NAME}: {found}, expected md5 {MD5}'
    f'{"; " + problem if problem else ""}; {WHERE}, or read an altered file '
    'with --noverify (verify_md5=False)'
  )


def read_csv(
  path: pathlib.Path,
  *,
  verify_md5: bool = True,
  progress: Callable[[int], object] = lambda rows: None,
) -> Table:
  """Reads and checks the whole csv: about 10 seconds from xz.

  Args:
    path: `fer2013.csv` or `fer2013.csv.xz`.
    verify_md5: the unpacked file must have the original's md5; otherwise any
      number of well-formed rows is accepted.
    progress: called with 1 after each row.

  Raises:
    DataError: wrong md5, or the first bad row with its number.
  """
  digest = hashlib.md5(usedforsecurity=False)
  size = number = 0
  problem: str | None = None
  images: list[np.ndarray] = []
  labels: list[int] = []
  usages: list[str] = []
  with _open(path) as f:
    while line := f.readline(_LONGEST_LINE):
      digest.update(line)
      size += len(line)
      if verify_md5 and size > UNPACKED_BYTES:
        # Also the end of a decompression bomb.
        raise _wrong_md5(path, f'more than {UNPACKED_BYTES} bytes', problem)
      if problem:  # only the md5 is still of interest
        continue
      number += 1
      try:
        if number == 1:
          if line.rstrip(b'\r\n') != _HEADER:
            problem = f'the first line must be {_HEADER.decode()!r}'
        elif line.strip():
          label, pixels, usage = _parse_row(line)
          labels.append(label)
          images.append(pixels)
          usages.append(usage)
          progress(1)
      except ValueError as e:
        problem = f'row {number - 1}: {e}'
      if problem and not verify_md5:
        raise DataError(f'{path}: {problem}')
  if verify_md5 and digest.hexdigest() != MD5:
    raise _wrong_md5(path, f'md5 {digest.hexdigest()}', problem)
  missing = [u for u in SPLITS if u not in set(usages)]
  if missing:
    raise DataError(f'{path}: no row of usage {", ".join(missing)}')
  return Table(
    np.stack(images).reshape(-1, SIZE, SIZE, 1),
    np.array(labels, np.int32),
    usages,
  )


# Header of fer2013new.csv; the columns from the third on are the label set
# `ferplus` under its authors' names.
_VOTES_HEADER = [
  'Usage', 'Image name', 'neutral', 'happiness', 'surprise', 'sadness',
  'anger', 'disgust', 'fear', 'contempt', 'unknown', 'NF',
]  # fmt: skip


def _parse_votes(fields: list[str], usage: str) -> list[int]:
  """Ten counts of one row; `ValueError` says what is wrong."""
  if len(fields) != len(_VOTES_HEADER):
    raise ValueError(f'{len(fields)} fields instead of {len(_VOTES_HEADER)}')
  if fields[0] != usage:
    raise ValueError(f'usage {fields[0]!r} where {CSV_NAME} has {usage!r}')
  if not all(v.isdecimal() and int(v) <= 255 for v in fields[2:]):
    raise ValueError(f'votes {fields[2:]} are not all counts')
  return [int(v) for v in fields[2:]]


def read_votes(path: pathlib.Path, usages: list[str]) -> np.ndarray:
  """FER+ votes, joined to the csv by row number.

  The image names do not identify a row: 173 are empty and 4 repeat. As a check
  of the join each row must have the usage of its csv row.

  Args:
    path: `fer2013new.csv` or `fer2013new.csv.xz`.
    usages: column Usage of the csv, `N` values.

  Returns:
    uint8 `[N, 10]`, columns in the order of label set `ferplus`.

  Raises:
    DataError: other columns or another number of rows, or a bad row with its
      number.
  """
  votes: list[list[int]] = []
  try:
    with _open(path) as f:
      reader = csv.reader(io.TextIOWrapper(f, 'utf-8', newline=''))
      if next(reader, None) != _VOTES_HEADER:
        raise DataError(
          f'{path}: the first line must be {",".join(_VOTES_HEADER)}'
        )
      for number, fields in enumerate(reader, 1):
        if number > len(usages):
          raise DataError(
            f'{path} has more rows than the {len(usages)} of {CSV_NAME}; the '
            'two are joined by row number'
          )
        try:
          votes.append(_parse_votes(fields, usages[number - 1]))
        except ValueError as e:
          raise DataError(f'{path}: row {number}: {e}') from None
  except (csv.Error, UnicodeDecodeError) as e:
    raise DataError(f'{path}: not a readable csv ({e})') from None
  if len(votes) != len(usages):
    raise DataError(
      f'{path} has {len(votes)} rows, {CSV_NAME} {len(usages)}; the two are '
      'joined by row number'
    )
  return np.array(votes, np.uint8)

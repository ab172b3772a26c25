"""Where results go: a table, JSON lines, CSV, annotated pictures."""

from __future__ import annotations

import csv
import json
import os
import pathlib
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol
from typing import TextIO

from fer_jax.edge import overlay

if TYPE_CHECKING:
  from fer_jax.edge.recognizer import Face
  from fer_jax.edge.recognizer import Result
  from fer_jax.edge.sources import Image

__all__ = [
  'Csv',
  'JsonLines',
  'Pictures',
  'Sink',
  'SinkError',
  'Table',
  'face_to_dict',
  'printable',
  'to_dict',
]

_FILE_COLUMNS = ('path', 'width', 'height')
_FACE_COLUMNS = ('face', 'x0', 'y0', 'x1', 'y1', 'score', 'label')


class SinkError(OSError):
  """A picture could not be written; the message is one line."""


class Sink(Protocol):
  """Takes results as they come."""

  def write(self, result: Result) -> None:
    """Writes one result."""


def to_dict(result: Result) -> dict[str, Any]:
  """The object that `--json` prints for one picture."""
  return {
    'path': result.path,
    'width': result.width,
    'height': result.height,
    'faces': [face_to_dict(face) for face in result.faces],
    'error': result.error,
  }


def face_to_dict(face: Face) -> dict[str, Any]:
  """One face as `--json` prints it; digits that carry no meaning are cut."""
  return {
    'box': [round(v, 1) for v in face.box],
    'score': round(face.score, 4),
    'label': face.label,
    'probabilities': {k: round(v, 4) for k, v in face.probabilities.items()},
  }


def printable(text: str) -> str:
  """A name that cannot move the cursor or break the line of a terminal."""
  return ''.join(
    c if c.isprintable() else c.encode('unicode_escape').decode() for c in text
  )


class JsonLines:
  """One JSON object a line and picture."""

  def __init__(self, file: TextIO):
    self._file = file

  def write(self, result: Result) -> None:
    print(json.dumps(to_dict(result), allow_nan=False), file=self._file)
    self._file.flush()


class Csv:
  """One row a face; a picture without faces still gets its row."""

  def __init__(self, file: TextIO, labels: Sequence[str]):
    self._labels = tuple(labels)
    self._file = file
    self._writer = csv.writer(file, lineterminator='\n')
    probabilities = [f'p_{label}' for label in self._labels]
    self._writer.writerow(
      [*_FILE_COLUMNS, *_FACE_COLUMNS, *probabilities, 'error']
    )

  def write(self, result: Result) -> None:
    start = [result.path, result.width, result.height]
    for index, face in enumerate(map(face_to_dict, result.faces)):
      self._writer.writerow(
        [*start, index, *face['box'], face['score'], face['label']]
        + [face['probabilities'][label] for label in self._labels]
        + [None]
      )
    if not result.faces:
      empty = [None] * (len(_FACE_COLUMNS) + len(self._labels))
      self._writer.writerow([*start, *empty, result.error])
    self._file.flush()


class Table:
  """Text for people: a line a face."""

  def __init__(self, file: TextIO):
    self._file = file

  def write(self, result: Result) -> None:
    if result.error is not None:
      return  # named on stderr
    name = printable(result.path)
    print(
      f'{name}  {result.width}x{result.height}  {_faces(len(result.faces))}',
      file=self._file,
    )
    for face in result.faces:
      x0, y0, x1, y1 = (round(v) for v in face.box)
      ranked = sorted(face.probabilities.items(), key=lambda item: -item[1])
      others = '  '.join(f'{k} {v:.0%}' for k, v in ranked[1:3])
      print(
        f'  {face.label:<9} {face.probabilities[face.label]:>4.0%}'
        f'  ({others})  box {x0},{y0} to {x1},{y1}  score {face.score:.2f}',
        file=self._file,
      )
    self._file.flush()


def _faces(count: int) -> str:
  return {0: 'no face', 1: '1 face'}.get(count, f'{count} faces')


class Pictures:
  """Writes each picture with its faces drawn, as `NAME_faces.jpg` or `.png`.

  Inputs are never overwritten; two inputs of one name get a number. A file
  appears whole or not at all.

  Args:
    folder: made if it is missing.
    inputs: the pictures read in this run.

  Raises:
    SinkError: the folder cannot be made.
  """

  def __init__(self, folder: str | os.PathLike[str], inputs: Iterable[str]):
    self._folder = pathlib.Path(folder)
    try:
      self._folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise SinkError(f'{folder}: {error.strerror}') from None
    self._taken = {os.path.realpath(path) for path in inputs}

  def write(self, result: Result, image: Image) -> pathlib.Path:
    """Draws and writes one picture; returns its path.

    Raises:
      SinkError: the disk is full, or the like.
    """
    import cv2

    lossy = result.path.lower().endswith(('.jpg', '.jpeg', '.jpe'))
    target = self._target(
      pathlib.Path(result.path).stem, '.jpg' if lossy else '.png'
    )
    scale = image.pixels.shape[1] / image.width
    pixels = overlay.annotate(image.pixels, result.faces, scale)
    # A JPEG holds at most 65,535 pixels a side.
    done, data = cv2.imencode(
      target.suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    )
    if not done:
      raise SinkError(f'{target}: the picture cannot be encoded')
    temporary = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
      with open(temporary, 'wb') as file:
        file.write(data.tobytes())
      os.replace(temporary, target)
    except OSError as error:
      temporary.unlink(missing_ok=True)
      raise SinkError(f'{target}: {error.strerror}') from None
    return target

  def _target(self, stem: str, suffix: str) -> pathlib.Path:
    number = 1
    while True:
      tail = '' if number == 1 else f'_{number}'
      target = self._folder / f'{stem}_faces{tail}{suffix}'
      real = os.path.realpath(target)
      if real not in self._taken:
        self._taken.add(real)
        return target
      number += 1

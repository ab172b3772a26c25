"""Draws what was found: a box, the label, and a bar for each probability."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import numpy as np

  from fer_jax.edge.recognizer import Face

__all__ = ['Layout', 'annotate', 'draw', 'layouts']

# Below this a text of readable size would cover the picture: enlarge first.
_MIN_SIDE = 360
# One colour a face, in turn: dark enough for white text, far apart.
_COLOURS = (
  (200, 60, 40),
  (40, 110, 190),
  (30, 130, 70),
  (150, 70, 160),
  (170, 110, 20),
  (20, 130, 140),
)
_PANEL = (28, 28, 28)
_TEXT = (245, 245, 245)


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where one face is drawn; rectangles are x0, y0, x1, y1 in whole pixels.

  Attributes:
    box: outer edge of the frame.
    line: thickness of the frame, drawn inwards.
    panel: the label and the bars.
    row: height of a row in the panel.
    bars: whether there is room for the bars under the label.
  """

  box: tuple[int, int, int, int]
  line: int
  panel: tuple[int, int, int, int]
  row: int
  bars: bool


def annotate(
  image: np.ndarray, faces: Iterable[Face], scale: float = 1.0
) -> np.ndarray:
  """A copy of the picture with the faces drawn on it.

  Args:
    image: uint8 `[h, w, 3]` RGB.
    faces: boxes in pixels of the upright file.
    scale: pixels of `image` per pixel of the file; below 1 where a large JPEG
      was decoded at reduced size.

  Returns:
    RGB; small pictures come back enlarged by a whole factor, so that the text
    can be read.
  """
  import cv2

  factor = max(1, -(-_MIN_SIDE // min(image.shape[:2])))
  # A long thin banner must not grow without bound.
  factor = max(1, min(factor, 4096 // max(image.shape[:2])))
  canvas = image.copy()
  if factor > 1:
    canvas = cv2.resize(
      image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST
    )
  return draw(canvas, faces, scale * factor)


def draw(
  image: np.ndarray, faces: Iterable[Face], scale: float = 1.0
) -> np.ndarray:
  """Draws on `image` itself, `scale` pixels per pixel of the boxes."""
  faces = list(faces)
  height, width = image.shape[:2]
  drawn = list(layouts(faces, width, height, scale))
  for index, layout in enumerate(drawn):
    _frame(image, layout, _COLOURS[index % len(_COLOURS)])
  # Panels last: no frame runs through a text.
  for index, layout in enumerate(drawn):
    x0, y0, x1, y1 = layout.panel
    panel = _panel(faces[index], layout, _COLOURS[index % len(_COLOURS)])
    image[y0:y1, x0:x1] = panel[: y1 - y0, : x1 - x0]
  return image


def layouts(
  faces: Iterable[Face], width: int, height: int, scale: float = 1.0
) -> Iterator[Layout]:
  """Where each face goes in a picture of `width` x `height`.

  The bars stand beside, under or over their face, where they hide neither a
  face nor other bars. Where there is no such place, only the label is shown;
  a face alone in its picture always gets its bars.
  """
  unit = min(width, height)
  row = max(14, round(unit / 28))
  line = max(1, round(unit / 240))
  faces = list(faces)
  boxes = []
  for face in faces:
    x0, y0, x1, y1 = (round(v * scale) for v in face.box)
    x0, x1 = _inside(x0, x1, width)
    y0, y1 = _inside(y0, y1, height)
    boxes.append((x0, y0, x1, y1))
  taken = list(boxes)
  for face, box in zip(faces, boxes, strict=True):
    x0, y0, x1, y1 = box
    wide = min(row * 8, width)
    high = row * (1 + len(face.probabilities))
    # The places in order of preference, moved into the picture.
    panels = [
      _moved_in(left, top, wide, high, width, height)
      for left, top in ((x1, y0), (x0 - wide, y0), (x0, y1), (x0, y0 - high))
      if high <= height
    ]
    free = [p for p in panels if not any(_overlap(p, t) for t in taken)]
    bars = bool(free or (panels and len(faces) == 1))
    if bars:
      panel = (free or panels)[0]
    else:
      low = min(row, height)
      panel = _moved_in(x0, y0 - low, wide, low, width, height)
    taken.append(panel)
    yield Layout(box, line, panel, row, bars)


def _moved_in(
  left: int, top: int, wide: int, high: int, width: int, height: int
) -> tuple[int, int, int, int]:
  left = min(max(left, 0), width - wide)
  top = min(max(top, 0), height - high)
  return left, top, left + wide, top + high


def _overlap(
  a: tuple[int, int, int, int], b: tuple[int, int, int, int]
) -> bool:
  return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(low: int, high: int, length: int) -> tuple[int, int]:
  """At least one pixel of low..high inside 0..length."""
  low = min(max(low, 0), length - 1)
  return low, min(max(high, low + 1), length)


def _frame(
  image: np.ndarray, layout: Layout, colour: tuple[int, int, int]
) -> None:
  x0, y0, x1, y1 = layout.box
  line = min(layout.line, x1 - x0, y1 - y0)
  image[y0 : y0 + line, x0:x1] = colour
  image[y1 - line : y1, x0:x1] = colour
  image[y0:y1, x0 : x0 + line] = colour
  image[y0:y1, x1 - line : x1] = colour


def _panel(
  face: Face, layout: Layout, colour: tuple[int, int, int]
) -> np.ndarray:
  """The panel on its own, so that no text can spill into the picture."""
  import numpy as np

  row = layout.row
  rows = 1 + len(face.probabilities) if layout.bars else 1
  panel = np.full((row * rows, row * 8, 3), _PANEL, np.uint8)
  panel[:row] = colour
  percent = round(100 * face.probabilities[face.label])
  _text(panel[:row], f'{face.label} {percent}%')
  if layout.bars:
    for i, (name, probability) in enumerate(face.probabilities.items(), 1):
      strip = panel[i * row : (i + 1) * row]
      _text(strip[:, : row * 4], name)
      bar = strip[row // 4 : row - row // 4, row * 4 : row * 8 - row // 4]
      bar[:] = 70
      bar[:, : round(bar.shape[1] * probability)] = colour
  return panel


def _text(strip: np.ndarray, text: str) -> None:
  """Writes into a strip, as large as it fits."""
  import cv2
  import numpy as np

  height, width = strip.shape[:2]
  font = cv2.FONT_HERSHEY_SIMPLEX
  (unit, _), _ = cv2.getTextSize(text, font, 1.0, 1)
  size = min(height * 0.6 / 22, (width - height * 0.4) / max(unit, 1))
  # Drawn into a copy: OpenCV needs the memory in one piece.
  piece = np.ascontiguousarray(strip)
  cv2.putText(
    piece,
    text,
    (round(height * 0.2), round(height * 0.72)),
    font,
    size,
    _TEXT,
    max(1, height // 18),
    cv2.LINE_AA,
  )
  strip[:] = piece

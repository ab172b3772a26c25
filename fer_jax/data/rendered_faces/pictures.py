"""Crops, sequences and scenes of drawn faces."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from fer_jax.data.rendered_faces import drawing
from fer_jax.data.rendered_faces import parameters
from fer_jax.data.rendered_faces.parameters import FaceParams

__all__ = ['render_face', 'render_scene', 'render_sequence', 'to_grey']

_MIN_SIZE = 16
_MAX_SIZE = 4096


def _checked_size(size: int) -> int:
  if not _MIN_SIZE <= size <= _MAX_SIZE:
    raise ValueError(
      f'size must be {_MIN_SIZE}..{_MAX_SIZE} pixels, not {size}'
    )
  return size


def to_grey(image: np.ndarray) -> np.ndarray:
  """RGB uint8 `[..., H, W, 3]` -> grey `[..., H, W, 1]` (BT.601 weights)."""
  flat = np.ascontiguousarray(image).reshape(-1, image.shape[-2], 3)
  grey = cv2.cvtColor(flat, cv2.COLOR_RGB2GRAY)
  return grey.reshape(*image.shape[:-1], 1)


def _background(
  rng: np.random.Generator, height: int, width: int
) -> np.ndarray:
  """Soft patches of colour, uint8 `[H, W, 3]`."""
  # Rooms are mostly grey with a tint.
  base = rng.uniform(30, 225) + rng.normal(0, 18, 3)
  coarse = base + rng.normal(0, 24, (4, 5, 1)) + rng.normal(0, 7, (4, 5, 3))
  coarse = np.clip(coarse, 0, 255).astype(np.uint8)
  return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _blend_into(
  target: np.ndarray, colour: np.ndarray, coverage: np.ndarray
) -> None:
  """`colour`, multiplied by its coverage, over `target` in place."""
  through = cv2.merge([255 - coverage] * 3)
  behind = cv2.multiply(target, through, scale=1 / 255)
  target[...] = cv2.add(behind, np.ascontiguousarray(colour))


def _lay_over(
  image: np.ndarray, head: drawing.Head, x: int = 0, y: int = 0
) -> None:
  """Lays a head over `image` in place, its corner at (x, y)."""
  height, width = image.shape[:2]
  size = len(head.coverage)
  x0, y0 = max(x, 0), max(y, 0)
  x1, y1 = min(x + size, width), min(y + size, height)
  if x0 >= x1 or y0 >= y1:
    return
  part = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
  _blend_into(image[y0:y1, x0:x1], head.colour[part], head.coverage[part])
  if y1 < height:
    # The body goes on to the lower edge as it leaves the head's picture.
    last = (slice(y1 - y - 1, y1 - y), part[1])
    rows = (height - y1, 1)
    _blend_into(
      image[y1:, x0:x1],
      np.tile(head.colour[last], (*rows, 1)),
      np.tile(head.coverage[last], rows),
    )


def _camera(
  image: np.ndarray, rng: np.random.Generator, blur: float, noise: float
) -> np.ndarray:
  """Blur (pixels) and grey-level noise, the same in the three channels."""
  if blur > 0.2:
    image = cv2.GaussianBlur(image, (0, 0), blur)
  if noise > 0:
    grain = rng.standard_normal(image.shape[:2], np.float32) * np.float32(noise)
    image = np.clip(image + grain[..., None] + 0.5, 0, 255).astype(np.uint8)
  return image


def render_face(params: FaceParams, size: int = 64) -> np.ndarray:
  """A crop round one face.

  Args:
    params: what to draw; the same give the same bytes.
    size: side in pixels.

  Returns:
    uint8 `[size, size, 3]`, RGB; `to_grey` makes it grey.
  """
  _checked_size(size)
  view = params.view
  rng = np.random.default_rng(view.seed)
  image = _background(rng, size, size)
  centre = (size * (0.5 + view.shift[0]), size * (0.5 + view.shift[1]))
  head = drawing.draw_head(params, size, centre, view.scale * size)
  _lay_over(image, head)
  return _camera(image, rng, view.blur * size / 64, view.noise)


def render_sequence(
  params: FaceParams, frames: int = 12, size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
  """A neutral face that moves to the apex of its expression.

  Args:
    params: the last frame; its `intensity` is the apex.
    frames: at least 2.
    size: side in pixels.

  Returns:
    images uint8 `[frames, size, size, 3]` and intensities float32 `[frames]`,
    rising from 0 to `params.intensity` with slow ends, as faces do.
  """
  if frames < 2:
    raise ValueError(f'a sequence needs 2 frames or more, not {frames}')
  t = np.linspace(0, 1, frames)
  intensities = params.intensity * t * t * (3 - 2 * t)
  images = []
  for i, intensity in enumerate(intensities):
    frame = parameters.with_intensity(params, float(intensity))
    image = render_face(
      dataclasses.replace(
        frame, view=dataclasses.replace(frame.view, noise=0.0)
      ),
      size,
    )
    # The grain changes from frame to frame, the background does not.
    grain = np.random.default_rng([params.view.seed, i])
    images.append(_camera(image, grain, 0.0, params.view.noise))
  return np.stack(images), intensities.astype(np.float32)


def _clutter(image: np.ndarray, rng: np.random.Generator) -> None:
  """Furniture, windows and lamps: shapes that are no faces."""
  height, width = image.shape[:2]
  for _ in range(int(rng.integers(4, 10))):
    x, y = int(rng.integers(width)), int(rng.integers(height))
    w = int(rng.uniform(0.05, 0.4) * width)
    h = int(rng.uniform(0.05, 0.4) * height)
    colour = tuple(float(v) for v in rng.uniform(15, 240, 3))
    kind = rng.integers(3)
    if kind == 0:
      cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1, cv2.LINE_AA)
    elif kind == 1:
      angle = float(rng.uniform(0, 180))
      cv2.ellipse(
        image, (x, y), (w // 2, h // 2), angle, 0, 360, colour, -1, cv2.LINE_AA
      )
    else:
      cv2.line(
        image, (x, y), (x + w, y + h - height // 5), colour,
        int(rng.integers(1, 6)), cv2.LINE_AA,
      )  # fmt: skip


def _place(
  rng: np.random.Generator, height: int, width: int, count: int
) -> list[tuple[float, float, float]]:
  """Centres and face heights, apart from each other and inside the picture.

  Places at random; when a face finds no room all of them get smaller.
  """
  side = min(height, width)
  largest = 0.5 if count <= 1 else max(0.16, 0.62 / np.sqrt(count))
  while True:
    placed: list[tuple[float, float, float]] = []
    for _ in range(60 * count):
      if len(placed) == count:
        break
      h = float(rng.uniform(0.5, 1.0)) * largest * side
      # Room for the box of a turned, rolled and wide-open face.
      margin_x, margin_y = 0.62 * h, 0.78 * h
      if 2 * margin_x > width or 2 * margin_y > height:
        continue
      x = float(rng.uniform(margin_x, width - margin_x))
      y = float(rng.uniform(margin_y, height - margin_y))
      if all(
        abs(x - px) > 0.62 * (h + ph) or abs(y - py) > 0.72 * (h + ph)
        for px, py, ph in placed
      ):
        placed.append((x, y, h))
    if len(placed) == count:
      # From the back to the front: a body hides only what is above it.
      return sorted(placed, key=lambda p: p[1])
    largest *= 0.8
    if largest * side < 8:
      raise ValueError(f'no room for {count} faces in {width}x{height} pixels')


def render_scene(
  rng: np.random.Generator,
  size: int | tuple[int, int] = (240, 320),
  n_faces: int = 1,
  *,
  identities: list[parameters.Identity] | None = None,
  difficulty: float = 1.0,
  occlusion: float = 0.12,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A picture with people in front of a cluttered background.

  Args:
    rng: source of the randomness; the same state gives the same bytes.
    size: side, or height and width, in pixels.
    n_faces: how many, 0 or more; smaller the more there are.
    identities: people to choose from, None for new ones.
    difficulty: see `parameters.sample_view`.
    occlusion: probability that a face has an occluder.

  Returns:
    image uint8 `[H, W, 3]` RGB, boxes float32 `[n_faces, 4]` as x0, y0, x1, y1
    in pixels (forehead to chin, ears and hair left out) and labels int32
    `[n_faces]` of label set `rendered_faces`. Boxes lie inside the picture.

  Raises:
    ValueError: a size out of range or too small for that many faces.
  """
  height, width = (size, size) if isinstance(size, int) else size
  _checked_size(height)
  _checked_size(width)
  if n_faces < 0:
    raise ValueError(f'n_faces must be 0 or more, not {n_faces}')
  image = _background(rng, height, width)
  _clutter(image, rng)
  boxes = np.zeros((n_faces, 4), np.float32)
  labels = np.zeros(n_faces, np.int32)
  for i, (x, y, h) in enumerate(_place(rng, height, width, n_faces)):
    identity = None
    if identities:
      identity = identities[rng.integers(len(identities))]
    params = parameters.sample_params(
      rng, identity=identity, difficulty=difficulty, occlusion=occlusion
    )
    patch = int(np.ceil(2.6 * h))
    left, top = round(x - patch / 2), round(y - patch / 2)
    head = drawing.draw_head(params, patch, (x - left, y - top), h)
    _lay_over(image, head, left, top)
    boxes[i] = np.add(head.box, (left, top, left, top))
    labels[i] = params.label
  boxes = np.clip(boxes, 0, np.array([width, height, width, height]))
  image = _camera(
    image, rng, float(rng.uniform(0, 0.8)) * difficulty,
    float(rng.uniform(0, 6)) * difficulty,
  )  # fmt: skip
  return image, boxes.astype(np.float32), labels

"""Draws one head as colours and coverage: polygons, soft shadows, light.

Everything is drawn at twice the final size with anti-aliased edges on a
premultiplied RGBA picture and averaged down. Features lie on an ellipsoid that
is turned by yaw, pitch and roll, so that they move and foreshorten together.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import cv2
import numpy as np

from fer_jax.data.rendered_faces.parameters import ActionUnits
from fer_jax.data.rendered_faces.parameters import Colour
from fer_jax.data.rendered_faces.parameters import FaceParams
from fer_jax.data.rendered_faces.parameters import Identity

__all__ = ['Head', 'draw_head']

_OVERSAMPLE = 2
# Fractional bits of OpenCV's coordinates.
_BITS = 4
# Semi-axes of the surface that carries the features, in head units: flatter
# than a head, because the drawn outline does not turn with it.
_A, _B, _C = 0.95, 1.25, 0.55

_T = np.linspace(-1, 1, 15)
_BUMP = 1 - _T**2
_CUPID = _BUMP * (1 - 0.3 * np.exp(-((_T / 0.16) ** 2)))
_U = np.linspace(0, 1, 8)
_LINE = np.linspace(-1, 1, 13)
_STRAND = np.linspace(0, 12, 8).astype(int)
_BACK = np.linspace(-0.25 * np.pi, 1.25 * np.pi, 24)
_HAIR_ANGLE = np.linspace(0.0, np.pi, 26)
_HAIR_COS, _HAIR_SIN = np.cos(_HAIR_ANGLE), np.abs(np.sin(_HAIR_ANGLE))
_TURN = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_COS, _SIN = np.cos(_TURN), np.sin(_TURN)
_ANGLE = np.linspace(0, 2 * np.pi, 44, endpoint=False)
_NECK = np.array(
  [(-0.4, 0.4), (0.4, 0.4), (0.42, 1.3), (0.9, 1.55), (0.9, 3), (-0.9, 3),
   (-0.9, 1.55), (-0.42, 1.3)]
)  # fmt: skip
_CLOTH = np.array(
  [(-0.4, 1.36), (-0.2, 1.56), (0.2, 1.56), (0.4, 1.36), (1.1, 1.5), (1.7, 1.8),
   (1.9, 2.4), (1.9, 9), (-1.9, 9), (-1.9, 2.4), (-1.7, 1.8), (-1.1, 1.5)]
)  # fmt: skip
# In units of the nose's half-width and head units.
_NOSE = np.array(
  [(-1, -0.05), (-0.9, 0.02), (-0.35, 0.03), (0, 0.05), (0.35, 0.03),
   (0.9, 0.02), (1, -0.05)]
)  # fmt: skip
# In units of the face's half-width and head units.
_MASK = np.array(
  [(-0.95, 0.08), (-0.4, 0.04), (0, -0.02), (0.4, 0.04), (0.95, 0.08),
   (0.7, 0.75), (0.3, 1.02), (-0.3, 1.02), (-0.7, 0.75)]
)  # fmt: skip
_LOCK = np.array(
  [(0.05, -1.0), (0.75, -0.9), (0.78, 0.5), (0.56, 0.35), (0.42, -0.2),
   (0.2, -0.6)]
)  # fmt: skip
# Grey level of the soft layer that leaves the skin as it is.
_ONE = 200
_HAIRLINE = -0.75


class Head(NamedTuple):
  """A drawn head, to be laid over a background.

  Attributes:
    colour: uint8 `[S, S, 3]` RGB, multiplied by the coverage.
    coverage: uint8 `[S, S]`, 0 background to 255 head.
    box: the face from hairline to chin, without ears and hair: x0, y0, x1, y1
      in pixels.
  """

  colour: np.ndarray
  coverage: np.ndarray
  box: tuple[float, float, float, float]


class _Pose:
  """Projects head coordinates to pixels of the oversampled picture."""

  def __init__(
    self,
    centre: tuple[float, float],
    unit: float,
    angles: tuple[float, float, float],
  ):
    self.unit = unit
    self.centre = centre
    yaw, pitch, roll = (math.radians(v) for v in angles)
    self._cos = np.array([math.cos(yaw), math.cos(pitch)])
    self._sin = np.array([math.sin(yaw), math.sin(pitch)])
    c, s = math.cos(roll), math.sin(roll)
    self._roll = unit * np.array([[c, s], [-s, c]])

  def project(
    self, points: np.ndarray, lift: np.ndarray, flat: np.ndarray
  ) -> np.ndarray:
    """Head coordinates `[N, 2]` -> pixels `[N, 2]`.

    Args:
      points: x and y in head units.
      lift: `[N]`, depth above the surface; of flat points, depth itself.
      flat: bool `[N]`, points of the outline. A round head keeps its width
        when it turns, so that these shift by their depth and do not shorten.
    """
    q = points * (1 / _A, 1 / _B)
    q *= q
    z = _C * np.sqrt(np.maximum(1 - q[:, 0] - q[:, 1], 0))
    z = np.where(flat, 0, z) + lift
    turned = points * np.where(flat[:, None], 1, self._cos)
    turned += z[:, None] * self._sin
    return turned @ self._roll + self.centre


class _Strokes:
  """Polygons and lines in painting order, projected all at once.

  One projection of a thousand points costs as much as that of ten.
  """

  def __init__(self):
    self._points: list[np.ndarray] = []
    # One number a stroke, unless it is in `_lifts` for each of its points.
    self._lift: list[float] = []
    self._lifts: dict[int, np.ndarray] = {}
    self._flat: list[bool] = []
    self._how: list[tuple[Colour, float, bool]] = []

  def _add(
    self,
    points: np.ndarray,
    lift: float | np.ndarray,
    flat: bool,
    how: tuple[Colour, float, bool],
  ) -> None:
    if isinstance(lift, np.ndarray):
      self._lifts[len(self._points)] = lift
      lift = 0.0
    self._points.append(points)
    self._lift.append(lift)
    self._flat.append(flat)
    self._how.append(how)

  def fill(
    self,
    points: np.ndarray,
    colour: Colour,
    lift: float | np.ndarray = 0.0,
    flat: bool = False,
  ) -> None:
    """A filled polygon `[N, 2]`; `lift` and `flat` as in `_Pose.project`."""
    self._add(points, lift, flat, (colour, 0.0, True))

  def line(
    self,
    points: np.ndarray,
    colour: Colour,
    width: float,
    lift: float | np.ndarray = 0.0,
    flat: bool = False,
    closed: bool = False,
  ) -> None:
    """A line through `[N, 2]`, `width` in head units."""
    self._add(points, lift, flat, (colour, width, closed))

  def draw(self, canvas: np.ndarray, pose: _Pose, scale: float = 1.0) -> None:
    """Draws on uint8 `[S, S, C]`, whose pixels are `1 / scale` of the pose's.

    Four channels are RGB and coverage, one takes the first of the colour.
    """
    lengths = [len(p) for p in self._points]
    starts = list(itertools.accumulate(lengths, initial=0))
    lift = np.repeat(self._lift, lengths)
    for i, values in self._lifts.items():
      lift[starts[i] : starts[i + 1]] = values
    pixels = pose.project(
      np.concatenate(self._points), lift, np.repeat(self._flat, lengths)
    )
    # Pixel centres are whole numbers to OpenCV.
    pixels = (pixels * scale - 0.5) * (1 << _BITS)
    fixed = np.rint(pixels).astype(np.int32)
    for start, end, (colour, width, closed) in zip(
      starts[:-1], starts[1:], self._how, strict=True
    ):
      part = [fixed[start:end]]
      value = (*colour, 255)
      if width:
        thick = max(1, round(width * pose.unit * scale))
        cv2.polylines(canvas, part, closed, value, thick, cv2.LINE_AA, _BITS)
      else:
        cv2.fillPoly(canvas, part, value, cv2.LINE_AA, _BITS)


def _shade(colour: Colour, factor: float) -> Colour:
  r, g, b = (min(255.0, max(0.0, v * factor)) for v in colour)
  return r, g, b


def _blend(a: Colour, b: Colour, share: float) -> Colour:
  r, g, c = ((1 - share) * x + share * y for x, y in zip(a, b, strict=True))
  return r, g, c


def _ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
  return _xy(x + rx * _COS, y + ry * _SIN)


def _xy(x: np.ndarray, y: np.ndarray | float) -> np.ndarray:
  points = np.empty((len(x), 2))
  points[:, 0] = x
  points[:, 1] = y
  return points


def _band(x: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
  """Closed polygon between two curves over the same x."""
  count = len(x)
  points = np.empty((2 * count, 2))
  points[:count, 0] = x
  points[:count, 1] = upper
  points[count:, 0] = x[::-1]
  points[count:, 1] = lower[::-1]
  return points


def _outline(
  identity: Identity, units: ActionUnits
) -> tuple[np.ndarray, np.ndarray]:
  """Face outline `[N, 2]` and its depth `[N]`, from the right side down."""
  cos, sin = np.cos(_ANGLE), np.sin(_ANGLE)
  lower = np.maximum(sin, 0)
  # Below the ears the cheeks run straight to the chin, by the jaw's squareness.
  narrow = 1 - (0.34 - 0.26 * identity.jaw) * lower**1.5
  x = identity.face_width * np.sign(cos) * np.abs(cos) ** 0.88 * narrow
  y = np.where(sin > 0, np.sign(sin) * np.abs(sin) ** 0.92, 0.98 * sin)
  y = y + 0.2 * units.jaw_drop * np.clip((y - 0.25) / 0.75, 0, None)
  return np.stack([x, y], axis=1), 0.05 + 0.3 * lower**2


def _draw_back(ink: _Strokes, identity: Identity) -> None:
  """Long hair, neck, shoulders and ears: what lies behind the face."""
  if identity.hair == 'long':
    x = (identity.face_width + 0.22) * np.cos(_BACK)
    hair = _xy(x, -0.12 - 1.12 * np.sin(_BACK))
    ends = np.array([(-0.92, 1.5), (0.92, 1.5)])
    ink.fill(
      np.concatenate([hair, ends]),
      _shade(identity.hair_colour, 0.8),
      -0.15,
      flat=True,
    )
  ink.fill(_NECK, _shade(identity.skin, 0.74), -0.1, flat=True)
  ink.fill(_CLOTH, identity.cloth_colour, -0.1, flat=True)
  for side in (-1, 1):
    ear = _ellipse(side * (identity.face_width + 0.02), 0.0, 0.1, 0.2)
    ink.fill(ear, _shade(identity.skin, 0.85), -0.1, flat=True)


def _draw_soft(ink: _Strokes, identity: Identity, u: ActionUnits) -> None:
  """Sockets, nose, folds and chin as grey levels, `_ONE` for unchanged."""

  def blob(x: float, y: float, rx: float, ry: float, level: float) -> None:
    ink.fill(_ellipse(x, y, rx, ry), (_ONE * level, 0, 0))

  def fold(points: list[tuple[float, float]], strength: float) -> None:
    level = _ONE * (1 - 0.5 * min(1.0, strength))
    ink.line(np.array(points), (level, 0, 0), 0.05)

  raised = -0.05 * u.cheek_raise
  length = identity.nose_length
  eye_x = 0.34 * identity.eye_distance
  for side in (-1, 1):
    blob(side * eye_x, -0.14, 0.22, 0.13, 0.87)
    blob(side * 0.42, 0.26 + raised, 0.17, 0.12, 1.07)  # cheekbone
    blob(side * 0.1 * identity.nose_width, 0.1, 0.045, 0.2 * length, 0.89)
    fold(
      [
        (side * (0.16 + 0.02 * u.nose_wrinkle), 0.2 * length),
        (side * (0.28 + 0.06 * u.lip_corner_pull), 0.36 + raised),
        (side * (0.34 + 0.1 * u.lip_corner_pull), 0.54 + raised),
      ],
      0.2 * identity.age
      + 0.6 * u.lip_corner_pull
      + 0.7 * u.nose_wrinkle
      + 0.4 * u.upper_lip_raise
      + 0.25 * u.lip_corner_depress,
    )
    if u.cheek_raise > 0.15:
      fold(
        [(side * 0.22, 0.03), (side * 0.36, 0.05), (side * 0.5, 0.0)],
        0.35 * u.cheek_raise,
      )
    if u.brow_lower > 0.15:
      fold([(side * 0.05, -0.34), (side * 0.06, -0.2)], 0.8 * u.brow_lower)
    if u.nose_wrinkle > 0.15:
      fold([(side * 0.02, -0.1), (side * 0.12, -0.16)], u.nose_wrinkle)
      fold([(side * 0.02, -0.02), (side * 0.13, -0.06)], u.nose_wrinkle)
  blob(0, 0.02, 0.035, 0.2 * length, 1.11)  # bridge of the nose
  blob(0, 0.3 * length + 0.02, 0.1 * identity.nose_width, 0.035, 0.82)
  blob(0, 0.72 + 0.18 * u.jaw_drop, 0.16, 0.03, 0.86)  # under the lip
  if u.chin_raise > 0.15:
    blob(0, 0.8, 0.12, 0.05, 1 - 0.2 * u.chin_raise)
  forehead = max(u.inner_brow_raise, u.outer_brow_raise)
  if forehead > 0.2:
    width = 0.18 + 0.22 * u.outer_brow_raise
    for y in (-0.56, -0.66):
      fold([(-width, y), (0, y + 0.015), (width, y)], 0.4 * forehead)


def _draw_beard(ink: _Strokes, identity: Identity, outline: np.ndarray) -> None:
  """Stubble, moustache or full beard, drawn under the mouth."""
  share = (0.0, 0.2, 0.75, 0.7)[identity.beard]
  colour = _blend(identity.skin, identity.hair_colour, share)
  if identity.beard in (1, 3):
    # From one side round the chin to the other, and back above the lip.
    jaw = outline[outline[:, 1] > 0.12]
    rim = [(-0.5, 0.34), (-0.34, 0.4), (0.34, 0.4), (0.5, 0.34)]
    depth = 0.05 + 0.3 * np.clip(jaw[:, 1], 0, 1) ** 2
    ink.fill(
      np.concatenate([jaw, np.array(rim)]),
      colour,
      np.concatenate([depth, np.full(4, 0.42)]),
      flat=True,
    )
  if identity.beard in (2, 3):
    x = 0.27 * identity.mouth_width * _T
    ink.fill(_band(x, 0.36 + 0.08 * _T**2, 0.46 + 0.07 * _T**2), colour)


def _draw_eyes(ink: _Strokes, params: FaceParams, u: ActionUnits) -> None:
  identity = params.identity
  skin, size = identity.skin, identity.eye_size
  gaze_x, gaze_y = params.view.gaze
  open_up = (
    1 + 0.7 * u.lid_raise - 0.5 * u.lid_tighten - 0.35 * u.cheek_raise
    - 0.4 * u.nose_wrinkle - 0.2 * u.brow_lower * (1 - u.lid_raise)
  )  # fmt: skip
  open_low = max(0.1, 1 - 0.75 * u.cheek_raise - 0.4 * u.lid_tighten)
  # The outer half of the upper lid hangs in sadness.
  hang = 0.35 * u.inner_brow_raise * (1 - 0.8 * u.lid_raise)
  dark = _blend(_shade(skin, 0.35), (20, 14, 12), 0.5)
  for side in (-1, 1):
    centre = side * 0.34 * identity.eye_distance
    outward = side * _T
    x = centre + 0.155 * size * _T
    level = -0.1 - identity.eye_tilt * outward
    height = np.maximum(0.18, open_up * (1 - hang * outward))
    upper = level - 0.088 * size * _BUMP**0.8 * height
    lower = level + 0.05 * size * _BUMP * open_low
    ink.fill(_band(x, upper, lower), (238, 234, 230))
    pupil = centre + 0.05 * gaze_x
    for radius, colour in (
      (0.082 * size, identity.iris_colour),
      (0.042 * size, (14.0, 12.0, 12.0)),
    ):
      disc = _ellipse(pupil, -0.115 + 0.02 * gaze_y, radius, radius)
      # The lids cover the iris: keep to between the curves at each x.
      disc[:, 1] = np.clip(
        disc[:, 1],
        np.interp(disc[:, 0], x, upper),
        np.interp(disc[:, 0], x, lower),
      )
      ink.fill(disc, colour)
    if open_up > 0.5:
      ink.fill(
        _ellipse(pupil - 0.025, -0.145, 0.018, 0.018), (250.0, 250.0, 250.0)
      )
    ink.line(_xy(x, upper), dark, 0.028)
    ink.line(_xy(x, lower), _shade(skin, 0.62), 0.014)
    crease = upper - 0.035 - 0.02 * u.lid_raise
    ink.line(_xy(x, crease)[2:-2], _shade(skin, 0.72), 0.012)
    if u.cheek_raise > 0.4:
      for y in (-0.13, -0.07):
        feet = [
          (centre + side * 0.19, y + 0.02),
          (centre + side * 0.27, y * 1.4),
        ]
        ink.line(np.array(feet), _shade(skin, 0.78), 0.012)


def _draw_brows(ink: _Strokes, identity: Identity, u: ActionUnits) -> None:
  colour = _blend(_shade(identity.hair_colour, 0.8), identity.skin, 0.12)
  if sum(identity.hair_colour) > 400:  # brows are darker than fair hair
    colour = _blend(_shade(identity.hair_colour, 0.5), identity.skin, 0.25)
  inner = 0.15 - 0.055 * u.brow_lower
  x = inner + (0.56 - inner) * _U
  y = (
    -0.33
    + identity.brow_height
    - 0.05 * np.sin(np.pi * (0.15 + 0.8 * _U))
    - 0.15 * u.inner_brow_raise * (1 - _U) ** 1.3
    - 0.15 * u.outer_brow_raise * np.minimum(1, 0.3 + _U)
    + 0.14 * u.brow_lower * (1 - _U) ** 1.1
    + 0.05 * u.nose_wrinkle * (1 - _U)
    + 0.03 * u.inner_brow_raise * _U**2
  )
  thick = 0.034 * identity.brow_thickness * (1 - 0.65 * _U)
  band = _band(x, y - thick, y + thick)
  for side in (-1, 1):
    ink.fill(band * (side, 1), colour, 0.03)


def _draw_nose(ink: _Strokes, identity: Identity, u: ActionUnits) -> None:
  width = 0.12 * identity.nose_width * (1 + 0.18 * u.nose_wrinkle)
  y = 0.27 * identity.nose_length
  y -= 0.05 * u.nose_wrinkle + 0.02 * u.upper_lip_raise
  skin = identity.skin
  ink.line(_NOSE * (width, 1) + (0, y), _shade(skin, 0.7), 0.018, 0.1)
  for side in (-1, 1):
    hole = _ellipse(side * width * 0.5, y + 0.015, 0.036, 0.018)
    ink.fill(hole, _shade(skin, 0.36), 0.1)
  ink.fill(_ellipse(-0.01, y - 0.06, 0.035, 0.025), _shade(skin, 1.07), 0.14)


def _draw_mouth(ink: _Strokes, identity: Identity, u: ActionUnits) -> None:
  """Lips, and where they part the dark of the mouth, teeth and tongue."""
  half = 0.27 * identity.mouth_width * (
    1 + 0.3 * u.lip_corner_pull + 0.3 * u.lip_stretch
    - 0.28 * u.jaw_drop - 0.1 * u.lip_tighten
  )  # fmt: skip
  corner = (
    -0.15 * u.lip_corner_pull + 0.13 * u.lip_corner_depress
    + 0.03 * u.lip_stretch
  )  # fmt: skip
  middle = (
    0.53 + 0.05 * u.lip_corner_pull - 0.05 * u.chin_raise
    - 0.03 * u.lip_corner_depress
  )  # fmt: skip
  x = half * _T
  line = middle + corner * _T**2
  gap = 0.1 * u.lips_part + 0.3 * u.jaw_drop
  # A stretched or snarling mouth is square, a dropped jaw makes it round.
  # Continuous in the units, else a sequence would jump.
  square = 0.7 - 0.35 * min(1.0, u.lip_stretch + u.upper_lip_raise)
  opening = gap * _BUMP**square
  lift = 0.085 * u.upper_lip_raise * _BUMP**0.5
  inner_up = line - 0.25 * opening - lift
  # Without a gap the lower lip follows the upper one part of the way.
  inner_low = line + 0.75 * opening - 0.3 * lift * max(0.0, 1 - gap / 0.1)
  thin = 1 - 0.75 * u.lip_tighten
  full = identity.lip_fullness
  pout = 1 + 0.5 * u.chin_raise
  outer_up = inner_up - 0.055 * full * thin * _CUPID
  outer_low = inner_low + 0.078 * full * thin * pout * _BUMP
  lips = identity.lip_colour
  ink.fill(_band(x, outer_up, line), _shade(lips, 0.9), 0.05)
  ink.fill(_band(x, line, outer_low), lips, 0.05)
  tall = inner_low - inner_up
  if tall.max() > 0.03:
    ink.fill(_band(x, inner_up, inner_low), (46, 18, 20), 0.04)
    if u.jaw_drop < 0.6 or u.lip_corner_pull > 0.3:
      teeth = inner_up + np.minimum(0.085, 0.62 * tall)
      ink.fill(_band(x, inner_up, teeth)[1:-1], (232, 228, 218), 0.04)
    if u.lip_stretch > 0.5 or (u.brow_lower > 0.5 and u.lips_part > 0.5):
      bottom = _band(x, inner_low - 0.3 * tall, inner_low)
      ink.fill(bottom, (214, 208, 198), 0.04)
    if u.jaw_drop >= 0.6:
      tongue = _ellipse(0, middle + 0.58 * gap, 0.5 * half, 0.28 * gap)
      ink.fill(tongue, (164, 78, 82), 0.03)
  else:
    ink.line(
      _xy(x, 0.5 * (inner_up + inner_low)),
      _shade(lips, 0.42),
      0.022 + 0.01 * u.lip_tighten,
      0.05,
    )
  for i, side in ((0, -1), (-1, 1)):
    tick = [(x[i], line[i]), (x[i] + side * 0.03, line[i] + 0.12 * corner)]
    ink.line(np.array(tick), _shade(identity.skin, 0.6), 0.02, 0.04)


def _draw_hair(ink: _Strokes, identity: Identity) -> None:
  if identity.hair == 'bald':
    return
  colour, width = identity.hair_colour, identity.face_width
  # Where the hair is parted or waved differs from person to person.
  whim = sum(identity.skin) % 5
  thick = {'curly': 0.3, 'long': 0.2, 'fringe': 0.19}.get(identity.hair, 0.13)
  # Thins out towards the ears, except curls.
  radius = 1 + thick * _HAIR_SIN ** (0.25 if identity.hair == 'curly' else 0.7)
  if identity.hair == 'curly':
    radius = radius + 0.05 * np.sin(15 * _HAIR_ANGLE + whim)
  outer = _xy((width * radius + 0.01) * _HAIR_COS, 0.06 - radius * _HAIR_SIN)
  top = {'receding': -0.84, 'fringe': -0.5, 'curly': -0.62}.get(
    identity.hair, -0.68
  )
  wave = 0.07 * np.sin(2.2 * _LINE + whim)
  if identity.hair == 'fringe':
    wave = 0.04 * np.sin(9 * _LINE + whim)
  hairline = _xy(
    0.97 * width * _LINE, top + wave + (-0.08 - top) * np.abs(_LINE) ** 4
  )
  depth = np.concatenate([np.full(len(outer), -0.05), 0.3 * (1 - _LINE**2)])
  ink.fill(np.concatenate([outer, hairline]), colour, depth, flat=True)
  # A few strands between edge and hairline give the mass a direction.
  inner = hairline[::-1][_STRAND]
  for shade, share in ((1.22, 0.25), (0.78, 0.5), (1.15, 0.75)):
    strand = (1 - share) * outer[5:-5:2] + share * inner
    ink.line(strand, _shade(colour, shade), 0.025, 0.05, flat=True)


def _draw_glasses(ink: _Strokes, identity: Identity) -> None:
  frame = _shade(identity.hair_colour, 0.5)
  eye = 0.34 * identity.eye_distance
  for side in (-1, 1):
    ring = _ellipse(side * eye, -0.09, 0.21, 0.17)
    ink.line(ring, frame, 0.03, 0.1, closed=True)
    arm = np.array([(side * (eye + 0.21), -0.12), (side * 0.72, -0.14)])
    ink.line(arm, frame, 0.03, 0.02)
  bridge = np.array([(0.21 - eye, -0.12), (0, -0.15), (eye - 0.21, -0.12)])
  ink.line(bridge, frame, 0.03, 0.12)


def _draw_occluder(ink: _Strokes, params: FaceParams) -> None:
  kind, side = params.view.occluder, params.view.occluder_side
  skin, width = params.identity.skin, params.identity.face_width
  if kind == 'mask':
    colour = (196.0, 220.0, 228.0) if side > 0 else (52.0, 54.0, 60.0)
    ink.fill(_MASK * (width, 1), colour, 0.12)
    for y in (0.3, 0.5, 0.7):
      pleat = _xy(0.6 * width * _T, y + 0.05 * _BUMP)
      ink.line(pleat, _shade(colour, 0.82), 0.015, 0.14)
  elif kind == 'hand':
    # Four fingers over one cheek and a corner of the mouth.
    for i in range(4):
      tip = (side * (0.16 + 0.05 * abs(i - 1)), 0.72 - 0.17 * i)
      finger = np.array([(side * 1.0, 1.1 - 0.12 * i), tip])
      ink.line(finger, _shade(skin, 0.6), 0.19, 0.3, flat=True)
      ink.line(finger, _shade(skin, 0.97), 0.155, 0.3, flat=True)
  elif kind == 'hair':
    ink.fill(_LOCK * (side, 1), params.identity.hair_colour, 0.3, flat=True)


def _light(pose: _Pose, params: FaceParams, size: int) -> np.ndarray:
  """Lambert's factor `[size, size]` of an ellipsoid in the head's place."""
  unit = pose.unit / _OVERSAMPLE
  axis = np.arange(size, dtype=np.float32) + np.float32(0.5)
  x, y = (
    (axis - np.float32(c / _OVERSAMPLE)) / np.float32(half * unit)
    for c, half in zip(pose.centre, (1.02, 1.35), strict=True)
  )
  x, y = x[None, :], y[:, None]
  z = np.sqrt(np.maximum(1 - x * x - y * y, np.float32(0.08)))
  lx, ly, lz = (np.float32(v) for v in params.view.light)
  ambient = np.float32(params.view.ambient)
  diffuse = np.maximum(x * lx + y * ly + z * lz, 0)
  return np.float32(params.view.gain) * (
    ambient + (np.float32(1.03) - ambient) * diffuse
  )


def draw_head(
  params: FaceParams, size: int, centre: tuple[float, float], height: float
) -> Head:
  """Draws the head of `params`.

  Args:
    params: what to draw.
    size: side of the square picture in pixels.
    centre: of the face in it, x and y in pixels.
    height: of the face from the top of the skull to the chin, in pixels.
  """
  view, identity = params.view, params.identity
  units = params.units.scaled(params.intensity)
  pose = _Pose(
    (_OVERSAMPLE * centre[0], _OVERSAMPLE * centre[1]),
    _OVERSAMPLE * height / 2,
    (view.yaw, view.pitch, view.roll),
  )
  outline, depth = _outline(identity, units)

  skin = _Strokes()
  _draw_back(skin, identity)
  skin.fill(outline, identity.skin, depth, flat=True)
  if identity.beard:
    _draw_beard(skin, identity, outline)
  canvas = np.zeros((_OVERSAMPLE * size, _OVERSAMPLE * size, 4), np.uint8)
  skin.draw(canvas, pose)

  # Blurred anyway: the final resolution is enough.
  soft = _Strokes()
  _draw_soft(soft, identity, units)
  shadow = np.full((size, size), _ONE, np.uint8)
  soft.draw(shadow, pose, 1 / _OVERSAMPLE)
  shadow = cv2.GaussianBlur(
    shadow, (0, 0), max(0.4, 0.028 * pose.unit / _OVERSAMPLE)
  )
  shadow = cv2.resize(shadow, canvas.shape[1::-1])
  unchanged = np.full_like(shadow, _ONE)
  canvas = cv2.multiply(
    canvas, cv2.merge([shadow, shadow, shadow, unchanged]), scale=1 / _ONE
  )

  features = _Strokes()
  _draw_eyes(features, params, units)
  _draw_brows(features, identity, units)
  _draw_nose(features, identity, units)
  _draw_mouth(features, identity, units)
  _draw_hair(features, identity)
  if identity.glasses:
    _draw_glasses(features, identity)
  _draw_occluder(features, params)
  features.draw(canvas, pose)

  canvas = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
  coverage = np.ascontiguousarray(canvas[..., 3])
  colour = canvas[..., :3] * _light(pose, params, size)[..., None]
  colour = np.minimum(colour, coverage[..., None]).astype(np.uint8)
  # Hairline to chin, what annotators of faces draw: without the skull's top.
  face = pose.project(outline, depth, np.ones(len(outline), bool))
  face = face[outline[:, 1] > _HAIRLINE] / _OVERSAMPLE
  x0, y0 = face.min(axis=0)
  x1, y1 = face.max(axis=0)
  return Head(colour, coverage, (float(x0), float(y0), float(x1), float(y1)))

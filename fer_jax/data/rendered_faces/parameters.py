"""What a drawn face is made of, and how to draw it at random.

Expressions are combinations of action units after Ekman and Friesen's Facial
Action Coding System (the prototypes of EMFACS), each unit 0 (absent) to 1
(strong). Lengths are in head units: the face is 2 high, x to the right and y
down from its centre.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fer_jax import labels as label_sets

__all__ = [
  'EXPRESSIONS',
  'HAIR',
  'OCCLUDERS',
  'ActionUnits',
  'FaceParams',
  'Identity',
  'View',
  'sample_identity',
  'sample_params',
  'sample_view',
  'with_intensity',
]

Colour = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class ActionUnits:
  """Muscle movements, 0..1; the comment is the FACS number."""

  inner_brow_raise: float = 0.0  # 1
  outer_brow_raise: float = 0.0  # 2
  brow_lower: float = 0.0  # 4
  lid_raise: float = 0.0  # 5
  cheek_raise: float = 0.0  # 6
  lid_tighten: float = 0.0  # 7
  nose_wrinkle: float = 0.0  # 9
  upper_lip_raise: float = 0.0  # 10
  lip_corner_pull: float = 0.0  # 12
  lip_corner_depress: float = 0.0  # 15
  chin_raise: float = 0.0  # 17
  lip_stretch: float = 0.0  # 20
  lip_tighten: float = 0.0  # 23
  lips_part: float = 0.0  # 25
  jaw_drop: float = 0.0  # 26

  def scaled(self, factor: float) -> ActionUnits:
    """Every unit times `factor`, kept in 0..1."""
    values = vars(self).values()
    return ActionUnits(*(min(1.0, max(0.0, factor * v)) for v in values))


# Apex of each class of label set `rendered_faces`.
EXPRESSIONS: dict[str, ActionUnits] = {
  'angry': ActionUnits(
    brow_lower=1.0, lid_raise=0.4, lid_tighten=0.7, lip_tighten=0.9
  ),
  'disgust': ActionUnits(
    brow_lower=0.45,
    cheek_raise=0.3,
    lid_tighten=0.4,
    nose_wrinkle=1.0,
    upper_lip_raise=0.9,
    lip_corner_depress=0.5,
    lips_part=0.3,
  ),
  'fear': ActionUnits(
    inner_brow_raise=1.0,
    outer_brow_raise=0.4,
    brow_lower=0.35,
    lid_raise=1.0,
    lip_stretch=1.0,
    lips_part=0.7,
    jaw_drop=0.2,
  ),
  'happy': ActionUnits(cheek_raise=0.9, lip_corner_pull=1.0, lips_part=0.6),
  'sad': ActionUnits(
    inner_brow_raise=0.9,
    brow_lower=0.3,
    lip_corner_depress=1.0,
    chin_raise=0.7,
  ),
  'surprise': ActionUnits(
    inner_brow_raise=1.0,
    outer_brow_raise=1.0,
    lid_raise=0.9,
    lips_part=0.5,
    jaw_drop=0.9,
  ),
  'neutral': ActionUnits(),
}

HAIR = ('bald', 'short', 'fringe', 'long', 'receding', 'curly')
OCCLUDERS = ('none', 'hand', 'mask', 'hair')


@dataclasses.dataclass(frozen=True)
class Identity:
  """What stays the same in every picture of one person.

  Attributes:
    skin, hair_colour, lip_colour, iris_colour, cloth_colour: RGB, 0..255.
    face_width: half-width of the face in head units.
    jaw: 0 pointed to 1 square.
    eye_size, eye_distance, eye_tilt, brow_thickness, brow_height, nose_width,
      nose_length, mouth_width, lip_fullness: factors round 1, tilts and
      heights offsets round 0.
    hair: one of `HAIR`.
    beard: 0 none, 1 stubble, 2 moustache, 3 full.
    glasses: whether the person wears them.
    age: strength of the wrinkles, 0..1.
  """

  skin: Colour
  hair_colour: Colour
  lip_colour: Colour
  iris_colour: Colour
  cloth_colour: Colour
  face_width: float = 0.74
  jaw: float = 0.5
  eye_size: float = 1.0
  eye_distance: float = 1.0
  eye_tilt: float = 0.0
  brow_thickness: float = 1.0
  brow_height: float = 0.0
  nose_width: float = 1.0
  nose_length: float = 1.0
  mouth_width: float = 1.0
  lip_fullness: float = 1.0
  hair: str = 'short'
  beard: int = 0
  glasses: bool = False
  age: float = 0.2


@dataclasses.dataclass(frozen=True)
class View:
  """How one picture was taken.

  Attributes:
    yaw, pitch, roll: degrees; positive is to the picture's right, down, and
      clockwise.
    light: direction towards the light: right, down, to the camera.
    ambient: light that comes from everywhere, 0..1; low is high contrast.
    gain: brightness of the whole picture.
    blur: standard deviation in 64ths of the picture's width.
    noise: standard deviation in grey levels.
    occluder: one of `OCCLUDERS`.
    occluder_side: -1 or 1, which side it comes from.
    gaze: horizontal and vertical shift of the pupils, -1..1.
    scale: face height over picture height in a crop.
    shift: of the face in a crop, in picture widths: right, down.
    seed: of background and noise.
  """

  yaw: float = 0.0
  pitch: float = 0.0
  roll: float = 0.0
  light: tuple[float, float, float] = (-0.3, -0.4, 0.86)
  ambient: float = 0.55
  gain: float = 1.0
  blur: float = 0.0
  noise: float = 0.0
  occluder: str = 'none'
  occluder_side: int = 1
  gaze: tuple[float, float] = (0.0, 0.0)
  scale: float = 0.86
  shift: tuple[float, float] = (0.0, 0.0)
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class FaceParams:
  """One picture of one face.

  Attributes:
    expression: class of label set `rendered_faces`.
    intensity: 0 neutral to 1 apex; scales `units` when drawn.
    units: action units at the apex of this performance.
    identity: the person.
    view: pose, light and camera.
  """

  expression: str
  intensity: float
  units: ActionUnits
  identity: Identity
  view: View

  @property
  def label(self) -> int:
    """Class index in label set `rendered_faces`."""
    return label_sets.get('rendered_faces').index(self.expression)


_SKIN = np.array(
  [
    (255, 224, 196), (241, 194, 160), (224, 172, 130), (198, 134, 94),
    (160, 106, 72), (122, 80, 56), (96, 64, 48),
  ],
  np.float32,
)  # fmt: skip
_HAIR_COLOURS = np.array(
  [
    (28, 22, 20), (58, 38, 26), (96, 62, 36), (150, 104, 58), (206, 170, 108),
    (140, 60, 30), (150, 148, 146), (215, 213, 210),
  ],
  np.float32,
)  # fmt: skip
_IRIS = np.array(
  [(70, 42, 22), (96, 66, 34), (70, 96, 60), (70, 110, 150), (50, 34, 26)],
  np.float32,
)


def _colour(values: np.ndarray) -> Colour:
  r, g, b = np.clip(values, 0, 255)
  return float(r), float(g), float(b)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
  return float(rng.uniform(low, high))


def sample_identity(rng: np.random.Generator) -> Identity:
  """A random person."""
  # A point on the line through the measured tones, not only the tones.
  tone = rng.uniform(0, len(_SKIN) - 1)
  low = int(tone)
  skin = _SKIN[low] + (tone - low) * (_SKIN[min(low + 1, 6)] - _SKIN[low])
  skin = skin * rng.uniform(0.95, 1.05, 3)
  dark = low >= 4
  hair_colour = _HAIR_COLOURS[rng.integers(2 if dark else len(_HAIR_COLOURS))]
  lips = skin * (0.84, 0.62, 0.62) + rng.uniform((0, -12, -12), (24, 6, 6))
  hair = HAIR[rng.choice(len(HAIR), p=(0.08, 0.3, 0.18, 0.24, 0.08, 0.12))]
  beard = 0
  if hair != 'long' and rng.random() < 0.45:
    beard = int(rng.integers(1, 4))
  return Identity(
    skin=_colour(skin),
    hair_colour=_colour(hair_colour * rng.uniform(0.85, 1.15)),
    lip_colour=_colour(lips),
    iris_colour=_colour(_IRIS[rng.integers(len(_IRIS))]),
    cloth_colour=_colour(rng.uniform(20, 230, 3)),
    face_width=_between(rng, 0.66, 0.82),
    jaw=_between(rng, 0.0, 1.0),
    eye_size=_between(rng, 0.88, 1.15),
    eye_distance=_between(rng, 0.92, 1.08),
    eye_tilt=_between(rng, -0.03, 0.03),
    brow_thickness=_between(rng, 0.7, 1.5),
    brow_height=_between(rng, -0.025, 0.025),
    nose_width=_between(rng, 0.8, 1.3),
    nose_length=_between(rng, 0.9, 1.12),
    mouth_width=_between(rng, 0.88, 1.12),
    lip_fullness=_between(rng, 0.7, 1.35),
    hair=hair,
    beard=beard,
    glasses=bool(rng.random() < 0.18),
    age=_between(rng, 0.0, 0.8),
  )


def sample_view(
  rng: np.random.Generator, *, difficulty: float = 1.0, occlusion: float = 0.12
) -> View:
  """A random pose, light and camera.

  Args:
    rng: source of the randomness.
    difficulty: scales the spread of pose, light, blur and noise; 0 is a
      frontal, evenly lit, clean picture.
    occlusion: probability of an occluder.
  """
  d = difficulty
  side = rng.normal(0, 0.55 * d)
  light = np.array([side, -0.35 + rng.normal(0, 0.3 * d), 0.85])
  light /= np.linalg.norm(light)
  occluder = 'none'
  if rng.random() < occlusion:
    occluder = OCCLUDERS[rng.integers(1, len(OCCLUDERS))]
  return View(
    yaw=float(np.clip(rng.normal(0, 11 * d), -28, 28)),
    pitch=float(np.clip(rng.normal(0, 6 * d), -16, 16)),
    roll=float(np.clip(rng.normal(0, 6 * d), -20, 20)),
    light=(float(light[0]), float(light[1]), float(light[2])),
    ambient=0.62 - _between(rng, 0, 0.3) * d,
    gain=float(np.clip(np.exp(rng.normal(0, 0.13 * d)), 0.75, 1.3)),
    blur=_between(rng, 0, 0.75) * d,
    noise=_between(rng, 0, 7) * d,
    occluder=occluder,
    occluder_side=int(rng.choice((-1, 1))),
    gaze=(_between(rng, -0.7, 0.7) * d, _between(rng, -0.4, 0.4) * d),
    scale=0.86 + _between(rng, -0.09, 0.07) * d,
    shift=(_between(rng, -0.04, 0.04) * d, _between(rng, -0.03, 0.03) * d),
    seed=int(rng.integers(1 << 31)),
  )


def _perform(
  rng: np.random.Generator, expression: str, difficulty: float
) -> ActionUnits:
  """The apex of one performance: nobody moves exactly like the prototype."""
  prototype = vars(EXPRESSIONS[expression])
  units = {
    k: v * (1 + rng.uniform(-0.25, 0.2) * difficulty)
    for k, v in prototype.items()
  }
  # Open-mouthed anger shows the teeth, a closed smile does not.
  if expression == 'angry' and rng.random() < 0.35 * difficulty:
    units |= {'lips_part': 0.9, 'upper_lip_raise': 0.5, 'lip_tighten': 0.2}
  if expression == 'happy' and rng.random() < 0.3 * difficulty:
    units['lips_part'] = 0.0
  # Something is always going on in a face.
  for k in units:
    units[k] += abs(rng.normal(0, 0.035 * difficulty))
  return ActionUnits(**units).scaled(1.0)


def sample_params(
  rng: np.random.Generator,
  expression: str | None = None,
  identity: Identity | None = None,
  *,
  intensity: float | None = None,
  difficulty: float = 1.0,
  occlusion: float = 0.12,
) -> FaceParams:
  """A random picture.

  Args:
    rng: source of the randomness.
    expression: class name, None for a random one.
    identity: the person, None for a random one.
    intensity: 0..1, None for a random one from 0.65 up.
    difficulty: see `sample_view`; also the spread of the performance.
    occlusion: probability of an occluder.

  Raises:
    ValueError: an expression or intensity that does not exist.
  """
  names = label_sets.get('rendered_faces').names
  if expression is None:
    expression = names[rng.integers(len(names))]
  elif expression not in names:
    raise ValueError(
      f'unknown expression {expression!r}; choose one of {", ".join(names)}'
    )
  if intensity is None:
    intensity = _between(rng, 0.65, 1.0)
  elif not 0 <= intensity <= 1:
    raise ValueError(f'intensity must be in 0..1, not {intensity}')
  return FaceParams(
    expression=expression,
    intensity=intensity,
    units=_perform(rng, expression, difficulty),
    identity=identity or sample_identity(rng),
    view=sample_view(rng, difficulty=difficulty, occlusion=occlusion),
  )


def with_intensity(params: FaceParams, intensity: float) -> FaceParams:
  """The same picture at another intensity of the expression."""
  return dataclasses.replace(params, intensity=intensity)

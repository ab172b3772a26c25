"""The renderer: determinism, boxes, sequences, arguments."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from fer_jax import labels as label_sets
from fer_jax.data import rendered_faces as rf
from fer_jax.data.rendered_faces import drawing

_NAMES = label_sets.get('rendered_faces').names

_DIGEST = """
import hashlib
import numpy as np
from fer_jax.data import rendered_faces as rf
rng = np.random.default_rng(3)
digest = hashlib.sha256()
for _ in range(5):
  digest.update(rf.render_face(rf.sample_params(rng)).tobytes())
image, boxes, labels = rf.render_scene(rng, (90, 120), 2)
for part in (image, boxes, labels):
  digest.update(part.tobytes())
result = digest.hexdigest()
"""


def _plain(expression, seed=0, **view):
  """A clean picture: no noise, blur or occluder."""
  params = rf.sample_params(
    np.random.default_rng(seed),
    expression,
    intensity=1.0,
    difficulty=0.0,
    occlusion=0.0,
  )
  return dataclasses.replace(
    params, view=dataclasses.replace(params.view, **view)
  )


def test_same_bytes_in_another_process():
  here = {'__name__': 'here'}
  exec(_DIGEST, here)
  there = subprocess.run(
    [sys.executable, '-c', _DIGEST + 'print(result)'],
    check=True,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert there.stdout.strip() == here['result']


def test_other_seed_other_picture():
  digests = {
    hashlib.sha256(
      rf.render_face(rf.sample_params(np.random.default_rng(seed))).tobytes()
    ).digest()
    for seed in range(10)
  }
  assert len(digests) == 10


def test_every_class_has_an_apex():
  assert set(rf.EXPRESSIONS) == set(_NAMES)


@pytest.mark.parametrize('size', [16, 48, 64, 111])
def test_shape_and_type(size):
  image = rf.render_face(rf.sample_params(np.random.default_rng(0)), size)
  assert image.shape == (size, size, 3)
  assert image.dtype == np.uint8
  grey = rf.to_grey(image)
  assert grey.shape == (size, size, 1)
  weights = np.array([0.299, 0.587, 0.114])
  np.testing.assert_allclose(grey[..., 0], image @ weights, atol=1)


def test_grey_of_a_batch():
  images = np.stack(
    [rf.render_face(_plain(e), 32) for e in ('happy', 'neutral')]
  )
  batch = rf.to_grey(images)
  np.testing.assert_array_equal(batch[1], rf.to_grey(images[1]))


def test_expressions_differ_within_a_person():
  pictures = {e: rf.render_face(_plain(e), 64).astype(int) for e in _NAMES}
  for a in _NAMES:
    for b in _NAMES:
      if a < b:
        difference = np.abs(pictures[a] - pictures[b]).mean()
        assert difference > 0.7, (a, b)


@pytest.mark.parametrize('expression', [e for e in _NAMES if e != 'neutral'])
def test_sequence_moves_away_from_neutral(expression):
  params = _plain(expression)
  images, intensities = rf.render_sequence(params, 9)
  assert images.shape == (9, 64, 64, 3)
  assert intensities.dtype == np.float32
  assert intensities[0] == 0
  assert intensities[-1] == 1
  assert (np.diff(intensities) > 0).all()
  neutral = rf.render_face(rf.with_intensity(params, 0.0))
  np.testing.assert_array_equal(images[0], neutral)
  np.testing.assert_array_equal(images[-1], rf.render_face(params))
  distance = np.abs(images.astype(int) - images[0].astype(int)).mean((1, 2, 3))
  # Lips that part uncover teeth at once, hence the small allowance.
  assert (np.diff(distance) > -0.1 * distance.max()).all()
  assert distance[-1] == distance.max() > 0.5


def test_sequence_grain_changes_and_background_stays():
  params = _plain('happy', noise=5.0)
  images, _ = rf.render_sequence(params, 3)
  corner = images[:, :6, :6].astype(int)
  assert np.abs(corner[0] - corner[1]).mean() > 1
  clean, _ = rf.render_sequence(_plain('happy'), 3)
  np.testing.assert_array_equal(clean[0, :4, :4], clean[2, :4, :4])


def _ink(expression, **view):
  """Where the head is drawn, and its box."""
  params = _plain(expression, **view)
  return drawing.draw_head(params, 128, (64.0, 60.0), 70.0)


@pytest.mark.parametrize('expression', ['neutral', 'surprise'])
@pytest.mark.parametrize('pose', [(0, 0, 0), (28, 0, 0), (-20, 14, 15)])
def test_box_holds_the_features(expression, pose):
  yaw, pitch, roll = pose
  head = _ink(expression, yaw=yaw, pitch=pitch, roll=roll)
  x0, y0, x1, y1 = head.box
  assert 0.7 < (y1 - y0) / 70 < 1.2
  # What moves when the expression changes are brows, eyes, nose and mouth.
  other = _ink('fear', yaw=yaw, pitch=pitch, roll=roll)
  changed = (
    np.abs(head.colour.astype(int) - other.colour.astype(int)).max(-1) > 25
  )
  rows, columns = np.nonzero(changed)
  assert len(rows) > 50
  top = min(y0, other.box[1]) - 1
  bottom = max(y1, other.box[3]) + 1
  assert rows.min() >= top
  assert rows.max() <= bottom
  assert columns.min() >= x0 - 1
  assert columns.max() <= x1 + 1


def test_box_is_covered_by_the_face():
  head = _ink('neutral')
  x0, y0, x1, y1 = (round(v) for v in head.box)
  inside = head.coverage[y0:y1, x0:x1] == 255
  # All but the corners beside the chin.
  assert inside.mean() > 0.85
  assert inside[:, inside.shape[1] // 2].all()


def test_coverage_bounds_the_colour():
  head = _ink('happy')
  assert (head.colour.max(axis=-1) <= head.coverage).all()


@pytest.mark.parametrize('count', [0, 1, 4, 8])
def test_scene(count):
  image, boxes, labels = rf.render_scene(
    np.random.default_rng(count), (150, 200), count
  )
  assert image.shape == (150, 200, 3)
  assert image.dtype == np.uint8
  assert boxes.shape == (count, 4)
  assert boxes.dtype == np.float32
  assert labels.shape == (count,)
  assert labels.dtype == np.int32
  assert (boxes[:, 2:] > boxes[:, :2]).all()
  assert (boxes >= 0).all()
  assert (boxes <= (200, 150, 200, 150)).all()
  assert ((labels >= 0) & (labels < 7)).all()
  for i in range(count):
    for j in range(i):
      low = np.maximum(boxes[i, :2], boxes[j, :2])
      high = np.minimum(boxes[i, 2:], boxes[j, 2:])
      assert (high - low).min() <= 0, 'boxes overlap'


def test_scene_draws_its_faces_in_the_boxes():
  """Skin of one colour appears in the boxes and hardly anywhere else."""
  green = dataclasses.replace(
    rf.sample_identity(np.random.default_rng(0)),
    skin=(0.0, 250.0, 0.0),
    hair='bald',
    beard=0,
    glasses=False,
  )
  for seed in range(6):
    image, boxes, _ = rf.render_scene(
      np.random.default_rng(seed),
      (180, 240),
      2,
      identities=[green],
      difficulty=0.0,
      occlusion=0.0,
    )
    r, g, b = np.moveaxis(image.astype(int), -1, 0)
    skin = (g > 90) & (r < 20) & (b < 20)
    for x0, y0, x1, y1 in boxes.round().astype(int):
      assert skin[y0:y1, x0:x1].mean() > 0.55


def test_bad_arguments():
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match=r"'joy'; choose one of angry"):
    rf.sample_params(rng, 'joy')
  with pytest.raises(ValueError, match=r'0\.\.1'):
    rf.sample_params(rng, intensity=1.5)
  with pytest.raises(ValueError, match='size must be 16'):
    rf.render_face(rf.sample_params(rng), 8)
  with pytest.raises(ValueError, match='size must be 16'):
    rf.render_scene(rng, 100_000)
  with pytest.raises(ValueError, match='2 frames'):
    rf.render_sequence(rf.sample_params(rng), 1)
  with pytest.raises(ValueError, match='0 or more'):
    rf.render_scene(rng, 64, -1)
  with pytest.raises(ValueError, match='no room for 50 faces in 32x32'):
    rf.render_scene(rng, 32, 50)


def test_all_occluders_and_hair():
  """Every variant draws, and an occluder changes the picture."""
  plain = _plain('happy', occluder='none')
  reference = rf.render_face(plain)
  for occluder in rf.OCCLUDERS[1:]:
    for side in (-1, 1):
      params = dataclasses.replace(
        plain,
        view=dataclasses.replace(
          plain.view, occluder=occluder, occluder_side=side
        ),
      )
      assert (rf.render_face(params) != reference).any()
  pictures = set()
  for hair in rf.HAIR:
    for beard in range(4):
      identity = dataclasses.replace(
        plain.identity, hair=hair, beard=beard, glasses=beard == 1
      )
      params = dataclasses.replace(plain, identity=identity)
      pictures.add(rf.render_face(params).tobytes())
  assert len(pictures) == 4 * len(rf.HAIR)

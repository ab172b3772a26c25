"""Augmentation on the device, inside the compiled step.

Geometry (rotation, shifts, zoom, flip) and resizing are one bilinear look-up,
so an image is resampled once, from the stored bytes to the network's input.
Every example draws from a key of its own: what happens to it does not depend
on how many devices share the batch.
"""

from __future__ import annotations

import dataclasses

import jax
from jax import numpy as jnp

__all__ = ['Augmentation', 'apply', 'mixup', 'resample']


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Ranges to draw from; the default changes nothing.

  Attributes:
    rotation: largest angle, degrees either way.
    shift: largest shift either way, as a share of the side.
    zoom: the scale is drawn from 1 - zoom .. 1 + zoom.
    flip: mirror half of the images left to right.
    brightness: largest amount added, of the 0..1 range, either way.
    contrast: the contrast is multiplied by 1 - contrast .. 1 + contrast.
    erase: probability that a rectangle is filled with noise (random erasing,
      arXiv 1708.04896); it covers 2 % to `erase_area` of the image.
    erase_area: largest share of the image that is erased.
    mixup: alpha of mixup's Beta distribution (arXiv 1710.09412); 0 is off.
  """

  rotation: float = 0.0
  shift: float = 0.0
  zoom: float = 0.0
  flip: bool = False
  brightness: float = 0.0
  contrast: float = 0.0
  erase: float = 0.0
  erase_area: float = 0.2
  mixup: float = 0.0

  def __post_init__(self):
    for name, top in {
      'rotation': 180, 'shift': 1, 'zoom': 0.99, 'brightness': 1,
      'contrast': 1, 'erase': 1, 'erase_area': 1, 'mixup': 10,
    }.items():  # fmt: skip
      value = getattr(self, name)
      if not 0 <= value <= top:
        raise ValueError(f'augment.{name} must be in 0..{top}, got {value}')

  @property
  def moves(self) -> bool:
    """Whether pixels change place."""
    return bool(self.rotation or self.shift or self.zoom or self.flip)


def resample(
  image: jax.Array, matrix: jax.Array, size: tuple[int, int]
) -> jax.Array:
  """Looks `image` up at the places `matrix` sends each output pixel to.

  Args:
    image: `[H, W, C]`, any real type, in its own units.
    matrix: `[2, 3]`, from output to input, both in coordinates that run from
      -1 to 1 over the image: (y, x) = matrix @ (y', x', 1).
    size: (height, width) of the result.

  Returns:
    float32 `[height, width, C]`, bilinear; beyond the border the nearest pixel.
  """
  h, w, c = image.shape
  # Pixel centres, so that the identity matrix resizes without a shift.
  ys = (jnp.arange(size[0], dtype=jnp.float32) + 0.5) * (2 / size[0]) - 1
  xs = (jnp.arange(size[1], dtype=jnp.float32) + 0.5) * (2 / size[1]) - 1
  yy, xx = ys[:, None], xs[None, :]
  y = matrix[0, 0] * yy + matrix[0, 1] * xx + matrix[0, 2]
  x = matrix[1, 0] * yy + matrix[1, 1] * xx + matrix[1, 2]
  y = jnp.clip((y + 1) * (h / 2) - 0.5, 0, h - 1)
  x = jnp.clip((x + 1) * (w / 2) - 0.5, 0, w - 1)
  y0 = (
    jnp.minimum(y.astype(jnp.int32), h - 2)
    if h > 1
    else jnp.zeros_like(y, jnp.int32)
  )
  x0 = (
    jnp.minimum(x.astype(jnp.int32), w - 2)
    if w > 1
    else jnp.zeros_like(x, jnp.int32)
  )
  fy, fx = (y - y0)[..., None], (x - x0)[..., None]
  down, right = (w if h > 1 else 0), (1 if w > 1 else 0)
  flat = image.reshape((h * w, c))
  at = y0 * w + x0

  def look(offset: int) -> jax.Array:
    return jnp.take(flat, at + offset, axis=0, mode='clip').astype(jnp.float32)

  top = look(0) * (1 - fx) + look(right) * fx
  bottom = look(down) * (1 - fx) + look(down + right) * fx
  return top * (1 - fy) + bottom * fy


def _matrix(key: jax.Array, config: Augmentation) -> jax.Array:
  """A random placement `[2, 3]` for `resample`."""
  angle_key, zoom_key, shift_key, flip_key = jax.random.split(key, 4)
  angle = jnp.deg2rad(
    jax.random.uniform(angle_key, (), minval=-1, maxval=1) * config.rotation
  )
  scale = 1 / (
    1 + jax.random.uniform(zoom_key, (), minval=-1, maxval=1) * config.zoom
  )
  # The range -1..1 spans two units, hence the factor 2.
  shift = (
    jax.random.uniform(shift_key, (2,), minval=-2, maxval=2) * config.shift
  )
  mirror = jnp.where(config.flip & jax.random.bernoulli(flip_key), -1.0, 1.0)
  cos, sin = jnp.cos(angle) * scale, jnp.sin(angle) * scale
  return jnp.array(
    [[cos, sin * mirror, shift[0]], [-sin, cos * mirror, shift[1]]]
  )


def _erase(key: jax.Array, image: jax.Array, config: Augmentation) -> jax.Array:
  """Random erasing of one rectangle, with probability `config.erase`."""
  whether, area_key, aspect_key, place, noise = jax.random.split(key, 5)
  h, w, _ = image.shape
  area = jax.random.uniform(
    area_key, (), minval=0.02, maxval=max(config.erase_area, 0.021)
  )
  aspect = jnp.exp(jax.random.uniform(aspect_key, (), minval=-1.2, maxval=1.2))
  half_h = jnp.sqrt(area * aspect) * h / 2
  half_w = jnp.sqrt(area / aspect) * w / 2
  centre = jax.random.uniform(place, (2,)) * jnp.array([h, w], jnp.float32)
  inside = (jnp.abs(jnp.arange(h)[:, None] + 0.5 - centre[0]) < half_h) & (
    jnp.abs(jnp.arange(w)[None, :] + 0.5 - centre[1]) < half_w
  )
  inside &= jax.random.bernoulli(whether, config.erase)
  fill = jax.random.uniform(noise, image.shape)
  return jnp.where(inside[..., None], fill, image)


def _one(
  key: jax.Array,
  image: jax.Array,
  size: tuple[int, int],
  config: Augmentation,
) -> jax.Array:
  """Augments one stored image `[H, W, C]`; float32 in 0..1 comes back."""
  move, light, erase = jax.random.split(key, 3)
  if config.moves:
    x = resample(image, _matrix(move, config), size) / 255
  elif image.shape[:2] == size:
    x = image.astype(jnp.float32) / 255
  else:
    x = resample(image, jnp.eye(2, 3), size) / 255
  if config.brightness or config.contrast:
    draw = jax.random.uniform(light, (2,), minval=-1, maxval=1)
    mean = jnp.mean(x)
    x = (x - mean) * (1 + draw[0] * config.contrast) + mean
    x = jnp.clip(x + draw[1] * config.brightness, 0, 1)
  if config.erase:
    x = _erase(erase, x, config)
  return x


def apply(
  keys: jax.Array,
  images: jax.Array,
  size: tuple[int, int],
  config: Augmentation | None = None,
) -> jax.Array:
  """Stored images to network input.

  Args:
    keys: `[B]` random keys, one an example (unused without a config).
    images: uint8 `[B, H, W, C]`.
    size: (height, width) of the network's input.
    config: what to draw; None only scales and resizes.

  Returns:
    float32 `[B, height, width, C]` in [0, 1].
  """
  config = config or Augmentation()
  return jax.vmap(lambda k, i: _one(k, i, size, config))(keys, images)


def mixup(
  key: jax.Array, images: jax.Array, targets: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Blends each example with its neighbour in the batch (arXiv 1710.09412)."""
  share = jax.random.beta(key, alpha, alpha)
  share = jnp.maximum(share, 1 - share)

  def blend(x: jax.Array) -> jax.Array:
    return share * x + (1 - share) * jnp.roll(x, 1, axis=0)

  return blend(images), blend(targets)

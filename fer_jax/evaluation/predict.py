"""Predictions over many images: a network in JAX, or a `.tflite` file.

Both take uint8 images and give one row an image, in order, every image exactly
once. `fit` brings images to the size a network was built for.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import cv2
import jax
import numpy as np
from jax import numpy as jnp
from tqdm import tqdm

from fer_jax import ops

__all__ = [
  'TfliteError',
  'fit',
  'flipped',
  'jax_logits',
  'tflite_probabilities',
]

SIGNATURE = 'serving_default'


class TfliteError(ValueError):
  """A `.tflite` file that cannot be run, or has another signature."""


def fit(images: np.ndarray, input_shape: tuple[int, int, int]) -> np.ndarray:
  """Images at the size and with the channels of a network's input.

  Args:
    images: uint8 `[N, H0, W0, C0]`, C0 of 1 (grey) or 3 (RGB).
    input_shape: (H, W, C).

  Returns:
    uint8 `[N, H, W, C]`; `images` itself where nothing is to be done. Sizes
    change bilinearly; grey is repeated to RGB, RGB becomes luma.

  Raises:
    ValueError: images of another type or number of channels.
  """
  images = np.asarray(images)
  height, width, channels = input_shape
  if (
    images.dtype != np.uint8
    or images.ndim != 4
    or images.shape[-1] not in (1, 3)
    or channels not in (1, 3)
  ):
    raise ValueError(
      'images must be uint8 [N, H, W, 1 or 3] for a network with 1 or 3 '
      f'channels, got {images.dtype} {list(images.shape)} for {channels}'
    )
  if images.shape[-1] == 3 and channels == 1:
    images = np.stack([cv2.cvtColor(im, cv2.COLOR_RGB2GRAY) for im in images])[
      ..., None
    ]
  if images.shape[1:3] != (height, width):
    images = np.stack(
      [
        cv2.resize(im, (width, height), interpolation=cv2.INTER_LINEAR)
        for im in images
      ]
    ).reshape((len(images), height, width, images.shape[-1]))
  if images.shape[-1] != channels:
    images = np.repeat(images, channels, axis=-1)
  return images


def flipped(
  predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray
) -> np.ndarray:
  """Mean of the probabilities `[N, K]` of images and their mirror images."""
  return (predict(images) + predict(images[:, :, ::-1])) / 2


def jax_logits(
  model: Any,
  variables: Any,
  images: np.ndarray,
  *,
  batch_size: int = 256,
  progress: str | None = None,
) -> np.ndarray:
  """Logits of a network.

  The last batch is filled up with black images, so that one shape is compiled,
  and their rows are masked out.

  Args:
    model: `model.apply(variables, image, train=False)` -> `[B, K]`.
    variables: 'params' and 'batch_stats'.
    images: uint8 `[N, H, W, C]`, N at least 1; scaled to [0, 1] here.
    batch_size: images a step.
    progress: text beside a progress bar on stderr; None shows none.

  Returns:
    float32 `[N, K]`.
  """
  if not len(images):
    raise ValueError('no images to predict')
  size = min(batch_size, len(images))

  step = _step(model, ops.current())
  variables = jax.device_put(variables)
  rows = []
  with _bar(len(images), progress) as bar:
    for start in range(0, len(images), size):
      batch = np.asarray(images[start : start + size])
      mask = np.arange(size) < len(batch)
      padding = ((0, size - len(batch)), (0, 0), (0, 0), (0, 0))
      logits = np.asarray(step(variables, np.pad(batch, padding)))
      rows.append(logits[mask])
      bar.update(len(batch))
  return np.concatenate(rows).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _step(model: Any, formulation: str) -> Callable[..., jax.Array]:
  """The compiled network, kept: one is asked for split after split."""
  del formulation  # of `fer_jax.ops`; decides what is traced

  @jax.jit
  def step(variables: Any, batch: jax.Array) -> jax.Array:
    image = batch.astype(jnp.float32) / 255.0
    return model.apply(variables, image, train=False)

  return step


def tflite_probabilities(
  model: str | os.PathLike[str] | bytes,
  images: np.ndarray,
  *,
  threads: int = 1,
  progress: str | None = None,
) -> np.ndarray:
  """Probabilities a `.tflite` file gives, run by ai-edge-litert.

  Args:
    model: path or contents.
    images: uint8 `[N, H, W, C]` as the file's signature wants them.
    threads: interpreters working side by side, each on its share of the images
      with one thread of its own; the result does not depend on it.
    progress: text beside a progress bar on stderr; None shows none.

  Returns:
    float32 `[N, K]`.

  Raises:
    TfliteError: the file cannot be loaded or has not the signature
      `serving_default`, `image` uint8 `[1, H, W, C]` -> `probabilities`.
  """
  if not len(images):
    raise ValueError('no images to predict')
  threads = max(1, min(threads, len(images)))
  shares = np.array_split(np.arange(len(images)), threads)
  runners = [_runner(model, images.shape[1:]) for _ in shares]
  with (
    _bar(len(images), progress) as bar,
    concurrent.futures.ThreadPoolExecutor(threads) as pool,
  ):

    def work(runner: Any, share: np.ndarray) -> list[np.ndarray]:
      rows = []
      for i in share:
        image = np.ascontiguousarray(images[i : i + 1])
        rows.append(np.array(runner(image=image)['probabilities'][0]))
        bar.update()
      return rows

    parts = list(pool.map(work, runners, shares))
  return np.stack([row for part in parts for row in part]).astype(np.float32)


def _runner(
  model: str | os.PathLike[str] | bytes, image_shape: tuple[int, ...]
) -> Any:
  """A signature runner for images `[H, W, C]`, after checking the signature."""
  from ai_edge_litert.interpreter import Interpreter

  if isinstance(model, bytes):
    name, content = 'model', model
  else:
    name, content = os.fspath(model), pathlib.Path(model).read_bytes()
  try:
    interpreter = Interpreter(model_content=content, num_threads=1)
    runner = interpreter.get_signature_runner(SIGNATURE)
    inputs = runner.get_input_details()
    outputs = runner.get_output_details()
  except (ValueError, RuntimeError) as error:
    first = str(error).strip().splitlines()[0]
    raise TfliteError(f'{name}: not a usable .tflite file: {first}') from None
  if list(inputs) != ['image'] or list(outputs) != ['probabilities']:
    raise TfliteError(
      f'{name}: signature is {list(inputs)} -> {list(outputs)}, not image -> '
      'probabilities'
    )
  wanted = (1, *image_shape)
  found, dtype = tuple(inputs['image']['shape']), inputs['image']['dtype']
  if found != wanted or dtype != np.uint8:
    raise TfliteError(
      f'{name}: takes {np.dtype(dtype)} {list(map(int, found))}, the images '
      f'are uint8 {list(wanted)}'
    )
  return runner


def _bar(total: int, text: str | None) -> Any:
  # None lets tqdm draw on a terminal only, so that logs stay readable.
  return tqdm(
    total=total,
    desc=text,
    unit='image',
    leave=False,
    disable=True if text is None else None,
  )

"""Sizes of windows sliding over images."""

from __future__ import annotations

from collections.abc import Sequence

from jax import lax

__all__ = ['Padding', 'output_size', 'pads']

Padding = str | Sequence[tuple[int, int]]


def pads(
  size: Sequence[int], window: Sequence[int], stride: int, padding: Padding
) -> tuple[tuple[int, int], tuple[int, int]]:
  """Pixels added (before, after) in height and width, as `lax` reads them."""
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(size, window, (stride, stride), padding)
  (top, bottom), (left, right) = padding
  return (int(top), int(bottom)), (int(left), int(right))


def output_size(
  size: Sequence[int],
  window: Sequence[int],
  stride: int,
  padding: Sequence[tuple[int, int]],
) -> tuple[int, int]:
  """Height and width of what comes out."""
  h, w = (
    max(0, (n + before + after - k) // stride + 1)
    for n, k, (before, after) in zip(size, window, padding, strict=True)
  )
  return h, w

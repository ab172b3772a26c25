"""Figures of a `metrics.json` (needs the extra `figures`: matplotlib).

Every function writes one PNG and returns its path.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ['confusion', 'curves', 'reliability', 'selective']


def _figure(width: float = 5.0, height: float = 4.5) -> tuple[Any, Any]:
  try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
  except ImportError:
    raise ImportError(
      "figures need matplotlib: pip install 'fer-jax[figures]'"
    ) from None
  # No pyplot: it would keep global state and may want a display.
  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasAgg(figure)
  return figure, figure.add_subplot()


def _save(figure: Any, path: str | pathlib.Path) -> pathlib.Path:
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120)
  return path


def confusion(
  counts: np.ndarray,
  names: Sequence[str],
  path: str | pathlib.Path,
  title: str = '',
) -> pathlib.Path:
  """Row-normalised confusion matrix, in percent.

  Args:
    counts: `[K, K]`, row = true class.
    names: K class names.
    path: PNG to write.
    title: above the figure.
  """
  from fer_jax.evaluation import metrics

  rows = metrics.normalize_rows(counts)
  figure, axes = _figure()
  axes.imshow(np.nan_to_num(rows), cmap='Blues', vmin=0, vmax=1)
  for i, row in enumerate(rows):
    for j, value in enumerate(row):
      text = '-' if np.isnan(value) else f'{100 * value:.0f}'
      colour = 'white' if value > 0.5 else 'black'
      axes.text(j, i, text, ha='center', va='center', color=colour)
  axes.set_xticks(range(len(names)), names, rotation=45, ha='right')
  axes.set_yticks(range(len(names)), names)
  axes.set_xlabel('predicted')
  axes.set_ylabel('true (rows sum to 100 %)')
  axes.set_title(title)
  return _save(figure, path)


def reliability(
  series: dict[str, Sequence[dict[str, Any]]],
  path: str | pathlib.Path,
  title: str = '',
) -> pathlib.Path:
  """Accuracy over confidence; the diagonal is perfect calibration.

  Args:
    series: by name, the bins of `metrics.Sums.reliability`.
    path: PNG to write.
    title: above the figure.
  """
  figure, axes = _figure()
  axes.plot([0, 1], [0, 1], color='grey', linestyle=':', label='perfect')
  for name, bins in series.items():
    axes.plot(
      [b['confidence'] for b in bins],
      [b['accuracy'] for b in bins],
      marker='o',
      label=name,
    )
  axes.set(xlabel='confidence', ylabel='accuracy', xlim=(0, 1), ylim=(0, 1))
  axes.set_title(title)
  axes.legend()
  return _save(figure, path)


def selective(
  probabilities: np.ndarray,
  labels: np.ndarray,
  path: str | pathlib.Path,
  title: str = '',
) -> pathlib.Path:
  """Accuracy over the share of images answered, most confident first."""
  from fer_jax.evaluation import calibration

  _, coverage, accuracy = calibration.selective_curve(probabilities, labels)
  figure, axes = _figure()
  axes.plot(coverage, accuracy)
  axes.set(xlabel='share answered', ylabel='accuracy of the answers')
  axes.set_xlim(0, 1)
  axes.set_title(title)
  axes.grid(alpha=0.3)
  return _save(figure, path)


def curves(
  series: dict[str, tuple[Sequence[float], Sequence[float]]],
  path: str | pathlib.Path,
  *,
  xlabel: str = 'epoch',
  ylabel: str = '',
  title: str = '',
) -> pathlib.Path:
  """Lines by name, each (x, y): training curves and the like."""
  figure, axes = _figure(6.0, 4.0)
  for name, (x, y) in series.items():
    axes.plot(x, y, label=name)
  axes.set(xlabel=xlabel, ylabel=ylabel)
  axes.set_title(title)
  axes.grid(alpha=0.3)
  axes.legend()
  return _save(figure, path)

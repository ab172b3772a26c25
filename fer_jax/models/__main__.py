"""Prints the table of networks: `python -m fer_jax.models`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fer_jax import models

_HEADER = ('name', 'input', 'parameters', 'multiply-adds', 'output', 'paper')
_RIGHT = (2, 3)  # columns of numbers


def rows() -> list[tuple[str, ...]]:
  """One row a network, in the order of `_HEADER`."""
  table = []
  for name, entry in models.ENTRIES.items():
    model = models.create(name, **entry.deployed)
    table.append(
      (
        name,
        'x'.join(map(str, model.input_shape)),
        f'{models.count_parameters(models.shapes(model)):,}',
        f'{models.multiply_adds(model):,}',
        entry.output,
        entry.paper,
      )
    )
  return table


def table(lines: Sequence[Sequence[str]]) -> str:
  """Lines under `_HEADER`, columns aligned."""
  lines = [_HEADER, *lines]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  lines.insert(1, tuple('-' * width for width in widths))
  return '\n'.join(
    '  '.join(
      cell.rjust(width) if i in _RIGHT else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )


def main(arguments: Sequence[str] | None = None) -> None:
  argparse.ArgumentParser(
    prog='python -m fer_jax.models',
    description='Lists the networks with their sizes and sources.',
  ).parse_args(arguments)
  print(table(rows()))
  print()
  print(
    'Parameters include batch-norm statistics; the Nano networks are counted '
    'as deployed\n(batch norm folded). Multiply-adds: convolutions and dense '
    'layers, one image.'
  )


if __name__ == '__main__':
  main()

"""The model card of a bundle: markdown made from its recorded figures.

Nothing here is typed by hand: every number comes from `metrics.json`, and a
figure that was not recorded is said to be missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

__all__ = ['render']

_LIMITS = """\
- It names the expression a face *shows* in one image, as annotators would have
  named it. What a person feels cannot be read from it.
- Annotators of the training data disagree with one another; so does the network
  with them. The table above says how often, per class.
- It expects an upright, roughly frontal, cropped face. Profiles, strong
  occlusion and very small faces are outside what was measured.
- Age, sex, skin colour and culture were not looked at: whether it works equally
  well for everybody was not measured and should not be assumed.\
"""
_DRAWN = """
- It was trained on drawn faces only: it shows that the path from training to
  device works, and is not fit for photographs.\
"""

_NOT_FOR = """\
Do not use it to decide about people: hiring, schooling, insurance, credit,
border or police work, lie detection, diagnosis or monitoring of employees or
pupils. Emotion recognition at the workplace and in education is forbidden in
some jurisdictions. Do not use it on people who have not agreed to it. A single
frame is no verdict: average over time, and abstain below a confidence that
fits the use (table of answered shares above).\
"""


def render(model: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
  """The card's text.

  Args:
    model: contents of `model.json`; `terms` and `protocol` where known.
    metrics: contents of `metrics.json`, evaluated or not.

  Returns:
    Markdown, ending in a newline.
  """
  parts = [
    f'# {metrics.get("bundle") or model["model"]}',
    _summary(model),
    '## Data and terms',
    _data(model),
    '## Figures',
    _figures(metrics) if metrics.get('splits') else _MISSING,
    '## Files',
    _files(metrics),
    '## Limits',
    _LIMITS + _worst(metrics) + (_DRAWN if _drawn(model) else ''),
    '## Who should not use it',
    _NOT_FOR,
    '## Provenance',
    _provenance(metrics),
  ]
  return '\n\n'.join(parts) + '\n'


_MISSING = (
  'Not evaluated yet: `python -m experiments.evaluate --bundle=NAME` records '
  'the figures and writes this card anew.'
)


def _summary(model: Mapping[str, Any]) -> str:
  height, width, channels = model['input_shape']
  parameters = model.get('parameters')
  size = f', {parameters:,} parameters' if parameters else ''
  overrides = model.get('overrides') or {}
  changed = ', '.join(f'{k}={v}' for k, v in sorted(overrides.items()))
  temperature = model.get('temperature')
  scaled = (
    f'The logits are divided by the temperature {temperature:.4g}, fitted on '
    'the validation split.'
    if temperature
    else 'The softmax is not temperature-scaled.'
  )
  return (
    f'Network `{model["model"]}`{f" ({changed})" if changed else ""}{size}.\n'
    f'Input: face crop, uint8 {height}x{width}x{channels}, 0..255; scaling is '
    'inside the graph.\n'
    f'Output: probabilities of {len(model["labels"])} expressions, in this '
    f'order: {", ".join(model["labels"])}.\n{scaled}\n'
    'Signature of the `.tflite` files: `serving_default`, `image` -> '
    '`probabilities`.'
  )


def _drawn(model: Mapping[str, Any]) -> bool:
  return model['data'].startswith('rendered_')


def _worst(metrics: Mapping[str, Any]) -> str:
  """The weakest class and the commonest confusion, from the figures."""
  if not metrics.get('splits'):
    return ''
  report = metrics['splits'][metrics['split']]['sources'][metrics['source']]
  recall = {k: v for k, v in report['recall'].items() if v is not None}
  names = list(report['recall'])
  weakest = min(recall, key=recall.get)
  confused = [
    (value, names[i], names[j])
    for i, row in enumerate(report['confusion_normalized'])
    for j, value in enumerate(row)
    if i != j and value
  ]
  text = (
    f'\n- Recognised worst: {weakest}, {_percent(recall[weakest])} % of its '
    'images.'
  )
  if confused:
    share, true, predicted = max(confused)
    text += (
      f' Most frequent confusion: {_percent(share)} % of {true} is taken for '
      f'{predicted}.'
    )
  return text


def _data(model: Mapping[str, Any]) -> str:
  lines = [
    f'- Data set: {model["data"]} (label set `{model.get("label_set")}`)',
    f'- Terms: {model.get("terms") or "research use only"}. The weights were '
    'trained on this data; its terms apply to them whatever the licence of the '
    'code.',
  ]
  if model.get('protocol'):
    lines.append(f'- Split: {model["protocol"]}')
  trained = [
    f'{key} {model[key]}'
    for key in ('checkpoint', 'epoch', 'step', 'seed')
    if model.get(key) is not None
  ]
  if trained:
    lines.append(f'- Weights: {", ".join(trained)}')
  return '\n'.join(lines)


def _figures(metrics: Mapping[str, Any]) -> str:
  blocks = []
  for split, report in metrics['splits'].items():
    blocks.append(_sources(split, report))
  report = metrics['splits'][metrics['split']]['sources'][metrics['source']]
  where = f'{metrics["split"]}, {metrics["source"]}'
  blocks.append(f'### Per class ({where})\n\n{_classes(report)}')
  blocks.append(f'### Confusion ({where})\n\n{_confusion(report)}')
  blocks.append(f'### Calibration ({where})\n\n{_calibration(metrics, report)}')
  blocks.append(f'### int8\n\n{_int8(metrics)}')
  blocks.append(f'### Seeds\n\n{_seeds(metrics)}')
  return '\n\n'.join(blocks)


def _sources(split: str, report: Mapping[str, Any]) -> str:
  rows = []
  for name, source in report['sources'].items():
    low, high = source['accuracy_interval_95']
    rows.append(
      (
        f'`{name}`',
        _percent(source['accuracy']),
        f'{_percent(low)} - {_percent(high)}',
        _percent(source['balanced_accuracy']),
        _percent((source.get('flip') or {}).get('accuracy')),
        _percent((source.get('no_twin') or {}).get('accuracy')),
        f'{source["ece"]:.3f}',
      )
    )
  twins = next(iter(report['sources'].values())).get('no_twin')
  note = (
    f'\n\nWithout twin: the {twins["n"]:,} images that are not pixel-identical '
    'to a training image.'
    if twins
    else ''
  )
  header = (
    'form', 'accuracy %', '95 % interval', 'balanced %', 'with flip %',
    'without twin %', 'ECE',
  )  # fmt: skip
  return f'### {split}, {report["n"]:,} images\n\n{_table(header, rows)}{note}'


def _classes(report: Mapping[str, Any]) -> str:
  rows = [
    (name, report['support'][name], _percent(recall))
    for name, recall in report['recall'].items()
  ]
  return _table(('class', 'images', 'recall %'), rows)


def _confusion(report: Mapping[str, Any]) -> str:
  names = list(report['recall'])
  rows = [
    (name, *(_percent(v, 0) for v in row))
    for name, row in zip(names, report['confusion_normalized'], strict=True)
  ]
  return 'Rows: true class, summing to 100 %.\n\n' + _table(
    ('true \\ predicted', *names), rows
  )


def _calibration(metrics: Mapping[str, Any], report: Mapping[str, Any]) -> str:
  lines = [
    f'Expected calibration error (15 bins): {report["ece"]:.3f}; negative '
    f'log-likelihood: {report["nll"]:.3f}.'
  ]
  scaled = report.get('with_temperature')
  if scaled:
    fitted = metrics.get('temperature') or {}
    lines.append(
      f'Without temperature {scaled["ece_before"]:.3f} and '
      f'{scaled["nll_before"]:.3f}; at temperature '
      f'{scaled["temperature"]:.3f}, fitted on '
      f'{fitted.get("split", "the validation split")}, {scaled["ece"]:.3f} and '
      f'{scaled["nll"]:.3f}.'
    )
  rows = [
    (
      _percent(row['coverage']),
      f'{row["threshold"]:.2f}',
      _percent(row['accuracy']),
    )
    for row in report['selective']
  ]
  table = _table(('answered %', 'confidence from', 'right %'), rows)
  return '\n'.join(lines) + '\n\nAnswering only where sure:\n\n' + table


def _int8(metrics: Mapping[str, Any]) -> str:
  found = metrics.get('float_to_int8')
  if not found:
    return 'No int8 file was evaluated.'
  return (
    f'On {metrics["split"]} the int8 file scores '
    f'{100 * found["accuracy_difference"]:+.2f} points against the float '
    f'network and makes the same first choice on '
    f'{_percent(found["agreement"])} % of the images.'
  )


def _seeds(metrics: Mapping[str, Any]) -> str:
  seeds = metrics.get('seeds')
  if not seeds:
    return 'The seed was not recorded.'
  listed = ', '.join(
    f'{seed}: {_percent(accuracy)} %'
    for seed, accuracy in zip(seeds['values'], seeds['accuracy'], strict=True)
  )
  if seeds['std'] is None:
    return f'One seed only ({listed}): the spread over seeds is not known.'
  return (
    f'{seeds["split"]}: mean {_percent(seeds["mean"])} %, standard deviation '
    f'{100 * seeds["std"]:.2f} points over {len(seeds["values"])} seeds '
    f'({listed}).'
  )


def _files(metrics: Mapping[str, Any]) -> str:
  files = (metrics.get('export') or {}).get('files') or {}
  rows = [
    (
      f'`{name}`',
      f'{f["bytes"] / 1000:.1f}',
      f'{f["parity"]["max_error"]:.1e}',
      _percent(f['parity']['agreement']),
      f['parity']['n'],
    )
    for name, f in files.items()
  ]
  header = (
    'file', 'kB', 'largest difference from JAX', 'same first choice %', 'images'
  )  # fmt: skip
  return (
    _table(header, rows) + '\n\n`golden.npz` holds made-up input patterns (no '
    'photographs) and the answers of `model.tflite` and `model_int8.tflite` to '
    'them; `../MANIFEST.json` holds the SHA-256 of every file.'
  )


def _provenance(metrics: Mapping[str, Any]) -> str:
  lines = []
  exported = (metrics.get('export') or {}).get('provenance')
  evaluated = metrics if metrics.get('splits') else None
  for what, made in (('export', exported), ('evaluation', evaluated)):
    if made:
      git = made['git']
      revision = git['revision'] or 'unknown'
      dirty = ' with uncommitted changes' if git['dirty'] else ''
      lines.append(
        f'- {what}: `{made["command"]}` at revision {revision}{dirty}, '
        f'{made["date"]}'
      )
  return '\n'.join(lines) or 'Not recorded.'


def _percent(value: float | None, digits: int = 2) -> str:
  return '-' if value is None else f'{100 * value:.{digits}f}'


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
  header = list(header)
  lines = [header, ['---'] * len(header), *rows]
  return '\n'.join('| ' + ' | '.join(map(str, row)) + ' |' for row in lines)

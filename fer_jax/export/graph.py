"""What is inside a `.tflite` file: operations, types, constants.

The flat buffer is read directly: an interpreter would show the graph after its
delegates have rewritten it.
"""

from __future__ import annotations

import collections
import dataclasses
import re

import numpy as np

__all__ = [
  'GraphError',
  'Operation',
  'count',
  'input_quantization',
  'operations',
  'require_folded',
  'require_int8',
]

_ELEMENTWISE = ('ADD', 'SUB', 'MUL', 'DIV')
# What may stand between the uint8 image and the first layer.
_PREPROCESSING = (*_ELEMENTWISE, 'CAST', 'QUANTIZE', 'DEQUANTIZE')


class GraphError(ValueError):
  """A converted file holds operations it should not."""


@dataclasses.dataclass(frozen=True)
class Operation:
  """One operation of the graph.

  Attributes:
    name: e.g. 'CONV_2D'.
    inputs: tensor numbers of the computed inputs (constants left out).
    outputs: tensor numbers.
    input_types: types of the computed inputs, e.g. 'int8'.
    output_types: types of the outputs.
    constant_shapes: shapes of the constant inputs.
  """

  name: str
  inputs: tuple[int, ...]
  outputs: tuple[int, ...]
  input_types: tuple[str, ...]
  output_types: tuple[str, ...]
  constant_shapes: tuple[tuple[int, ...], ...]


def _names(enumeration: type) -> dict[int, str]:
  return {
    v: k for k, v in vars(enumeration).items() if re.fullmatch('[A-Z0-9_]+', k)
  }


def _read(content: bytes):
  from ai_edge_litert import schema_py_generated as schema

  try:
    return schema, schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
  except Exception as error:  # whatever flatbuffers stumbles over
    raise GraphError(f'not a .tflite file: {error}') from None


def operations(content: bytes) -> list[Operation]:
  """Operations of the main graph in execution order.

  Weights that a file stores as float16 appear as constants behind DEQUANTIZE
  operations; these are left out, their results count as constants.

  Raises:
    GraphError: not a `.tflite` file.
  """
  schema, model = _read(content)
  names = _names(schema.BuiltinOperator)
  types = {k: v.lower() for k, v in _names(schema.TensorType).items()}
  graph = model.subgraphs[0]
  computed = set(map(int, graph.inputs))
  found = []
  for op in graph.operators:
    code = model.operatorCodes[op.opcodeIndex]
    name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
    if name == 'CUSTOM':
      name = f'CUSTOM {code.customCode.decode()}'
    used = [int(i) for i in op.inputs if i >= 0]
    inputs = [i for i in used if i in computed]
    if name == 'DEQUANTIZE' and not inputs:
      continue
    outputs = [int(i) for i in op.outputs]
    computed.update(outputs)
    tensors = graph.tensors
    found.append(
      Operation(
        name,
        tuple(inputs),
        tuple(outputs),
        tuple(types[tensors[i].type] for i in inputs),
        tuple(types[tensors[i].type] for i in outputs),
        tuple(_shape(tensors[i]) for i in used if i not in computed),
      )
    )
  return found


def _shape(tensor) -> tuple[int, ...]:
  return () if tensor.shape is None else tuple(map(int, tensor.shape))


def count(content: bytes) -> dict[str, int]:
  """How often each operation occurs, most frequent first."""
  names = collections.Counter(op.name for op in operations(content))
  return dict(names.most_common())


def require_folded(content: bytes, *, temperature: bool = False) -> None:
  """Refuses a graph with normalisation left as arithmetic of its own.

  Batch norm in inference mode is a product and a sum per channel; the converter
  folds both into the convolution before. An ADD, SUB, MUL or DIV with a
  constant operand is one it has not folded. Allowed are those between the image
  and the first layer (scaling the image; a SAME convolution cannot absorb an
  offset) and, with `temperature`, one on the logits.

  Raises:
    GraphError: there is such an operation; the message lists them.
  """
  ops = operations(content)
  _, model = _read(content)
  image = set(map(int, model.subgraphs[0].inputs))
  stray = []
  for op in ops:
    if op.name in _PREPROCESSING and set(op.inputs) <= image:
      image.update(op.outputs)
    elif op.name in _ELEMENTWISE and op.constant_shapes:
      stray.append(op)
  if temperature:
    logits = _tensors_to_softmax(ops)
    stray = [
      op
      for op in stray
      if not (op.name in ('MUL', 'DIV') and logits & set(op.outputs))
    ]
  if stray:
    listed = ', '.join(
      f'{op.name} with constant {list(op.constant_shapes[0])}' for op in stray
    )
    raise GraphError(
      f'{len(stray)} operations were not folded into a convolution: {listed}; '
      'a batch norm must directly follow a convolution'
    )


def _tensors_to_softmax(ops: list[Operation]) -> set[int]:
  """Tensors that reach the softmax with nothing but their shape changed."""
  found: set[int] = set()
  for op in reversed(ops):
    if op.name == 'SOFTMAX' or (
      op.name in ('RESHAPE', 'SQUEEZE') and found & set(op.outputs)
    ):
      found.update(op.inputs)
  return found


def require_int8(content: bytes) -> None:
  """Refuses a graph in which anything but its ends is computed in float.

  The converter leaves one QUANTIZE (uint8 image to int8) at the front and one
  DEQUANTIZE (int8 to float32 probabilities) at the end; every operation between
  them, the softmax included, works on integers.

  Raises:
    GraphError: there is a float operation; the message lists them.
  """
  wrong = [
    f'{op.name} ({"/".join(op.input_types)} -> {"/".join(op.output_types)})'
    for op in operations(content)
    if any('float' in t for t in op.input_types)
    or (op.name != 'DEQUANTIZE' and any('float' in t for t in op.output_types))
  ]
  if wrong:
    raise GraphError(f'float operations in an int8 file: {", ".join(wrong)}')


def input_quantization(content: bytes) -> tuple[float, int]:
  """(scale, zero point) of the first input; (0, 0) where it has none."""
  _, model = _read(content)
  graph = model.subgraphs[0]
  quantization = graph.tensors[int(graph.inputs[0])].quantization
  if quantization is None or quantization.scale is None:
    return 0.0, 0
  zero = np.atleast_1d(quantization.zeroPoint)[0]
  return float(np.atleast_1d(quantization.scale)[0]), int(zero)

"""Array operations with one meaning and one formulation per backend.

`conv2d`, `depthwise_conv2d`, `max_pool` and `avg_pool` mean exactly what the
`jax.lax` operations of that name mean (NHWC images, HWIO kernels). On
accelerators and for export they *are* those operations; on a CPU, where XLA's
own depthwise convolution and pooling gradient are slow, they are written
differently. `implementation('lax')` or `implementation('cpu')` chooses by hand.
"""

from fer_jax.ops.dispatch import current
from fer_jax.ops.dispatch import implementation
from fer_jax.ops.operations import avg_pool
from fer_jax.ops.operations import batch_norm
from fer_jax.ops.operations import conv2d
from fer_jax.ops.operations import depthwise_conv2d
from fer_jax.ops.operations import max_pool

__all__ = [
  'avg_pool',
  'batch_norm',
  'conv2d',
  'current',
  'depthwise_conv2d',
  'implementation',
  'max_pool',
]

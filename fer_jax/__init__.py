"""fer_jax: facial expression recognition with networks for small devices.

The rooms of the library are its sub-packages; importing this one loads none of
them, so that `fer_jax.edge` stays free of JAX on the device.
"""

__version__ = '0.1.0'

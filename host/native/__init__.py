"""The native CPU executor: C kernels with run-time dispatch, and the Python around them."""

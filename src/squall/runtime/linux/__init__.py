"""System calls that Python lacks: mounts, namespaces, pidfds. The only place with ctypes for them."""

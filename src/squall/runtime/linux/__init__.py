"""Linux system calls that Python does not have: mounts, namespaces, pidfds. The only place with ctypes for them."""

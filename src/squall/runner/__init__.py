"""The program inside containers. Standard library only, Python 3.10 to 3.14, blocking."""

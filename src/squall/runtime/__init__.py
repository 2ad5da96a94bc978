"""Isolated processes on one machine: drivers, and the privileged launcher behind the best of them."""

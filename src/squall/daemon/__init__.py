"""The supervisor: a small blocking loop that starts server, launcher and agent, and ends them in order."""

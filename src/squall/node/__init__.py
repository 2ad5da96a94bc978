"""The agent of one machine: starts containers, feeds their runners, builds images, and answers to the server."""

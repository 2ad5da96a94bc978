"""The agent of one machine: starts containers, feeds their runners, builds images, reports."""

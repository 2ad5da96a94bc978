"""The launcher: the only privileged process, one thread, which starts containers for the agent."""

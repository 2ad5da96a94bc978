"""The control plane's shell: connections, sessions, calls, apps, nodes. Decisions are in `squall.scheduling`."""

"""The control plane's shell: connections, sessions, calls, apps, nodes. `squall.scheduling` decides."""

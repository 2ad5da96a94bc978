"""Pure decisions: events in, actions out; no clock, no socket, no await."""

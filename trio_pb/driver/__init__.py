"""The real world around the core: Trio, TCP and files. Start at `server`; `host` is the loop that owns a replica."""

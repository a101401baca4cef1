"""Programs to run and to copy from: several processes, and others' engines."""

__all__: list[str] = []

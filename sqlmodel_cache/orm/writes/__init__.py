"""What a statement writes: rows where it names them, whole models otherwise."""

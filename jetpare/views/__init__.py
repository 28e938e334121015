"""How results are shown: terminal, progress, files."""

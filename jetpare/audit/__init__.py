"""The checks of finished images: those that read (audit) and those that run (verify).

Each check is a function from a Subject to findings, listed by id in audit.CHECKS. subjects.py measures what they read.

Imports: project, image, board, engine, records, config, events, base; not build.
Start reading: audit.py, then any of the check modules.
"""

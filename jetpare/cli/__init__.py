"""The tasks: one function for each, called by tasks.py.

A function opens what it needs through a Session (project, engine, stdout, stderr), makes one call, and shows one
result.

Imports: every package.
Start reading: session.py, then image_tasks.compare.
"""

"""Reach a Docker engine, ask about it and its images, run containers, and run the private engine.

The only package that talks to Docker, except for buildx itself (build.buildx).

Imports: config, events, base; not records.
Start reading: discovery.py, then api.py.
"""

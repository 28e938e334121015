"""Reach a Docker engine, ask about it and its images, run containers, and run the private engine.

Every other package reaches Docker through an Engine of this one.

Imports: config, events, base; not records.
Start reading: discovery.py, then api.py.
"""

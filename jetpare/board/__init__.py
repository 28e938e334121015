"""A Jetson: its power modes, clocks and sensors, and the session that holds a mode during a build.

Everything is read below a root folder, which a test replaces with one that looks like a board's.

Imports: engine, records, config, events, base; not image.
Start reading: power.py.
"""

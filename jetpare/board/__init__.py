"""A Jetson: its power modes, clocks and sensors, and the session that holds a mode during a build.

Everything is read through a Host, which a test replaces with a folder that looks like a board's.

Imports: engine, records, config, events, base; not image.
Start reading: power.py.
"""

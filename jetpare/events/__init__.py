"""BuildKit's event stream becomes steps, times, logs and the cause of a failure.

Pure: no engine, no clock. Recorded streams of real engines are in tests/data/events.

Imports: base.
Start reading: recorder.py, then figures.py.
"""

"""build.toml becomes a Config, or a list of every fault in it.

values.py says what a value may be, schema.py what tables there are, crossrefs.py what one table says of another.

Imports: base.
Start reading: load.py.
"""

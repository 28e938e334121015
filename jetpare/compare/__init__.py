"""Images side by side, and the verdict.

gather.py asks the engine, the records and the inventories, and pull_size.py the engine and the registry; the rest are
functions from data to data.

Imports: audit, build, project, image, board, engine, records, config, events, base.
Start reading: gather.comparison, then verdict.py.
"""

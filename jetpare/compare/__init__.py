"""Images side by side, and the verdict.

gather.py asks the engine, the records and the inventories; everything after it is a function from data to data.

Imports: audit, build, project, image, board, engine, records, config, events, base.
Start reading: gather.comparison, then verdict.py.
"""

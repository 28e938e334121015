"""What runs leave on disk: the record of each run, samples, history, budgets, traces.

ledger.py alone writes records; the rest are functions over them.

Imports: config, events, base; not engine.
Start reading: ledger.py.
"""

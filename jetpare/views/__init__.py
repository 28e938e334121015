"""Results as terminal text, Markdown, HTML, JSON and SARIF.

One render function for each result. Nothing is computed here that another view would need too: shared cells are in
rows.py.

Imports: every package but cli.
Start reading: comparison_text.py.
"""

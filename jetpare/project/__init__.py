"""A folder with a build.toml becomes a Plan: what is built, in which order, under which names.

Pure, but for reading build.toml and asking git for the commit.

Imports: image, board, engine, records, config, events, base.
Start reading: project.open_project, then plan.make_plan.
"""

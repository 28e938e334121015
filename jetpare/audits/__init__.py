"""The checks of `jetpare.audit`, by what they look at. Each is a pure function from a Subject to findings."""

"""TraceML's answer to the same scenario: PyPI's traceml-ai, the summary that `traceml run` leaves."""


def ask(_scenario, _options, _name, _program):
    return None


def report(_scored):
    pass

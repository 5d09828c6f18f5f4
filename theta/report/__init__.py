"""The report of a run, metrics/report.html, from the figures that its stages wrote."""

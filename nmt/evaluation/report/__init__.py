"""The report: evaluations of one or several systems as one HTML file that needs nothing else."""

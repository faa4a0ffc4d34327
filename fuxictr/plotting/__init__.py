"""Results and records in, matplotlib figures out.

``<what>_figure`` draws a Figure whose caption names data, sample and seeds; ``<what>_numbers``
returns what it draws as a table. ``write_<what>`` does both for the runs of one model, writes
``<root>/figure/final/<dataset_id>/<name>.{pdf,png,csv}`` and returns the paths.
"""

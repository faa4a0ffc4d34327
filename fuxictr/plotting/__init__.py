"""Results and records in, matplotlib figures out.

``<what>_figure`` draws a Figure with a title above and a caption below that names data, sample and
seeds; ``<what>_numbers`` returns what it draws as a table. ``write_<what>`` does both for the runs
of one model and writes ``<root>/figure/final/<dataset_id>/<name>.{pdf,png,csv}``, whose paths it
returns.
"""

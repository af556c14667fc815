"""`compare watch-time`: every watch-time head on one encoder and a rolling origin, next to boosted trees.

1  seeds, windows, and the hyperparameters of every method               config.py
2  windows of days, each with the days before it to fit and to stop by   windows.py
3  what is fitted, and the rows that are read off a fit                  methods.py
4  heads and trees fitted on a window, predictions of its test rows      fits.py  readouts.py  rank_loss.py
5  figures and users' values of all windows                              evaluator.py
6  all of it as an experiment                                            experiment.py
"""

"""Logs of many machines: the readers and labels of one machine, run by Spark on each part of a log.

What is said of a row is the code of one machine, inside `mapInArrow`; Spark joins, groups and writes. Only
DataFrames are used, so that Spark Connect will do.
"""

from training.spark.labels import label_log
from training.spark.own_log import prepare_own
from training.spark.session import spark_session

__all__ = ["label_log", "prepare_own", "spark_session"]

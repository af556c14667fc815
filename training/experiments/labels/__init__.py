"""`compare labels`: every label on a rolling origin, by recommenders of several kinds.

1  windows of days, and what is known before each                     rolling.py
2  labels of the known rows, learned ones on the windows before       methods.py  known_labels.py
3  recommenders fitted on any label, to users drawn again and again   recommenders.py
4  figures of the slates they choose, user by user                    figures.py
5  differences over users and redrawn recommenders                    evaluation/bootstrap.py
6  all of it side by side, as one report                              run.py
"""

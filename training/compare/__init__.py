"""Every method of a kind on one log, with error bars: `python -m training compare`.

What any comparison needs lies here (`_jobs`, `_digest`, `_bootstrap`, `_concordance`, `_report`, `_stand`,
`_place`) and knows nothing of labels or watch time; each kind is a package of its own.
"""

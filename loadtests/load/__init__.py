"""Load at a constant arrival rate, scenario by scenario, compared with budgets."""

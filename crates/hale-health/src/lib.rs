//! Health decisions as sans-IO state machines: thresholds, lifecycle, backoff, budgets, holds, roll-up

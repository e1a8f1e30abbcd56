//! The nouns of hale: workload files, statuses, events, reasons, ids

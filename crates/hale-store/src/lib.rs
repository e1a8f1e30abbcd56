//! Durable state: events, transitions, outcomes and history in a database

//! The coordinator: REST API, registry, event stream, status page

//! What goes over the wire: REST types and one typed client

//! What goes over the wire: REST types, and one typed client.

pub mod endpoints;

pub use hale_model as model;

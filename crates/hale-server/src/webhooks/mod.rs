//! Webhooks: events delivered to addresses of the user's, signed, at least once (S22).
//!
//! [`lane`] decides, without clock or socket, what one webhook is sent next; [`send`] sends it; [`run`] keeps one lane
//! per webhook going on the server that holds the lease, so that a dead receiver delays nobody but itself. Events wait
//! in the database, never in memory: a lane holds a page of them at most.

mod address;
mod book;
mod key;
pub mod lane;
mod run;
mod send;
mod sign;
mod task;

pub use address::Forbidden;
pub use book::{Book, BookError};
pub use key::{KeyError, SecretKey};
pub use run::{Deliveries, LASTS, LEASE, start};
pub use send::{Answer, Endpoint, EndpointError, Kept, Message, SendError, Sender, Timeouts, attempted};
pub use sign::{BadSecret, Secret, message_id};
pub use task::Opened;

#[cfg(test)]
mod tests;

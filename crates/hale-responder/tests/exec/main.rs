//! Running programs, with real processes.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod asking;
mod contents;
mod ending;
mod examples;
mod leftovers;
mod output;
mod retention;
mod support;
mod users;

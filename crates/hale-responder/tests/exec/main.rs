//! Running programs, with real processes.

mod asking;
mod contents;
mod ending;
mod examples;
mod leftovers;
mod output;
mod retention;
mod support;
mod users;

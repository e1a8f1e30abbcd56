//! The lifecycle machine: replicas, each with its phase, probes and holds, and the workload that arbitrates between
//! them.
//!
//! Sans-IO: [`Workload`] takes inputs and the time and appends decisions to a list; [`Workload::next_deadline`] says
//! when it wants to be woken. Outcomes, exits and persons meet the machine here and nowhere else.
//!
//! Where the rules leave room, this is how they are read:
//!
//! - **H16, giving up a live replica.** When the budget is used up and a probe asks for one restart more, the replica
//!   is `failed` and out of traffic, but its process is left as it is: giving up never ends a run. It is ended before
//!   whatever starts it again (a person, `retryAfter`), and by a stop. With `onExhausted: wait` it stays `unhealthy`,
//!   in traffic, held by the budget.
//! - **H16, minimum uptime.** A run has proved itself once it has been started and without a single failed liveness
//!   outcome for so long; any such failure starts that clock again.
//! - **H20, going on.** A probe-caused restart goes on from the trip's stop until the next run is `running` (or the
//!   replica is failed or being stopped).
//! - **H21 and H24, counters at zero.** A held trip is taken back and the replica stays `unhealthy`: one success makes
//!   it `running`, as many failures as ever trip it again. The trip that follows a dependency's recovery waits a random
//!   share of one period. Checks that began before do not count.
//! - **H22.** Only taking out of traffic is held while the node doubts its probes; a success is evidence enough to let
//!   one in.
//! - **H27, observe.** A replica that runs is ready, during startup too: probes gate nothing.

mod around;
mod decision;
mod holding;
mod input;
mod lifecycle;
mod memento;
mod outcomes;
mod pausing;
mod placed;
mod probe;
mod replica;
mod reported;
mod requests;
mod rolling;
mod settle;
mod workload;

#[cfg(test)]
mod tests;

pub use decision::{Decision, Note, ReadyChange};
pub use input::{By, Dependency, Elsewhere, Input, Observer, Pause, PauseScope, WorkloadInput};
pub(crate) use lifecycle::EXAMINE;
pub use memento::{Found, Memento};
pub use placed::{Arrival, Resumed};
pub use probe::ProbeState;
pub use replica::{Handled, Replica};
pub use workload::Workload;

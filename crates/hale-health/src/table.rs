//! The one table of transitions between phases (H12). The machine moves by it, the docs draw it.

use std::fmt::{self, Write as _};

use crate::Phase::{self, Failed, Pending, Restarting, Running, Starting, Stopped, Stopping, Unhealthy};

/// What can move a replica from one phase to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// A start was asked for.
    Spawn,
    /// It has started: spawned, and its startup probe, if any, has succeeded.
    Started,
    /// Liveness failed its threshold.
    Trip,
    /// Liveness succeeds again before the stop began.
    Recover,
    /// It is to be ended and started again: a trip, a person, a changed declaration.
    Restart,
    /// It ended by itself, or could not be spawned, and is not done.
    Exit,
    /// It ended by itself and is done.
    Complete,
    /// It is given up.
    GiveUp,
    /// It is to be ended for good.
    Stop,
    /// Nothing of it is left.
    Ended,
}

struct Row {
    event: Move,
    from: &'static [Phase],
    to: Phase,
}

macro_rules! table {
    ($($event:ident ( $($from:ident)|+ => $to:ident ))+) => {
        const TABLE: &[Row] = &[$(Row { event: Move::$event, from: &[$($from),+], to: $to }),+];

        impl Move {
            /// All of them, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$event),+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$event => stringify!($event)),+ }
            }
        }
    };
}

// A live replica that was given up (H16) is ended before it starts again: Failed => Restarting.
table! {
    Spawn    (Pending | Restarting | Stopped | Failed => Starting)
    Started  (Starting => Running)
    Trip     (Running => Unhealthy)
    Recover  (Unhealthy => Running)
    Restart  (Starting | Running | Unhealthy | Failed => Restarting)
    Exit     (Starting | Running | Unhealthy => Restarting)
    Complete (Starting | Running | Unhealthy => Stopping)
    GiveUp   (Restarting => Failed)
    Stop     (Pending | Starting | Running | Unhealthy | Restarting | Failed => Stopping)
    Ended    (Stopping => Stopped)
}

/// A move that the table does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impossible {
    /// What was to move it.
    pub event: Move,
    /// Where it stood.
    pub phase: Phase,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no transition {} from phase {}", self.event.as_str(), self.phase)
    }
}

impl std::error::Error for Impossible {}

impl Move {
    /// Where it leads from a phase.
    ///
    /// # Errors
    /// The table has no such row.
    pub fn from(self, phase: Phase) -> Result<Phase, Impossible> {
        TABLE
            .iter()
            .find(|row| row.event == self && row.from.contains(&phase))
            .map(|row| row.to)
            .ok_or(Impossible { event: self, phase })
    }
}

/// The table as a text matrix: a line for each move, a column for each phase.
#[must_use]
pub fn transition_matrix() -> String {
    let mut text = format!("{:<10}", "");
    for phase in Phase::ALL {
        let _ = write!(text, "{:<12}", phase.as_str());
    }
    for event in Move::ALL {
        text.truncate(text.trim_end().len());
        let _ = write!(text, "\n{:<10}", event.as_str());
        for phase in Phase::ALL {
            let _ = write!(text, "{:<12}", event.from(phase).map_or("·", Phase::as_str));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The table as a Graphviz drawing.
#[must_use]
pub fn transition_dot() -> String {
    let mut text = String::from("digraph phases {\n    rankdir=LR;\n    node [shape=box, style=rounded];\n");
    for (from, to, label) in arrows() {
        let _ = writeln!(text, "    {from} -> {to} [label=\"{label}\"];");
    }
    text.push_str("}\n");
    text
}

/// The table as a Mermaid state diagram.
#[must_use]
pub fn transition_mermaid() -> String {
    let mut text = String::from("stateDiagram-v2\n    [*] --> pending\n");
    for (from, to, label) in arrows() {
        let _ = writeln!(text, "    {from} --> {to}: {label}");
    }
    text
}

/// Every pair of phases that a move joins, with the names of all moves that join it.
fn arrows() -> Vec<(Phase, Phase, String)> {
    let mut arrows = Vec::new();
    for from in Phase::ALL {
        for to in Phase::ALL {
            let events: Vec<_> =
                Move::ALL.iter().filter(|it| it.from(from) == Ok(to)).map(|it| it.as_str()).collect();
            if !events.is_empty() {
                arrows.push((from, to, events.join(", ")));
            }
        }
    }
    arrows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_as_agreed() {
        insta::assert_snapshot!(transition_matrix());
    }

    #[test]
    fn the_drawings_are_as_agreed() {
        insta::assert_snapshot!("dot", transition_dot());
        insta::assert_snapshot!("mermaid", transition_mermaid());
    }

    #[test]
    fn an_impossible_move_is_an_error_that_names_both() {
        let error = Move::Started.from(Stopped).unwrap_err();
        assert_eq!(error.to_string(), "no transition Started from phase stopped");
    }

    #[test]
    fn every_phase_can_be_reached_and_left() {
        for phase in Phase::ALL {
            let left = Move::ALL.iter().any(|it| it.from(phase).is_ok());
            let reached = phase == Pending
                || Phase::ALL
                    .iter()
                    .any(|from| *from != phase && Move::ALL.iter().any(|it| it.from(*from) == Ok(phase)));
            assert!(left && reached, "{phase}");
        }
    }
}

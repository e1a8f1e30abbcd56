//! When a server last heard of this node: what `disconnect.stopAfter` counts from (S9).
//!
//! That is the send time of the last beat that was acknowledged, by the clock of this boot, and it outlives the agent:
//! one that starts without a server goes on counting. After a restart of the machine, or when nothing is known, every
//! such time is over: another node may have the replica.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hale_health::Time;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    boot: String,
    nanos: u64,
}

#[derive(Debug)]
pub(super) struct Heard {
    path: Option<PathBuf>,
    boot: String,
    at: Option<Time>,
}

impl Heard {
    /// What was kept in a directory on this boot.
    pub(super) fn load(dir: Option<&Path>, boot: String) -> Self {
        let path = dir.map(|dir| dir.join("heard.json"));
        let text = path.as_ref().and_then(|path| fs::read(path).ok());
        let file = text.and_then(|text| serde_json::from_slice::<File>(&text).ok());
        let at = file.filter(|it| it.boot == boot && !boot.is_empty()).map(|it| Time::from_nanos(it.nanos));
        Self { path, boot, at }
    }

    /// A server heard of us at this time; false: that is no news.
    pub(super) fn note(&mut self, at: Time) -> bool {
        let news = self.at.is_none_or(|known| known < at);
        if news {
            self.at = Some(at);
        }
        news
    }

    /// The moment so long after it; long over when nothing is known.
    pub(super) fn plus(&self, after: std::time::Duration) -> Time {
        self.at.map_or(Time::ZERO, |at| at + after)
    }

    /// Keeps it. Not synced: what it says is of this boot only.
    pub(super) fn keep(&self) -> io::Result<()> {
        let (Some(path), Some(at)) = (&self.path, self.at) else { return Ok(()) };
        let file = File { boot: self.boot.clone(), nanos: at.as_nanos() };
        let new = path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec(&file)?)?;
        fs::rename(&new, path)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_known_over_a_restart_of_the_agent_and_not_over_one_of_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let minute = Duration::from_secs(60);
        let mut heard = Heard::load(Some(dir.path()), "boot-1".into());
        assert_eq!(heard.plus(minute), Time::ZERO);
        assert!(heard.note(Time::from_secs(100)));
        assert!(!heard.note(Time::from_secs(99)), "an older word is no news");
        heard.keep().unwrap();
        let next = Heard::load(Some(dir.path()), "boot-1".into());
        assert_eq!(next.plus(minute), Time::from_secs(160));
        assert_eq!(Heard::load(Some(dir.path()), "boot-2".into()).plus(minute), Time::ZERO);
    }
}

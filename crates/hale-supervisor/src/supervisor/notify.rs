//! What a process says of itself over its notify socket (H9).

use std::time::Duration;

use hale_health::{Input, Time};

use super::core::Core;
use crate::{process::Masker, runtime::InstanceId};

/// The longest text of a process's own that is kept, bytes.
const STATUS_TEXT: usize = 256;

impl Core {
    pub(super) fn on_notify(&mut self, now: Time, id: &InstanceId, name: &str, value: &str, at: Time) {
        let _ = at;
        match name {
            "STATUS" => {
                let text = Masker::default().line(value);
                if let Some(run) = self.run_mut(id) {
                    run.status_text = Some(text[..text.floor_char_boundary(STATUS_TEXT)].to_owned());
                }
            }
            "STOPPING" => self.feed_run(now, id, |incarnation| Input::Leaving { incarnation }),
            "EXTEND_TIMEOUT_USEC" => {
                if let Ok(micros) = value.parse() {
                    let by = Duration::from_micros(micros);
                    self.feed_run(now, id, |incarnation| Input::ExtendStartup { incarnation, by });
                }
            }
            _ => {}
        }
    }
}

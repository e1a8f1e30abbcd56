//! One process of a cluster: started, read, and ended by its pid, however the test goes.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::process::{keep_lines, kill, wait_for};

/// A server, agent, gateway or database that runs.
pub(crate) struct Part {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Part {
    pub(crate) fn start(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the test must not end it before the test does.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        keep_lines(child.stdout.take().unwrap(), Arc::clone(&lines));
        keep_lines(child.stderr.take().unwrap(), Arc::clone(&lines));
        Self { name: name.to_owned(), child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed.
    pub(crate) fn output(&self) -> String {
        let lines = self.lines.lock().unwrap();
        format!("--- {}\n{}\n", self.name, lines.join("\n"))
    }

    /// Waits for a line that holds `text`, and returns it.
    pub(crate) fn wait_line(&mut self, text: &str) -> String {
        let found = wait_for(|| {
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            match self.child.try_wait().unwrap() {
                Some(status) => Err(Some(format!("it has ended: {status}"))),
                None => Err(None),
            }
        });
        found.unwrap_or_else(|why| panic!("no line with {text:?} ({why:?}) in:\n{}", self.output()))
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order.
    pub(crate) fn end(&mut self, signal: &str) {
        kill(signal, self.pid());
        wait_for(|| self.child.try_wait().unwrap().ok_or(None))
            .unwrap_or_else(|_| panic!("it did not end on {signal}:\n{}", self.output()));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.runs() {
            // What it leaves behind is ended by `end_marked`.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Ends every process that carries `mark` in its command line, environment or working directory: keepers and replicas
/// of a test, whose parents may be gone. The mark is the path of the test's own directory.
pub(crate) fn end_marked(mark: &str) {
    for _ in 0..50 {
        let marked = marked(mark);
        if marked.is_empty() {
            return;
        }
        for pid in marked {
            // It may have ended meanwhile.
            drop(Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status());
        }
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

/// The living processes that carry `mark`.
pub(crate) fn marked(mark: &str) -> Vec<u32> {
    let own = std::process::id();
    let holds = |path: &Path| {
        let in_file = |name: &str| {
            fs::read(path.join(name)).is_ok_and(|text| String::from_utf8_lossy(&text).contains(mark))
        };
        in_file("cmdline") || in_file("environ")
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own && crate::process::alive(*pid))
        .filter(|pid| holds(&Path::new("/proc").join(pid.to_string())))
        .collect()
}

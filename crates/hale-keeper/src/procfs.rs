//! Reading `/proc`: who runs, whose child it is, what it uses, what it waits in.

use std::{collections::HashMap, fs, io, path::PathBuf};

/// One process, as `/proc/PID/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Whether it has ended and only waits to be reaped. A zombie is not alive (H13).
    pub zombie: bool,
    /// When it started, clock ticks since boot.
    pub start_time: u64,
    /// Processor time used, clock ticks.
    pub cpu_ticks: u64,
    /// Threads.
    pub threads: u32,
    /// Resident memory, pages.
    pub resident_pages: u64,
}

/// The process of this number; `None` when there is none.
#[must_use]
pub fn process(pid: i32) -> Option<Process> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes.
///
/// # Errors
/// `/proc` can't be read.
pub fn processes() -> io::Result<Vec<Process>> {
    Ok(pids()?.filter_map(process).collect())
}

/// The numbers of all processes.
pub(crate) fn pids() -> io::Result<impl Iterator<Item = i32>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

fn parse_stat(stat: &str) -> Option<Process> {
    // The name stands in parentheses and may hold anything, parentheses and spaces too.
    let (head, tail) = stat.rsplit_once(')')?;
    let pid = head.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    // proc_pid_stat(5) counts from 1 with pid and comm first: field n is at n - 3 here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let signed = |field: usize| fields.get(field - 3)?.parse::<i32>().ok();
    Some(Process {
        pid,
        zombie: matches!(fields.first(), Some(&"Z" | &"X" | &"x")),
        parent: signed(4)?,
        group: signed(5)?,
        session: signed(6)?,
        cpu_ticks: number(14)? + number(15)?,
        threads: u32::try_from(number(20)?).unwrap_or(u32::MAX),
        start_time: number(22)?,
        resident_pages: number(24)?,
    })
}

/// `root` and everything below it by parent, in no order. Zombies are left out.
#[must_use]
pub fn subtree(all: &[Process], root: i32) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: Vec<Process> = Vec::new();
    let mut waiting: Vec<&Process> = all.iter().filter(|it| it.pid == root).collect();
    while let Some(process) = waiting.pop() {
        // Children of a zombie have a new parent already.
        if !process.zombie {
            found.push(*process);
        }
        waiting.extend(children.remove(&process.pid).unwrap_or_default());
    }
    found
}

/// The value of an environment variable a process was started with; `None` when it can't be read or is not there.
#[must_use]
pub fn environment(pid: i32, name: &str) -> Option<Vec<u8>> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let rest = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(rest.to_vec())
    })
}

/// How many files a process has open.
///
/// # Errors
/// It is gone, or not ours to look at.
pub fn open_files(pid: i32) -> io::Result<u32> {
    Ok(u32::try_from(fs::read_dir(format!("/proc/{pid}/fd"))?.count()).unwrap_or(u32::MAX))
}

/// The threads of a process.
///
/// # Errors
/// It is gone.
pub fn threads(pid: i32) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Where a thread is, in one line: its name, its state, and what the kernel says that it waits in.
///
/// # Errors
/// It is gone.
pub fn thread_line(pid: i32, thread: i32) -> io::Result<String> {
    let base = PathBuf::from(format!("/proc/{pid}/task/{thread}"));
    let stat = fs::read_to_string(base.join("stat"))?;
    let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("?", |(name, _)| name);
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
    let mut line = format!("thread {thread} {name}: state {state}");
    let waits = fs::read_to_string(base.join("wchan")).unwrap_or_default();
    if !waits.is_empty() && waits != "0" {
        line.push_str(" in ");
        line.push_str(&waits);
    }
    if let Some(call) = system_call(&fs::read_to_string(base.join("syscall")).unwrap_or_default()) {
        line.push_str(&call);
    }
    if let Ok(stack) = fs::read_to_string(base.join("stack")) {
        let calls: Vec<&str> =
            stack.lines().filter_map(|it| it.split_once("] ")).map(|it| it.1).take(8).collect();
        if !calls.is_empty() {
            line.push_str("; kernel stack: ");
            line.push_str(&calls.join(" < "));
        }
    }
    Ok(line)
}

/// The number of the system call a thread is in, and its first argument: often the file it waits for.
fn system_call(text: &str) -> Option<String> {
    let mut words = text.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let first = words.next()?;
    (number >= 0).then(|| format!(", system call {number} ({first}, …)"))
}

/// Which boot of the machine this is.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_passed_over() {
        let stat =
            "12 (a) b (c)) S 3 4 5 0 -1 4194560 1 0 0 0 7 8 0 0 20 0 9 0 1234 1000 42 18446744073709551615";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.group, process.session), (12, 3, 4, 5));
        assert_eq!((process.cpu_ticks, process.threads, process.start_time), (15, 9, 1234));
        assert_eq!((process.resident_pages, process.zombie), (42, false));
    }

    #[test]
    fn a_process_finds_itself_below_its_parent() {
        let own = i32::try_from(std::process::id()).unwrap();
        let all = processes().unwrap();
        let parent = process(own).unwrap().parent;
        assert!(subtree(&all, parent).iter().any(|it| it.pid == own));
        assert!(open_files(own).unwrap() > 2);
        assert!(thread_line(own, own).unwrap().contains("state"));
    }
}

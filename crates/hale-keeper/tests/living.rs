//! What a replica gets, and what is kept of what it says (N4, H9).

mod common;

use std::{fs, os::unix::fs::PermissionsExt};

use common::{Kept, kill, wait_for};
use hale_keeper::{
    LogLimits, procfs,
    protocol::{Answer, Empty, Event, Op, Text, User},
};
use rstest::rstest;

#[test]
fn output_is_kept_line_by_line_with_its_stream() {
    let mut kept = Kept::new(|_| {});
    kept.script("web-0", "echo one; echo two >&2; printf three");
    kept.ended("web-0");
    let lines = hale_keeper::logs::tail(&hale_keeper::logs::files(kept.dir(), "web-0"), 9, 1 << 20).unwrap();
    let mut seen: Vec<_> = lines.iter().map(|it| (it.stream.as_str(), it.text.as_str())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("stderr", "two"), ("stdout", "one"), ("stdout", "three")]);
    let mode = fs::metadata(kept.path("logs/web-0.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_flood_of_output_stays_bounded_is_counted_and_does_not_block_the_replica() {
    let limits = LogLimits { file_bytes: 1 << 20, files: 3, total_bytes: 1 << 24, bytes_per_second: 1 << 20 };
    let mut kept = Kept::new(|options| options.logs = limits);
    // A hundred megabytes, far more than may be kept: it would never come to its end if it had to wait for the disk.
    kept.script("web-0", "yes 'a line of the flood that goes on and on' | head -c 100000000; exit 4");
    assert_eq!(kept.ended("web-0").code, Some(4));
    let kept_bytes: u64 =
        fs::read_dir(kept.path("logs")).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).sum();
    assert!(kept_bytes <= 3 << 20, "{kept_bytes} bytes are kept");
    let lines = kept.log("web-0");
    assert!(lines.iter().any(|it| it.contains("of output were dropped here")), "{:?}", lines.last());
}

#[rstest]
#[case("/no/such/program", "not_found")]
#[case("/etc/passwd", "not_executable")]
#[case("/etc", "not_executable")]
#[case("text", "not_executable")]
#[case("interpreter", "not_found")]
fn a_program_that_can_not_be_run_says_why(#[case] program: &str, #[case] code: &str) {
    let mut kept = Kept::new(|_| {});
    for (name, text) in [("text", "just text\n"), ("interpreter", "#!/no/such/interpreter\n")] {
        fs::write(kept.path(name), text).unwrap();
        fs::set_permissions(kept.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = kept.path(program);
    let failure = kept.start(kept.program("web-0", program.to_str().unwrap(), &["x"])).unwrap_err();
    assert_eq!(failure.code, code, "{}", failure.detail);
    assert!(failure.detail.contains(program.to_str().unwrap()), "{}", failure.detail);
    assert!(matches!(kept.ask(Op::List(Empty {})), Answer::Instances(all) if all.is_empty()));
}

#[test]
fn a_directory_that_is_not_there_and_limits_that_can_not_be_set_say_so() {
    let mut kept = Kept::new(|_| {});
    let mut start = kept.shell("web-0", "exit 0");
    start.dir = Text::from("/no/such/directory");
    let failure = kept.start(start).unwrap_err();
    assert_eq!(failure.code, "no_such_directory", "{}", failure.detail);
    let mut start = kept.shell("web-0", "exit 0");
    start.ulimits = vec![("nofile".to_owned(), 100, 50)];
    let failure = kept.start(start).unwrap_err();
    assert_eq!(failure.code, "limits", "{}", failure.detail);
}

#[test]
fn a_replica_starts_clean_in_its_own_session_with_its_limits_and_as_its_user() {
    let mut kept = Kept::new(|options| options.soft_nofile = Some(777));
    fs::set_permissions(kept.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut start =
        kept.shell("web-0", "ulimit -Sn; ulimit -c; id -u; id -G; cat /proc/self/status; env; sleep 1000");
    start.ulimits = vec![("core".to_owned(), 0, 0)];
    start.user = Some(User { uid: 12_345, gid: 23_456, groups: vec![23_456, 34_567] });
    let pid = i32::try_from(kept.start(start).unwrap().pid).unwrap();
    let log = wait_for("its output", || {
        Some(kept.log("web-0")).filter(|it| it.iter().any(|it| it.starts_with("D=")))
    });
    assert_eq!(log[..4], ["777", "0", "12345", "23456 34567"]);
    // Signals 32 and 33 are the C library's own, and nobody else may touch them.
    for name in ["SigBlk:\t", "SigIgn:\t"] {
        let mask = log.iter().find_map(|it| it.strip_prefix(name)).unwrap();
        assert_eq!(u64::from_str_radix(mask, 16).unwrap() & !(0b11 << 31), 0, "{name}{mask}");
    }
    assert!(log.iter().any(|it| it.starts_with("HALE_INSTANCE=") && it.ends_with("/web-0/1/1")));
    assert_eq!(procfs::process(pid).unwrap().session, pid);
    let files: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(files.len(), 3, "more than stdin, stdout, stderr was inherited: {files:?}");
}

#[test]
fn five_hundred_that_exit_lose_no_record_and_no_descriptor() {
    let mut kept = Kept::new(|_| {});
    let keeper = i32::try_from(kept.keeper.pid()).unwrap();
    kept.script("first-0", "exit 0");
    kept.ended("first-0");
    let before = procfs::open_files(keeper).unwrap();
    for number in 0..500 {
        kept.script(&format!("web-{number}"), &format!("exit {}", number % 200));
    }
    let mut codes = std::collections::BTreeMap::new();
    let mut gone = 0;
    while gone < 500 {
        match kept.event() {
            Event::Exited { key, exit } => {
                let number: i32 = key.replica.strip_prefix("web-").unwrap().parse().unwrap();
                assert_eq!(codes.insert(number, exit.code), None, "told twice");
            }
            Event::Gone { .. } => gone += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(codes.len(), 500);
    assert!(codes.iter().all(|(number, code)| *code == Some(number % 200)));
    assert_eq!(procfs::open_files(keeper).unwrap(), before);
    let all = procfs::processes().unwrap();
    assert!(!all.iter().any(|it| it.parent == keeper), "children are left unreaped");
    for number in 0..500 {
        kept.ask(Op::Forget(common::key(&format!("web-{number}"))));
    }
    assert!(matches!(kept.ask(Op::List(Empty {})), Answer::Instances(all) if all.len() == 1));
}

/// What the next test runs as its replica: this test program again.
#[test]
fn reports_as_a_replica() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|_| std::env::var_os("REPORTS").is_some())
    else {
        return;
    };
    let name = socket.to_str().unwrap().strip_prefix('@').unwrap().to_owned();
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket.send_to_addr(b"READY=1\nSTATUS=all well\n", address.as_ref().unwrap()).unwrap();
    socket.send_to_addr(b"WATCHDOG=1", address.as_ref().unwrap()).unwrap();
}

#[rstest]
fn what_a_replica_reports_is_told_and_what_another_says_in_its_name_is_not(
    #[values(true, false)] cgroups: bool,
) {
    let mut kept = Kept::new(|options| options.cgroups = cgroups);
    let own = std::env::current_exe().unwrap();
    // As a child of a shell in a session of its own, as wrapped programs are.
    let script =
        format!("echo $NOTIFY_SOCKET; setsid {} --exact reports_as_a_replica & wait; read x", own.display());
    let mut start = kept.shell("web-0", &script);
    start.notify = true;
    start.env.push((Text::from("REPORTS"), Text::from("1")));
    kept.start(start).unwrap();
    let socket = wait_for("the socket's name", || kept.log("web-0").first().cloned());
    let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
        &socket[1..],
    );
    // The keeper may be gone with its socket if the replica was quick; it waits, so it is not.
    let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let _ = other.send_to_addr(b"STATUS=forged", &address.unwrap());
    let mut told = Vec::new();
    loop {
        match kept.event() {
            Event::Notify { name, value, at, .. } => {
                assert!(at > 0);
                told.push((name, value));
            }
            Event::Gone { .. } => break,
            _ => {}
        }
    }
    let expected = [("READY", "1"), ("STATUS", "all well"), ("WATCHDOG", "1")];
    assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_start_that_was_made_already_is_told_again_and_not_made_twice() {
    let mut kept = Kept::new(|_| {});
    let first = kept.script("web-0", "sleep 1000");
    assert_eq!(kept.script("web-0", "sleep 1000"), first);
    kill(first.pid, "KILL");
    kept.ended("web-0");
}

#[test]
fn what_is_not_understood_is_refused_and_harms_nothing() {
    use std::io::{BufRead, BufReader, Write};
    let mut kept = Kept::new(|_| {});
    let mut stream = hale_keeper::link::connect(kept.keeper.dir()).unwrap();
    stream.write_all(b"nonsense\n{\"id\":5,\"op\":{\"later\":{}}}\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.next().unwrap().unwrap().contains("unsupported"));
    let second = lines.next().unwrap().unwrap();
    assert!(second.contains("\"id\":5") && second.contains("unsupported"), "{second}");
    kept.script("web-0", "exit 0");
    kept.ended("web-0");
}

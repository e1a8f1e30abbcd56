//! How long workspaces are kept (R8).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, SystemTime},
};

use hale_responder::exec::{How, Job};

use crate::support::{Place, script};

const HOUR: Duration = Duration::from_secs(3600);

/// A finished run, some hours ago, with so many bytes.
async fn finished(place: &Place, id: &str, hours: u32, bytes: usize) -> Job {
    let job = script(id, &format!("head -c {bytes} /dev/urandom > output/data"));
    assert_eq!(place.run(&job).await.how, How::Exited(0));
    let at = SystemTime::now() - HOUR * hours;
    File::open(place.workspace(&job)).unwrap().set_modified(at).unwrap();
    job
}

fn live(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|it| (*it).to_owned()).collect()
}

#[tokio::test]
async fn what_is_too_old_goes_and_what_is_live_stays() {
    let place = Place::with(|options| options.keep = 24 * HOUR);
    let mut jobs = Vec::new();
    for (id, hours) in [("r1", 25), ("r2", 23), ("r3", 48), ("r4", 0)] {
        jobs.push(finished(&place, id, hours, 10).await);
    }
    let outside = place.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    symlink(&outside, place.workspace(&jobs[0]).join("output/link")).unwrap();
    symlink(&outside, place.dir.path().join("workspaces/r9")).unwrap();
    let closed = place.workspace(&jobs[0]).join("output/closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("x"), "x").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let at = SystemTime::now() - HOUR * 25;
    File::open(place.workspace(&jobs[0])).unwrap().set_modified(at).unwrap();

    let retained = place.executor.retain(SystemTime::now(), &live(&["r3"]));
    assert_eq!((retained.removed, retained.failed, retained.kept), (vec!["r1".to_owned()], vec![], 3));
    assert!(outside.join("precious").exists());
    assert!(!place.workspace(&jobs[0]).exists() && place.workspace(&jobs[2]).exists());
}

#[tokio::test]
async fn what_is_too_much_goes_the_oldest_first() {
    let place = Place::with(|options| options.max_bytes = 1_000_000);
    for (id, hours) in [("r1", 1), ("r2", 3), ("r3", 2), ("r4", 4)] {
        finished(&place, id, hours, 400_000).await;
    }
    let retained = place.executor.retain(SystemTime::now(), &live(&["r4"]));
    assert_eq!(retained.removed, ["r2", "r3"]);
    assert!(retained.bytes >= 800_000 && retained.bytes <= 1_000_000, "{retained:?}");
    assert_eq!(place.executor.retain(SystemTime::now(), &live(&["r4"])).removed, Vec::<String>::new());
}

#[tokio::test]
async fn a_workspace_of_tomorrow_is_of_today() {
    let place = Place::with(|options| options.keep = HOUR);
    let job = script("r1", "true");
    place.run(&job).await;
    let path = place.workspace(&job);
    File::open(&path).unwrap().set_modified(SystemTime::now() + 1000 * HOUR).unwrap();
    assert_eq!(place.executor.retain(SystemTime::now(), &live(&[])).kept, 1);
    assert_eq!(place.executor.retain(SystemTime::now() + 2 * HOUR, &live(&[])).removed, ["r1"]);
}

#[tokio::test]
async fn half_a_workspace_of_a_killed_responder_goes() {
    let place = Place::new();
    let half = place.dir.path().join("workspaces/.new-r1");
    fs::create_dir(&half).unwrap();
    assert_eq!(place.executor.retain(SystemTime::now(), &live(&["r1"])).kept, 0);
    assert!(half.exists(), "it is being made");
    let _ = place.executor.retain(SystemTime::now(), &live(&[]));
    assert!(!half.exists());
}

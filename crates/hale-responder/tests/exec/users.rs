//! Programs that run as somebody else (O9). Root is needed, as it is to switch users.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use hale_responder::exec::How;

use crate::support::{Place, script};

#[tokio::test]
async fn a_program_runs_as_its_user_in_a_workspace_of_that_user() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut job =
        script("r1", "id -un; cat alert.json prompt.md > output/read; echo \"$HOME\"; cat /proc/self/cgroup");
    job.program.user = Some("nobody".into());
    let How::NotStarted(reason) = place.run(&job).await.how else { panic!("it can't be reached") };
    assert!(reason.contains("chmod o+x") && reason.contains("nobody"), "{reason}");
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(place.run(&job).await.how, How::Exited(0));
    let (workspace, out) = (place.workspace(&job), place.out(&job));
    let it = fs::metadata(&workspace).unwrap();
    assert_eq!((it.uid(), it.mode() & 0o7777), (65534, 0o700));
    assert!(out.starts_with("nobody\n/nonexistent\n"), "{out}");
    assert!(out.lines().any(|it| it.starts_with("0::") && it.ends_with("/r1")), "in its cgroup: {out}");
    assert!(fs::metadata(workspace.join("output/read")).unwrap().len() > 100);
}

#[tokio::test]
async fn users_that_are_not_allowed_are_refused() {
    let place = Place::with(|options| {
        options.no_root = true;
        options.allow_users = Some(std::iter::once("nobody".to_owned()).collect());
    });
    for (user, expected) in [
        (None, "--no-root"),
        (Some("root"), "--no-root"),
        (Some("daemon"), "--allow-user"),
        (Some("no-such"), "no such user"),
    ] {
        let mut job = script("r1", "true");
        job.program.user = user.map(ToOwned::to_owned);
        let How::NotStarted(reason) = place.run(&job).await.how else { panic!("{user:?} was let in") };
        assert!(reason.contains(expected), "{reason}");
    }
}

//! Where the engine listens.

use std::path::{Path, PathBuf};

/// The sockets to try, in order: what was said, and nothing else; else the usual places of Docker and Podman, for all
/// and for this user. And whether it was said.
///
/// # Errors
/// What was said is no Unix socket.
pub(crate) fn candidates(
    said: Option<&str>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<(Vec<PathBuf>, bool), String> {
    let said = said.map(str::to_owned).or_else(|| env("DOCKER_HOST").filter(|it| !it.is_empty()));
    if let Some(said) = said {
        let path = said.strip_prefix("unix://").unwrap_or(&said);
        if !path.starts_with('/') {
            return Err(format!("{said} is no Unix socket: give unix:///PATH (an engine of this machine)"));
        }
        return Ok((vec![PathBuf::from(path)], true));
    }
    let mut all = vec![PathBuf::from("/var/run/docker.sock")];
    if let Some(dir) = env("XDG_RUNTIME_DIR") {
        all.extend([Path::new(&dir).join("docker.sock"), Path::new(&dir).join("podman/podman.sock")]);
    }
    if let Some(home) = env("HOME") {
        all.push(Path::new(&home).join(".docker/run/docker.sock"));
    }
    all.push(PathBuf::from("/run/podman/podman.sock"));
    Ok((all, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_counts_before_the_environment_and_that_before_the_usual_places() {
        let env = |name: &str| (name == "DOCKER_HOST").then(|| "unix:///run/x.sock".to_owned());
        assert_eq!(candidates(Some("/a.sock"), env).unwrap(), (vec!["/a.sock".into()], true));
        assert_eq!(candidates(None, env).unwrap(), (vec!["/run/x.sock".into()], true));
        let env = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| "/run/user/1".to_owned());
        let (usual, said) = candidates(None, env).unwrap();
        assert!(!said);
        assert_eq!(usual[0], Path::new("/var/run/docker.sock"));
        assert!(usual.contains(&PathBuf::from("/run/user/1/podman/podman.sock")));
    }

    #[test]
    fn another_machine_is_refused_with_what_to_say_instead() {
        let error = candidates(Some("tcp://10.0.0.1:2375"), |_| None).unwrap_err();
        assert!(error.contains("unix:///"), "{error}");
    }
}

//! Credentials of registries, from where the `docker` command keeps them.

use std::{
    collections::HashMap,
    env, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// How long a helper may take. Some ask a cloud.
const HELPER: Duration = Duration::from_secs(15);

/// What Docker's own registry is called in the file.
const DOCKER_IO: &str = "https://index.docker.io/v1/";

/// What a helper says when it has nothing.
const NONE: &str = "credentials not found";

/// What a helper calls one that is a token rather than a password.
const TOKEN_USER: &str = "<token>";

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: HashMap<String, Auth>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// The registry of an image, by the name it has in the file.
pub(crate) fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some(("docker.io" | "index.docker.io", _)) => DOCKER_IO,
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DOCKER_IO,
    }
}

/// The credentials for an image's registry; `None`: nobody has any, it is asked without.
///
/// # Errors
/// The file can't be read, or a helper fails: what would be pulled without might be something else.
pub(crate) async fn find(config: Option<&Path>, image: &str) -> Result<Option<DockerCredentials>, String> {
    let Some(dir) = config.map(Path::to_owned).or_else(default_dir) else { return Ok(None) };
    let path = dir.join("config.json");
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("can't read {}: {error}", path.display())),
    };
    let file: File = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let registry = registry(image);
    if let Some(helper) = file.cred_helpers.get(registry).or(file.creds_store.as_ref())
        && let Some(found) = ask_helper(&format!("docker-credential-{helper}"), registry).await?
    {
        return Ok(Some(found));
    }
    let Some(auth) = entry(&file.auths, registry) else { return Ok(None) };
    decode(auth, registry).map_err(|error| format!("{}: the entry of {registry}: {error}", path.display()))
}

fn default_dir() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))
}

/// The entry of a registry: by its very name, else by its host alone, with which `https://host/v1/` is the same. One with
/// another path is of something else there (a token, a team): never that.
fn entry<'a>(auths: &'a HashMap<String, Auth>, registry: &str) -> Option<&'a Auth> {
    let same = |name: &&String| host_of(name).is_some_and(|it| Some(it) == host_of(registry));
    // Of several the same at every call.
    auths.get(registry).or_else(|| auths.get(auths.keys().filter(same).min()?))
}

/// The host of a name that has no path but the usual ones.
fn host_of(name: &str) -> Option<&str> {
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = name.split_once('/').unwrap_or((name, ""));
    let host = if matches!(host, "docker.io" | "registry-1.docker.io") { "index.docker.io" } else { host };
    matches!(path.trim_end_matches('/'), "" | "v1" | "v2").then_some(host)
}

fn decode(auth: &Auth, registry: &str) -> Result<Option<DockerCredentials>, String> {
    let serveraddress = Some(registry.to_owned());
    if !auth.identitytoken.is_empty() {
        let identitytoken = Some(auth.identitytoken.clone());
        return Ok(Some(DockerCredentials { identitytoken, serveraddress, ..DockerCredentials::default() }));
    }
    let (username, password) = if auth.auth.is_empty() {
        if auth.username.is_empty() {
            return Ok(None);
        }
        (auth.username.clone(), auth.password.clone())
    } else {
        let bytes = STANDARD.decode(auth.auth.trim()).map_err(|_| "its auth is not base64".to_owned())?;
        let text = String::from_utf8(bytes).map_err(|_| "its auth is no text".to_owned())?;
        let (user, password) = text.split_once(':').ok_or("its auth is not user:password")?;
        (user.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    Ok(Some(DockerCredentials {
        username: Some(username),
        password: Some(password),
        serveraddress,
        ..DockerCredentials::default()
    }))
}

/// Asks a helper (`docker-credential-NAME`), within a bound; killed at its end.
async fn ask_helper(program: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    let failed = |error: io::Error| format!("{program}: {error}");
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input answers or fails by itself.
        let _ = stdin.write_all(registry.as_bytes()).await;
    }
    let output = timeout(HELPER, child.wait_with_output())
        .await
        .map_err(|_| format!("{program} did not answer within {HELPER:?}"))?
        .map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        if said.contains(NONE) || errors.contains(NONE) {
            return Ok(None);
        }
        let words = format!("{} {}", said.trim(), errors.trim());
        return Err(format!("{program} failed: {}", words.trim()));
    }
    let helped: Helped = serde_json::from_str(&said).map_err(|_| format!("{program} answered no JSON"))?;
    let serveraddress = Some(registry.to_owned());
    Ok(Some(if helped.username == TOKEN_USER {
        DockerCredentials {
            identitytoken: Some(helped.secret),
            serveraddress,
            ..DockerCredentials::default()
        }
    } else {
        let (username, password) = (Some(helped.username), Some(helped.secret));
        DockerCredentials { username, password, serveraddress, ..DockerCredentials::default() }
    }))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    async fn found(config: &str, image: &str) -> Result<Option<DockerCredentials>, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        find(Some(dir.path()), image).await
    }

    #[test]
    fn the_registry_of_an_image_is_its_first_part_where_that_is_a_host() {
        assert_eq!(registry("nginx"), DOCKER_IO);
        assert_eq!(registry("library/nginx:1"), DOCKER_IO);
        assert_eq!(registry("docker.io/team/private:1"), DOCKER_IO);
        assert_eq!(registry("index.docker.io/team/private:1"), DOCKER_IO);
        assert_eq!(registry("ghcr.io/a/b@sha256:1"), "ghcr.io");
        assert_eq!(registry("localhost/a"), "localhost");
        assert_eq!(registry("127.0.0.1:5000/a"), "127.0.0.1:5000");
    }

    #[tokio::test]
    async fn the_entry_of_a_registry_is_decoded_and_others_are_not_given_away() {
        let auth = STANDARD.encode("ana:secret:with:colons");
        let config = format!(r#"{{"auths": {{"https://reg.example/v1/": {{"auth": "{auth}"}}}}}}"#);
        let creds = found(&config, "reg.example/app").await.unwrap().unwrap();
        assert_eq!(creds.username.as_deref(), Some("ana"));
        assert_eq!(creds.password.as_deref(), Some("secret:with:colons"));
        assert_eq!(found(&config, "other.example/app").await.unwrap(), None);
        assert!(found(r#"{"auths": {"reg.example": {"auth": "%"}}}"#, "reg.example/app").await.is_err());
        assert!(found("{", "reg.example/app").await.unwrap_err().contains("config.json"));
    }

    #[tokio::test]
    async fn of_several_entries_of_a_host_the_one_without_a_path_counts_whatever_their_order() {
        let entries = |names: &[&str]| {
            let one = |name: &&str| format!(r#""{name}": {{"username": "{name}", "password": "x"}}"#);
            format!(r#"{{"auths": {{{}}}}}"#, names.iter().map(one).collect::<Vec<_>>().join(","))
        };
        let paths = ["access-token", "refresh-token"].map(|it| format!("{DOCKER_IO}{it}"));
        let docker = entries(&[&paths[0], DOCKER_IO, &paths[1]]);
        let teams = entries(&["reg.example/team-a", "reg.example/team-b"]);
        let both = entries(&["reg.example/team-a", "https://reg.example/v2/"]);
        // Each map is in an order of its own.
        for _ in 0..20 {
            for image in ["team/private:1", "docker.io/team/private:1"] {
                let creds = found(&docker, image).await.unwrap().unwrap();
                assert_eq!(creds.username.as_deref(), Some(DOCKER_IO), "{image}");
            }
            assert_eq!(found(&teams, "reg.example/team-a/app").await.unwrap(), None);
            let creds = found(&both, "reg.example/team-a/app").await.unwrap().unwrap();
            assert_eq!(creds.username.as_deref(), Some("https://reg.example/v2/"));
        }
    }

    #[tokio::test]
    async fn a_missing_file_means_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(Some(dir.path()), "nginx").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_registry_and_may_have_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("helper");
        fs::write(
            &script,
            "#!/bin/sh\nread -r host || :\n[ \"$1 $host\" = 'get reg.example' ] || { echo 'credentials not found in \
             native keychain'; exit 1; }\necho '{\"Username\":\"bo\",\"Secret\":\"pw\"}'\n",
        )
        .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let program = script.to_str().unwrap();
        let creds = ask_helper(program, "reg.example").await.unwrap().unwrap();
        assert_eq!((creds.username.as_deref(), creds.password.as_deref()), (Some("bo"), Some("pw")));
        assert_eq!(ask_helper(program, "other.example").await.unwrap(), None);
        let missing = ask_helper("docker-credential-none-such", "reg.example").await;
        assert!(missing.unwrap_err().starts_with("docker-credential-none-such"));
    }
}

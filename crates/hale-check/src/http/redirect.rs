//! Where a redirect leads (RFC 3986, as far as redirects need it).

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) tls: bool,
    pub(crate) port: u16,
    /// What stands in the `Host` header.
    pub(crate) authority: String,
    pub(crate) path: String,
}

/// A redirect, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// To the same host; port and scheme may differ, as with Kubernetes.
    SameHost(Destination),
    /// To another host.
    OtherHost(String),
}

/// Resolves a `Location` against the place it came from.
pub(crate) fn resolve(from: &Destination, location: &str) -> Result<Redirect, String> {
    let location = location.split('#').next().unwrap_or_default().trim();
    if location.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(format!("redirected to {location:?}, which is no URL"));
    }
    let (tls, after) = match location.split_once("://") {
        Some((scheme, after)) if !scheme.contains(['/', '?']) => match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, after),
            "https" => (true, after),
            other => return Err(format!("redirected to a URL of scheme {other:?}")),
        },
        _ => match location.strip_prefix("//") {
            Some(after) => (from.tls, after),
            None => {
                return Ok(Redirect::SameHost(Destination {
                    path: join(&from.path, location),
                    ..from.clone()
                }));
            }
        },
    };
    let path_at = after.find(['/', '?']).unwrap_or(after.len());
    let (authority, path) = after.split_at(path_at);
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) =
        split_port(authority).ok_or_else(|| format!("redirected to a malformed {location:?}"))?;
    let own = split_port(&from.authority).map_or("", |(host, _)| host);
    if !host.eq_ignore_ascii_case(own) {
        return Ok(Redirect::OtherHost(host.to_owned()));
    }
    Ok(Redirect::SameHost(Destination {
        tls,
        port: port.unwrap_or(if tls { 443 } else { 80 }),
        authority: authority.to_owned(),
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
    }))
}

/// Host and port of an authority; the brackets of an IPv6 address stay with it.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_ends = if authority.starts_with('[') { authority.find(']')? + 1 } else { 0 };
    let (host, port) = match authority[host_ends..].find(':') {
        Some(colon) => authority.split_at(host_ends + colon),
        None => (authority, ""),
    };
    let port = port.trim_start_matches(':');
    if host.is_empty() {
        return None;
    }
    if port.is_empty() {
        Some((host, None))
    } else {
        Some((host, Some(port.parse().ok().filter(|it| *it > 0)?)))
    }
}

/// A path relative to another.
fn join(base: &str, to: &str) -> String {
    let base_path = base.split('?').next().unwrap_or_default();
    if to.starts_with('/') {
        return to.to_owned();
    }
    if to.is_empty() {
        return base.to_owned();
    }
    if to.starts_with('?') {
        return format!("{base_path}{to}");
    }
    let folder = base_path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (path, query) = to.find('?').map_or((to, ""), |at| to.split_at(at));
    let mut parts: Vec<&str> = folder.split('/').filter(|it| !it.is_empty()).collect();
    let last = path.rsplit('/').next().unwrap_or_default();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if matches!(last, "" | "." | "..") && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn from() -> Destination {
        Destination { tls: false, port: 8080, authority: "10.0.0.1:8080".into(), path: "/a/b?c".into() }
    }

    #[rstest]
    #[case::absolute_path("/x?y#z", false, 8080, "/x?y")]
    #[case::relative("d", false, 8080, "/a/d")]
    #[case::parent("../d/", false, 8080, "/d/")]
    #[case::query_alone("?q", false, 8080, "/a/b?q")]
    #[case::same_url("http://10.0.0.1:8080/x", false, 8080, "/x")]
    #[case::other_port("http://10.0.0.1/x", false, 80, "/x")]
    #[case::other_scheme("HTTPS://10.0.0.1:8443", true, 8443, "/")]
    #[case::no_scheme("//10.0.0.1:1/x", false, 1, "/x")]
    #[case::a_url_in_the_query("/x?to=http://elsewhere/", false, 8080, "/x?to=http://elsewhere/")]
    fn a_redirect_on_the_same_host_is_resolved(
        #[case] location: &str,
        #[case] tls: bool,
        #[case] port: u16,
        #[case] path: &str,
    ) {
        let Ok(Redirect::SameHost(to)) = resolve(&from(), location) else { panic!("not on the same host") };
        assert_eq!((to.tls, to.port, to.path.as_str()), (tls, port, path));
    }

    #[rstest]
    #[case("http://example.com/", Some("example.com"))]
    #[case("http://10.0.0.1:8080@evil.example/", Some("evil.example"))]
    #[case("http://[::1]:80/", Some("[::1]"))]
    #[case("ftp://10.0.0.1/", None)]
    #[case("http://10.0.0.1:99999/", None)]
    #[case("http:///x", None)]
    #[case("/with space", None)]
    fn another_host_is_named_and_nonsense_refused(#[case] location: &str, #[case] host: Option<&str>) {
        match resolve(&from(), location) {
            Ok(Redirect::OtherHost(other)) => assert_eq!(Some(other.as_str()), host),
            Ok(same) => panic!("{same:?}"),
            Err(_) => assert_eq!(host, None),
        }
    }
}

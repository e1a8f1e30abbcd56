//! Another number of replicas in a declaration, with all else left as it was written.

/// The same JSON with another number of replicas, everything else to the letter; `None` when it is no object.
pub(super) fn with_replicas(json: &str, replicas: u32) -> Option<String> {
    let (mut depth, mut at, bytes) = (0_u32, 0, json.as_bytes());
    let mut key: Option<&str> = None;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = at + 1 + string_end(&json[at + 1..])?;
                if depth == 1 {
                    key = Some(&json[at + 1..end]);
                }
                at = end;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b':' if depth == 1 && key == Some("replicas") => {
                let rest = &json[at + 1..];
                let value = rest.len() - rest.trim_start().len();
                let end = rest[value..].find(|it: char| !it.is_ascii_digit()).map(|it| it + value)?;
                return Some(format!("{}{replicas}{}", &json[..at + 1 + value], &rest[end..]));
            }
            _ => {}
        }
        at += 1;
    }
    let open = json.find('{')? + 1;
    let comma = if json[open..].trim_start().starts_with('}') { "" } else { "," };
    Some(format!("{}\"replicas\":{replicas}{comma}{}", &json[..open], &json[open..]))
}

/// Where a string ends whose opening quote has been read.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_changes_one_number_and_no_other_letter() {
        let told = r#"{"kind":"Workload","name":"a\"replicas","process":{"replicas":9,"env":{"V":1.10}},"replicas": 2}"#;
        let scaled = with_replicas(told, 5).unwrap();
        assert_eq!(scaled, told.replace(r#""replicas": 2"#, r#""replicas": 5"#));
        let without = r#"{"kind":"Workload","name":"a"}"#;
        assert_eq!(with_replicas(without, 3).unwrap(), r#"{"replicas":3,"kind":"Workload","name":"a"}"#);
    }
}

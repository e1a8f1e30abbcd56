//! A list in the SRV records of a name (RFC 2782).

use std::time::Duration;

use hale_check::{Checker, Subject};
use hale_health::Verdict;
use hale_model::spec::{Check, Dns, DnsCode, DnsTransport, ListEntry, RecordType};

/// Asks for the records. A name without any is an empty list; a name that is not there can't be read.
pub(super) async fn read(
    name: &str,
    server: Option<(String, u16)>,
    timeout: Duration,
) -> Result<Vec<ListEntry>, String> {
    let question = Dns {
        name: name.to_owned(),
        server,
        record_type: RecordType::Srv,
        transport: DnsTransport::Udp,
        recursion: true,
        expected_codes: vec![DnsCode::NoError],
        min_answers: 0,
        expected_answers: Vec::new(),
    };
    let checker =
        Checker::compile(&Check::Dns(question), &Subject::default()).map_err(|it| it.to_string())?;
    let result = checker.look(timeout).await;
    if let Verdict::Failure { reason, detail } = &result.verdict {
        return Err(format!("{reason}: {detail}"));
    }
    let answers = result.seen.and_then(|it| it.dns).map(|it| it.answers).unwrap_or_default();
    let mut entries: Vec<ListEntry> = answers.iter().filter_map(|it| entry(it)).collect();
    // Name servers turn the order with every answer.
    entries.sort_by(|a, b| a.address.cmp(&b.address));
    Ok(entries)
}

/// `priority weight port host`. A host that is the root says that there is no such service.
fn entry(record: &str) -> Option<ListEntry> {
    let mut fields = record.split_whitespace().skip(2);
    let (port, host) = (fields.next()?, fields.next()?.trim_end_matches('.'));
    (!host.is_empty()).then(|| ListEntry { address: format!("{host}:{port}"), ..ListEntry::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_host_and_its_port_and_the_root_is_none() {
        assert_eq!(entry("10 5 8080 a.example.").unwrap().address, "a.example:8080");
        assert_eq!(entry("0 0 0 ."), None);
        assert_eq!(entry("nonsense"), None);
    }
}

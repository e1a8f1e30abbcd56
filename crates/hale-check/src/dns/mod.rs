//! `dns`: a question to a name server, and what its answer must hold (N12).
//!
//! The question goes to the server that the check names, or to those of the machine, and past every cache: what is
//! checked is the server, not whether somebody remembers.

pub(crate) mod conf;
pub(crate) mod exchange;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use hale_health::Reason;
use hale_model::spec::{self, DnsTransport, PortRef, RecordType};
use hickory_proto::{
    op::Message,
    rr::{Name, RData, RecordType as Kind},
};

use self::exchange::Question;
use crate::{
    CompileError, Subject,
    net::{self, Stage, Trace},
    result::{CheckResult, Fault},
    seen::DnsSeen,
    subject::{Host, Place},
};

/// A compiled `dns`.
#[derive(Debug)]
pub(crate) struct DnsCheck {
    /// Who is asked; `None`: the machine's own servers.
    server: Option<Place>,
    question: Question,
    /// Codes that are success.
    codes: Vec<spec::DnsCode>,
    min_answers: usize,
    /// Values that must be there, normalized.
    expected: Vec<String>,
}

impl DnsCheck {
    pub(crate) fn compile(spec: &spec::Dns, subject: &Subject) -> Result<Self, CompileError> {
        let server = match &spec.server {
            Some((host, port)) => Some(subject.place(Some(host), &PortRef::Number(*port))?),
            None => None,
        };
        let bad = || CompileError::Host(spec.name.clone());
        let name = match spec.name.parse::<IpAddr>() {
            Ok(address) if spec.record_type == RecordType::Ptr => Name::from(address),
            _ => Name::from_ascii(&spec.name).map_err(|_| bad())?,
        };
        let mut name = name;
        name.set_fqdn(true);
        Ok(Self {
            server,
            question: Question {
                name,
                kind: Kind::from(spec.record_type.number()),
                recursion: spec.recursion,
                tcp: spec.transport == DnsTransport::Tcp,
            },
            codes: spec.expected_codes.clone(),
            min_answers: spec.min_answers as usize,
            expected: spec.expected_answers.iter().map(|it| normal(it)).collect(),
        })
    }

    pub(crate) async fn run(&self, mut trace: Trace, timeout: Duration) -> CheckResult {
        match tokio::time::timeout(timeout, self.ask(&mut trace, timeout)).await {
            Ok(Ok(())) => CheckResult::success(trace.finish()),
            Ok(Err(fault)) => CheckResult::failure(fault, trace.finish()),
            Err(_) => {
                let detail = match (trace.stage, &self.server) {
                    (Stage::Dns, Some(server)) => {
                        format!("the name server's own name, {server}, was not resolved")
                    }
                    (_, Some(server)) => format!("{server}: no answer to {}", self.question),
                    (_, None) => {
                        format!("no answer to {} from the name servers of this machine", self.question)
                    }
                };
                let fault = Fault::new(Reason::Timeout, format!("{detail} within {timeout:?}"));
                // What could not be asked has not failed to answer.
                let fault = trace.lacks.clone().unwrap_or(fault);
                CheckResult::failure(fault, trace.finish())
            }
        }
        .with_seen(&mut trace)
    }

    async fn ask(&self, trace: &mut Trace, timeout: Duration) -> Result<(), Fault> {
        let servers = self.servers(trace).await?;
        trace.stage = Stage::FirstByte;
        let asked = exchange::ask(&servers, &self.question, trace, timeout).await?;
        trace.timings.first_byte = Some(trace.began.elapsed());
        let answers = self.matching(&asked.message);
        if let Some(seen) = trace.seen.as_deref_mut() {
            seen.peer = Some(asked.server);
            seen.dns = Some(told(&asked.message, answers.iter().map(|it| cut(it)).collect()));
        }
        self.judge(asked.server, &asked.message, &answers)
    }

    async fn servers(&self, trace: &mut Trace) -> Result<Vec<SocketAddr>, Fault> {
        let Some(place) = &self.server else { return conf::servers() };
        match &place.host {
            Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, place.port)]),
            Host::Name(name) => {
                trace.stage = Stage::Dns;
                let began = Instant::now();
                let found = net::lookup(name, trace).await?;
                trace.timings.dns = Some(began.elapsed());
                Ok(found.iter().map(|ip| SocketAddr::new(*ip, place.port)).collect())
            }
            Host::Missing => Err(Fault::prober("the name server has no address")),
        }
    }

    /// The values of the records that were asked for.
    fn matching(&self, answer: &Message) -> Vec<String> {
        let of_kind = answer.answers.iter().filter(|it| it.record_type() == self.question.kind);
        of_kind.map(|it| normal(&it.data.to_string())).collect()
    }

    fn judge(&self, server: SocketAddr, answer: &Message, answers: &[String]) -> Result<(), Fault> {
        let mismatch = |what: String| {
            Err(Fault::new(
                Reason::AnswerMismatch,
                format!("{server} answered {} with {what}", self.question),
            ))
        };
        let code = u16::from(answer.metadata.response_code);
        if !self.codes.iter().any(|it| u16::from(it.number()) == code) {
            let expected: Vec<&str> = self.codes.iter().map(|it| it.as_str()).collect();
            return mismatch(format!("{}, expected {}", code_name(code), expected.join(" or ")));
        }
        if code != 0 {
            return Ok(());
        }
        if answers.len() < self.min_answers {
            let kind = self.question.kind;
            return mismatch(match answers.len() {
                0 => format!("no {kind} record"),
                n => format!("{n} {kind} records, expected at least {}", self.min_answers),
            });
        }
        match self.expected.iter().find(|it| !answers.contains(it)) {
            Some(missing) => mismatch(format!("{}, expected {} among them", shown(answers), cut(missing))),
            None => Ok(()),
        }
    }
}

/// Values as they are compared: without the dot at the end of names, quotes around text, and case.
fn normal(value: &str) -> String {
    let words: Vec<&str> =
        value.split_ascii_whitespace().map(|it| it.strip_suffix('.').unwrap_or(it)).collect();
    words.join(" ").trim_matches('"').to_ascii_lowercase()
}

/// A value as it is shown; compared it is whole.
fn cut(value: &str) -> String {
    crate::result::text(value.as_bytes(), 512)
}

fn shown(answers: &[String]) -> String {
    let few: Vec<String> = answers.iter().take(5).map(|it| cut(it)).collect();
    match answers.len() {
        0 => "no record".to_owned(),
        1..=5 => few.join(", "),
        many => format!("{}, and {} more", few.join(", "), many - 5),
    }
}

fn code_name(code: u16) -> String {
    let known = spec::DnsCode::ALL.iter().find(|it| u16::from(it.number()) == code);
    known.map_or_else(|| format!("code {code}"), ToString::to_string)
}

fn told(answer: &Message, answers: Vec<String>) -> DnsSeen {
    let serial = answer.answers.iter().find_map(|it| match &it.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    });
    DnsSeen {
        code: u16::from(answer.metadata.response_code),
        answers,
        answer_records: answer.answers.len(),
        authority_records: answer.authorities.len(),
        additional_records: answer.additionals.len(),
        serial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_compare_without_last_dots_quotes_and_case() {
        assert_eq!(normal("10 Mail.Example.com."), "10 mail.example.com");
        assert_eq!(normal("\"v=spf1 -all\""), "v=spf1 -all");
        assert_eq!(normal("2001:DB8::1"), "2001:db8::1");
    }

    #[test]
    fn many_answers_are_told_shortly() {
        let many: Vec<String> = (0..9).map(|it| it.to_string()).collect();
        assert_eq!(shown(&many), "0, 1, 2, 3, 4, and 4 more");
        assert_eq!(shown(&[]), "no record");
    }
}

//! `dns` checks (N12), against name servers that misbehave on purpose and against a real one.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hale_check::{Checker, Subject};
use hale_health::Reason;
use hale_model::spec::{Check, Dns, DnsCode, DnsTransport, RecordType};
use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{RData, Record, rdata::A},
};
use rstest::rstest;

use crate::support::{AMPLE, SOON, both, detail, failed, succeeded, until};

type Treat = dyn Fn(&Message, usize) -> Vec<Vec<u8>> + Send + Sync;

/// A name server on UDP and TCP of one port that answers as it was told. Ends when dropped.
struct NameServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// `treat` is given each question and how many came before it; what it returns is sent, each as one message.
    fn new(treat: impl Fn(&Message, usize) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let treat: Arc<Treat> = Arc::new(treat);
        Self::with(Arc::clone(&treat), treat)
    }

    fn with(udp: Arc<Treat>, tcp: Arc<Treat>) -> Self {
        let (socket, listener) = loop {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().unwrap();
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&asked), Arc::clone(&stop));
        let over_udp = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let question = Message::from_vec(&buffer[..length]).expect("a DNS question");
                for answer in udp(&question, count.fetch_add(1, Ordering::SeqCst)) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        let (count, end) = (Arc::clone(&asked), Arc::clone(&stop));
        let over_tcp = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut bytes).unwrap();
                let question = Message::from_vec(&bytes).expect("a DNS question");
                for answer in tcp(&question, count.fetch_add(1, Ordering::SeqCst)) {
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    let _ = stream.write_all(&[&length[..], &answer].concat());
                }
            }
        });
        Self { address, asked, stop, threads: vec![over_udp, over_tcp] }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _ = socket.send_to(&[0], self.address);
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// An answer with these addresses.
fn answer(question: &Message, addresses: &[[u8; 4]]) -> Message {
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_query(question.queries[0].clone());
    for address in addresses {
        let name = question.queries[0].name().clone();
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::from(*address)))));
    }
    answer
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn spec(server: SocketAddr) -> Dns {
    Dns {
        name: "www.example.com".into(),
        server: Some((server.ip().to_string(), server.port())),
        record_type: RecordType::A,
        transport: DnsTransport::Udp,
        recursion: true,
        expected_codes: vec![DnsCode::NoError],
        min_answers: 1,
        expected_answers: Vec::new(),
    }
}

fn checker(spec: Dns) -> Checker {
    Checker::compile(&Check::Dns(spec), &Subject::default()).unwrap()
}

#[rstest]
#[case::over_udp(DnsTransport::Udp)]
#[case::over_tcp(DnsTransport::Tcp)]
#[tokio::test]
async fn an_answer_with_a_record_is_a_success(#[case] transport: DnsTransport) {
    let server =
        NameServer::new(|question, _| vec![bytes(&answer(question, &[[192, 0, 2, 1], [192, 0, 2, 2]]))]);
    let expected_answers = vec!["192.0.2.2".into()];
    let check = checker(Dns { transport, min_answers: 2, expected_answers, ..spec(server.address) });
    let closely = check.look(AMPLE).await;
    succeeded(&closely);
    let seen = closely.seen.unwrap();
    assert_eq!(seen.peer, Some(server.address));
    let dns = seen.dns.unwrap();
    assert_eq!(
        (dns.code, dns.answers, dns.answer_records),
        (0, vec!["192.0.2.1".into(), "192.0.2.2".into()], 2)
    );
    assert_eq!(closely.timings.connect.is_some(), transport == DnsTransport::Tcp);
    assert!(closely.timings.first_byte.unwrap() <= closely.timings.total);
    succeeded(&both(check, AMPLE).await);
}

#[tokio::test]
async fn records_that_are_missing_or_others_are_told() {
    let server = NameServer::new(|question, _| vec![bytes(&answer(question, &[[192, 0, 2, 1]]))]);
    let other = Dns { expected_answers: vec!["192.0.2.9".into()], ..spec(server.address) };
    let says = ["A www.example.com", "192.0.2.1", "expected 192.0.2.9"];
    failed(&both(checker(other), AMPLE).await, Reason::AnswerMismatch, &says);
    let more = Dns { min_answers: 3, ..spec(server.address) };
    failed(&both(checker(more), AMPLE).await, Reason::AnswerMismatch, &["1 A records", "at least 3"]);
    let server = NameServer::new(|question, _| vec![bytes(&answer(question, &[]))]);
    failed(&both(checker(spec(server.address)), AMPLE).await, Reason::AnswerMismatch, &["no A record"]);
    succeeded(&both(checker(Dns { min_answers: 0, ..spec(server.address) }), AMPLE).await);
}

#[rstest]
#[case(ResponseCode::NXDomain, "NXDOMAIN", DnsCode::NxDomain)]
#[case(ResponseCode::ServFail, "SERVFAIL", DnsCode::ServFail)]
#[case(ResponseCode::Refused, "REFUSED", DnsCode::Refused)]
#[tokio::test]
async fn another_code_fails_unless_it_is_expected(
    #[case] code: ResponseCode,
    #[case] name: &str,
    #[case] word: DnsCode,
) {
    let server = NameServer::new(move |question, _| {
        let mut answer = answer(question, &[]);
        answer.metadata.response_code = code;
        vec![bytes(&answer)]
    });
    failed(
        &both(checker(spec(server.address)), AMPLE).await,
        Reason::AnswerMismatch,
        &[name, "expected NOERROR"],
    );
    let wanted = Dns { expected_codes: vec![word], min_answers: 0, ..spec(server.address) };
    succeeded(&both(checker(wanted), AMPLE).await);
}

#[tokio::test]
async fn a_lost_datagram_is_no_failure() {
    let server = NameServer::new(|question, before| match before % 2 {
        0 => Vec::new(),
        _ => vec![bytes(&answer(question, &[[192, 0, 2, 1]]))],
    });
    succeeded(&checker(spec(server.address)).run(Duration::from_secs(3)).await);
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_fetched_over_tcp() {
    let udp: Arc<Treat> = Arc::new(|question: &Message, _| {
        let mut answer = answer(question, &[]);
        answer.metadata.truncation = true;
        vec![bytes(&answer)]
    });
    let tcp: Arc<Treat> =
        Arc::new(|question: &Message, _| vec![bytes(&answer(question, &[[192, 0, 2, 1]; 200]))]);
    let server = NameServer::with(udp, tcp);
    let check = checker(Dns { min_answers: 200, ..spec(server.address) });
    succeeded(&both(check, AMPLE).await);
}

#[tokio::test]
async fn what_answers_something_else_is_passed_over_until_the_timeout() {
    let server = NameServer::new(|question, _| {
        let mut forged = answer(question, &[[192, 0, 2, 66]]);
        forged.metadata.id = forged.metadata.id.wrapping_add(1);
        let mut other = answer(question, &[[192, 0, 2, 66]]);
        other.queries.clear();
        other.queries.push(hickory_proto::op::Query::query(
            hickory_proto::rr::Name::from_ascii("evil.example.").unwrap(),
            hickory_proto::rr::RecordType::A,
        ));
        vec![bytes(&forged), bytes(&other)]
    });
    let result = checker(spec(server.address)).run(SOON).await;
    failed(&result, Reason::Timeout, &["no answer to A www.example.com"]);
    assert!(result.timings.total >= SOON && result.timings.total < AMPLE);
}

#[rstest]
#[case::garbage(&[0xff; 30])]
#[case::nothing(&[])]
#[case::another_protocol(b"HTTP/1.1 400 Bad Request\r\n\r\n")]
#[tokio::test]
async fn garbage_is_a_protocol_failure(#[case] garbage: &'static [u8]) {
    let server = NameServer::new(move |_, _| vec![garbage.to_vec()]);
    let result = both(checker(spec(server.address)), AMPLE).await;
    failed(&result, Reason::Protocol, &["not a DNS answer"]);
}

#[tokio::test]
async fn silence_and_a_closed_port_are_told_apart() {
    let server = NameServer::new(|_, _| Vec::new());
    let result = both(checker(spec(server.address)), SOON).await;
    failed(&result, Reason::Timeout, &["no answer to A www.example.com within 800ms"]);
    assert!(server.asked() >= 4, "each of both asks again: {}", server.asked());
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    failed(&both(checker(spec(free)), AMPLE).await, Reason::ConnectionRefused, &[]);
    let tcp = Dns { transport: DnsTransport::Tcp, ..spec(free) };
    failed(&both(checker(tcp.clone()), AMPLE).await, Reason::ConnectionRefused, &[]);
    let server = NameServer::new(|_, _| Vec::new());
    let tcp = Dns { server: Some((server.address.ip().to_string(), server.address.port())), ..tcp };
    failed(&both(checker(tcp), AMPLE).await, Reason::ConnectionReset, &["without a whole answer"]);
}

/// dnsmasq, from Debian: a name server that many machines run.
struct Dnsmasq {
    child: Child,
    address: SocketAddr,
}

impl Dnsmasq {
    /// Somebody else may take the port between our look and its start: then it ends at once, and gets another one.
    fn start() -> Self {
        (0..5).find_map(|_| Self::start_once()).expect("dnsmasq on one of five ports")
    }

    fn start_once() -> Option<Self> {
        let free = {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            UdpSocket::bind(tcp.local_addr().unwrap()).ok()?.local_addr().unwrap()
        };
        let mut child = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--no-daemon",
            ])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file="])
            .arg(format!("--port={}", free.port()))
            .args([
                "--local=/example.com/",
                "--address=/www.example.com/192.0.2.80",
                "--address=/www.example.com/2001:db8::80",
                "--cname=web.example.com,www.example.com",
                "--mx-host=example.com,mail.example.com,10",
                "--txt-record=example.com,v=spf1 -all",
                "--srv-host=_http._tcp.example.com,www.example.com,8080,1,2",
                "--ptr-record=80.2.0.192.in-addr.arpa,www.example.com",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq, which `cargo xtask test` installs");
        let mut ended = false;
        until("dnsmasq listens", || {
            ended = child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(free).is_ok()
        });
        // What has answered may be somebody else.
        ended |= child.try_wait().unwrap().is_some();
        (!ended).then_some(Self { child, address: free })
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_real_name_server_is_asked_for_every_kind_of_record() {
    let server = Dnsmasq::start();
    let cases = [
        ("www.example.com", RecordType::A, "192.0.2.80"),
        ("WWW.example.com", RecordType::Aaaa, "2001:db8::80"),
        ("example.com", RecordType::Mx, "10 mail.example.com"),
        ("example.com", RecordType::Txt, "v=spf1 -all"),
        ("_http._tcp.example.com", RecordType::Srv, "1 2 8080 www.example.com"),
        ("192.0.2.80", RecordType::Ptr, "www.example.com"),
    ];
    for (name, record_type, value) in cases {
        for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
            let good = Dns {
                name: name.into(),
                record_type,
                transport,
                expected_answers: vec![value.to_owned()],
                ..spec(server.address)
            };
            let result = both(checker(good), AMPLE).await;
            assert!(result.verdict.is_success(), "{name} {record_type}: {}", detail(&result));
        }
    }
    let none = Dns { name: "absent.example.com".into(), ..spec(server.address) };
    failed(&both(checker(none), AMPLE).await, Reason::AnswerMismatch, &["NXDOMAIN"]);
}

#[tokio::test]
async fn a_name_server_may_be_named_itself() {
    let server = NameServer::new(|question, _| vec![bytes(&answer(question, &[[192, 0, 2, 1]]))]);
    assert_eq!(server.address.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    let named = Dns { server: Some(("localhost".into(), server.address.port())), ..spec(server.address) };
    let result = checker(named).run(AMPLE).await;
    succeeded(&result);
    assert!(result.timings.dns.is_some());
    let nowhere = Dns { server: Some(("nowhere.invalid".into(), 53)), ..spec(server.address) };
    failed(&checker(nowhere).run(AMPLE).await, Reason::Dns, &["nowhere.invalid"]);
}

#[tokio::test]
async fn an_answer_that_comes_after_the_question_was_sent_again_counts() {
    let server = NameServer::new(|question, _| {
        std::thread::sleep(Duration::from_millis(700));
        vec![bytes(&answer(question, &[[192, 0, 2, 1]]))]
    });
    // Sent again after half a second.
    succeeded(&checker(spec(server.address)).run(Duration::from_millis(1500)).await);
}

#[tokio::test]
async fn a_whole_answer_over_tcp_may_take_what_is_left_of_the_timeout() {
    let udp: Arc<Treat> = Arc::new(|question: &Message, _| {
        let mut answer = answer(question, &[]);
        answer.metadata.truncation = true;
        vec![bytes(&answer)]
    });
    let tcp: Arc<Treat> = Arc::new(|question: &Message, _| {
        std::thread::sleep(Duration::from_millis(700));
        vec![bytes(&answer(question, &[[192, 0, 2, 1]]))]
    });
    let server = NameServer::with(udp, tcp);
    succeeded(&checker(spec(server.address)).run(Duration::from_millis(1500)).await);
}

#[tokio::test]
async fn a_long_value_is_compared_whole() {
    use hickory_proto::rr::rdata::TXT;
    // As the key of a signature of mail is: strings of 255 bytes at most, one after the other.
    let parts: Vec<String> = (0..4).map(|nth| char::from(b'a' + nth).to_string().repeat(200)).collect();
    let whole = parts.concat();
    let server = NameServer::new(move |question, _| {
        let mut answer = answer(question, &[]);
        let name = question.queries[0].name().clone();
        answer.answers.push(Record::from_rdata(name, 60, RData::TXT(TXT::new(parts.clone()))));
        vec![bytes(&answer)]
    });
    let txt = |value: String| Dns {
        record_type: RecordType::Txt,
        expected_answers: vec![value],
        ..spec(server.address)
    };
    succeeded(&checker(txt(whole.clone())).run(AMPLE).await);
    let other = checker(txt(format!("{whole}x"))).run(AMPLE).await;
    failed(&other, Reason::AnswerMismatch, &["aaaa"]);
}

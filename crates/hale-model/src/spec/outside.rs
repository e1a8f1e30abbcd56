//! The checks that only targets have: a question to a name server, and a look at a certificate (N12).

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use hale_health::UnknownWord;

/// A question to a name server.
///
/// It succeeds when an answer comes whose code is one of `expected_codes` and, where records are asked for (any are
/// expected by number or value), when they are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The name asked for, without the dot at its end; for [`RecordType::Ptr`] an address may stand here as it is.
    pub name: String,
    /// The name server: host (name or address) and port; `None`: those of the machine (`/etc/resolv.conf`).
    pub server: Option<(String, u16)>,
    /// Which records.
    pub record_type: RecordType,
    /// How the server is asked.
    pub transport: DnsTransport,
    /// Whether the server is to ask others.
    pub recursion: bool,
    /// The codes of an answer that are success, never empty.
    pub expected_codes: Vec<DnsCode>,
    /// At least so many records of the type must be in the answer. Zero where a code other than `NOERROR` is expected.
    pub min_answers: u32,
    /// Each of these must be the value of a record in the answer, in the text form of zone files (an address, a name
    /// without its last dot, `10 mail.example.com`); names compare without case.
    pub expected_answers: Vec<String>,
}

/// A TLS handshake, and the certificate that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The name to ask for (SNI) and to verify; the host when absent.
    pub server_name: Option<String>,
    /// A file of certificates to trust, absolute; those of the machine when absent.
    pub ca_file: Option<PathBuf>,
    /// Every certificate of the chain must be valid for so long yet; zero: it must only be valid now.
    pub min_valid: Duration,
    /// Whether the chain must lead to a certificate that is trusted.
    pub verify_chain: bool,
    /// Whether the certificate must be for the name.
    pub verify_name: bool,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $($(#[$each:meta])* $variant:ident = $word:literal,)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub enum $name { $($(#[$each])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word in files.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|it| it.as_str() == word).ok_or(UnknownWord)
            }
        }
    };
}

words! {
    /// Which records of a name are asked for.
    RecordType:
    /// IPv4 addresses.
    #[default]
    A = "A",
    /// IPv6 addresses.
    Aaaa = "AAAA",
    /// Who may issue certificates.
    Caa = "CAA",
    /// Another name for it.
    Cname = "CNAME",
    /// Mail servers.
    Mx = "MX",
    /// Name servers.
    Ns = "NS",
    /// The name of an address.
    Ptr = "PTR",
    /// The start of a zone.
    Soa = "SOA",
    /// Where a service is.
    Srv = "SRV",
    /// Text.
    Txt = "TXT",
}

words! {
    /// How a name server is asked.
    DnsTransport:
    /// UDP, and TCP when the answer did not fit.
    #[default]
    Udp = "udp",
    /// TCP.
    Tcp = "tcp",
}

words! {
    /// The code of a name server's answer (RFC 1035, 4.1.1).
    DnsCode:
    /// No error.
    #[default]
    NoError = "NOERROR",
    /// The question was not understood.
    FormErr = "FORMERR",
    /// The server could not find out.
    ServFail = "SERVFAIL",
    /// There is no such name.
    NxDomain = "NXDOMAIN",
    /// The server does not do this.
    NotImp = "NOTIMP",
    /// The server does not want to.
    Refused = "REFUSED",
}

impl RecordType {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
            Self::Caa => 257,
        }
    }
}

impl DnsCode {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
        }
    }
}

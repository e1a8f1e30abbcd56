//! Signatures as in Standard Webhooks (<https://www.standardwebhooks.com>): `v1,` and an HMAC-SHA256 over id, time and
//! body, in base64.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hale_model::event::Event;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// Bytes of a secret that is made here.
const LENGTH: usize = 32;

/// How many bytes a given secret may have (as in Standard Webhooks).
const ALLOWED: std::ops::RangeInclusive<usize> = 24..=64;

/// It is no secret for signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is `whsec_` and then 24 to 64 bytes in base64; leave it out and one is made")]
pub struct BadSecret;

/// What deliveries are signed with; the receiver has the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Makes one; `None` when the system has no random bytes.
    #[must_use]
    pub fn make() -> Option<Self> {
        let mut bytes = vec![0; LENGTH];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Reads one as people write it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX).ok_or(BadSecret)?).map_err(|_| BadSecret)?;
        if ALLOWED.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(BadSecret) }
    }

    /// As people write it. Shown once, when it is made.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(&self.0))
    }

    /// The value of `webhook-signature`, for these values of `webhook-id` and `webhook-timestamp` (seconds since 1970).
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

/// The `webhook-id` of an event: the same each time it is delivered, and no other event has it, not even one that got
/// its number after the database was restored from a backup.
#[must_use]
pub fn message_id(event: &Event) -> String {
    format!("evt_{}_{:x}", event.id, event.time.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_standard_webhooks_is_signed_as_there() {
        // The vector of the reference libraries of Standard Webhooks.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_read_as_they_are_written() {
        let secret = Secret::make().unwrap();
        assert_eq!(Secret::parse(&secret.reveal()), Ok(secret.clone()));
        assert_ne!(Secret::make(), Some(secret));
        for wrong in ["", "whsec_", "whsec_abcd", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!"] {
            assert_eq!(Secret::parse(wrong), Err(BadSecret), "{wrong}");
        }
    }
}

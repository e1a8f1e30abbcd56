//! A token in a file, as a pod has it: a new one is written there before the old one runs out.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use http::HeaderValue;

/// Reads the file for each request, which are few: so a new token is used from when it is there.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    /// The last that was read, for when the file is just being replaced.
    last: Mutex<Option<HeaderValue>>,
}

impl TokenFile {
    /// The token in a file.
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), last: Mutex::new(None) }
    }

    /// What is said in `Authorization`. Blanks and an end of line around the token are not of it, as elsewhere.
    ///
    /// # Errors
    /// There is none, and never was.
    pub(super) async fn header(&self) -> Result<HeaderValue, String> {
        let read = tokio::fs::read_to_string(&self.path).await.map_err(|error| error.to_string());
        let header = read.and_then(|text| match text.trim() {
            "" => Err("it is empty".to_owned()),
            token => HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| error.to_string()),
        });
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (header, last.as_ref()) {
            (Ok(mut header), _) => {
                header.set_sensitive(true);
                *last = Some(header.clone());
                Ok(header)
            }
            (Err(_), Some(before)) => Ok(before.clone()),
            (Err(error), None) => {
                Err(format!("the token file {} can't be used: {error}", self.path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_token_is_used_at_once_and_the_last_one_while_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = TokenFile::new(&path);
        assert!(token.header().await.unwrap_err().contains("token"));
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(token.header().await.unwrap(), "Bearer one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(token.header().await.unwrap(), "Bearer two");
        std::fs::write(&path, "").unwrap();
        assert_eq!(token.header().await.unwrap(), "Bearer two");
    }
}
